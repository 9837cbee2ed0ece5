// Compaction by the tool against a real broker.
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "log/base/clock.h"
#include "tests/support/tool_fixture.h"

namespace tidemark {
namespace {

using nlohmann::json;
using testing::lines_of;

constexpr int kKeys = 10;
constexpr int kUpdates = 1'000;

class Fixture : public testing::ToolFixture {
 public:
  Fixture() : ToolFixture({"--retention-interval", "100ms"}) {}

  // "k3=417 ...": update number `from` to `from` + kUpdates - 1, of 2 KiB each.
  void produce(int from) {
    std::string lines;
    for (int i = from; i < from + kUpdates; ++i) {
      lines += "k" + std::to_string(i % kKeys) + "=" + std::to_string(i) + " " +
               std::string(2'048, 'x') + "\n";
    }
    output({"produce", "t", "--key-separator", "=", "-q"}, lines);
  }

  // "k3 417 12": key, number and offset of each message from `from` on.
  std::vector<std::string> consume(const std::string& from = "start") {
    std::vector<std::string> lines =
        lines_of(output({"consume", "t", "--from", from, "--format", "%k %v %o\n", "-q"}));
    for (std::string& line : lines) {
      const size_t number_end = line.find(' ', line.find(' ') + 1);
      line = line.substr(0, number_end) + line.substr(line.rfind(' '));
    }
    return lines;
  }
};

TEST_CASE("of a thousand updates of ten keys the newest ten stay, at their offsets") {
  Fixture fixture;
  const json created =
      fixture.output_json({"topic", "create", "t", "--compact", "0s", "--tombstones", "1h"});
  CHECK(created["compact_after_ms"] == 0);
  CHECK(created["tombstone_ms"] == 3'600'000);
  fixture.produce(0);
  std::vector<std::string> left;
  const int64_t deadline_ms = system_clock().wall().ms + testing::DaemonProcess::kWaitMs;
  do {
    left = fixture.consume();
  } while (left.size() != kKeys && system_clock().wall().ms < deadline_ms);
  std::vector<std::string> expected;
  for (int i = kUpdates - kKeys; i < kUpdates; ++i) {
    expected.push_back("k" + std::to_string(i % kKeys) + " " + std::to_string(i) + " " +
                       std::to_string(i));
  }
  CHECK(left == expected);
  CHECK(fixture.consume("17") == expected);  // inside of what is gone
  const json partition = fixture.output_json({"partition", "describe", "t"});
  CHECK(partition.dump().find("\"end_offset\":1000") != std::string::npos);

  fixture.daemon().kill();
  REQUIRE_MESSAGE(fixture.daemon().start(), fixture.daemon().errors());
  CHECK(fixture.consume() == expected);
  const std::string dump =
      fixture.output({"log", "dump", fixture.daemon().data_dir(), "-o", "json"});
  CHECK(dump.find("\"compacted\"") != std::string::npos);

  const std::string text = fixture.output({"topic", "describe", "t"});
  CHECK(text.find("compaction  after 0s, tombstones after 1h") != std::string::npos);
  const json altered = fixture.output_json({"topic", "alter", "t", "--compact", "off"});
  CHECK(altered["compact_after_ms"] == -1);
  CHECK(altered["tombstone_ms"] == 3'600'000);
}

}  // namespace
}  // namespace tidemark
