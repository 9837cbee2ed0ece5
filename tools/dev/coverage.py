#!/usr/bin/env python3
"""Line and branch coverage of the modules, from a build with COVERAGE=1 whose tests have run.

usage: coverage.py BUILD     prints a table; writes BUILD/files.txt and BUILD/report/
       coverage.py --self-test

BUILD/profiles/*.profraw are the counters of the tests that ran, BUILD/obj/**/*.o what says where they stand in the
source (in an archive they lie where llvm-cov cannot read them). Looked at are all files of the modules in
tools/dev/layers.txt, also those that no test is linked with; tests, benchmarks and examples are not.

A branch is one outcome of one condition. Not counted are those inside TIDEMARK_CHECK, of which one must never come,
and conditions that are constant. What is in a header or template counts as covered where any use of it covers it.
`BUILD/report` is llvm-cov's own HTML, which counts them all.
A process that a test kills writes no counters, so a daemon counts only where it stops in order.
"""
import bisect
import collections
import glob
import json
import os
import re
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import check_layers  # noqa: E402

LLVM = "-14"
NOT_PRODUCT = ("tests", "bench", "clients/cpp/examples")
CHECK = re.compile(r"\bTIDEMARK_D?CHECK\s*\(")
CONSTANT = ("true", "false")
LITERAL = re.compile(r'"(?:[^"\\\n]|\\.)*"|//[^\n]*|\'(?:[^\'\\\n]|\\.)\'')


class File:
    """What was counted in one source file."""

    def __init__(self, path, lines, lines_covered, branches):
        self.path, self.lines, self.lines_covered = path, lines, lines_covered
        self.outcomes = 2 * len(branches)
        self.taken = sum((yes > 0) + (no > 0) for yes, no in branches.values())


class Source:
    """Text of a source file, with what its ranges mean."""

    def __init__(self, text):
        self.lines = text.split("\n")
        self.starts = [0]
        for line in self.lines:
            self.starts.append(self.starts[-1] + len(line) + 1)
        self.text = text
        blank = LITERAL.sub(lambda match: " " * len(match.group()), text)
        self.checks = []  # (begin, end) of each CHECK, by begin
        for match in CHECK.finditer(blank):
            depth, end = 1, match.end()
            while depth and end < len(blank):
                depth += {"(": 1, ")": -1}.get(blank[end], 0)
                end += 1
            self.checks.append((match.start(), end))

    def at(self, line, column):
        return self.starts[line - 1] + column - 1

    def counts(self, region):
        """Whether the condition (or macro) at [line, column, line, column] is one that is counted."""
        begin, end = self.at(region[0], region[1]), self.at(region[2], region[3])
        if self.text[begin:end] in CONSTANT:
            return False
        before = bisect.bisect_right(self.checks, (begin, len(self.text))) - 1
        return before < 0 or begin >= self.checks[before][1]


def branches_of(exported, source):
    """{place: [times true, times false]} of one file of `llvm-cov export`; uses of a template are added up."""
    found = collections.defaultdict(lambda: [0, 0])

    def add(key, branch):
        found[key][0] += branch[4]
        found[key][1] += branch[5]

    for branch in exported["branches"]:
        if source.counts(branch):
            add(tuple(branch[:4]), branch)
    for expansion in exported["expansions"]:
        if source.counts(expansion["source_region"]):
            for branch in expansion["branches"]:
                add(tuple(expansion["source_region"][:4]) + tuple(branch[:4]) + (branch[6],), branch)
    return found


def module_of(path, table):
    module = check_layers.module_of(path, table)
    return "" if module.split("/")[0] in NOT_PRODUCT or module in NOT_PRODUCT else module


def percent(part, whole):
    return "-" if whole == 0 else f"{100 * part / whole:.1f}"


def table_of(rows, head):
    """`rows` of (name, files): one line each and a sum."""
    everything = ("all", [file for _, files in rows for file in files])
    out = [f"{head:44} {'files':>5} {'lines':>7} {'missed':>6} {'%':>6} {'branches':>9} {'missed':>6} {'%':>6}"]
    for name, files in rows + [everything]:
        lines, covered = sum(f.lines for f in files), sum(f.lines_covered for f in files)
        outcomes, taken = sum(f.outcomes for f in files), sum(f.taken for f in files)
        out.append(f"{name:44} {len(files):5} {lines:7} {lines - covered:6} {percent(covered, lines):>6} "
                   f"{outcomes:9} {outcomes - taken:6} {percent(taken, outcomes):>6}")
    return "\n".join(out)


