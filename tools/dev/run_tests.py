#!/usr/bin/env python3
"""Run test binaries and say at the end how many tests passed.

usage: run_tests.py [--first-seed N] [--seeds N] [--seed-file FILE] [--progress SECONDS] [--marks]
                    [--timeout SECONDS] [--no-aslr] SUITE:BINARY...
       run_tests.py --self-test

A SUITE says how its binary is run and what counts as a test:
  unit, integration, fault   a doctest binary; each test case counts
  replay                     a fuzz target over tests/fuzz/corpus/<name>/; counts as one
  simulation                 run as `BINARY --seed N` for each seed, and with what each line of the seed file says; each
                             counts as one
Unit, replay and simulation runs go one on each core; the others have the machine to themselves.

Each run has a folder of its own as TMPDIR, removed afterwards, and a process group of its own, killed afterwards.
The output is shown only of a run that failed. With --progress the others have no line each: now and then one says how
far it is, and in the end how many seeds failed in which way, and which was the first. The last line is `N passed, M failed`, with `, K skipped` behind it if
some test could not run here (it prints `[skipped] why`); the exit code is 0 only when something passed and nothing
failed. A binary without test cases, a crash and a time-out are failures too. With --marks it is a failure if there is
a coverage mark that no simulation run hit; the marks are said before the last line.
"""
import argparse
import collections
import concurrent.futures
import contextlib
import io
import os
import re
import signal
import subprocess
import sys
import tempfile
import time

PARALLEL_SUITES = ("unit", "replay", "simulation")
SERIAL_SUITES = ("integration", "fault")
PARALLEL_RUNS = os.cpu_count() or 1
OUTPUT_BYTES_MAX = 64 * 1024  # what is shown of a failed run: its end
MARK = re.compile(r"^mark (\w+) (\d+) \d+$", re.M)  # tests/simulation/marks.h
# A simulation allocates and frees all the time; with longer lists of free blocks it takes a sixth less.
SUITE_ENVIRONMENT = {"simulation": {"GLIBC_TUNABLES": "glibc.malloc.tcache_count=1000"}}
SIMULATION_CODES = {127: "a CHECK failed", 128: "no progress", 129: "wrong result"}
SKIPPED = re.compile(r"^\[skipped\] (.*)$", re.M)  # tests/support/skip.h
SUMMARY = re.compile(r"^\[doctest\] test cases: *\d+ *\| *(\d+) passed *\| *(\d+) failed *\| *(\d+) skipped", re.M)


class Run:
    """One process to start, and what came of it."""

    def __init__(self, suite, name, argv):
        self.suite, self.name, self.argv = suite, name, argv
        self.passed = self.failed = self.skipped = 0
        self.note = self.output = ""
        self.marks = {}
        self.seconds = 0.0


def read_seed_file(text):
    """The arguments of each line: `SEED [OPTION...] # what it found`."""
    lines = (line.partition("#")[0].split() for line in text.splitlines())
    return [["--seed", *words] for words in lines if words]


def plan(tests, first_seed, seeds, known=(), options=()):
    """The runs of a list of SUITE:BINARY; `known`: arguments of simulations besides the seeds that are counted."""
    runs = []
    for test in tests:
        suite, _, binary = test.partition(":")
        name = os.path.basename(binary)
        if suite == "simulation":
            counted = [["--seed", str(seed)] for seed in range(first_seed, first_seed + seeds)]
            for words in [*known, *counted]:
                runs.append(Run(suite, " ".join([name, *words]), [binary, *words, *options]))
        elif suite == "replay":
            runs.append(Run(suite, name, [binary, os.path.join("tests/fuzz/corpus", name)]))
        elif suite in PARALLEL_SUITES + SERIAL_SUITES:
            runs.append(Run(suite, name, [binary]))
        else:
            sys.exit(f"run_tests: no suite '{suite}'; there are {', '.join(PARALLEL_SUITES + SERIAL_SUITES)}")
    return runs


