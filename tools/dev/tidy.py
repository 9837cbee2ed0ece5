#!/usr/bin/env python3
"""Checks of the sources that neither compiler nor clang-tidy makes.

usage: tidy.py [FILE...]     check these files, or the whole tree (from its root)
       tidy.py --self-test   check the checker

Each ban names what to use instead. Comments and string literals are not looked at, except for leftover marks.
A line that must break a ban says so, on itself or on the line above, with the reason:
    // tidy: allow(BAN): why this place is different
An allowance without a reason, or for a ban that does not hit there, is an error too.
"""
import os
import re
import sys

SOURCES = (".h", ".cc")
TEXTS = SOURCES + (".fbs", ".py", ".sh", ".md", ".toml", ".txt", ".mk", ".yml")
FOLDERS = ("broker", "log", "timerwheel", "clients", "tools", "tests", "bench")
SKIPPED = {"build", "data", ".git", "corpus", "golden", "licenses", "__pycache__"}
LINES_MAX = 800


class Ban:
    def __init__(self, name, pattern, instead, only=("",), but=(), raw=False):
        self.name = name
        self.pattern = re.compile(pattern)
        self.instead = instead
        self.only = only  # path prefixes where it holds
        self.but = but  # path prefixes where it does not
        self.raw = raw  # looks at comments and strings too

    def holds_in(self, path):
        return path.startswith(self.only) and not path.startswith(self.but)


# The names of marks are put together here so that this file passes its own check.
LEFTOVER = "FIX" + "ME|TO" + "DO|X" + "XX"

BANS = [
    Ban("clock", r"_clock::now\b|\bclock_gettime\(|\bgettimeofday\(|(?<![\w.>])time\((?:nullptr|NULL|0)\)",
        "take a Clock (log/base/clock.h)", but=("log/base/",)),
    Ban("random", r"\bs?rand\(|\bstd::random_device\b|\bstd::mt19937|\bgetrandom\(",
        "take a Random (log/base/random.h)", but=("log/base/",)),
    Ban("file", r"(?<![\w>.])(?:::)?(?:f(?:data)?sync|fallocate|ftruncate|p(?:read|write)v?)\(|(?<!\w)::(?:open|openat|creat|rename|unlink)\(",
        "take a FileSystem (log/base/file_system.h)", but=("log/base/", "tests/", "bench/")),
    Ban("mutex", r"\bstd::(?:recursive_|shared_|timed_)*mutex\b|\bstd::condition_variable|\buv_(?:mutex|rwlock|cond)_|\bpthread_mutex_",
        "state belongs to one loop; others post to its mailbox", only=("broker/",)),
    Ban("thread", r"\bstd::j?thread\b|\bpthread_create\(|\buv_thread_create",
        "take an Executor (log/base/executor.h)", only=("broker/", "log/", "timerwheel/"),
        but=("log/base/", "broker/net/", "broker/main.", "broker/server", "broker/shard/thread_executor.")),
    Ban("sleep", r"\bsleep_(?:for|until)\(|\b(?:u|nano)?sleep\(|\bclock_nanosleep\(",
        "move a simulated clock, or wait for the event itself", only=("tests/",)),
    Ban("cout", r"\bstd::(?:cout|cerr|clog)\b",
        "the log (log/base/logging.h) in the broker, stdio in tools", but=("clients/cpp/examples/",)),
    Ban("using-namespace", r"\busing\s+namespace\b(?!\s+std::(?:\w+::)*\w*literals\s*;)", "name what is used, or a namespace alias"),
    Ban("libuv", r"\buv_\w+|<uv\.h>", "libuv stays in broker/net, the server, the client library and the tools",
        but=("broker/net/", "broker/main.", "broker/server", "broker/reactor", "clients/cpp/src/", "tools/", "tests/", "bench/")),
    Ban("lmdb", r"\bmdb_\w+|<lmdb\.h>", "KeyValueStore (broker/kv/key_value_store.h)", but=("broker/kv/", "tests/unit/broker/kv/")),
    Ban("raft", r"<raft\.h>|\braft_(?:io|init|start|step|apply|configuration)_?\w*\(",
        "Consensus (broker/replica/consensus.h)", but=("broker/replica/", "tests/unit/broker/replica/")),
    Ban("assert", r"(?<![\w.])assert\(|<cassert>|<assert\.h>", "TIDEMARK_CHECK or TIDEMARK_DCHECK (log/base/check.h)"),
    Ban("leftover", rf"\b(?:{LEFTOVER})\b", "do it, or write an issue", raw=True),
]
BY_NAME = {ban.name: ban for ban in BANS}

TOKEN = re.compile(
    r"""//[^\n]*
      | /\*.*?\*/
      | \bR"(?P<mark>[^()\s\\]{0,16})\(.*?\)(?P=mark)"
      | "(?:[^"\\\n]|\\.)*"
      | '(?:[^'\\\n]|\\.)+'(?![0-9A-Fa-f])""",
    re.S | re.X)