def read_export(exported, table):
    """The product's files, by module in the order of the table."""
    modules = {name: [] for name in table}
    for entry in exported["data"][0]["files"]:
        path = os.path.normpath(entry["filename"])
        module = "" if os.path.isabs(path) or path.startswith("build") else module_of(path, table)
        if not module or not os.path.exists(path):
            continue
        with open(path, encoding="utf-8") as file:
            source = Source(file.read())
        lines = entry["summary"]["lines"]
        modules[module].append(File(path, lines["count"], lines["covered"], branches_of(entry, source)))
    return [(name, files) for name, files in modules.items() if files]


def run(tool, *arguments, **options):
    return subprocess.run([tool + LLVM, *arguments], check=True, **options)


def report(build):
    table, _ = check_layers.read_table("tools/dev/layers.txt")
    raw = glob.glob(f"{build}/profiles/*.profraw")
    objects = sorted(path for path in glob.glob(f"{build}/obj/**/*.o", recursive=True)
                     if module_of(os.path.relpath(path, f"{build}/obj"), table))
    if not raw or not objects:
        sys.exit(f"coverage: no counters in {build}/profiles; run `make coverage`")
    profile = f"{build}/all.profdata"
    with open(f"{build}/profiles/list", "w", encoding="utf-8") as file:
        file.write("\n".join(raw) + "\n")
    run("llvm-profdata", "merge", "-sparse", f"-input-files={build}/profiles/list", "-o", profile)
    sources = [f"-instr-profile={profile}", objects[0]] + [f"-object={path}" for path in objects[1:]]
    # Warns of inline functions that one test binary has and another has not.
    exported = run("llvm-cov", "export", "-skip-functions", *sources, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    rows = read_export(json.loads(exported.stdout), table)
    print(table_of(rows, "module"))
    worst = sorted((file for _, files in rows for file in files), key=lambda f: (f.taken - f.outcomes, f.path))
    with open(f"{build}/files.txt", "w", encoding="utf-8") as file:
        file.write(table_of([(f.path, [f]) for f in worst], "file, most missed branches first") + "\n")
    shutil.rmtree(f"{build}/report", ignore_errors=True)
    run("llvm-cov", "show", "-format=html", f"-output-dir={build}/report", "-show-branches=count",
        "-ignore-filename-regex=(^|/)(tests|bench|build)/|^/usr/", *sources, stderr=subprocess.DEVNULL)
    print(f"by file: {build}/files.txt; line by line: {build}/report/index.html")


def self_test():
    text = 'int f(int a) {\n  TIDEMARK_CHECK(a > 0, "a)" + g());\n  while (true) {\n    if (a) return 1;\n    RETURN_IF_ERROR(g());\n  }\n}\n'
    exported = {
        "branches": [[2, 18, 2, 23, 9, 0, 0, 0, 4],  # in the CHECK
                     [3, 10, 3, 14, 0, 0, 0, 0, 4],  # constant
                     [4, 9, 4, 10, 0, 3, 0, 0, 4],
                     [4, 9, 4, 10, 2, 0, 0, 0, 4]],  # another use of a template
        "expansions": [{"source_region": [2, 3, 2, 17, 9, 0, 1, 1], "branches": [[27, 9, 27, 21, 0, 9, 1, 0, 4]]},
                       {"source_region": [5, 5, 5, 20, 9, 0, 1, 1], "branches": [[8, 9, 8, 21, 0, 9, 1, 0, 4]]}],
    }
    branches = branches_of(exported, Source(text))
    file = File("log/log.cc", 10, 9, branches)
    bad = []
    if sorted(branches.values()) != [[0, 9], [2, 3]] or (file.outcomes, file.taken) != (4, 3):
        bad.append(f"branches {dict(branches)}")
    if table_of([("log", [file])], "module").split("\n")[1].split() != "log 1 10 1 90.0 4 1 75.0".split():
        bad.append("table: " + table_of([("log", [file])], "module"))
    table = {"log": (), "log/base": (), "tests": (), "bench/peers": (), "clients/cpp/examples": ()}
    for path, module in (("log/base/a.h", "log/base"), ("log/a.cc", "log"), ("tests/unit/log/a.cc", ""),
                         ("bench/peers/a.cc", ""), ("clients/cpp/examples/a.cc", ""), ("other/a.cc", "")):
        if module_of(path, table) != module:
            bad.append(f"{path} is in '{module_of(path, table)}', not in '{module}'")
    print("\n".join(bad) if bad else "coverage.py ok")
    return 1 if bad else 0


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    return self_test() if sys.argv[1] == "--self-test" else report(sys.argv[1])


if __name__ == "__main__":
    sys.exit(main())
