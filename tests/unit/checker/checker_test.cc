// The checker against histories made by hand: each bad one is refused for the invariant in its
// name and for no other, each good one is accepted, each malformed one is not judged.
#include "tests/checker/checker.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <set>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "tests/support/temp_directory.h"

namespace tidemark::checker {

namespace {

const std::string kHistories = "tests/checker/histories/";

// Names without ending, sorted.
std::vector<std::string> histories(const std::string& prefix) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(kHistories)) {
    const std::string name = entry.path().stem().string();
    REQUIRE(entry.path().extension() == ".jsonl");
    if (name.starts_with(prefix)) {
      names.push_back(name);
    }
  }
  std::sort(names.begin(), names.end());
  return names;
}

Result judge(const std::string& name) {
  return check_history({.files = {kHistories + name + ".jsonl"}, .required = {}});
}

// "I14" of "bad_i14_late".
std::string broken_by(const std::string& name) {
  return "I" + name.substr(5, name.find('_', 4) - 5);
}

// Of lines in a file of their own.
struct Written {
  explicit Written(const std::string& lines) {
    std::ofstream(path) << lines;
    result = check_history({.files = {path}, .required = {}});
    for (size_t at = 0; (at = result.text.find(path, at)) != std::string::npos;) {
      result.text.replace(at, path.size(), "f");
    }
  }

  testing::TempDirectory directory;
  std::string path = directory / "history.jsonl";
  Result result;
};

}  // namespace

TEST_CASE("each bad history breaks the invariant in its name and no other") {
  const std::vector<std::string> names = histories("bad_");
  std::set<std::string> broken;
  for (const std::string& name : names) {
    CAPTURE(name);
    const Result result = judge(name);
    CAPTURE(result.text);
    CHECK(result.outcome == Outcome::kViolated);
    broken.insert(broken_by(name));
    for (const Invariant invariant : kInvariants) {
      CAPTURE(name_of(invariant));
      const Report::Verdict& verdict = result.report.of(invariant);
      CHECK((verdict.violated > 0) == (name_of(invariant) == broken_by(name)));
      CHECK(verdict.judged >= (verdict.violated > 0 ? 1 : 0));
    }
    CHECK(result.text.find(" violated ") != std::string::npos);
    CHECK(result.text.ends_with(" invariants checked, 1 violated\n"));
  }
  CHECK(names.size() >= 59);
  CHECK(broken.size() == kInvariants.size());
}

TEST_CASE("each good history is accepted") {
  const std::vector<std::string> names = histories("good_");
  std::set<std::string> judged;
  for (const std::string& name : names) {
    CAPTURE(name);
    const Result result = judge(name);
    CAPTURE(result.text);
    CHECK(result.outcome == Outcome::kAccepted);
    for (const Invariant invariant : kInvariants) {
      if (result.report.of(invariant).judged > 0) {
        judged.insert(name_of(invariant));
      }
    }
  }
  CHECK(names.size() >= 15);
  // Together they say something to every invariant.
  CHECK(judged.size() == kInvariants.size());
}

TEST_CASE("what is malformed is not judged") {
  const std::vector<std::string> names = histories("malformed_");
  for (const std::string& name : names) {
    CAPTURE(name);
    const Result result = judge(name);
    CHECK(result.outcome == Outcome::kMalformed);
    CHECK(result.report.judged() == 0);
    CHECK_FALSE(result.text.empty());
    CHECK(result.text.find("invariants checked") == std::string::npos);
  }
  CHECK(names.size() >= 15);
  CHECK(judge("no_such_history").text == kHistories + "no_such_history.jsonl: cannot be opened\n");
}

TEST_CASE("a violation is shown with its events") {
  const Result result = judge("bad_i1_lost_at_the_end");
  const std::string file = kHistories + "bad_i1_lost_at_the_end.jsonl";
  CHECK(result.text ==
        "I1 violated 1 time: an acknowledged message is never lost, and lies where the "
        "acknowledgement said\n"
        "  uid 2 was acknowledged at t/0 offset 1, and is not there in the final drain\n"
        "    " +
            file + R"(:5: {"t_ns": 5000000, "proc": "p1", "op": "send", "phase": "ok", )" +
            R"("id": 2, "off": 1})"
            "\n"
            "    " +
            file + R"(:6: {"t_ns": 6000000, "proc": "test", "op": "drain_start", )" +
            R"("topic": "t", "part": 0, "off": 0})"
            "\n"
            "8 events, 6 invariants checked, 1 violated\n");
}

