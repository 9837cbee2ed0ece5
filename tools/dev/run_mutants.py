#!/usr/bin/env python3
"""Break the product on purpose, once for each patch in tests/mutants/, and see that the simulation notices.

usage: run_mutants.py [--build DIR] [--make-argument NAME=VALUE]... [--seeds N] [NAME...]
       run_mutants.py --check       # only see that all patches apply
       run_mutants.py --self-test

A mutant is tests/mutants/<name>.patch: a head, then a patch of the product.
  breaks: what is wrong now, in one sentence
  named by: I1 I7        the invariants (reliability: tests/simulation/*_model.h), one of which has to be in the verdict

Each has a tree of its own, <build>/mutants/<name>: what git knows of, with the objects of <build>, so that make builds
only what the patch changes. Then the simulation runs seeds 1, 2, ... until one fails. It has to fail with exit code
129, a wrong result, and name one of the invariants. A mutant that all seeds pass, that fails in another way, or whose
patch does not apply any more is an error. The tree of a mutant that was caught is removed, the others stay.
"""
import argparse
import concurrent.futures
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

MUTANTS = "tests/mutants"
SIMULATION = "tests/simulation"
COPIED = ("obj", "gen", "lib", "flags", "flatc", "sources")  # of the build folder
EXIT_WRONG_RESULT = 129
SEED_SECONDS_MAX = 300
VERDICT = re.compile(r"^verdict: (.*)$", re.M)
INVARIANT = re.compile(r"\bI\d+\b")


class MutantError(Exception):
    pass


def read_head(text):
    """What a mutant breaks, and the invariants that may name it."""
    head = text.partition("\n--- ")[0]
    breaks = re.search(r"^breaks: (.+)$", head, re.M)
    named_by = re.search(r"^named by: (I\d+(?: I\d+)*)$", head, re.M)
    if not breaks or not named_by:
        raise MutantError("its head needs a line 'breaks: ...' and a line 'named by: I1 ...'")
    return breaks.group(1), named_by.group(1).split()


def judge(code, output, named_by):
    """The invariant by which a failed seed names the mutant; an error if none."""
    verdicts = VERDICT.findall(output)
    verdict = verdicts[-1] if verdicts else "none"
    if code != EXIT_WRONG_RESULT:
        raise MutantError(f"exit code {code}, not {EXIT_WRONG_RESULT}; verdict: {verdict}")
    # Those that a check stands for are listed at its beginning, before the colon.
    named = [i for i in INVARIANT.findall(verdict.removeprefix("wrong result: ").partition(":")[0]) if i in named_by]
    if not named:
        raise MutantError(f"named by none of {', '.join(named_by)}; verdict: {verdict}")
    return named[0], verdict


def copy_tree(build, tree):
    """What git knows of and what was built of it, times of change included: make takes it for up to date."""
    shutil.rmtree(tree, ignore_errors=True)
    listed = subprocess.run(["git", "ls-files", "-z"], check=True, capture_output=True).stdout.decode()
    for path in filter(os.path.isfile, listed.split("\0")):
        os.makedirs(os.path.join(tree, os.path.dirname(path)), exist_ok=True)
        shutil.copy2(path, os.path.join(tree, path))
    os.makedirs(os.path.join(tree, "build"))
    for name in COPIED:
        subprocess.run(["cp", "-a", "--reflink=auto", os.path.join(build, name), os.path.join(tree, "build")], check=True)


