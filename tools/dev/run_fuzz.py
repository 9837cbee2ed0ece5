#!/usr/bin/env python3
"""Runs fuzz targets, as many at once as there are cores, each for the same time.

  run_fuzz.py [--seconds N] [--jobs N] --corpus DIR --crashes DIR FUZZER...

A fuzzer's name is that of its binary. It begins with tests/fuzz/corpus/NAME and keeps what it finds in the folder
CORPUS/NAME; tests/fuzz/dictionaries/NAME.dict is used if it is there. Its output goes to CORPUS/NAME.log.

The last line: targets, findings, executions. Exit code 0 if nothing was found, 1 if something was: then the end of the
target's output is shown, and where the input that did it lies.
"""
import argparse
import concurrent.futures
import os
import pathlib
import re
import subprocess
import sys
import threading

SEEDS = pathlib.Path("tests/fuzz/corpus")
DICTIONARIES = pathlib.Path("tests/fuzz/dictionaries")
INPUT_BYTES_MIN = 4096
INPUT_BYTES_MAX = 64 * 1024
MEMORY_MB = 1024
# Of one input. Nothing that a target does takes a second; a machine may be busy with other things.
RUN_SECONDS_MAX = 20
# Beyond its time a target may finish an input and write what it found.
GRACE_SECONDS = 120
SHOWN_LINES = 60

print_lock = threading.Lock()


def largest(folder):
    return max((file.stat().st_size for file in folder.glob("*") if file.is_file()), default=0)


def command(fuzzer, options):
    name = fuzzer.name
    seeds = SEEDS / name
    found = options.corpus / name
    found.mkdir(parents=True, exist_ok=True)
    input_bytes = min(max(2 * largest(seeds), INPUT_BYTES_MIN), INPUT_BYTES_MAX)
    words = [str(fuzzer), f"-max_total_time={options.seconds}", f"-max_len={input_bytes}",
             f"-rss_limit_mb={MEMORY_MB}", f"-timeout={RUN_SECONDS_MAX}", "-print_final_stats=1",
             f"-artifact_prefix={options.crashes}/{name}-"]
    dictionary = DICTIONARIES / f"{name}.dict"
    if dictionary.exists():
        words.append(f"-dict={dictionary}")
    return words + [str(found), str(seeds)]


def number(name, text):
    found = re.findall(rf"stat::{name}:\s*(\d+)", text)
    return int(found[-1]) if found else 0


def run(fuzzer, options):
    """Executions, and whether something was found."""
    log = options.corpus / f"{fuzzer.name}.log"
    words = command(fuzzer, options)
    with log.open("wb") as out:
        try:
            code = subprocess.run(words, stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                                  timeout=options.seconds + GRACE_SECONDS, check=False).returncode
        except subprocess.TimeoutExpired:
            code = -1
    text = log.read_text(errors="replace")
    executions = number("number_of_executed_units", text)
    rate = number("average_exec_per_sec", text)
    new = number("new_units_added", text)
    line = (f"  FUZZ    {fuzzer.name}: {executions} executions, {rate}/s, "
            f"{new} new inputs")
    with print_lock:
        if code == 0:
            print(line, flush=True)
            return executions, False
        print("\n".join(text.splitlines()[-SHOWN_LINES:]))
        artifacts = re.findall(r"Test unit written to (\S+)", text)
        where = artifacts[-1] if artifacts else f"no input was kept, see {log}"
        print(f"{line}, FINDING: {where}", flush=True)
    return executions, True


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--corpus", type=pathlib.Path, required=True)
    parser.add_argument("--crashes", type=pathlib.Path, required=True)
    parser.add_argument("fuzzers", type=pathlib.Path, nargs="+")
    options = parser.parse_args()
    options.corpus.mkdir(parents=True, exist_ok=True)
    options.crashes.mkdir(parents=True, exist_ok=True)
    with concurrent.futures.ThreadPoolExecutor(max_workers=max(1, options.jobs)) as pool:
        results = list(pool.map(lambda fuzzer: run(fuzzer, options), options.fuzzers))
    findings = sum(found for _, found in results)
    print(f"{len(results)} targets, {findings} findings, {sum(count for count, _ in results)} executions")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