TEST_CASE("only the first violations are shown, all are counted") {
  std::string lines;
  for (int i = 0; i < 8; ++i) {
    const std::string n = std::to_string(i);
    const std::string head = R"({"t_ns":1,"proc":"p","op":"send","id":)" + n + R"(,"phase":)";
    lines += head + R"("invoke","topic":"t","part":0,"uid":)" + std::to_string(i + 1) + "}\n";
    lines += head + R"("ok","off":)" + n + "}\n";
  }
  lines += R"({"t_ns":9,"proc":"p","op":"drain_start","topic":"t","part":0,"off":0})"
           "\n"
           R"({"t_ns":9,"proc":"p","op":"drain_end","topic":"t","part":0,"end":8})"
           "\n";
  const Written history(lines);
  CHECK(history.result.report.of(Invariant::kAckedNeverLost).violated == 8);
  CHECK(history.result.report.of(Invariant::kAckedNeverLost).first.size() == Report::kShownMax);
  CHECK(history.result.text.starts_with("I1 violated 8 times: "));
  CHECK(history.result.text.find("\n  and 3 more\n") != std::string::npos);
}

TEST_CASE("a required invariant must have something to judge") {
  Options options{.files = {kHistories + "good_plain.jsonl"},
                  .required = {Invariant::kAckedNeverLost, Invariant::kCancel}};
  const Result result = check_history(options);
  CHECK(result.outcome == Outcome::kViolated);
  CHECK(result.text.starts_with("I15 had nothing to judge\n"));
  CHECK(result.text.ends_with(" 0 violated\n"));
  options.required.pop_back();
  CHECK(check_history(options).outcome == Outcome::kAccepted);
  options.verbose = true;
  CHECK(check_history(options).text.find("\nI15 judged 0: ") != std::string::npos);
}

TEST_CASE("a history may come in several files, and in any order of lines") {
  std::ifstream in(kHistories + "good_retry_after_kill.jsonl");
  const testing::TempDirectory directory;
  std::vector<std::string> lines;
  for (std::string line; std::getline(in, line);) {
    lines.push_back(line);
  }
  {
    std::ofstream even(directory / "even");
    std::ofstream odd(directory / "odd");
    for (size_t i = lines.size(); i-- > 0;) {
      (i % 2 == 0 ? even : odd) << lines[i] << "\n";
    }
  }
  const Result result =
      check_history({.files = {directory / "even", directory / "odd"}, .required = {}});
  CHECK_MESSAGE(result.outcome == Outcome::kAccepted, result.text);
  CHECK(result.text == judge("good_retry_after_kill").text);
}