def apply_patch(patch, tree):
    # Git is not to take the tree for a part of the repository around it.
    environment = dict(os.environ, GIT_CEILING_DIRECTORIES=os.path.dirname(os.path.abspath(tree)))
    done = subprocess.run(["git", "apply", os.path.abspath(patch)], cwd=tree, env=environment, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode != 0:
        raise MutantError(f"the patch does not apply any more: {done.stdout.strip()}")


def build_tree(tree, make_arguments):
    environment = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}
    done = subprocess.run(["make", "BUILD=build", *make_arguments, f"build/{SIMULATION}"], cwd=tree, env=environment,
                          text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode != 0:
        raise MutantError("it does not build:\n" + done.stdout[-4096:])


def run_seed(binary, seed):
    try:
        done = subprocess.run([binary, "--seed", str(seed)], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              timeout=SEED_SECONDS_MAX)
    except subprocess.TimeoutExpired:
        return None, f"verdict: not over after {SEED_SECONDS_MAX} s"
    return done.returncode, done.stdout


def first_failure(binary, seeds):
    """The first seed that fails, its exit code and output; None if all pass."""
    workers = os.cpu_count() or 1
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        waiting = []
        seed = 0
        while seed < seeds or waiting:
            while seed < seeds and len(waiting) <= workers:
                seed += 1
                waiting.append((seed, pool.submit(run_seed, binary, seed)))
            ran, future = waiting.pop(0)
            code, output = future.result()
            if code != 0:
                for _, other in waiting:
                    other.cancel()
                return ran, code, output
    return None


def run_mutant(name, build, make_arguments, seeds):
    """A line about how it was caught; a MutantError if it was not."""
    patch = os.path.join(MUTANTS, name + ".patch")
    tree = os.path.join(build, "mutants", name)
    with open(patch, encoding="utf-8") as file:
        breaks, named_by = read_head(file.read())
    copy_tree(build, tree)
    apply_patch(patch, tree)
    build_tree(tree, make_arguments)
    begin = time.monotonic()
    failure = first_failure(os.path.abspath(os.path.join(tree, "build", SIMULATION)), seeds)
    if failure is None:
        raise MutantError(f"not caught by {seeds} seeds: {breaks}")
    seed, code, output = failure
    try:
        invariant, verdict = judge(code, output, named_by)
    except MutantError as error:
        raise MutantError(f"seed {seed}: {error}") from None
    shutil.rmtree(tree)
    return f"seed {seed:3} {time.monotonic() - begin:6.1f} s  {invariant:4} {verdict[:120]}"


def check_patches():
    """The patches that no longer apply to this tree; nothing is changed."""
    bad = 0
    for name in sorted(f for f in os.listdir(MUTANTS) if f.endswith(".patch")):
        done = subprocess.run(["git", "apply", "--check", os.path.join(MUTANTS, name)], text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        if done.returncode:
            bad += 1
            print(f"{MUTANTS}/{name}: does not apply any more: {done.stdout.strip()}")
    return bad


def self_test():
    bad = []
    good = "breaks: a promise\nnamed by: I1 I7\n\n--- a/x\n+++ b/x\n"
    if read_head(good) != ("a promise", ["I1", "I7"]):
        bad.append("a good head is not read")
    for text in ("named by: I1\n", "breaks: x\n", "breaks: x\nnamed by: all\n", "\n--- a/x\n" + good):
        try:
            read_head(text)
            bad.append(f"a bad head is accepted: {text!r}")
        except MutantError:
            pass
    named = "again\nverdict: wrong result: I1, I7: lost at I9\n"
    if judge(129, named, ["I7"])[0] != "I7":
        bad.append("the invariant is not found")
    for code, output, named_by in ((128, named, ["I1"]), (None, named, ["I1"]), (129, named, ["I9"]),
                                   (129, named, ["I11"]), (129, "I1\n", ["I1"])):
        try:
            judge(code, output, named_by)
            bad.append(f"taken for caught: {code}, {output!r}, {named_by}")
        except MutantError:
            pass
    with open("Makefile", encoding="utf-8") as file:
        records = set(re.findall(r"^\$\(BUILD\)/(\w+): FORCE", file.read(), re.M))
    if records != set(COPIED) - {"obj", "gen", "lib"}:
        bad.append(f"of what make keeps about its flags, {sorted(records)}, others are copied: all would be compiled again")
    with tempfile.TemporaryDirectory() as folder:
        binary = os.path.join(folder, "fake")
        with open(binary, "w", encoding="utf-8") as file:
            file.write("#!/bin/sh\necho seed $2\ntest $2 -lt 7\n")
        os.chmod(binary, 0o755)
        if first_failure(binary, 200) != (7, 1, "seed 7\n") or first_failure(binary, 6) is not None:
            bad.append("the first seed that fails is not found")
        with open(os.path.join(folder, "x"), "w", encoding="utf-8") as file:
            file.write("other\n")
        patch = os.path.join(folder, "x.patch")
        with open(patch, "w", encoding="utf-8") as file:
            file.write(good + "@@ -1 +1 @@\n-one\n+two\n")
        try:
            apply_patch(patch, folder)
            bad.append("a patch of something else applies")
        except MutantError as error:
            if "does not apply any more" not in str(error):
                bad.append(f"the error does not say what is wrong: {error}")
        with open(os.path.join(folder, "x"), "w", encoding="utf-8") as file:
            file.write("one\n")
        apply_patch(patch, folder)
        with open(os.path.join(folder, "x"), encoding="utf-8") as file:
            if file.read() != "two\n":
                bad.append("a patch that applies changes nothing")
    print("\n".join(bad) if bad else "run_mutants.py ok: 14 cases")
    return 1 if bad else 0


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("--self-test", action="store_true")
    parser.add_argument("--check", action="store_true", help="only see that all patches apply")
    parser.add_argument("--build", default="build")
    parser.add_argument("--make-argument", action="append", default=[])
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("names", nargs="*", metavar="NAME")
    arguments = parser.parse_args()
    if arguments.self_test:
        return self_test()
    if arguments.check:
        return 1 if check_patches() else 0
    names = arguments.names or sorted(f[:-6] for f in os.listdir(MUTANTS) if f.endswith(".patch"))
    missed = 0
    for name in names:
        try:
            print(f"caught  {name:24} {run_mutant(name, arguments.build, arguments.make_argument, arguments.seeds)}", flush=True)
        except (MutantError, OSError) as error:
            missed += 1
            print(f"MISSED  {name:24} {error}", flush=True)
    print(f"{len(names) - missed} caught, {missed} missed")
    return 0 if names and not missed else 1


if __name__ == "__main__":
    sys.exit(main())