def judge(run, code, text):
    """Counts what a finished process (exit code, output) did; code None is a time-out."""
    summaries = SUMMARY.findall(text)
    if run.suite in ("replay", "simulation"):
        run.passed, run.failed = (1, 0) if code == 0 else (0, 1)
    elif summaries:
        run.passed, run.failed = int(summaries[-1][0]), int(summaries[-1][1])
        # Of those that doctest calls passed, some may have found that they cannot run here.
        reasons = SKIPPED.findall(text)
        run.passed -= len(reasons)
        run.skipped = int(summaries[-1][2]) + len(reasons)
        if run.skipped:
            run.note = f"{run.skipped} skipped" + "".join(f"; {reason.rstrip()}" for reason in reasons)
    if code is None:
        run.note = "timed out"
    elif code < 0:
        run.note = f"killed by {signal.Signals(-code).name}"
    elif code > 0:
        run.note = f"exit code {code}"
        if run.suite == "simulation" and code in SIMULATION_CODES:
            run.note += f", {SIMULATION_CODES[code]}"
    elif not run.passed and not run.failed and not run.skipped:
        run.note = "no test cases"
    else:
        return
    run.failed = max(run.failed, 1)


def execute(run, prefix, timeout):
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="tidemark-test-", ignore_cleanup_errors=True) as folder:
        # A file, not a pipe: a process that a test left behind would hold a pipe open.
        with tempfile.TemporaryFile() as output:
            try:
                process = subprocess.Popen(
                    prefix + run.argv, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                    env=dict(os.environ, TMPDIR=folder, **SUITE_ENVIRONMENT.get(run.suite, {})), start_new_session=True)
            except OSError as error:
                run.failed, run.note = 1, f"cannot start: {error.strerror}"
                return run
            try:
                code = process.wait(timeout)
            except subprocess.TimeoutExpired:
                code = None
            finally:
                try:
                    os.killpg(process.pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
                process.wait()
            output.seek(0)
            text = output.read().decode(errors="replace")
    run.seconds = time.monotonic() - start
    run.marks = {name: int(hits) for name, hits in MARK.findall(text)}
    judge(run, code, text)
    if run.failed:
        run.output = text
    return run


def report(run):
    word = "FAILED" if run.failed else "ok"
    count = f"{run.passed}" if not run.failed else f"{run.passed}, {run.failed} failed"
    note = f"  ({run.note})" if run.note else ""
    print(f"{word:7} {run.suite + '/' + run.name:44} {count:>6} {run.seconds:8.1f} s{note}")
    if run.failed:
        shown = run.output[-OUTPUT_BYTES_MAX:]
        print("-" * 78)
        if len(shown) < len(run.output):
            print(f"(the last {len(shown)} of {len(run.output)} characters)")
        print(shown.rstrip("\n"))
        print("-" * 78)
    sys.stdout.flush()


def closing_line(passed, failed, skipped):
    """What CI looks for, alone on the last line."""
    return f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else "")


def report_marks(runs):
    """Says which coverage marks were hit; returns the names of those that never were."""
    hits, seeds = collections.Counter(), collections.Counter()
    for run in runs:
        hits.update(run.marks)
        seeds.update(name for name, count in run.marks.items() if count)
    for name in sorted(hits):
        print(f"mark {name:44} {hits[name]:10} in {seeds[name]:4} runs")
    never = [name for name in sorted(hits) if not hits[name]]
    for name in never:
        print(f"never hit: {name}")
    print(f"{len(hits) - len(never)} of {len(hits)} marks hit")
    return never if hits else ["(no run said anything about marks)"]


class Progress:
    """Instead of a line for each run: one now and then, at the first failure, and in the end."""

    def __init__(self, runs, seconds):
        self.runs, self.total, self.seconds, self.done, self.failed = runs, len(runs), seconds, 0, []
        self.begin = self.said = time.monotonic()

    def report(self, run):
        self.done += 1
        if run.failed:
            self.failed.append(run)
            report(run)
        now = time.monotonic()
        if now - self.said >= self.seconds:
            self.said = now
            left = (now - self.begin) / self.done * (self.total - self.done)
            print(f"{self.done} of {self.total} seeds, {len(self.failed)} failed, {now - self.begin:.0f} s, "
                  f"{left:.0f} s to go", flush=True)

    def end(self):
        counts = {}
        for run in self.failed:
            counts[run.note] = counts.get(run.note, 0) + 1
        words = "".join(f", {count} with {note}" for note, count in sorted(counts.items()))
        seconds = time.monotonic() - self.begin
        print(f"{self.total} seeds in {seconds:.0f} s, {seconds / max(self.total, 1):.2f} s each{words}")
        if self.failed:
            first = next(run for run in self.runs if run.failed)
            print(f"first failure: {first.name}: {first.note}")