INCLUDE_LINE = re.compile(r"^[ \t]*#[ \t]*include\b.*$", re.M)
ALLOW = re.compile(r"//\s*tidy:\s*allow\(([\w-]+)\)(?::\s*(\S.*))?")


def blank(match):
    """The same length and the same lines, but no text."""
    return re.sub(r"[^\n]", " ", match.group())


def code_of(text):
    """`text` with comments and literals blanked; line and column stay. Digit separators are no quotes."""
    without_separators = re.sub(r"(?<=[0-9A-Fa-f])'(?=[0-9A-Fa-f])", "_", text)
    return TOKEN.sub(blank, without_separators)


def check_bans(path, text):
    lines, code = text.split("\n"), code_of(text).split("\n")
    used, allowed, bad = set(), {}, []
    for number, line in enumerate(lines, 1):
        for name, reason in ALLOW.findall(line):
            if name not in BY_NAME:
                bad.append((number, f"no ban is called '{name}'"))
            elif not reason:
                bad.append((number, f"allow({name}) needs a reason: allow({name}): why"))
            else:
                # On a line of its own it speaks of the next one.
                target = number + 1 if not code[number - 1].strip() else number
                allowed[(name, target)] = number
    for ban in BANS:
        if not ban.holds_in(path):
            continue
        for number, line in enumerate(lines if ban.raw else code, 1):
            found = ban.pattern.search(line)
            if not found:
                continue
            if (ban.name, number) in allowed:
                used.add((ban.name, number))
            else:
                bad.append((number, f"{ban.name}: '{found.group().strip()}': {ban.instead}"))
    for key in sorted(set(allowed) - used):
        bad.append((allowed[key], f"allow({key[0]}) is not needed here"))
    return bad


def check_text(path, text):
    """White space, and what holds for a file as a whole."""
    bad = []
    makefile = path.endswith((".mk", "Makefile"))
    for number, line in enumerate(text.split("\n"), 1):
        if "\t" in line and not makefile:
            bad.append((number, "tab: use spaces"))
        if line != line.rstrip():
            bad.append((number, "white space at the end of the line"))
    if text and not text.endswith("\n"):
        bad.append((text.count("\n") + 1, "no newline at the end of the file"))
    if path.endswith(SOURCES):
        count = text.count("\n")
        if count > LINES_MAX:
            bad.append((count, f"{count} lines: at most {LINES_MAX}, divide the file"))
    if path.endswith(".h") and not re.search(r"^#pragma once$", text, re.M):
        bad.append((1, "a header needs #pragma once"))
    return bad


def check(path, text):
    bad = check_text(path, text)
    if path.endswith(SOURCES + (".fbs",)):
        bad += check_bans(path, text)
    return [f"{path}:{number}: {message}" for number, message in sorted(bad)]


def tree():
    for top in FOLDERS:
        for folder, subfolders, names in os.walk(top):
            subfolders[:] = sorted(set(subfolders) - SKIPPED)
            for name in sorted(names):
                if name.endswith(TEXTS):
                    yield os.path.join(folder, name)


# --- Self test: (path, text, words of the one complaint, or None) ---

