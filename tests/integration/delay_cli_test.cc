// Delayed messages by the tool against a real broker: what is printed, exit codes, and that what
// was cancelled never comes. Every wait is `consume -n`, which ends with the message itself.
#include <algorithm>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "log/base/clock.h"
#include "tests/support/tool_fixture.h"

namespace tidemark {
namespace {

using nlohmann::json;
using testing::CommandResult;
using Arguments = testing::Arguments;

class Fixture : public testing::ToolFixture {
 public:
  Fixture() { output({"topic", "create", "t"}); }

  // Sends `message` to topic t with the flags; gives its handle.
  std::string schedule(const std::string& message, const Arguments& flags) {
    Arguments arguments = {"produce", "t", "-m", message};
    arguments.insert(arguments.end(), flags.begin(), flags.end());
    return output_json(arguments).at("handle").get<std::string>();
  }

  std::vector<std::string> wait_for(int count) { return ToolFixture::wait_for("t", count); }

  uint64_t pending() {
    return output_json({"delay", "stats", "t"}).at("topics").at(0).at("pending").get<uint64_t>();
  }
};

TEST_CASE("a delayed message is told with its handle and comes when it is due, not before") {
  Fixture fixture;
  const int64_t before_ms = system_clock().wall().ms;
  const json receipt =
      fixture.output_json({"produce", "t", "-m", "later", "--after", "300ms", "--quiet"});
  CHECK(receipt["line"] == 1);
  CHECK(receipt["partition"] == 0);
  CHECK(receipt["handle"].get<std::string>().size() == 52);
  CHECK(receipt["due_ms"].get<int64_t>() >= before_ms + 300);
  fixture.output({"produce", "t", "-m", "now"});
  CHECK(fixture.wait_for(2) == std::vector<std::string>{"now", "later"});
  CHECK(system_clock().wall().ms >= receipt["due_ms"].get<int64_t>());
  CHECK(fixture.pending() == 0);

  // For people: a heading and the handle. What is past comes at once.
  const std::string table = fixture.output({"produce", "t", "-m", "past", "--at", "@1000"});
  CHECK(table.starts_with("DUE "));
  CHECK(fixture.wait_for(3).back() == "past");
}

TEST_CASE("lines: an object for each, or the handle with --verbose, or nothing") {
  Fixture fixture;
  std::istringstream lines(
      fixture.output({"produce", "t", "--after", "1h", "-o", "json"}, "a\nb\nc\n"));
  std::vector<int> numbers;
  for (std::string line; std::getline(lines, line);) {
    numbers.push_back(json::parse(line).at("line").get<int>());
  }
  CHECK(numbers == std::vector<int>{1, 2, 3});
  CHECK(fixture.output({"produce", "t", "--after", "1h"}, "d\ne\n").empty());
  const std::string table = fixture.output({"produce", "t", "--after", "1h", "-v"}, "f\ng\n");
  CHECK(std::ranges::count(table, '\n') == 3);
  CHECK(fixture.pending() == 7);
}

TEST_CASE("one pending message per delay key") {
  Fixture fixture;
  const Arguments keyed = {"produce", "t", "-m", "x", "--after", "1h", "--delay-key", "k"};
  fixture.output(keyed);
  const CommandResult taken = fixture.run(keyed);
  CHECK(taken.exit_code == 6);
  CHECK(taken.errors.find("(AlreadyExists)") != std::string::npos);
  CHECK(fixture.pending() == 1);
  Arguments replacing = keyed;
  replacing.emplace_back("--replace");
  fixture.output(replacing);
  CHECK(fixture.pending() == 1);

  // Some were stored and some refused.
  const Arguments by_key = {
      "produce", "t", "--after", "1h", "--key-separator", "=", "--delay-key-from-key"};
  CHECK(fixture.run(by_key, "k=1\nother=2\n").exit_code == 7);
  CHECK(fixture.pending() == 2);
  CHECK(fixture.run(by_key, "k=1\nother=2\n").exit_code == 6);
  // A fixed key is for one message: nothing is sent of two.
  CHECK(fixture.run({"produce", "t", "--after", "1h", "--delay-key", "n"}, "1\n2\n").exit_code ==
        2);
  CHECK(fixture.pending() == 2);
  CHECK(fixture.output_json({"delay", "list", "t", "--key", "other"})["messages"].size() == 1);
}

TEST_CASE("cancel: outcomes and exit codes") {
  Fixture fixture;
  const std::string first = fixture.schedule("first", {"--after", "1h"});
  const json cancelled = fixture.output_json({"delay", "cancel", "t", first});
  CHECK(cancelled["cancelled"] == 1);
  CHECK(cancelled["results"][0]["handle"] == first);
  CHECK(cancelled["results"][0]["outcome"] == "cancelled");
  CHECK(fixture.run({"delay", "cancel", "t", first}).exit_code == 3);

  const std::string fired = fixture.schedule("fired", {"--after", "0"});
  CHECK(fixture.wait_for(1) == std::vector<std::string>{"fired"});
  const CommandResult late = fixture.run({"delay", "cancel", "t", fired, "-o", "json"});
  CHECK(late.exit_code == 6);
  CHECK(json::parse(late.output)["results"][0]["outcome"] == "already_delivered");
  CHECK(json::parse(late.errors)["error"]["code"] == "AlreadyDelivered");

  fixture.schedule("named", {"--after", "1h", "--delay-key", "k"});
  const CommandResult partly =
      fixture.run({"delay", "cancel", "t", "--key", "k", "--key", "none", "-o", "json"});
  CHECK(partly.exit_code == 7);
  CHECK(json::parse(partly.output)["results"][0]["outcome"] == "cancelled");
  CHECK(json::parse(partly.output)["results"][1]["outcome"] == "not_found");
  CHECK(fixture.run({"delay", "cancel", "t", "no-handle"}).exit_code == 2);
  CHECK(fixture.run({"delay", "cancel", "nothing", "--key", "k"}).exit_code == 3);

  // Handles from standard input.
  std::string handles;
  for (int i = 0; i < 5; ++i) {
    handles += fixture.schedule("many", {"--after", "1h"}) + "\n";
  }
  CHECK(fixture.pending() == 5);
  CHECK(fixture.output_json({"delay", "cancel", "t", "-"}, handles)["cancelled"] == 5);
  CHECK(fixture.pending() == 0);
  CHECK(fixture.wait_for(1) == std::vector<std::string>{"fired"});
}

TEST_CASE("reschedule gives a new handle, fire-now delivers") {
  Fixture fixture;
  const std::string handle = fixture.schedule("moved", {"--after", "1h"});
  CHECK(fixture.run({"delay", "reschedule", "t", handle}).exit_code == 2);  // when?
  const json moved = fixture.output_json({"delay", "reschedule", "t", handle, "--after", "2h"});
  CHECK(moved["rescheduled"] == 1);
  CHECK(moved["results"][0]["outcome"] == "rescheduled");
  const auto again = moved["results"][0]["new_handle"].get<std::string>();
  CHECK(again != handle);
  CHECK(fixture.run({"delay", "fire-now", "t", handle}).exit_code == 3);
  CHECK(fixture.output_json({"delay", "fire-now", "t", again})["rescheduled"] == 1);
  CHECK(fixture.wait_for(1) == std::vector<std::string>{"moved"});
  CHECK(fixture.run({"delay", "fire-now", "t", again}).exit_code != 0);
}

TEST_CASE("list, show, stats, histogram") {
  Fixture fixture;
  fixture.schedule("third", {"--after", "40d"});
  fixture.schedule("first",
                   {"--after", "30m", "--delay-key", "k", "--key", "mk", "--header", "h=1"});
  fixture.schedule("second", {"--every", "2h"});
  const json list = fixture.output_json({"delay", "list", "t"});
  REQUIRE(list["messages"].size() == 3);
  CHECK(list["messages"][0]["key"] == "k");
  CHECK(list["messages"][1]["every_ms"] == 7'200'000);
  CHECK(list["messages"][2]["in_ms"].get<int64_t>() > 3'400'000'000);
  CHECK(fixture.output_json({"delay", "list", "t", "--due-to", "+1h"})["messages"].size() == 1);
  CHECK(fixture.output_json({"delay", "list", "t", "--due-from", "+1h"})["messages"].size() == 2);
  CHECK(fixture.output_json({"delay", "list", "t", "--limit", "2"})["messages"].size() == 2);
  CHECK(fixture.output({"delay", "list", "t"}).find("every 2h") != std::string::npos);

  const json shown = fixture.output_json({"delay", "show", "t", "--key", "k"});
  CHECK(shown["message_value"] == "first");
  CHECK(shown["message_key"] == "mk");
  CHECK(shown["headers"][0] == json{{"name", "h"}, {"value", "1"}});
  CHECK(fixture.run({"delay", "show", "t", "--key", "none"}).exit_code == 3);

  const json stats = fixture.output_json({"delay", "stats", "t"})["topics"][0];
  CHECK(stats["pending"] == 3);
  CHECK(stats["overdue"] == 0);
  CHECK(stats["bytes"].get<uint64_t>() > 0);
  CHECK(stats["next_due_ms"] == list["messages"][0]["due_ms"]);
  CHECK(stats["horizons"] == json{{"1m", 0}, {"1h", 1}, {"1d", 1}, {"30d", 0}, {"more", 1}});
  CHECK(fixture.output_json({"delay", "stats"})["topics"].size() == 1);

  const json histogram = fixture.output_json({"delay", "histogram", "t", "--bins", "8"});
  CHECK(histogram["bins"].size() <= 8);
  uint64_t sum = 0;
  for (const json& bin : histogram["bins"]) {
    sum += bin["messages"].get<uint64_t>();
  }
  CHECK(sum == 3);
  CHECK(fixture.output({"delay", "histogram", "t"}).find('#') != std::string::npos);
}

TEST_CASE("purge") {
  Fixture fixture;
  std::string lines;
  for (int i = 0; i < 3'000; ++i) {
    lines += (i % 3 == 0 ? "a" : "b") + std::to_string(i) + "=x\n";
  }
  fixture.output({"produce", "t", "--after", "1h", "--key-separator", "=", "--delay-key-from-key"},
                 lines);
  CHECK(fixture.run({"delay", "purge", "t"}).exit_code == 2);  // no terminal and no --yes
  CHECK(fixture.output_json({"delay", "purge", "t", "--dry-run"})["matching"] == 3'000);
  CHECK(fixture.pending() == 3'000);
  const json some = fixture.output_json({"delay", "purge", "t", "--key-prefix", "a", "--yes"});
  CHECK(some["cancelled"] == 1'000);
  CHECK(fixture.pending() == 2'000);
  CHECK(fixture.output_json({"delay", "purge", "t", "--yes"})["cancelled"] == 2'000);
  CHECK(fixture.pending() == 0);
}

TEST_CASE("again and again until it is cancelled; a wrong cron is a usage error") {
  Fixture fixture;
  fixture.schedule("tick", {"--cron", "* * * * * *", "--delay-key", "clock"});
  CHECK(fixture.wait_for(2) == std::vector<std::string>{"tick", "tick"});
  CHECK(fixture.run({"delay", "cancel", "t", "--key", "clock"}).exit_code == 0);
  CHECK(fixture.pending() == 0);
  CHECK(fixture.run({"produce", "t", "-m", "x", "--cron", "99 * * * * *"}).exit_code == 2);
  CHECK(fixture.run({"produce", "t", "-m", "x", "--cron", "* * * * * *", "--tz", "No/Where"})
            .exit_code == 2);
}

TEST_CASE("flags that do not go together are usage errors and reach no broker") {
  for (const Arguments& flags : std::vector<Arguments>{{"--after", "1s", "--at", "+1s"},
                                                       {"--every", "10s", "--cron", "* * * * * *"},
                                                       {"--after", "soon"},
                                                       {"--every", "10ms"},
                                                       {"--cron", "* * * * *"},
                                                       {"--after", "1s", "--tz", "UTC"},
                                                       {"--delay-key", "k"},
                                                       {"--verbose"},
                                                       {"--after", "1s", "--replace"},
                                                       {"--after", "1s", "--delay-key-from-key"},
                                                       {"--after", "1s", "--compress", "zstd"}}) {
    Arguments arguments = {"produce", "t", "-m", "x"};
    arguments.insert(arguments.end(), flags.begin(), flags.end());
    CAPTURE(flags.back());
    const CommandResult result = testing::run_without_broker(arguments);
    CHECK(result.exit_code == 2);
    CHECK(result.errors.find("(Usage)") != std::string::npos);
  }
}

TEST_CASE("settings of a topic for delayed messages") {
  Fixture fixture;
  const json created =
      fixture.output_json({"topic", "create", "bounded", "--delay-pending-max", "2",
                           "--delay-bytes-max", "1MiB", "--late", "skip", "--late-max", "1h"});
  CHECK(created["delay_pending_max"] == 2);
  CHECK(created["delay_bytes_max"] == 1 << 20);
  CHECK(created["late_policy"] == "skip");
  CHECK(created["late_max_ms"] == 3'600'000);
  CHECK(created["late_topic"].is_null());
  const CommandResult full =
      fixture.run({"produce", "bounded", "--after", "1h", "--linger-ms", "0"}, "1\n2\n3\n");
  CHECK(full.exit_code != 0);
  CHECK(full.errors.find("(LimitExceeded)") != std::string::npos);
  fixture.output({"topic", "create", "dead", "--partitions", "8"});  // on every shard
  const json altered =
      fixture.output_json({"topic", "alter", "bounded", "--delay-pending-max", "unlimited",
                           "--late", "dead-letter", "--late-topic", "dead", "--late-max", "30m"});
  CHECK(altered["delay_pending_max"] == -1);
  CHECK(altered["late_policy"] == "dead-letter");
  CHECK(altered["late_max_ms"] == 1'800'000);
  CHECK(altered["late_topic"] == "dead");
  CHECK(fixture.output({"topic", "describe", "bounded"}).find("dead-letter") != std::string::npos);
}

TEST_CASE("kill -9 between schedule and due time: delivered after the restart, once") {
  Fixture fixture;
  const std::string cancelled = fixture.schedule("cancelled", {"--after", "3s"});
  fixture.schedule("kept", {"--after", "3s"});
  CHECK(fixture.run({"delay", "cancel", "t", cancelled}).exit_code == 0);
  fixture.schedule("far", {"--after", "1h"});
  fixture.daemon().kill();
  REQUIRE(fixture.daemon().start());
  CHECK(fixture.wait_for(1) == std::vector<std::string>{"kept"});
  CHECK(fixture.pending() == 1);
  CHECK(fixture.output({"consume", "t", "-q"}) == "kept\n");
}

TEST_CASE("log dump shows schedule sets, advances and changes, and counts what they cost") {
  Fixture fixture;
  fixture.output({"produce", "t", "-m", "plain"});
  fixture.output({"produce", "t", "--after", "1h", "--linger-ms", "100"}, "one\ntwo\n");
  const std::string moved = fixture.schedule("moved", {"--after", "1h"});
  fixture.output({"delay", "reschedule", "t", moved, "--after", "2h"});
  const std::string cancelled = fixture.schedule("cancelled", {"--after", "1h"});
  fixture.output({"delay", "cancel", "t", cancelled});
  fixture.schedule("fired", {"--after", "0"});
  CHECK(fixture.wait_for(2).back() == "fired");
  REQUIRE(fixture.daemon().terminate() == 0);
  const std::string data = fixture.daemon().data_dir();

  std::map<std::string, json> records;  // the last of each kind
  uint64_t scheduled = 0;
  std::istringstream lines(fixture.output({"log", "dump", data, "-o", "json"}));
  for (std::string line; std::getline(lines, line);) {
    const json entry = json::parse(line);
    for (const json& record : entry.value("records", json::array())) {
      CHECK_FALSE(record.contains("error"));
      records[record.at("kind").get<std::string>()] = record;
      scheduled += record.at("kind") == "schedule" ? record.at("messages").get<uint64_t>() : 0;
    }
  }
  CHECK(scheduled == 5);
  const json& set = records["schedule"];
  CHECK(set["partition"] == 0);
  CHECK(set["topic_id"].get<int>() > 0);
  CHECK(set["due_first_ms"] <= set["due_last_ms"]);
  CHECK(set["body_bytes"] == 5);
  CHECK(records["advance"]["now_ms"] >= set["due_first_ms"]);
  CHECK(records["advance"]["limit"].get<int>() > 0);
  CHECK(records["delay_cancel"]["topic_id"] == set["topic_id"]);
  CHECK(records["delay_reschedule"]["new_due_ms"] > records["delay_reschedule"]["due_ms"]);

  const json stats = fixture.output_json({"log", "dump", data, "--stats"});
  CHECK(stats["messages"] == 1);
  CHECK(stats["delayed_messages"] == 5);
  CHECK(stats["delayed_body_bytes"] == 3 + 3 + 5 + 9 + 5);
  CHECK(stats["delayed_log_bytes"] > stats["delayed_body_bytes"]);
  CHECK(stats["delayed_log_bytes"] < stats["entry_bytes"]);
  CHECK(stats["delayed_ratio"].get<double>() > 1);
  CHECK(fixture.output({"log", "dump", data}).find(" messages from id ") != std::string::npos);
  CHECK(fixture.output({"log", "dump", data, "--stats"}).find("\ndelayed   5 of 25") !=
        std::string::npos);
}

TEST_CASE("bench delay prints the documented fields") {
  Fixture fixture;
  const json result = fixture.output_json({"bench", "delay", "b", "--rate", "2000", "--seconds",
                                           "1", "--size", "100", "--delay", "300ms", "--backlog",
                                           "5000", "--partitions", "2", "--no-baseline", "-q"});
  CHECK(result["messages"] == 2'000);
  CHECK(result["early"] == 0);
  CHECK(result["lost"] == 0);
  CHECK(result["duplicates"] == 0);
  CHECK(result["backlog"] == 5'000);
  CHECK(result["backlog_pending"] == 5'000);
  CHECK(result["baseline_ratio"].is_null());
  for (const char* field : {"seconds", "messages_per_s", "mb_per_s", "fires_per_s", "size"}) {
    CAPTURE(field);
    CHECK(result[field].get<double>() > 0);
  }
  for (const char* field : {"latency_ms", "lateness_ms"}) {
    CAPTURE(field);
    CHECK(result[field]["p50"] <= result[field]["p9999"]);
    CHECK(result[field]["p9999"] <= result[field]["max"]);
    CHECK(result[field]["max"].get<double>() > 0);
  }
  // The bench made the topic and takes it away again.
  CHECK(fixture.run({"topic", "describe", "b"}).exit_code == 3);
}

}  // namespace
}  // namespace tidemark
