// Consumer groups by the tool against a real broker, and what top and check say of it.
#include <signal.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "log/base/clock.h"
#include "tests/support/child_process.h"
#include "tests/support/tool_fixture.h"

namespace tidemark {
namespace {

using nlohmann::json;
using testing::Arguments;
using testing::ChildProcess;
using testing::CommandResult;
using testing::lines_of;

bool mentions(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

// Topic t with 4 partitions on two shards.
class Fixture : public testing::ToolFixture {
 public:
  Fixture() { output({"topic", "create", "t", "--partitions", "4"}); }

  // Messages "0" to "<count - 1>", in turn over the partitions; gives their values, sorted.
  std::vector<std::string> produce(int count) {
    std::vector<std::string> values;
    for (int partition = 0; partition < 4; ++partition) {
      std::string lines;
      for (int i = partition; i < count; i += 4) {
        values.push_back(std::to_string(i));
        lines += values.back() + "\n";
      }
      output({"produce", "t", "--partition", std::to_string(partition), "-q"}, lines);
    }
    std::ranges::sort(values);
    return values;
  }

  // What a member of group g prints until it is done; sorted.
  std::vector<std::string> consumed(const Arguments& more) {
    Arguments arguments = {"consume", "t", "--group", "g", "-q"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    std::vector<std::string> values = lines_of(output(arguments));
    std::ranges::sort(values);
    return values;
  }

  // All that is left for group g; sorted.
  std::vector<std::string> rest() { return consumed({"--idle-exit", "1s"}); }

  json described() { return output_json({"group", "describe", "g"}); }

  uint64_t lag() { return output_json({"group", "lag", "g"}).at("lag").get<uint64_t>(); }

  // A member of group g that goes on until it is told to stop. Its outputs are files.
  std::unique_ptr<ChildProcess> launch_member(const std::string& name, const Arguments& more = {}) {
    ChildProcess::Start start;
    start.arguments = {testing::tool_path(), "consume", "t", "--group", "g"};
    start.arguments.insert(start.arguments.end(), more.begin(), more.end());
    start.environment = {"TIDEMARK_BROKERS=" + daemon().address()};
    start.output_file = directory() / (name + ".out");
    start.error_file = directory() / (name + ".err");
    auto child = std::make_unique<ChildProcess>();
    child->launch(start);
    return child;
  }

  std::vector<std::string> printed(const std::string& name) {
    std::vector<std::string> values = lines_of(testing::file_text(directory() / (name + ".out")));
    std::ranges::sort(values);
    return values;
  }

  std::string errors(const std::string& name) {
    return testing::file_text(directory() / (name + ".err"));
  }

  // Asks until the members of group g have this many partitions each, smallest first.
  bool shared_out(const std::vector<size_t>& wanted) {
    return comes_true([&] {
      const CommandResult result = run({"group", "describe", "g", "-o", "json"});
      std::vector<size_t> counts;
      if (result.exit_code == 0) {
        const json group = json::parse(result.output);
        for (const json& member : group.at("members")) {
          counts.push_back(member.at("assigned").size());
        }
      }
      std::ranges::sort(counts);
      return counts == wanted;
    });
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

std::vector<std::string> joined(std::vector<std::string> one, const std::vector<std::string>& two) {
  one.insert(one.end(), two.begin(), two.end());
  std::ranges::sort(one);
  return one;
}

TEST_CASE("members one after the other print every message once, to the message") {
  Fixture fixture;
  const std::vector<std::string> all = fixture.produce(100);
  const std::vector<std::string> first = fixture.consumed({"-n", "7"});
  CHECK(first.size() == 7);
  CHECK(fixture.lag() == 93);
  const std::vector<std::string> second = fixture.rest();
  CHECK(joined(first, second) == all);
  CHECK(fixture.lag() == 0);
  CHECK(fixture.rest().empty());
}

TEST_CASE("two members share the partitions, and one that stops leaves them to the other") {
  Fixture fixture;
  const auto one = fixture.launch_member("one");
  REQUIRE(fixture.shared_out({4}));
  const auto two = fixture.launch_member("two");
  REQUIRE(fixture.shared_out({2, 2}));
  const std::vector<std::string> all = fixture.produce(40);
  CHECK(Fixture::comes_true(
      [&] { return joined(fixture.printed("one"), fixture.printed("two")) == all; }));
  CHECK(fixture.printed("one").size() == 20);
  CHECK(Fixture::comes_true([&] { return fixture.lag() == 0; }));

  one->send_signal(SIGTERM);
  CHECK(one->wait_exit() == 0);
  CHECK(mentions(fixture.errors("one"), "consumed 20 messages"));
  CHECK(fixture.shared_out({4}));
  const std::string table = fixture.output({"group", "describe", "g"});
  CHECK(mentions(table, "t 0-3"));
  two->send_signal(SIGINT);
  CHECK(two->wait_exit() == 0);
  CHECK(fixture.described()["members"].empty());
}

TEST_CASE("a second member of the same instance name takes over") {
  Fixture fixture;
  const auto one = fixture.launch_member("one", {"--instance", "i"});
  REQUIRE(fixture.shared_out({4}));
  const auto two = fixture.launch_member("two", {"--instance", "i"});
  CHECK(one->wait_exit() == 6);
  CHECK(mentions(fixture.errors("one"), "(Fenced)"));
  CHECK(fixture.shared_out({4}));
  CHECK(fixture.described()["members"][0]["instance"] == "i");
  two->send_signal(SIGTERM);
  CHECK(two->wait_exit() == 0);
}

TEST_CASE("a group without a position begins where --from says") {
  Fixture fixture;
  fixture.produce(8);
  const auto member = fixture.launch_member("member", {"--from", "end", "-n", "4"});
  REQUIRE(fixture.shared_out({4}));
  // Reading may begin a moment after the partitions are assigned.
  CHECK(Fixture::comes_true([&] {
    if (member->wait_exit(0)) {
      return true;
    }
    fixture.output({"produce", "t", "--message", "new", "-q"});
    return false;
  }));
  for (const std::string& value : fixture.printed("member")) {
    CHECK(value == "new");
  }
  CHECK(fixture.printed("member").size() == 4);
}

TEST_CASE("lag is told for each partition and in all") {
  Fixture fixture;
  fixture.produce(40);
  fixture.consumed({"-n", "40"});
  fixture.output({"produce", "t", "--partition", "2", "-q"}, "a\nb\nc\n");
  const json lag = fixture.output_json({"group", "lag", "g"});
  CHECK(lag["group"] == "g");
  CHECK(lag["lag"] == 3);
  REQUIRE(lag["partitions"].size() == 4);
  const json& third = lag["partitions"][2];
  CHECK(third["topic"] == "t");
  CHECK(third["partition"] == 2);
  CHECK(third["committed"] == 10);
  CHECK(third["end_offset"] == 13);
  CHECK(third["lag"] == 3);
  CHECK(third["member"].is_null());
  CHECK(mentions(fixture.output({"group", "lag", "g"}), "total"));
  const json list = fixture.output_json({"group", "list"});
  CHECK(list["groups"] == json::parse(R"([{"group":"g","members":0,"partitions":4,"queues":0}])"));
  CHECK(mentions(fixture.output({"group", "list"}), "GROUP  MEMBERS  PARTITIONS  QUEUES\ng "));
}

TEST_CASE("reset sets positions of a topic, or of some of its partitions") {
  Fixture fixture;
  const std::vector<std::string> all = fixture.produce(40);
  fixture.consumed({"-n", "40"});
  const Arguments to_start = {"group", "reset", "g", "--topic", "t", "--to", "start"};
  const auto with = [&to_start](const Arguments& more) {
    Arguments arguments = to_start;
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  };
  const json dry = fixture.output_json(with({"--dry-run"}));
  CHECK(dry["matching"] == 4);
  CHECK(dry["results"][0]["before"] == 10);
  CHECK(dry["results"][0]["after"] == 0);
  CHECK(fixture.lag() == 0);
  CHECK(fixture.run(to_start).exit_code == 2);  // nobody to ask
  CHECK(fixture.lag() == 0);

  const json done = fixture.output_json(with({"--partition", "1", "--partition", "3", "-y"}));
  CHECK(done["reset"] == 2);
  CHECK(done["results"][1]["partition"] == 3);
  CHECK(done["results"][1]["after"] == 0);
  CHECK(fixture.lag() == 20);
  fixture.output({"group", "reset", "g", "--topic", "t", "--partition", "1", "--to", "8", "-y"});
  CHECK(fixture.lag() == 12);
  CHECK(fixture.rest().size() == 12);
}

TEST_CASE("reset is refused while the group has members; forced, they begin anew there") {
  Fixture fixture;
  const std::vector<std::string> all = fixture.produce(40);
  fixture.consumed({"-n", "40"});
  const Arguments to_start = {"group", "reset", "g", "--topic", "t", "--to", "start", "-y"};
  const auto member = fixture.launch_member("member");
  REQUIRE(fixture.shared_out({4}));
  const CommandResult refused = fixture.run(to_start);
  CHECK(refused.exit_code == 6);
  CHECK(mentions(refused.errors, "1 member"));
  Arguments forced = to_start;
  forced.push_back("--force");
  CHECK(fixture.output_json(forced)["reset"] == 4);
  CHECK(Fixture::comes_true([&] { return fixture.printed("member") == all; }));
  member->send_signal(SIGTERM);
  CHECK(member->wait_exit() == 0);
  CHECK(fixture.lag() == 0);
}

TEST_CASE("delete forgets a group that has no members") {
  Fixture fixture;
  fixture.produce(4);
  const auto member = fixture.launch_member("member");
  REQUIRE(fixture.shared_out({4}));
  CHECK(Fixture::comes_true([&] { return fixture.printed("member").size() == 4; }));
  CHECK(fixture.run({"group", "delete", "g", "-y"}).exit_code == 6);
  member->send_signal(SIGTERM);
  CHECK(member->wait_exit() == 0);
  CHECK(fixture.run({"group", "delete", "g"}).exit_code == 2);  // nobody to ask
  const json deleted = fixture.output_json({"group", "delete", "g", "-y"});
  CHECK(deleted["deleted"] == true);
  CHECK(deleted["positions"] == 4);
  for (const Arguments& arguments :
       {Arguments{"group", "delete", "g", "-y"}, Arguments{"group", "describe", "g"},
        Arguments{"group", "lag", "g"},
        Arguments{"group", "reset", "g", "--topic", "t", "--to", "end", "-y"}}) {
    CAPTURE(arguments[1]);
    const CommandResult result = fixture.run(arguments);
    CHECK(result.exit_code == 3);
    CHECK(mentions(result.errors, "(NotFound)"));
  }
  CHECK(fixture.output_json({"group", "list"})["groups"].empty());
}

TEST_CASE("flags that do not go with a group") {
  for (const Arguments& arguments :
       {Arguments{"consume", "t", "--group", "g", "--partition", "1"},
        Arguments{"consume", "t", "--group", "g", "--from", "5"},
        Arguments{"consume", "t", "--group", ""}, Arguments{"consume", "t", "--instance", "i"},
        Arguments{"consume", "t", "--idle-exit", "1s"},
        Arguments{"consume", "t", "--group", "g", "--session-timeout", "1ms"},
        Arguments{"group", "reset", "g", "--topic", "t"},
        Arguments{"group", "reset", "g", "--topic", "t", "--to", "never"},
        Arguments{"check", "--lag", "g"}, Arguments{"top", "--interval", "1ms"}}) {
    CAPTURE(arguments.back());
    CHECK(testing::run_without_broker(arguments).exit_code == 2);
  }
}

TEST_CASE("a topic that is not there is an error, not something to wait for") {
  Fixture fixture;
  CHECK(fixture.run({"consume", "nothing", "--group", "g"}).exit_code == 3);
}

TEST_CASE("top shows rates, lag and what waits") {
  Fixture fixture;
  fixture.produce(40);
  fixture.consumed({"-n", "10"});
  fixture.output({"produce", "t", "--message", "later", "--after", "1h", "-q"});
  const Arguments once = {"top", "--once", "--interval", "200ms", "--metrics", fixture.metrics()};
  const json seen = fixture.output_json(once);
  CHECK(seen["lag"] == 30);
  CHECK(seen["groups"][0]["group"] == "g");
  CHECK(seen["delays"]["pending"] == 1);
  CHECK(seen["transactions"]["open"] == 0);
  CHECK(seen["broker"]["shards_not_ready"] == 0);
  CHECK(seen["log"]["bytes"].get<uint64_t>() > 0);
  CHECK(seen["seconds"].get<double>() >= 0.19);
  const std::string text = fixture.output(once);
  CHECK(mentions(text, "groups   1, lag 30"));
  CHECK_FALSE(mentions(text, "\x1b"));
  CHECK(fixture.run({"top", "--once", "--metrics", "127.0.0.1:1"}).exit_code == 5);
}

TEST_CASE("check compares with thresholds") {
  Fixture fixture;
  fixture.produce(40);
  fixture.consumed({"-n", "10"});
  const CommandResult healthy = fixture.run({"check", "--metrics", fixture.metrics()});
  CHECK(healthy.exit_code == 0);
  CHECK(lines_of(healthy.output).size() == 6);  // with the heading
  CHECK_FALSE(mentions(healthy.output, "critical"));

  CHECK(fixture.run({"check", "--lag", "g>30"}).exit_code == 0);
  const CommandResult behind =
      fixture.run({"check", "--lag", "g>29", "--lag", "none>5", "--txn-oldest", "1h", "--metrics",
                   fixture.metrics(), "-o", "json"});
  CHECK(behind.exit_code == 1);
  const json seen = json::parse(behind.output);
  CHECK(seen["ok"] == false);
  REQUIRE(seen["checks"].size() == 3);
  CHECK(seen["checks"][0]["state"] == "ok");
  CHECK(seen["checks"][1]["value"] == 30);
  CHECK(seen["checks"][1]["state"] == "critical");
  CHECK(seen["checks"][2]["group"] == "none");
  CHECK(seen["checks"][2]["value"].is_null());
  CHECK(seen["checks"][2]["state"] == "critical");

  CHECK(testing::run_without_broker({"check", "--metrics", "127.0.0.1:1"}).exit_code == 5);
  CHECK(testing::run_without_broker({"check", "--lag", "g>1", "--timeout", "300ms"}).exit_code ==
        5);
}

}  // namespace
}  // namespace tidemark