H = "#pragma once\n"
CASES = [
    ("log/x.cc", "auto t = std::chrono::steady_clock::now();\n", "clock"),
    ("log/base/posix_clock.cc", "auto t = std::chrono::steady_clock::now();\n", None),
    ("log/x.cc", "Time t = clock.now();\nstd::chrono::steady_clock::time_point p;\n", None),
    ("broker/x.cc", "x = time(nullptr);\n", "clock"),
    ("broker/x.cc", "x = shard_time(0); y.time(); z = wall_time();\n", None),
    ("broker/x.cc", "int r = rand();\n", "random"),
    ("broker/x.cc", "std::mt19937_64 g;\n", "random"),
    ("broker/x.cc", "int r = brand();\n", None),
    ("log/x.cc", "int fd = ::open(path, 0);\n", "file"),
    ("log/x.cc", "fsync(fd);\n", "file"),
    ("log/x.cc", "::fdatasync(fd);\n", "file"),
    ("log/x.cc", "file->pread(buffer, 0); file.fsync(); auto log = Log::open(path); is_open(x);\n", None),
    ("log/base/posix_file_system.cc", "int fd = ::open(path, 0);\n", None),
    ("tests/fault/x.cc", "int fd = ::open(path, 0);\n", None),
    ("broker/x.h", H + "std::mutex m;\n", "mutex"),
    ("broker/x.h", H + "std::shared_mutex m;\n", "mutex"),
    ("clients/cpp/src/x.h", H + "std::mutex m;\n", None),
    ("log/x.cc", "std::thread worker(run);\n", "thread"),
    ("log/base/executor.cc", "std::thread worker(run);\n", None),
    ("tests/unit/log/x_test.cc", "std::this_thread::sleep_for(1ms);\n", "sleep"),
    ("tests/unit/log/x_test.cc", "usleep(5);\n", "sleep"),
    ("broker/x.cc", 'std::cout << "x";\n', "cout"),
    ("clients/cpp/examples/x.cc", 'std::cout << "x";\n', None),
    ("tools/x.cc", "using namespace std;\n", "using-namespace"),
    ("tools/x.cc", "using std::string;\nusing namespace std::string_view_literals;\n", None),
    ("tools/x.cc", "using namespace std::chrono;\n", "using-namespace"),
    ("broker/shard/x.cc", "uv_run(loop);\n", "libuv"),
    ("log/x.cc", "#include <uv.h>\n", "libuv"),
    ("broker/net/x.cc", "#include <uv.h>\nuv_run(loop);\n", None),
    ("broker/server.cc", "uv_run(loop);\n", None),
    ("broker/partition/x.cc", "mdb_put(a);\n", "lmdb"),
    ("broker/kv/lmdb_store.cc", "mdb_put(a);\n", None),
    ("broker/shard/x.cc", "#include <raft.h>\n", "raft"),
    ("broker/replica/x.cc", "#include <raft.h>\nraft_start(r);\n", None),
    ("broker/shard/x.cc", "#include \"broker/replica/consensus.h\"\nraft_term_of(entry);\n", None),
    ("log/x.cc", "assert(x);\n", "assert"),
    ("log/x.cc", "static_assert(x);\nTIDEMARK_CHECK(x);\n", None),
    ("log/x.cc", "// " + LEFTOVER[:5] + ": later\n", "leftover"),
    ("log/x.cc", "// std::cout, rand(), ::open(\n/* using namespace\n std::cout */\n", None),
    ("log/x.cc", 'auto s = "std::cout \\" rand()";\nauto r = R"x(using namespace " std::cout)x";\n', None),
    ("log/x.cc", "auto n = 1'000'000; std::cout; auto m = 2'000;\n", "cout"),
    ("log/x.cc", "char c = '\"'; std::cout; char d = '\"';\n", "cout"),
    ("log/x.cc", "char c = '\\''; std::cout; char d = '\\'';\n", "cout"),
    ("log/x.cc", "// it's\nstd::cout;  // isn't\n", "cout"),
    ("log/x.cc", "rand();  // tidy: allow(random): the seed of the seeds\n", None),
    ("log/x.cc", "// tidy: allow(random): the seed of the seeds\nrand();\n", None),
    ("log/x.cc", "// tidy: allow(random): the seed of the seeds\n\nint x;\n", "not needed"),
    ("log/x.cc", "rand();  // tidy: allow(random): reason\nrand();\n", "x.cc:2: random"),
    ("log/x.cc", "int x;  // tidy: allow(radnom): reason\n", "no ban is called"),
    ("log/x.cc", "\tint x;\n", "tab"),
    ("log/module.mk", "x:\n\techo\n", None),
    ("log/x.cc", "int x; \n", "white space"),
    ("log/x.cc", "int x;\r\n", "white space"),
    ("log/x.cc", "int x;", "no newline"),
    ("log/x.cc", "\n" * (LINES_MAX + 1), "divide the file"),
    ("log/x.cc", "\n" * LINES_MAX, None),
    ("log/x.h", "int x;\n", "pragma once"),
    ("log/FORMAT.md", "std::cout is not code here\n", None),
]


def self_test():
    bad = []
    for path, text, words in CASES:
        complaints = check(path, text)
        if words is None and complaints:
            bad.append(f"should pass: {path} {text[:60]!r}: {complaints}")
        elif words is not None and (len(complaints) != 1 or words not in complaints[0]):
            bad.append(f"should complain of '{words}': {path} {text[:60]!r}: {complaints}")
    # An allowance without a reason leaves the ban in place.
    if len(check("log/x.cc", "rand();  // tidy: allow(random)\n")) != 2:
        bad.append("an allowance without a reason passes")
    for ban in BANS:
        if not any(words and ban.name in words for _, _, words in CASES):
            bad.append(f"no case hits the ban '{ban.name}'")
    print("\n".join(bad) if bad else f"tidy.py ok: {len(CASES) + 1} cases")
    return 1 if bad else 0


def main(arguments):
    if arguments == ["--self-test"]:
        return self_test()
    paths = arguments or list(tree())
    bad = [] if paths else ["no files found: run it in the root of the tree"]
    for path in paths:
        with open(path, encoding="utf-8", newline="") as file:
            bad += check(os.path.normpath(path), file.read())
    print("\n".join(bad) if bad else f"tidy ok: {len(paths)} files")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
