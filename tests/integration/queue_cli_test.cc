// Queue mode, dead letters, filters and message properties by the tool against a real broker.
#include <algorithm>
#include <functional>
#include <set>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "log/base/clock.h"
#include "tests/support/tool_fixture.h"

namespace tidemark {
namespace {

using nlohmann::json;
using testing::Arguments;
using testing::CommandResult;
using testing::lines_of;

bool mentions(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

// Topic t with 2 partitions on two shards; one failed delivery makes a dead letter in t-dead.
class Fixture : public testing::ToolFixture {
 public:
  Fixture() {
    output({"topic", "create", "t-dead", "--partitions", "2"});
    output({"topic", "create", "t", "--partitions", "2", "--max-deliveries", "1",
            "--dead-letter-topic", "t-dead"});
  }

  // Messages "0" to "<count - 1>", in turn over the partitions; gives their values, sorted.
  std::vector<std::string> produce(int count, const Arguments& more = {}) {
    std::vector<std::string> values;
    for (int partition = 0; partition < 2; ++partition) {
      std::string lines;
      for (int i = partition; i < count; i += 2) {
        values.push_back(std::to_string(i));
        lines += values.back() + "\n";
      }
      Arguments arguments = {"produce", "t", "--partition", std::to_string(partition), "-q"};
      arguments.insert(arguments.end(), more.begin(), more.end());
      output(arguments, lines);
    }
    std::ranges::sort(values);
    return values;
  }

  // What a consumer of group g in queue mode prints; sorted.
  std::vector<std::string> consumed(const Arguments& more) {
    Arguments arguments = {"consume", "t", "--group", "g", "--queue", "-q"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    std::vector<std::string> values = lines_of(output(arguments));
    std::ranges::sort(values);
    return values;
  }

  std::vector<std::string> rest() { return consumed({"--ack", "--idle-exit", "1500ms"}); }

  // Prints what there is and holds it until the leases are over.
  std::vector<std::string> let_leases_end() {
    return consumed({"--visibility", "1s", "--idle-exit", "3s"});
  }

  uint64_t lag() { return output_json({"group", "lag", "g"}).at("lag").get<uint64_t>(); }

  // `count` new messages become dead letters: they are printed, and their leases end.
  void let_die(int count, const Arguments& more = {}) {
    const uint64_t before = letters();
    produce(count, more);
    CHECK(let_leases_end().size() == static_cast<size_t>(count));
    REQUIRE(comes_true([&] { return letters() == before + static_cast<uint64_t>(count); }));
  }

  json listed() { return output_json({"dlq", "list", "t-dead"}); }

  uint64_t letters() { return listed().at("letters").get<uint64_t>(); }

  json changed(const Arguments& more) {
    Arguments arguments = {"dlq"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return output_json(arguments);
  }

  // One object a line.
  std::vector<json> peeked(const Arguments& more = {}) {
    Arguments arguments = {"dlq", "peek", "t-dead", "-o", "json"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    std::vector<json> out;
    for (const std::string& line : lines_of(output(arguments))) {
      out.push_back(json::parse(line));
    }
    return out;
  }

  static bool comes_true(const std::function<bool()>& condition) {
    const int64_t deadline_ms = system_clock().wall().ms + testing::DaemonProcess::kWaitMs;
    while (system_clock().wall().ms < deadline_ms) {
      if (condition()) {
        return true;
      }
    }
    return false;
  }

  std::string metrics() { return "127.0.0.1:" + std::to_string(daemon().http_port()); }
};

TEST_CASE("what was printed is acked, to the message, and the lag reaches 0") {
  Fixture fixture;
  const std::vector<std::string> all = fixture.produce(60);
  std::vector<std::string> seen = fixture.consumed({"--ack", "-n", "7"});
  CHECK(seen.size() == 7);
  CHECK(fixture.lag() == 53);
  const std::vector<std::string> one = fixture.consumed({"--ack", "-n", "1"});
  REQUIRE(one.size() == 1);
  CHECK(fixture.lag() == 52);
  const std::vector<std::string> left = fixture.rest();
  seen.insert(seen.end(), one.begin(), one.end());
  seen.insert(seen.end(), left.begin(), left.end());
  std::ranges::sort(seen);
  CHECK(seen == all);
  CHECK(fixture.lag() == 0);
  CHECK(fixture.rest().empty());
  // No delivery failed meanwhile: nothing was leased that was not printed.
  CHECK(fixture.letters() == 0);
}

TEST_CASE("a group that works in queue mode alone is found") {
  Fixture fixture;
  fixture.produce(10);
  fixture.consumed({"--ack", "-n", "4"});
  const json list = fixture.output_json({"group", "list"});
  REQUIRE(list["groups"].size() == 1);
  CHECK(list["groups"][0]["group"] == "g");
  CHECK(list["groups"][0]["members"] == 0);
  CHECK(list["groups"][0]["partitions"] == 0);
  CHECK(list["groups"][0]["queues"].get<int>() >= 1);
  CHECK(mentions(fixture.output({"group", "list"}), "GROUP  MEMBERS  PARTITIONS  QUEUES\ng "));

  const json described = fixture.output_json({"group", "describe", "g"});
  CHECK(described["lag"] == 6);
  CHECK(described["members"].empty());
  uint64_t acked = 0;
  uint64_t unsettled = 0;
  for (const json& queue : described["queues"]) {
    CHECK(queue["topic"] == "t");
    acked += queue["acked"].get<uint64_t>();
    unsettled += queue["unsettled"].get<uint64_t>();
  }
  CHECK(acked == 4);
  CHECK(unsettled == 6);
  const std::string table = fixture.output({"group", "describe", "g"});
  CHECK(mentions(table, "UNSETTLED"));
  CHECK_FALSE(mentions(table, "COMMITTED"));
  CHECK(mentions(fixture.output({"group", "lag", "g"}), "(queue)"));

  CHECK(fixture.run({"check", "--lag", "g>6"}).exit_code == 0);
  CHECK(fixture.run({"check", "--lag", "g>5"}).exit_code == 1);
  const json top =
      fixture.output_json({"top", "--once", "--interval", "200ms", "--metrics", fixture.metrics()});
  CHECK(top["lag"] == 6);

  CHECK(fixture.output_json({"group", "delete", "g", "-y"})["deleted"] == true);
  CHECK(fixture.run({"group", "describe", "g"}).exit_code == 3);
  CHECK(fixture.run({"group", "lag", "g"}).exit_code == 3);
  CHECK(fixture.rest().size() == 10);  // it begins anew
}

TEST_CASE("messages as json, and deliveries in a format") {
  Fixture fixture;
  fixture.output({"topic", "alter", "t", "--max-deliveries", "0", "--dead-letter-topic", "",
                  "--retry-delays", "0ms"});
  fixture.output({"produce", "t", "-m", "hello", "--key", "k", "--tag", "a", "--tag", "b",
                  "--priority", "3", "-q"});
  // Not acked: it comes again when its lease ends, and goes back as it came at the end.
  CHECK(fixture.consumed({"-n", "2", "--visibility", "1s", "--format", "%n %d\\n"}) ==
        std::vector<std::string>{"t 1", "t 2"});
  const std::vector<std::string> second = fixture.consumed({"--ack", "-n", "1", "-o", "json"});
  REQUIRE(second.size() == 1);
  const json message = json::parse(second.front());
  CHECK(message["topic"] == "t");
  CHECK(message["key"] == "k");
  CHECK(message["value"] == "hello");
  CHECK(message["deliveries"] == 2);
  CHECK(message["offset"] == 0);
  CHECK(message["partition"].is_number());
  CHECK(message["headers"]["tm-tag"] == json::parse(R"(["a","b"])"));
  CHECK(message["headers"]["tm-priority"] == "3");
  CHECK(fixture.lag() == 0);
}

TEST_CASE("several topics in one queue consumer") {
  Fixture fixture;
  fixture.output({"topic", "create", "u"});
  fixture.produce(2);
  fixture.output({"produce", "u", "-m", "of u", "-q"});
  std::vector<std::string> seen =
      lines_of(fixture.output({"consume", "t", "u", "--group", "g", "--queue", "--ack", "-n", "3",
                               "--format", "%n:%v\\n"}));
  std::ranges::sort(seen);
  CHECK(seen == std::vector<std::string>{"t:0", "t:1", "u:of u"});
}

TEST_CASE("a message that failed too often is a dead letter: listed, shown, redriven, purged") {
  Fixture fixture;
  CHECK(fixture.letters() == 0);
  fixture.let_die(6);
  CHECK(fixture.lag() == 0);

  const json list = fixture.listed();
  CHECK(list["letters"] == 6);
  uint64_t sum = 0;
  for (const json& row : list["dead_letters"]) {
    CHECK(row["topic"] == "t-dead");
    CHECK(row["source_topic"] == "t");
    CHECK(row["group"] == "g");
    CHECK(row["reason"].get<std::string>().size() > 0);
    CHECK(row["oldest_ms"].get<int64_t>() <= row["newest_ms"].get<int64_t>());
    sum += row["letters"].get<uint64_t>();
  }
  CHECK(sum == 6);
  CHECK(fixture.output_json({"dlq", "list"}) == list);  // all dead-letter topics
  CHECK(mentions(fixture.output({"dlq", "list"}), "total"));

  const std::vector<json> letters = fixture.peeked();
  REQUIRE(letters.size() == 6);
  CHECK(letters[0]["source_topic"] == "t");
  CHECK(letters[0]["group"] == "g");
  CHECK(letters[0]["deliveries"] == 1);
  CHECK(letters[0]["source_offset"].is_number());
  CHECK(letters[0]["dead_ms"].is_number());
  CHECK(letters[0]["headers"]["tm-dead-topic"] == "t");
  CHECK(fixture.peeked({"-n", "2"}).size() == 2);
  CHECK(mentions(fixture.output({"dlq", "peek", "t-dead"}), "REASON"));

  const json dry = fixture.changed({"redrive", "t-dead", "--dry-run"});
  CHECK(dry["dry_run"] == true);
  CHECK(dry["matched"] == 6);
  CHECK(dry["redriven"] == 0);
  CHECK(fixture.letters() == 6);
  CHECK(fixture.run({"dlq", "redrive", "t-dead"}).exit_code == 2);  // nobody to ask
  CHECK(fixture.run({"dlq", "purge", "t-dead"}).exit_code == 2);
  CHECK(fixture.letters() == 6);

  const json two = fixture.changed({"redrive", "t-dead", "--max", "2", "--rate", "100/s", "-y"});
  CHECK(two["matched"] == 2);
  CHECK(two["redriven"] == 2);
  CHECK(two["failed"] == 0);
  CHECK(two["dry_run"] == false);
  CHECK(fixture.letters() == 4);
  CHECK(fixture.lag() == 2);
  const std::vector<std::string> again = fixture.rest();
  CHECK(again.size() == 2);
  CHECK(fixture.lag() == 0);

  CHECK(fixture.changed({"purge", "t-dead", "--dry-run"})["matched"] == 4);
  const json purged = fixture.changed({"purge", "t-dead", "--max", "1", "-y"});
  CHECK(purged["matched"] == 1);
  CHECK(purged["purged"] == 1);
  CHECK(fixture.letters() == 3);
  CHECK(fixture.changed({"redrive", "t-dead", "-y"})["redriven"] == 3);
  CHECK(fixture.rest().size() == 3);
  CHECK(fixture.letters() == 0);
  const json none = fixture.changed({"redrive", "t-dead", "-y"});
  CHECK(none["matched"] == 0);
  CHECK(none["redriven"] == 0);
}

TEST_CASE("dead letters are selected by tag and partition, and their history grows") {
  Fixture fixture;
  fixture.let_die(4, {"--tag", "red"});
  fixture.let_die(2, {"--tag", "blue"});
  CHECK(fixture.changed({"redrive", "t-dead", "--tag", "red", "--dry-run"})["matched"] == 4);
  CHECK(fixture.changed({"purge", "t-dead", "--tag", "none", "--dry-run"})["matched"] == 0);
  CHECK(fixture.changed({"purge", "t-dead", "--partition", "0", "--dry-run"})["matched"] == 3);
  CHECK(fixture.changed({"redrive", "t-dead", "--tag", "blue", "-y"})["redriven"] == 2);
  CHECK(fixture.letters() == 4);

  // They die once more.
  CHECK(fixture.let_leases_end().size() == 2);
  REQUIRE(Fixture::comes_true([&] { return fixture.letters() == 6; }));
  const std::vector<json> blue = fixture.peeked({"--tag", "blue"});
  REQUIRE(blue.size() == 2);
  for (const json& letter : blue) {
    CHECK(letter["headers"]["tm-dead-topic"] == json::parse(R"(["t","t"])"));
    CHECK(letter["headers"]["tm-redriven"].is_string());
    CHECK(letter["source_topic"] == "t");
  }
  CHECK(fixture.changed({"purge", "t-dead", "-y"})["purged"] == 6);
  CHECK(fixture.letters() == 0);
  CHECK(fixture.lag() == 0);
}

TEST_CASE("check and top count dead letters without reading them") {
  Fixture fixture;
  CHECK(fixture.run({"check", "--dead-letters", "t-dead>0"}).exit_code == 0);
  fixture.let_die(3);
  CHECK(fixture.run({"check", "--dead-letters", "t-dead>3"}).exit_code == 0);
  const CommandResult over = fixture.run(
      {"check", "--dead-letters", "t-dead>2", "--dead-letters", "none>2", "-o", "json"});
  CHECK(over.exit_code == 1);
  const json checks = json::parse(over.output)["checks"];
  REQUIRE(checks.size() == 2);
  CHECK(checks[0]["value"] == 3);
  CHECK(checks[0]["topic"] == "t-dead");
  CHECK(checks[1]["value"].is_null());
  const json top =
      fixture.output_json({"top", "--once", "--interval", "200ms", "--metrics", fixture.metrics()});
  CHECK(top["dead_letters"] == json::parse(R"([{"topic":"t-dead","letters":3}])"));
  fixture.changed({"purge", "t-dead", "-y"});
  CHECK(fixture.run({"check", "--dead-letters", "t-dead>0"}).exit_code == 0);
}

TEST_CASE("tags choose what is read, alone, in a group, and in queue mode") {
  Fixture fixture;
  fixture.output({"produce", "t", "-m", "red", "--tag", "red", "-q"});
  fixture.output({"produce", "t", "-m", "blue", "--tag", "blue", "-q"});
  fixture.output({"produce", "t", "-m", "plain", "-q"});
  const auto sorted = [](std::vector<std::string> values) {
    std::ranges::sort(values);
    return values;
  };
  CHECK(lines_of(fixture.output({"consume", "t", "--tag", "red", "-q"})) ==
        std::vector<std::string>{"red"});
  CHECK(sorted(lines_of(fixture.output({"consume", "t", "--tag", "red", "--tag", "blue", "-q"}))) ==
        std::vector<std::string>{"blue", "red"});
  // What is left out at the end is read all the same.
  CHECK(fixture.output({"consume", "t", "--tag", "none", "-q"}).empty());
  CHECK(lines_of(fixture.output({"consume", "t", "--group", "s", "--tag", "blue", "--idle-exit",
                                 "5s", "-q"})) == std::vector<std::string>{"blue"});
  CHECK(fixture.output_json({"group", "lag", "s"})["lag"] == 0);
  CHECK(fixture.consumed({"--ack", "--tag", "red", "--idle-exit", "1500ms"}) ==
        std::vector<std::string>{"red"});
  CHECK(fixture.lag() == 0);  // the others are settled unseen
}

TEST_CASE("a filter that the broker does not understand is an error") {
  Fixture fixture;
  fixture.produce(2);
  const CommandResult alone = fixture.run({"consume", "t", "--filter", "("});
  CHECK(alone.exit_code == 2);
  CHECK(mentions(alone.errors, "(InvalidArgument)"));
  const CommandResult queue =
      fixture.run({"consume", "t", "--group", "g", "--queue", "--ack", "--filter", "(", "-n", "1"});
  CHECK(queue.exit_code == 2);
  CHECK(mentions(queue.errors, "(InvalidArgument)"));
}

TEST_CASE("settings of queue mode are stored and told") {
  Fixture fixture;
  const json created = fixture.output_json(
      {"topic", "create", "q", "--partitions", "2", "--retry-delays", "1s,10s,1m", "--retry-factor",
       "1.5", "--retry-max", "2m", "--max-deliveries", "7", "--dead-letter-topic", "t-dead",
       "--ttl", "1h", "--dedupe", "2m"});
  const json described = fixture.output_json({"topic", "describe", "q"});
  for (const json& topic : {created, described}) {
    CHECK(topic["retry_delays_ms"] == json::parse("[1000,10000,60000]"));
    CHECK(topic["retry_factor_percent"] == 150);
    CHECK(topic["retry_max_ms"] == 120'000);
    CHECK(topic["max_deliveries"] == 7);
    CHECK(topic["dead_letter_topic"] == "t-dead");
    CHECK(topic["ttl_ms"] == 3'600'000);
    CHECK(topic["dedupe_window_ms"] == 120'000);
  }
  const std::string text = fixture.output({"topic", "describe", "q"});
  CHECK(mentions(text, "deliveries  at most 7, dead letters to t-dead"));
  CHECK(mentions(text, "dedupe      2m"));
  const json altered =
      fixture.output_json({"topic", "alter", "q", "--ttl", "none", "--dedupe", "off",
                           "--max-deliveries", "0", "--dead-letter-topic", ""});
  CHECK(altered["ttl_ms"] == -1);
  CHECK(altered["dedupe_window_ms"] == -1);
  CHECK(altered["max_deliveries"] == 0);
  CHECK(altered["dead_letter_topic"].is_null());
  CHECK(altered["retry_factor_percent"] == 150);  // was not named
}

TEST_CASE("a message id that comes again is stored once") {
  Fixture fixture;
  fixture.output({"topic", "create", "q", "--dedupe", "2m"});
  fixture.output({"produce", "q", "-m", "first", "--message-id", "a", "-q"});
  fixture.output({"produce", "q", "-m", "again", "--message-id", "a", "-q"});
  fixture.output({"produce", "q", "--key-separator", ":", "--message-id-from-key", "-q"},
                 "b:1\nc:2\nb:3\n");
  CHECK(lines_of(fixture.output({"consume", "q", "-q"})) ==
        std::vector<std::string>{"first", "1", "2"});
  const CommandResult several =
      fixture.run({"produce", "q", "--message-id", "d", "-q"}, "one\ntwo\n");
  CHECK(several.exit_code == 2);
  CHECK(mentions(several.errors, "--message-id-from-key"));
}

TEST_CASE("log dump shows what queue mode wrote") {
  Fixture fixture;
  fixture.produce(40);
  fixture.rest();
  REQUIRE(fixture.daemon().terminate() == 0);
  const json stats =
      json::parse(testing::run_without_broker(
                      {"log", "dump", fixture.directory() / "data", "--stats", "-o", "json"})
                      .output);
  CHECK(stats["queue_acks"] == 40);
  CHECK(stats["queue_records"].get<uint64_t>() > 0);
  CHECK(stats["queue_ack_bytes_per_ack"].get<double>() > 0);
  CHECK(stats["records_by_kind"]["queue_settle"] == stats["queue_records"]);
}

TEST_CASE("flags that do not go with queue mode, and topics that are not there") {
  for (const Arguments& arguments :
       {Arguments{"consume", "t", "--queue"},
        Arguments{"consume", "t", "u"},
        Arguments{"consume", "t", "--group", "g", "--ack"},
        Arguments{"consume", "t", "--group", "g", "--visibility", "5s"},
        Arguments{"consume", "t", "--group", "g", "--queue", "--visibility", "1ms"},
        Arguments{"consume", "t", "--group", "g", "--queue", "--in-flight", "0"},
        Arguments{"consume", "t", "--group", "g", "--queue", "--instance", "i"},
        Arguments{"consume", "t", "--group", "g", "--queue", "--partition", "1"},
        Arguments{"consume", "t", "--group", "g", "--queue", "--from", "5"},
        Arguments{"consume", "t", "--filter", ""},
        Arguments{"dlq"},
        Arguments{"dlq", "peek"},
        Arguments{"dlq", "redrive", "t", "--rate", "0"},
        Arguments{"dlq", "redrive", "t", "--max", "0"},
        Arguments{"dlq", "redrive", "t", "--tag", "a"},  // nobody to ask
        Arguments{"check", "--dead-letters", "t"},
        Arguments{"produce", "t", "-m", "x", "--priority", "8"},
        Arguments{"produce", "t", "-m", "x", "--message-id", ""},
        Arguments{"produce", "t", "-m", "x", "--message-id-from-key"},
        Arguments{"topic", "create", "t", "--retry-delays", "soon"},
        Arguments{"topic", "alter", "t"}}) {
    CAPTURE(arguments.back());
    CHECK(testing::run_without_broker(arguments).exit_code == 2);
  }
  Fixture fixture;
  for (const Arguments& arguments :
       {Arguments{"consume", "nothing", "--group", "g", "--queue"},
        Arguments{"dlq", "list", "nothing"}, Arguments{"dlq", "peek", "nothing"},
        Arguments{"dlq", "redrive", "nothing", "-y"}, Arguments{"dlq", "purge", "nothing", "-y"}}) {
    CAPTURE(arguments[1]);
    CHECK(fixture.run(arguments).exit_code == 3);
  }
}

}  // namespace
}  // namespace tidemark