TEST_CASE("what is wrong with a line is named") {
  const auto error_of = [](const std::string& line) {
    const Written written(line + "\n");
    CHECK(written.result.outcome == Outcome::kMalformed);
    return written.result.text;
  };
  const std::string head = R"({"t_ns":1,"proc":"p")";
  CHECK(error_of("") == "f:1: is no JSON object\n");
  CHECK(error_of("7") == "f:1: is no JSON object\n");
  CHECK(error_of(R"("note")") == "f:1: is no JSON object\n");
  CHECK(error_of("[1]") == "f:1: is no JSON object\n");
  CHECK(error_of(head + "}") == "f:1: has no op\n");
  CHECK(error_of(head + R"(,"op":"note"} x)") == "f:1: is no JSON object\n");
  CHECK(error_of(head + R"(,"op":"note","op":"note"})") == "f:1: \"op\" comes twice\n");
  CHECK(error_of(head + R"(,"op":"note","t_ns":2})") == "f:1: \"t_ns\" comes twice\n");
  CHECK(error_of(head + R"(,"op":"note","text":null})") == "f:1: \"text\" null is no value\n");
  CHECK(error_of(head + R"(,"op":"note","text":true})") == "f:1: \"text\" a boolean is no value\n");
  CHECK(error_of(head + R"(,"op":"note","text":[]})") == "f:1: \"text\" an array is no value\n");
  CHECK(error_of(head + R"(,"op":"note","text":5})") == "f:1: \"text\" is no text\n");
  CHECK(error_of(head + R"(,"op":"note","wall_ms":-1})") == "f:1: \"wall_ms\" is negative\n");
  CHECK(error_of(head + R"(,"op":"note","wall_ms":1.5})") ==
        "f:1: \"wall_ms\" is no whole number\n");
  CHECK(error_of(head + R"(,"op":"note","wall_ms":9223372036854775808})") ==
        "f:1: \"wall_ms\" is above 2^63 - 1\n");
  CHECK(error_of(head + R"(,"op":"note","phase":"invoke"})") ==
        "f:1: note is only observed, it has no phase invoke\n");
  CHECK(error_of(head + R"(,"op":"note","phase":"done"})") == "f:1: \"phase\" is unknown: done\n");
  CHECK(error_of(head + R"(,"op":"note","off":1,"end":2})") == "f:1: note has no off, end\n");
  CHECK(error_of(head + R"(,"op":"fault","kind":"kill","id":1})") == "f:1: fault needs a phase\n");
  CHECK(error_of(head + R"(,"op":"fault","phase":"invoke"})") == "f:1: fault needs id, kind\n");
  CHECK(error_of(R"({"op":"note"})") == "f:1: note needs t_ns, proc\n");
  CHECK(error_of(head + R"(,"op":"txn_final","txn":"x","state":"gone"})") ==
        "f:1: \"state\" of txn_final is unknown\n");
  CHECK(error_of(head + R"(,"op":"txn_check","txn":"x","how":"ack"})") ==
        "f:1: \"how\" of txn_check is unknown\n");
  CHECK(error_of(head + R"(,"op":"pending","topic":"t","part":0,"uid":0})")
            .starts_with("f:1: pending: a uid is from 1 on\n"));
}

TEST_CASE("what cannot be is named") {
  const std::string head = R"({"t_ns":1,"proc":"p","op":)";
  const auto error_of = [](const std::string& lines) {
    const Written written(lines);
    CHECK(written.result.outcome == Outcome::kMalformed);
    return written.result.text;
  };
  CHECK(error_of("") == "there is no event\n");
  const std::string start = head + R"("drain_start","topic":"t","part":0,"off":2})"
                                   "\n";
  const std::string end = head + R"("drain_end","topic":"t","part":0,"end":4})"
                                 "\n";
  CHECK(error_of(start + start + end) == "f:2: drain_start: the partition is drained twice\n");
  CHECK(error_of(start + end + end) == "f:3: drain_end: the partition is drained twice\n");
  CHECK(error_of(start + end + head +
                 R"("drain","topic":"t","part":0,"off":4})"
                 "\n") == "f:3: drain: lies outside of the partition\n");
  CHECK(error_of(start + end + head +
                 R"("drain_gap","topic":"t","part":0,"off":3,"end":3})"
                 "\n") == "f:3: drain_gap: the gap is empty\n");
  const std::string invoke = head +
                             R"("send","phase":"invoke","id":1,"topic":"t","uid":1,"delay_ms":5})"
                             "\n";
  CHECK(error_of(invoke + head +
                 R"("send","phase":"ok","id":1})"
                 "\n") == "f:2: send: was stored, and nobody says in which partition\n");
  CHECK(error_of(start + end + invoke + head +
                 R"("send","phase":"ok","id":1,"part":0,"off":3})"
                 "\n") == "f:4: send: has no offset yet\n");
  CHECK(error_of(invoke + head +
                 R"("cancel","phase":"ok","id":1})"
                 "\n") == "f:2: cancel: was invoked as send\n");
  std::string many;
  for (int i = 0; i < 14; ++i) {
    many += "x\n";
  }
  CHECK(error_of(many).ends_with("f:10: is no JSON object\nand 4 more\n"));
}

}  // namespace tidemark::checker