def run_all(runs, prefix, timeout, progress=None, marks=False):
    """Runs everything, prints as it goes; returns the exit code."""
    parallel = [r for r in runs if r.suite in PARALLEL_SUITES]
    serial = [r for r in runs if r.suite in SERIAL_SUITES]
    with concurrent.futures.ThreadPoolExecutor(PARALLEL_RUNS) as pool:
        futures = [pool.submit(execute, run, prefix, timeout) for run in parallel]
        try:
            for done in concurrent.futures.as_completed(futures):
                (progress.report if progress else report)(done.result())
        except KeyboardInterrupt:
            pool.shutdown(cancel_futures=True)
            raise
    for run in serial:
        report(execute(run, prefix, timeout))

    if progress:
        progress.end()
    passed, failed, skipped = (sum(getattr(r, kind) for r in runs) for kind in ("passed", "failed", "skipped"))
    for run in runs:
        if run.failed:
            print(f"failed: {run.suite}/{run.name}: {' '.join(run.argv)}")
    never = report_marks(runs) if marks else []
    print(closing_line(passed, failed, skipped))
    return 0 if passed and not failed and not never else 1


# What each fake binary below does, and the runner's answer to it.
FAKES = [
    # (suite, script, passed, failed, skipped, words in the note)
    ("unit", "echo '[doctest] test cases:  3 |  3 passed | 0 failed | 0 skipped'", 3, 0, 0, ""),
    ("unit", "echo '[doctest] test cases: 12 | 10 passed | 2 failed | 1 skipped'; exit 1", 10, 2, 1, "exit code 1"),
    ("unit", "echo '[doctest] test cases: 12 | 11 passed | 0 failed | 1 skipped'", 11, 0, 1, "1 skipped"),
    ("unit", "echo '[doctest] test cases: 0 | 0 passed | 0 failed | 0 skipped'", 0, 1, 0, "no test cases"),
    ("unit", "echo '[doctest] test cases: 2 | 2 passed | 0 failed | 0 skipped'; exit 3", 2, 1, 0, "exit code 3"),
    ("unit", "exit 0", 0, 1, 0, "no test cases"),
    ("unit", "kill -SEGV $$", 0, 1, 0, "SIGSEGV"),
    ("integration", "sleep 60", 0, 1, 0, "timed out"),
    ("integration", "sleep 60 & echo '[doctest] test cases: 1 | 1 passed | 0 failed | 0 skipped'", 1, 0, 0, ""),
    ("fault", "test -d \"$TMPDIR\" && echo '[doctest] test cases: 1 | 1 passed | 0 failed | 0 skipped'", 1, 0, 0, ""),
    ("replay", "test \"$1\" = tests/fuzz/corpus/fake", 1, 0, 0, ""),
    ("replay", "exit 1", 0, 1, 0, "exit code 1"),
    ("simulation", "test \"$1 $2\" = '--seed 7'", 1, 0, 0, ""),
    ("simulation", "test \"$1 $2\" = '--seed 8'", 0, 1, 0, "exit code 1"),
    ("simulation", "exit 129", 0, 1, 0, "exit code 129, wrong result"),
    ("fault", "echo '[skipped] no root'; echo '[doctest] test cases: 3 | 3 passed | 0 failed | 0 skipped'", 2, 0, 1, "; no root"),
    ("fault", "echo '[skipped] no root'; echo '[doctest] test cases: 1 | 1 passed | 0 failed | 0 skipped'", 0, 0, 1, "1 skipped"),
]


