// Transactions by the tool against a real broker. The test is the program that begins them and,
// as far as the broker can see, forgets them.
#include <algorithm>
#include <future>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "log/base/clock.h"
#include "tests/support/connect.h"
#include "tests/support/tool_fixture.h"
#include "tidemark/transaction.h"

namespace tidemark {
namespace {

using nlohmann::json;
using testing::Arguments;
using testing::CommandResult;
using testing::lines_of;

bool mentions(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

// Topic t with a partition on each of two shards, and a producer that keeps what it prepared open.
class Fixture : public testing::ToolFixture {
 public:
  explicit Fixture(const Arguments& flags = {})
      : ToolFixture(flags), client_(testing::connect(daemon().address())) {
    output({"topic", "create", "t", "--partitions", "2"});
  }

  client::TransactionProducer producer(client::TransactionOptions options) {
    auto made = client::TransactionProducer::create(client_, std::move(options));
    REQUIRE_MESSAGE(made.ok(), made.status().to_string());
    return std::move(*made);
  }

  // Prepares a transaction of group g with these messages, on partitions 0, 1, 0, ...; gives its
  // place in open().
  size_t prepare(const std::vector<std::string>& values, const std::string& reference = "order 17",
                 int64_t timeout_ms = 60'000, std::optional<client::Delay> delay = {}) {
    if (producers_.empty()) {
      // The destructor is not to wait long for a broker that was stopped.
      producers_.push_back(producer({.group = "g", .close_timeout_ms = 100}));
    }
    client::Transaction txn =
        producers_.front().begin({.reference = reference, .timeout_ms = timeout_ms});
    for (size_t i = 0; i < values.size(); ++i) {
      client::Message message;
      message.value = values[i];
      message.partition = static_cast<uint32_t>(i % 2);
      message.delay = delay;
      const client::Status sent = txn.send("t", message);
      REQUIRE_MESSAGE(sent.ok(), sent.to_string());
    }
    const client::Status prepared = txn.prepare();
    REQUIRE_MESSAGE(prepared.ok(), prepared.to_string());
    open_.push_back(std::move(txn));
    return open_.size() - 1;
  }

  std::string id(size_t which) { return open_.at(which).id().to_string(); }

  client::Transaction& transaction(size_t which) { return open_.at(which); }

  std::string prepared_id(const std::vector<std::string>& values) { return id(prepare(values)); }

  json listed(Arguments flags = {}) {
    flags.insert(flags.begin(), {"txn", "list"});
    return output_json(flags).at("transactions");
  }

  // What is visible of topic t now.
  std::vector<std::string> visible() {
    std::vector<std::string> values = lines_of(output({"consume", "t", "-q"}));
    std::ranges::sort(values);
    return values;
  }

  // Asks until the transaction has this state; false if it never gets it.
  bool reaches(const std::string& id, const std::string& state) {
    const int64_t deadline_ms = system_clock().wall().ms + testing::DaemonProcess::kWaitMs;
    while (system_clock().wall().ms < deadline_ms) {
      if (output_json({"txn", "show", id})["state"] == state) {
        return true;
      }
    }
    return false;
  }

 private:
  client::Client client_;
  std::vector<client::TransactionProducer> producers_;
  std::vector<client::Transaction> open_;  // before their producers in the order of destruction
};

TEST_CASE("commit twice shows one message, and a rollback after it is refused") {
  Fixture fixture;
  const size_t which = fixture.prepare({"one"});
  const std::string id = fixture.id(which);
  CHECK(fixture.visible().empty());

  const json first = fixture.output_json({"txn", "commit", id});
  CHECK(first["committed"] == 1);
  CHECK(first["results"][0]["id"] == id);
  CHECK(first["results"][0]["outcome"] == "committed");
  CHECK(fixture.wait_for("t", 1) == std::vector<std::string>{"one"});
  CHECK(fixture.output_json({"txn", "commit", id}) == first);
  CHECK(fixture.visible() == std::vector<std::string>{"one"});

  const CommandResult refused = fixture.run({"txn", "rollback", id});
  CHECK(refused.exit_code == 6);
  CHECK(mentions(refused.errors, "already committed"));
  CHECK(mentions(refused.errors, "(Conflict)"));
  CHECK(mentions(refused.output, "already_committed"));
  CHECK(fixture.run({"txn", "recheck", id}).exit_code == 6);
  CHECK(fixture.output_json({"txn", "show", id}) == json{{"id", id}, {"state", "committed"}});

  // The program may end it, too, as it was ended.
  CHECK(fixture.transaction(which).commit().status.ok());
  CHECK(fixture.visible() == std::vector<std::string>{"one"});
}

TEST_CASE("a commit after a rollback is refused and names what is recorded") {
  Fixture fixture;
  const size_t which = fixture.prepare({"none", "of", "these"});
  const std::string id = fixture.id(which);
  CHECK(fixture.output_json({"txn", "rollback", id})["rolled_back"] == 1);
  CHECK(fixture.run({"txn", "rollback", id}).exit_code == 0);

  const CommandResult refused = fixture.run({"txn", "commit", id});
  CHECK(refused.exit_code == 6);
  CHECK(mentions(refused.errors, "1 of 1 transaction was not committed: 1 already rolled back"));
  const CommandResult as_json = fixture.run({"txn", "commit", id, "-o", "json"});
  CHECK(as_json.exit_code == 6);
  const json answer = json::parse(as_json.output);
  CHECK(answer["committed"] == 0);
  CHECK(answer["conflict"] == 1);
  CHECK(answer["results"][0]["outcome"] == "already_rolled_back");
  CHECK(answer["results"][0]["state"] == "rolled_back");
  CHECK(json::parse(as_json.errors)["error"]["code"] == "Conflict");

  CHECK(fixture.transaction(which).commit().status.code() == client::ErrorCode::kConflict);
  CHECK(fixture.visible().empty());
  CHECK(fixture.output_json({"txn", "show", id})["state"] == "rolled_back");
}

TEST_CASE("list and show: what is open, with its parts") {
  Fixture fixture;
  CHECK(fixture.output_json({"txn", "list"}) ==
        json{{"transactions", json::array()}, {"more", false}});
  const size_t which = fixture.prepare({"aaaa", "bb", "cccc"});
  const std::string id = fixture.id(which);
  const std::string other = fixture.prepared_id({"x"});

  const json list = fixture.listed();
  REQUIRE(list.size() == 2);
  const json& first = list[0]["id"] == id ? list[0] : list[1];
  CHECK(first["id"] == id);
  CHECK(first["state"] == "open");
  CHECK(first["group"] == "g");
  CHECK(first["reference"] == "order 17");
  CHECK(first["timeout_ms"] == 60'000);
  CHECK(first["checks"] == 0);
  CHECK(first["age_ms"].get<int64_t>() >= 0);
  CHECK(first["next_check_ms"].get<int64_t>() >= first["born_ms"].get<int64_t>() + 60'000);
  CHECK(first["bytes"].get<uint64_t>() > 0);
  for (const char* field : {"messages", "parts", "shards"}) {
    CAPTURE(field);
    CHECK(first.contains(field));
  }
  CHECK(fixture.listed({"--group", "g", "--state", "open", "--topic", "t"}).size() == 2);
  CHECK(fixture.listed({"--group", "other"}).empty());
  CHECK(fixture.listed({"--state", "parked"}).empty());
  CHECK(fixture.listed({"--older-than", "1h"}).empty());
  const json limited = fixture.output_json({"txn", "list", "--limit", "1"});
  CHECK(limited["transactions"].size() == 1);
  CHECK(limited["more"] == true);
  CHECK(mentions(fixture.output({"txn", "list"}), id));

  const json shown = fixture.output_json({"txn", "show", id});
  CHECK(shown["messages"] == 3);
  REQUIRE(shown["parts"].size() == 2);
  std::map<int, json> parts;
  for (const json& part : shown["parts"]) {
    parts[part["partition"].get<int>()] = part;
    CHECK(part["topic"] == "t");
    CHECK(part["delayed"] == false);
    CHECK(part["bytes"].get<uint64_t>() > 0);
  }
  CHECK(parts[0]["messages"] == 2);
  CHECK(parts[1]["messages"] == 1);
  CHECK(parts[0]["shard"] != parts[1]["shard"]);
  CHECK(parts[0]["index"] != parts[1]["index"]);
  const std::string text = fixture.output({"txn", "show", id});
  CHECK(mentions(text, "reference   order 17\n"));
  CHECK(mentions(text, "messages    3 in "));

  CHECK(fixture.run({"txn", "commit", id}).exit_code == 0);
  CHECK(fixture.wait_for("t", 3).size() == 3);
  CHECK(fixture.listed().size() == 1);
  CHECK(fixture.listed()[0]["id"] == other);
}

TEST_CASE("stats: by group and in all") {
  Fixture fixture;
  fixture.prepare({"a", "b"});
  const std::string committed = fixture.prepared_id({"c"});
  const std::string rolled_back = fixture.prepared_id({"d"});
  fixture.output({"txn", "commit", committed});
  fixture.output({"txn", "rollback", rolled_back});

  const json stats = fixture.output_json({"txn", "stats"});
  REQUIRE(stats["groups"].size() == 1);
  CHECK(stats["groups"][0]["group"] == "g");
  CHECK(stats["groups"][0]["open"] == 1);
  CHECK(stats["groups"][0]["parked"] == 0);
  CHECK(stats["groups"][0]["oldest_born_ms"].get<int64_t>() <= stats["now_ms"].get<int64_t>());
  CHECK(stats["open"] == 1);
  CHECK(stats["parked"] == 0);
  CHECK(stats["halves"] == 2);
  CHECK(stats["half_bytes"].get<uint64_t>() > 0);
  CHECK(stats["begun"] == 3);
  CHECK(stats["committed"] == 1);
  CHECK(stats["rolled_back"] == 1);
  for (const char* field : {"unconfirmed", "checks", "parkings", "refused"}) {
    CAPTURE(field);
    CHECK(stats[field].is_number());
  }
  CHECK(mentions(fixture.output({"txn", "stats"}), "3 begun, 1 committed, 1 rolled back"));

  const std::string metrics = testing::http_get(fixture.daemon().http_port(), "/metrics").body;
  CHECK(mentions(metrics, "tidemark_txn_open{"));
  CHECK(mentions(metrics, "outcome=\"rolled_back\"} 1\n"));
}

TEST_CASE("several ids: from standard input, some done, not known, no broker") {
  Fixture fixture;
  std::string ids;
  for (int i = 0; i < 5; ++i) {
    ids += fixture.prepared_id({"m" + std::to_string(i)}) + "\n";
  }
  CHECK(fixture.output_json({"txn", "commit", "-"}, ids)["committed"] == 5);
  CHECK(fixture.wait_for("t", 5).size() == 5);

  const std::string unknown = "4000000000-0-1-0";
  CHECK(fixture.run({"txn", "show", unknown}).exit_code == 3);
  const CommandResult missing = fixture.run({"txn", "commit", unknown, "-o", "json"});
  CHECK(missing.exit_code == 3);
  CHECK(json::parse(missing.output)["results"][0]["outcome"] == "not_found");
  CHECK(json::parse(missing.errors)["error"]["code"] == "NotFound");
  CHECK(fixture.run({"txn", "recheck", unknown}).exit_code == 3);
  const std::string open = fixture.prepared_id({"last"});
  const CommandResult partly = fixture.run({"txn", "commit", unknown, open, "-o", "json"});
  CHECK(partly.exit_code == 7);
  CHECK(json::parse(partly.output)["results"][1]["outcome"] == "committed");
  CHECK(fixture.wait_for("t", 6).size() == 6);

  CHECK(testing::run_without_broker({"txn", "commit", open, "--timeout", "200ms"}).exit_code == 5);
}

TEST_CASE("a selection is listed by --dry-run and needs --yes without a terminal") {
  Fixture fixture;
  fixture.prepare({"a"}, "first");
  fixture.prepare({"b"}, "second");
  CHECK(fixture.run({"txn", "rollback", "--group", "g"}).exit_code == 2);
  const json dry = fixture.output_json({"txn", "rollback", "--group", "g", "--dry-run"});
  CHECK(dry["dry_run"] == true);
  CHECK(dry["matching"] == 2);
  CHECK(dry["results"].size() == 2);
  CHECK(fixture.listed().size() == 2);

  CHECK(fixture.output_json({"txn", "recheck", "--state", "open", "--yes"})["rechecked"] == 2);
  CHECK(fixture.output_json({"txn", "commit", "--older-than", "1h", "--yes"})["committed"] == 0);
  CHECK(fixture.output_json({"txn", "commit", "--group", "none", "--yes"})["committed"] == 0);
  CHECK(fixture.listed().size() == 2);
  CHECK(fixture.output_json({"txn", "rollback", "--group", "g", "-y"})["rolled_back"] == 2);
  CHECK(fixture.listed().empty());
  CHECK(fixture.visible().empty());
}

TEST_CASE("a parked transaction is rechecked: a producer of the group is asked") {
  Fixture fixture({"--txn-max-pending-age", "1s"});
  const size_t which = fixture.prepare({"late"}, "order 9", 100);
  const std::string id = fixture.id(which);
  REQUIRE(fixture.reaches(id, "parked"));
  CHECK(fixture.listed({"--state", "parked"}).size() == 1);
  CHECK(fixture.listed({"--state", "open"}).empty());
  CHECK(fixture.output_json({"txn", "stats"})["parked"] == 1);

  std::promise<std::string> asked;
  const client::TransactionProducer other =
      fixture.producer({.group = "g", .check = [&asked](const client::CheckRequest& request) {
                          asked.set_value(request.id.to_string() + " " + request.reference);
                          return client::CheckAnswer::kCommitted;
                        }});
  CHECK(fixture.output_json({"txn", "recheck", id})["rechecked"] == 1);
  CHECK(fixture.wait_for("t", 1) == std::vector<std::string>{"late"});
  CHECK(asked.get_future().get() == id + " order 9");
  CHECK(fixture.output_json({"txn", "show", id})["state"] == "committed");
}

TEST_CASE("wrong ids and flags are usage errors and reach no broker") {
  for (const Arguments& arguments :
       std::vector<Arguments>{{"txn", "commit"},
                              {"txn", "commit", "no-id"},
                              {"txn", "commit", "7-0-1"},
                              {"txn", "commit", "7-0-1-0", "--group", "g"},
                              {"txn", "commit", "7-0-1-0", "-"},
                              {"txn", "rollback", "7-0-1-0", "--dry-run"},
                              {"txn", "rollback", "--group", "g"},
                              {"txn", "recheck", "7-0-0-0-0"},
                              {"txn", "show"},
                              {"txn", "show", "7-70000-1-0"},
                              {"txn", "list", "--state", "committed"},
                              {"txn", "list", "--older-than", "soon"},
                              {"txn", "list", "--limit", "0"},
                              {"txn", "begin"},
                              {"bench", "txn", "t", "--rollback", "101"},
                              {"bench", "txn", "t", "--open", "0"}}) {
    CAPTURE(arguments.back());
    const CommandResult result = testing::run_without_broker(arguments);
    CHECK(result.exit_code == 2);
    CHECK(mentions(result.errors, "(Usage)"));
  }
}

TEST_CASE("log dump shows half messages and ends, and counts what they cost") {
  Fixture fixture;
  const std::string value(1 << 20, 'v');
  const std::string committed = fixture.prepared_id({value});
  const std::string rolled_back = fixture.prepared_id({"b", "c"});
  const std::string delayed =
      fixture.id(fixture.prepare({"dd"}, "later", 60'000, client::Delay::after(3'600'000)));
  CHECK(fixture.output_json({"txn", "show", delayed})["parts"][0]["delayed"] == true);
  fixture.output({"txn", "commit", committed, delayed});
  fixture.output({"txn", "rollback", rolled_back});
  CHECK(fixture.visible() == std::vector<std::string>{value});
  CHECK(fixture.output_json({"delay", "stats", "t"})["topics"][0]["pending"] == 1);
  REQUIRE(fixture.daemon().terminate() == 0);
  const std::string data = fixture.daemon().data_dir();

  std::map<std::string, json> halves;  // the first part of each transaction
  std::map<std::string, json> ends;
  for (const std::string& line : lines_of(fixture.output({"log", "dump", data, "-o", "json"}))) {
    for (const json& record : json::parse(line).value("records", json::array())) {
      CHECK_FALSE(record.contains("error"));
      if (record["kind"] == "half" && record["index"] == 0) {
        halves[record["txn"].get<std::string>()] = record;
      } else if (record["kind"] == "txn_end") {
        ends[record["txn"].get<std::string>()] = record;
      }
    }
  }
  REQUIRE(halves.contains(committed));
  const json& half = halves[committed];
  CHECK(half["group"] == "g");
  CHECK(half["reference"] == "order 17");
  CHECK(half["partition"] == 0);
  CHECK(half["messages"] == 1);
  CHECK(half["body_bytes"] == value.size());
  CHECK(half["payload_bytes"].get<uint64_t>() > value.size());
  CHECK(half["delayed"] == false);
  CHECK(halves[delayed]["delayed"] == true);
  CHECK(halves[delayed]["messages"] == 1);
  CHECK(halves[delayed]["reference"] == "later");
  CHECK(ends[committed]["outcome"] == "commit");
  CHECK(ends[committed]["by"] == "operator");
  CHECK(ends[rolled_back]["outcome"] == "rollback");

  const json stats = fixture.output_json({"log", "dump", data, "--stats"});
  CHECK(stats["half_messages"] == 4);
  CHECK(stats["half_body_bytes"] == value.size() + 4);
  CHECK(stats["half_bytes"] > stats["half_body_bytes"]);
  CHECK(stats["txn_log_bytes"] > stats["half_bytes"]);
  CHECK(stats["txn_records"].get<uint64_t>() >= 7);
  CHECK(stats["half_ratio"].get<double>() > 1);
  CHECK(stats["half_ratio"].get<double>() < 1.01);
  CHECK(mentions(fixture.output({"log", "dump", data}), committed + " commit by operator"));
  CHECK(mentions(fixture.output({"log", "dump", data, "--stats"}), "\nhalves    4 of "));
}

TEST_CASE("bench txn prints the documented fields and finds what was committed") {
  Fixture fixture;
  const json result =
      fixture.output_json({"bench", "txn", "b", "--count", "400", "--size", "100", "--open", "20",
                           "--rollback", "25", "--partitions", "2", "--no-baseline", "-q"});
  CHECK(result["messages"] == 400);
  CHECK(result["rolled_back"] == 100);
  CHECK(result["lost"] == 0);
  CHECK(result["duplicates"] == 0);
  CHECK(result["uncommitted"] == 0);
  CHECK(result["failed"] == 0);
  CHECK(result["open"] == 20);
  CHECK(result["size"] == 100);
  CHECK(result["fsync"] == "batch");
  CHECK(result["baseline_mb_per_s"].is_null());
  CHECK(result["baseline_ratio"].is_null());
  for (const char* field :
       {"seconds", "messages_per_s", "mb_per_s", "produce_messages_per_s", "produce_ratio"}) {
    CAPTURE(field);
    CHECK(result[field].get<double>() > 0);
  }
  CHECK(result["latency_ms"]["p50"] <= result["latency_ms"]["max"]);
  CHECK(result["latency_ms"]["p50"].get<double>() > 0);
  const std::string table = fixture.output(
      {"bench", "txn", "b", "--seconds", "0.3", "--open", "5", "--no-baseline", "-q"});
  CHECK(mentions(table, "0 lost, 0 duplicates"));
  CHECK(fixture.listed().empty());
}

}  // namespace
}  // namespace tidemark
