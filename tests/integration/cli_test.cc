// The tool against a real broker: what comes back, exit codes, what goes to which output.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "log/base/random.h"
#include "tests/support/tool_fixture.h"

namespace tidemark {
namespace {

using nlohmann::json;
using testing::CommandResult;
using testing::lines_of;
using testing::tool_path;
using Arguments = testing::Arguments;
using Fixture = testing::ToolFixture;

void write_file(const std::string& path, const std::string& content) {
  std::ofstream(path, std::ios::binary) << content;
}

// Lines of random bytes, newlines excepted.
std::string random_lines(uint64_t seed, size_t count, size_t bytes_max) {
  Random random(seed);
  std::string text;
  for (size_t i = 0; i < count; ++i) {
    const uint64_t bytes = random.below(bytes_max + 1);
    for (uint64_t k = 0; k < bytes; ++k) {
      const auto byte = static_cast<char>(random.next());
      text += byte == '\n' ? '\r' : byte;
    }
    text += '\n';
  }
  return text;
}

TEST_CASE("topics: create, list, describe, alter, delete") {
  Fixture fixture;
  const json created =
      json::parse(fixture.output({"topic", "create", "orders", "--partitions", "3", "--retention",
                                  "7d", "--retention-bytes", "10GiB", "-o", "json"}));
  CHECK(created["name"] == "orders");
  CHECK(created["partitions"].size() == 3);
  CHECK(created["retention_ms"] == 604'800'000);
  CHECK(created["retention_bytes"] == 10ll << 30);

  const CommandResult again = fixture.run({"topic", "create", "orders"});
  CHECK(again.exit_code == 6);
  CHECK(again.errors.find("(AlreadyExists)") != std::string::npos);
  CHECK(again.output.empty());
  CHECK(fixture.run({"topic", "create", "orders", "--if-not-exists"}).exit_code == 0);

  fixture.output({"topic", "create", "audit"});
  const std::vector<std::string> table = lines_of(fixture.output({"topic", "list"}));
  REQUIRE(table.size() == 3);
  CHECK(table[0].starts_with("TOPIC"));
  CHECK(table[1].starts_with("audit "));
  CHECK(table[2].starts_with("orders "));

  const json altered = json::parse(fixture.output(
      {"topic", "alter", "orders", "--retention", "forever", "--partitions", "5", "-o", "json"}));
  CHECK(altered["retention_ms"] == -1);
  CHECK(altered["retention_bytes"] == 10ll << 30);
  CHECK(altered["partitions"].size() == 5);
  CHECK(fixture.run({"topic", "alter", "orders"}).exit_code == 2);

  CHECK(fixture.run({"topic", "delete", "orders"}).exit_code == 2);  // no terminal and no --yes
  CHECK(json::parse(fixture.output({"topic", "describe", "orders", "-o", "json"}))["partitions"]
            .size() == 5);
  fixture.output({"topic", "delete", "orders", "--yes"});
  const CommandResult gone = fixture.run({"topic", "describe", "orders", "-o", "json"});
  CHECK(gone.exit_code == 3);
  CHECK(json::parse(gone.errors)["error"]["code"] == "UnknownTopic");
}

TEST_CASE("names and flags that are wrong are usage errors and reach no broker") {
  const auto& run = testing::run_without_broker;
  for (const Arguments& arguments :
       std::vector<Arguments>{{"topic", "create", "a/b"},
                              {"topic", "create", ".."},
                              {"topic", "create", std::string(201, 'a')},
                              {"topic", "create", ""},
                              {"topic", "create", "t", "--retention", "7y"},
                              {"topic", "create", "t", "--partitions", "0"},
                              {"topic", "make", "t"},
                              {"consume", "t", "--from", "somewhere"},
                              {"consume", "t", "--format", "%z"},
                              {"produce", "t", "--rate", "-1"},
                              {"produce", "t", "-", "--message", "x"},
                              {"bench", "e2e", "t", "--size", "10", "--rate", "0"},
                              {"frobnicate"},
                              {}}) {
    CAPTURE(arguments.empty() ? "" : arguments.back());
    const CommandResult result = run(arguments);
    CHECK(result.exit_code == 2);
    CHECK(result.output.empty());
    CHECK(result.errors.starts_with("tidemark: "));
    CHECK(result.errors.find("(Usage)") != std::string::npos);
  }
  CHECK(run({"--version"}).output.starts_with("tidemark "));
  CHECK(run({"consume", "--help"}).output.find("--format") != std::string::npos);
  for (const char* shell : {"bash", "zsh", "fish"}) {
    CHECK(run({"completion", shell}).output.find("bench e2e") != std::string::npos);
  }
}

TEST_CASE("without a broker a command gives up in time and says where it tried") {
  const CommandResult result =
      testing::run_command({tool_path(), "topic", "list", "--brokers", "127.0.0.1:1", "--timeout",
                            "300ms", "-o", "json"});
  CHECK(result.exit_code == 5);
  const json error = json::parse(result.errors);
  CHECK(error["error"]["code"] == "Unavailable");
  CHECK(error["error"]["message"].get<std::string>().find("127.0.0.1:1") != std::string::npos);
}

TEST_CASE("what is produced comes back byte for byte") {
  Fixture fixture;
  fixture.output({"topic", "create", "raw"});
  const std::string text = random_lines(1, 20'000, 200) + "a\r\n\nlast line without an end";
  const CommandResult produced = fixture.run({"produce", "raw", "-o", "json"}, text);
  REQUIRE_MESSAGE(produced.exit_code == 0, produced.errors);
  const json counts = json::parse(produced.output);
  CHECK(counts["messages"] == 20'003);
  CHECK(counts["acked"] == 20'003);
  CHECK(counts["failed"] == 0);
  REQUIRE(counts["partitions"].size() == 1);
  CHECK(counts["partitions"][0]["last_offset"] == 20'002);
  CHECK((fixture.output({"consume", "raw", "--quiet"}) == text + "\n"));
  CHECK((fixture.output({"consume", "raw", "--from", "start", "-n", "20003", "--format",
                         "%v\\n"}) == text + "\n"));
  // From a file, compressed, to a second topic.
  fixture.output({"topic", "create", "packed"});
  write_file(fixture.directory() / "lines", text);
  fixture.output({"produce", "packed", fixture.directory() / "lines", "--compress", "zstd",
                  "--batch-bytes", "16KiB"});
  CHECK((fixture.output({"consume", "packed"}) == text + "\n"));
}

TEST_CASE("with several partitions nothing is missing and each key keeps its order") {
  Fixture fixture;
  fixture.output({"topic", "create", "keyed", "--partitions", "8"});
  std::string text;
  for (int i = 0; i < 20'000; ++i) {
    text += "key" + std::to_string(i % 97) + ":" + std::to_string(i) + "\n";
  }
  fixture.output({"produce", "keyed", "--key-separator", ":"}, text);
  const std::vector<std::string> lines =
      lines_of(fixture.output({"consume", "keyed", "--format", "%p %k %v\\n"}));
  CHECK(lines.size() == 20'000);
  std::map<std::string, int> last_of_key;
  std::map<std::string, int> partition_of_key;
  std::set<int> values;
  for (const std::string& line : lines) {
    std::istringstream fields(line);
    int partition = -1;
    std::string key;
    int value = -1;
    fields >> partition >> key >> value;
    CHECK(partition_of_key.emplace(key, partition).first->second == partition);
    const auto [at, first] = last_of_key.emplace(key, value);
    CHECK((first || at->second < value));
    at->second = value;
    values.insert(value);
  }
  CHECK(values.size() == 20'000);
  CHECK(*values.rbegin() == 19'999);
}

TEST_CASE("where consume begins and ends") {
  Fixture fixture;
  fixture.output({"topic", "create", "t", "--partitions", "2"});
  CHECK(fixture.output({"consume", "t"}).empty());
  fixture.output({"produce", "t", "--partition", "0"}, "a\nb\nc\nd\n");
  fixture.output({"produce", "t", "--partition", "1"}, "x\ny\n");
  CHECK(fixture.output({"consume", "t", "--partition", "0"}) == "a\nb\nc\nd\n");
  CHECK(fixture.output({"consume", "t", "--partition", "0", "-n", "2"}) == "a\nb\n");
  CHECK(fixture.output({"consume", "t", "--partition", "0", "--from", "3"}) == "d\n");
  CHECK(fixture.output({"consume", "t", "--partition", "0", "--from", "4"}).empty());
  CHECK(fixture.output({"consume", "t", "--from", "end"}).empty());
  CHECK(fixture.output({"consume", "t", "--from", "-1h", "--partition", "1"}) == "x\ny\n");
  CHECK(fixture.output({"consume", "t", "--from", "@0", "--partition", "1"}) == "x\ny\n");
  CHECK(fixture.output({"consume", "t", "--from", "2200-01-01"}).empty());
  CHECK(lines_of(fixture.output({"consume", "t"})).size() == 6);

  const CommandResult beyond = fixture.run({"consume", "t", "--partition", "0", "--from", "5"});
  CHECK(beyond.exit_code == 1);
  CHECK(beyond.errors.find("offset 5 is not stored, only 0 to 3") != std::string::npos);
  CHECK(fixture.run({"consume", "t", "--partition", "2"}).exit_code == 3);
  CHECK(fixture.run({"consume", "nothing"}).exit_code == 3);
  CHECK(fixture.run({"produce", "nothing"}, "x\n").exit_code == 3);
  CHECK(fixture.run({"produce", "t", "--partition", "2"}, "x\n").exit_code == 3);
}

TEST_CASE(
    "consume waits for messages that are asked for, ends on a signal, and does not mind a closed "
    "pipe") {
  Fixture fixture;
  fixture.output({"topic", "create", "t"});
  const CommandResult waited = fixture.shell(
      "$tidemark consume t -n 3 -q & waiting=$!; seq 3 | $tidemark produce t -q; wait $waiting");
  CHECK(waited.exit_code == 0);
  CHECK(waited.output == "1\n2\n3\n");
  // The lines that were read prove that it follows; then the interrupt ends it in order.
  const CommandResult followed = fixture.shell(
      "coproc $tidemark consume t --follow; pid=$COPROC_PID; "
      "for i in 1 2 3; do read -r line <&${COPROC[0]}; echo $line; done; kill -INT $pid; wait "
      "$pid");
  CHECK(followed.exit_code == 0);
  CHECK(followed.output == "1\n2\n3\n");
  CHECK(followed.errors.find("consumed 3 messages") != std::string::npos);

  const std::string many = random_lines(2, 50'000, 40);
  fixture.output({"produce", "t", "-q"}, many);
  const CommandResult cut = fixture.shell("set -o pipefail; $tidemark consume t | head -n 1");
  CHECK(cut.exit_code == 0);
  CHECK(cut.output == "1\n");
  CHECK(cut.errors.empty());
}

TEST_CASE("limits: a message of 1 MiB is taken, one byte more is refused by line and limit") {
  Fixture fixture;
  fixture.output({"topic", "create", "t"});
  const std::string largest(1 << 20, 'x');
  // The limit counts key, value and headers; a bare value may use all of it.
  fixture.output({"produce", "t"}, largest + "\n");
  CHECK((fixture.output({"consume", "t"}) == largest + "\n"));

  const CommandResult first = fixture.run({"produce", "t"}, largest + "x\n");
  CHECK(first.exit_code == 1);
  CHECK(first.errors.find("line 1") != std::string::npos);
  CHECK(first.errors.find("1048576") != std::string::npos);
  const CommandResult third =
      fixture.run({"produce", "t", "-o", "json"}, "a\nb\n" + largest + "x\nc\n");
  CHECK(third.exit_code == 7);
  CHECK(json::parse(third.output)["acked"] == 2);
  CHECK(third.errors.find("line 3") != std::string::npos);
  CHECK(lines_of(fixture.output({"consume", "t"})).size() == 3);

  const CommandResult no_key =
      fixture.run({"produce", "t", "--key-separator", "="}, "k=v\nnothing\n");
  CHECK(no_key.exit_code == 7);
  CHECK(no_key.errors.find("line 2 has no key separator '='") != std::string::npos);
}

TEST_CASE("json of messages") {
  Fixture fixture;
  fixture.output({"topic", "create", "t"});
  fixture.output(
      {"produce", "t", "--key", "k", "--header", "a=1", "--header", "b=x=y", "--message", "hello"});
  fixture.output({"produce", "t", "--message", std::string("\xFF\x01", 2), "-n", "2"});
  const std::vector<std::string> lines = lines_of(fixture.output({"consume", "t", "-o", "json"}));
  REQUIRE(lines.size() == 3);
  const json first = json::parse(lines[0]);
  CHECK(first["key"] == "k");
  CHECK(first["value"] == "hello");
  CHECK(first["headers"] == json{{"a", "1"}, {"b", "x=y"}});
  CHECK(first["offset"] == 0);
  CHECK(first["timestamp_ms"].get<int64_t>() > 1'600'000'000'000);
  const json last = json::parse(lines[2]);
  CHECK(last["value_base64"] == "/wE=");
  CHECK(last["key"].is_null());
  CHECK(last["offset"] == 2);
}

TEST_CASE("partitions and log, while the broker runs and after it was killed") {
  Fixture fixture;
  fixture.output({"topic", "create", "t", "--partitions", "2"});
  fixture.output({"produce", "t", "--partition", "1"}, random_lines(3, 5'000, 100));
  const json described = json::parse(fixture.output({"partition", "describe", "t", "-o", "json"}));
  REQUIRE(described["partitions"].size() == 2);
  CHECK(described["partitions"][0]["end_offset"] == 0);
  CHECK(described["partitions"][1]["end_offset"] == 5'000);
  CHECK(described["partitions"][1]["bytes"].get<uint64_t>() > 200'000);
  CHECK(json::parse(fixture.output(
            {"partition", "describe", "t", "--partition", "1", "-o", "json"}))["partitions"]
            .size() == 1);
  CHECK(fixture.run({"partition", "describe", "t", "--partition", "2"}).exit_code == 3);

  const std::string data = fixture.daemon().data_dir();
  CHECK(fixture.run({"log", "verify", data}).exit_code == 0);
  fixture.daemon().kill();
  const json verified = json::parse(fixture.output({"log", "verify", data, "-o", "json"}));
  CHECK(verified["damaged"] == false);
  CHECK(verified["logs"].size() == 2);
  uint64_t messages = 0;
  for (const json& log : verified["logs"]) {
    messages += log["messages"].get<uint64_t>();
  }
  CHECK(messages == 5'000);
  const json stats = json::parse(fixture.output({"log", "dump", data, "--stats", "-o", "json"}));
  CHECK(stats["messages"] == 5'000);
  CHECK(stats["damaged_places"] == 0);
  const std::vector<std::string> entries =
      lines_of(fixture.output({"log", "dump", data, "-n", "3", "-o", "json"}));
  REQUIRE(entries.size() == 3);
  CHECK(json::parse(entries[0]).contains("position"));
  CHECK(fixture.run({"log", "verify", fixture.directory() / "nowhere"}).exit_code == 3);
}

// Turns over one bit in the middle of the batch that holds `marker`; gives the file and the place.
std::pair<std::string, uint64_t> flip_bit_at(const std::string& data_dir,
                                             const std::string& marker) {
  for (const auto& file : std::filesystem::recursive_directory_iterator(data_dir)) {
    if (file.path().extension() != ".seg") {
      continue;
    }
    std::ifstream in(file.path(), std::ios::binary);
    std::string bytes((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
    const size_t at = bytes.find(marker);
    if (at != std::string::npos) {
      bytes[at] = static_cast<char>(bytes[at] ^ 1);
      write_file(file.path(), bytes);
      return {file.path().filename(), at};
    }
  }
  return {};
}

TEST_CASE("a flipped bit is found, named, and what lies behind it is still read") {
  Fixture fixture;
  fixture.output({"topic", "create", "t"});
  fixture.output({"produce", "t"}, "first message\n");
  fixture.output({"produce", "t"}, "second message\n");
  fixture.output({"produce", "t"}, "third message\n");
  fixture.daemon().kill();
  const auto [file, offset] = flip_bit_at(fixture.daemon().data_dir(), "second message");
  REQUIRE_FALSE(file.empty());

  const CommandResult text = fixture.run({"log", "verify", fixture.daemon().data_dir()});
  CHECK(text.exit_code == 1);
  CHECK(text.output.find("damage") != std::string::npos);
  CHECK(text.output.find(file) != std::string::npos);
  const CommandResult result =
      fixture.run({"log", "verify", fixture.daemon().data_dir(), "-o", "json"});
  CHECK(result.exit_code == 1);
  const json report = json::parse(result.output);
  CHECK(report["damaged"] == true);
  json damage;
  for (const json& log : report["logs"]) {
    for (const json& finding : log["findings"]) {
      if (finding["kind"] == "damage") {
        damage = finding;
      }
    }
  }
  REQUIRE(damage.is_object());
  CHECK(damage["file"] == file);
  // The place named is the entry that holds the byte.
  CHECK(damage["offset"].get<uint64_t>() < offset);
  CHECK(offset - damage["offset"].get<uint64_t>() < 400);
  const CommandResult dump =
      fixture.run({"log", "dump", fixture.daemon().data_dir(), "--stats", "-o", "json"});
  CHECK(dump.exit_code == 1);
  CHECK(json::parse(dump.output)["messages"] == 2);
}

TEST_CASE("bench prints the documented fields") {
  Fixture fixture;
  const json produced = json::parse(
      fixture.output({"bench", "produce", "b", "--size", "100", "--count", "20000", "--partitions",
                      "2", "--baseline-seconds", "0.05", "--baseline-dir",
                      fixture.directory().path(), "-o", "json", "-q"}));
  CHECK(produced["messages"] == 20'000);
  CHECK(produced["size"] == 100);
  CHECK(produced["fsync"] == "batch");
  for (const char* field :
       {"seconds", "messages_per_s", "mb_per_s", "baseline_mb_per_s", "baseline_ratio"}) {
    CAPTURE(field);
    CHECK(produced[field].get<double>() > 0);
  }
  const json& latency = produced["latency_ms"];
  CHECK(latency["p50"].get<double>() > 0);
  CHECK(latency["p50"] <= latency["p90"]);
  CHECK(latency["p90"] <= latency["p99"]);
  CHECK(latency["p99"] <= latency["p999"]);
  CHECK(latency["p999"] <= latency["p9999"]);
  CHECK(latency["p9999"] <= latency["max"]);

  const json consumed =
      json::parse(fixture.output({"bench", "consume", "b", "--repeat", "3", "-o", "json"}));
  CHECK(consumed["messages"] == 60'000);
  CHECK(consumed["size"] == 100);
  CHECK(consumed["mb_per_s"].get<double>() > 0);

  // The baseline takes its turns between pieces of the run, and its size per sync from the broker.
  const std::string table = fixture.output(
      {"bench", "produce", "b", "--size", "100", "--seconds", "0.2", "--baseline-seconds", "0.05",
       "--baseline-dir", fixture.directory().path(), "--metrics",
       "127.0.0.1:" + std::to_string(fixture.daemon().http_port()), "-q"});
  CHECK_MESSAGE(table.find("MB/s raw write+fdatasync (") != std::string::npos, table);
  CHECK_MESSAGE(table.find("(1.0 MiB per sync)") == std::string::npos, table);

  const json e2e =
      json::parse(fixture.output({"bench", "e2e", "e", "--size", "64", "--count", "2000", "--rate",
                                  "4000", "--no-baseline", "-o", "json"}));
  CHECK(e2e["messages"] == 2'000);
  CHECK(e2e["lost"] == 0);
  CHECK(e2e["duplicates"] == 0);
  CHECK(e2e["baseline_ratio"].is_null());
  // 2,000 messages at 4,000/s take half a second: the pace is kept.
  CHECK(e2e["seconds"].get<double>() > 0.49);
}

}  // namespace
}  // namespace tidemark