def self_test():
    bad = []
    with tempfile.TemporaryDirectory() as folder:
        for suite, script, passed, failed, skipped, note in FAKES:
            binary = os.path.join(folder, "fake")
            with open(binary, "w", encoding="utf-8") as file:
                file.write("#!/bin/sh\n" + script + "\n")
            os.chmod(binary, 0o755)
            (run,) = plan([f"{suite}:{binary}"], first_seed=7, seeds=1)
            execute(run, [], timeout=0.5 if "sleep 60\n" in script + "\n" else 10)
            counts = (run.passed, run.failed, run.skipped)
            if counts != (passed, failed, skipped) or note not in run.note or bool(note) != bool(run.note):
                bad.append(f"{suite} {script!r}: {closing_line(*counts)}, note {run.note!r}")
        (run,) = plan([f"unit:{folder}/absent"], 1, 1)
        if execute(run, [], 10).failed != 1 or "cannot start" not in run.note:
            bad.append("a binary that is not there is no failure")
    known = read_seed_file("# a head\n\n17\n 4 --chaos-ms 100 # lost\n")
    if known != [["--seed", "17"], ["--seed", "4", "--chaos-ms", "100"]]:
        bad.append(f"seed file {known!r}")
    names = [run.name for run in plan(["simulation:s"], 7, 2, known)]
    if names != ["s --seed 17", "s --seed 4 --chaos-ms 100", "s --seed 7", "s --seed 8"]:
        bad.append(f"simulations {names!r}")
    for counts, line in (((3, 0, 0), "3 passed, 0 failed"), ((3, 1, 2), "3 passed, 1 failed, 2 skipped")):
        if closing_line(*counts) != line:
            bad.append(f"closing line {closing_line(*counts)!r}")
    bad += self_test_marks()
    print("\n".join(bad) if bad else f"run_tests.py ok: {len(FAKES) + 3} cases")
    return 1 if bad else 0


def self_test_marks():
    bad = []
    with tempfile.TemporaryDirectory() as folder:
        binary = os.path.join(folder, "fake")
        with open(binary, "w", encoding="utf-8") as file:
            file.write('#!/bin/sh\n[ "$3" = --marks ] || exit 1\necho "mark odd $(($2 % 2 * 5)) 1"\necho "mark never 0 0"\n')
        os.chmod(binary, 0o755)
        runs = plan([f"simulation:{binary}"], 1, 3, options=["--marks"])
        for run in runs:
            execute(run, [], timeout=10)
        with contextlib.redirect_stdout(io.StringIO()) as said:
            never = report_marks(runs)
        if never != ["never"] or f"mark {'odd':44} {10:10} in {2:4} runs" not in said.getvalue() or any(r.failed for r in runs):
            bad.append(f"marks: never hit {never}; {said.getvalue()!r}")
        with contextlib.redirect_stdout(io.StringIO()):
            if not report_marks([]):
                bad.append("no marks at all is no failure")
    return bad


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("--self-test", action="store_true")
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--marks", action="store_true", help="fail for coverage marks that no simulation run hits")
    parser.add_argument("--seed-file", help="what is simulated besides these seeds: tests/seeds/simulation.txt")
    parser.add_argument("--progress", type=float, metavar="SECONDS", help="one line so often, not one for each run")
    parser.add_argument("--timeout", type=float, default=600)
    parser.add_argument("--no-aslr", action="store_true", help="for the thread sanitizer, which wants a fixed layout")
    parser.add_argument("tests", nargs="*", metavar="SUITE:BINARY")
    arguments = parser.parse_args()
    if arguments.self_test:
        return self_test()
    prefix = ["setarch", os.uname().machine, "-R"] if arguments.no_aslr else []
    known = []
    if arguments.seed_file:
        with open(arguments.seed_file, encoding="utf-8") as file:
            known = read_seed_file(file.read())
    runs = plan(arguments.tests, arguments.first_seed, arguments.seeds, known, ["--marks"] if arguments.marks else [])
    progress = Progress(runs, arguments.progress) if arguments.progress else None
    return run_all(runs, prefix, arguments.timeout, progress, arguments.marks)


if __name__ == "__main__":
    sys.exit(main())
