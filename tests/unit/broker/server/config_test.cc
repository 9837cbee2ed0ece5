#include "broker/config.h"

#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "log/base/posix_file_system.h"
#include "tests/support/temp_directory.h"

namespace tidemark::broker {
namespace {

Status apply_text(Config& config, std::string_view toml) {
  return apply_config_text(config, toml, "test.toml");
}

bool mentions(const Status& status, std::string_view text) {
  return status.context().find(text) != std::string_view::npos;
}

TEST_CASE("a document sets what it names and leaves the rest") {
  Config config;
  const Status status = apply_text(config, R"(
    data-dir = "/var/lib/tidemark"
    listen = "[::1]:7000"
    shards = 8
    segment-bytes = "64MiB"
    write-buffer-bytes = 33554432
    checkpoint-interval = "5m"
    retention-interval = "2s"
    txn-max-pending-age = "90m"
    txn-outcome-age = "1s"
    fsync = "interval:100"
    log-level = "debug"
    http-listen = ""
  )");
  REQUIRE_MESSAGE(status.ok(), status.to_string());
  CHECK(config.data_dir == "/var/lib/tidemark");
  CHECK(config.listen == "[::1]:7000");
  CHECK(config.shards == 8);
  CHECK(config.segment_bytes == 64 * limits::kMiB);
  CHECK(config.write_buffer_bytes == 32 * limits::kMiB);
  CHECK(config.checkpoint_interval_ms == 300'000);
  CHECK(config.retention_interval_ms == 2'000);
  CHECK(config.txn_pending_age_ms == 5'400'000);
  CHECK(config.txn_outcome_age_ms == 1'000);
  CHECK(config.fsync.to_string() == "interval:100");
  CHECK(config.log_level == LogLevel::kDebug);
  CHECK(config.http_listen.empty());
  CHECK(config.tail_cache_bytes == kTailCacheBytesDefault);
}

TEST_CASE("what is printed sets the same configuration") {
  Config config;
  REQUIRE(apply_text(config,
                     "data-dir = \"a \\\"b\\\\c\\t\\u0007\"\nsegment-bytes = 5242881\nloops = 3")
              .ok());
  Config again;
  const Status status = apply_text(again, to_toml(config));
  REQUIRE_MESSAGE(status.ok(), status.to_string());
  for (const ConfigKey& key : config_keys()) {
    CAPTURE(key.name);
    CHECK(key.get(again) == key.get(config));
  }
  CHECK(again.data_dir == "a \"b\\c\t\a");
}

TEST_CASE("every default passes its own check") {
  Config config;
  for (const ConfigKey& key : config_keys()) {
    CAPTURE(key.name);
    const Status status = key.set(config, key.get(Config()));
    CHECK_MESSAGE(status.ok(), status.to_string());
    CHECK_FALSE(key.help.empty());
    CHECK_FALSE(key.value.empty());
  }
}

TEST_CASE("errors name file, line, key, value and what is allowed") {
  const struct {
    std::string toml;
    std::vector<std::string> named;
  } cases[] = {
      {"\nsegment-bytes = \"1MiB\"", {"test.toml:2", "segment-bytes", "'1MiB'", "4MiB to 2GiB"}},
      {"segment-bytes = \"lots\"", {"segment-bytes", "'lots'", "64MiB"}},
      {"segment-byte = 1", {"unknown key 'segment-byte'", "did you mean 'segment-bytes'?"}},
      {"xyzzy = 1", {"unknown key 'xyzzy'"}},
      {"[listen]\nhost = 1", {"listen", "must be a string or a whole number"}},
      {"[zzz]\nhost = 1", {"unknown key 'zzz'"}},
      {"shards = 257", {"shards", "1 to 256"}},
      {"shards = -1", {"shards", "1 to 256"}},
      {"shards = 1.5", {"shards", "must be a string or a whole number"}},
      {"listen = \"9470\"", {"listen", "HOST:PORT"}},
      {"listen = \"\"", {"listen", "HOST:PORT"}},
      {"fsync = \"sometimes\"", {"fsync"}},
      {"log-level = \"loud\"", {"log-level", "debug, info, warning, error"}},
      {"checkpoint-interval = \"10ms\"", {"checkpoint-interval", "1s to 24h"}},
      {"retention-interval = \"10ms\"", {"retention-interval", "100ms to 1h"}},
      {"txn-max-pending-age = \"10ms\"", {"txn-max-pending-age", "1s to 2160h"}},
      {"txn-outcome-age = \"1000000h\"", {"txn-outcome-age", "1s to 2160h"}},
      {"data-dir = \"\"", {"data-dir"}},
      {"listen = ", {"test.toml:1"}},
      {"[::1]:9470", {"test.toml", "no TOML document"}},
      {"data-dir = 0\xD0\xA3", {"test.toml:1"}},
      {"listen = \"a:1\"\nlisten = \"b:1\"", {"test.toml:2"}},
      {"write-buffer-bytes = 99999999999999999999", {"test.toml:1"}},
      {"tail-cache-bytes = \"99999999999GiB\"", {"tail-cache-bytes"}},
  };

  for (const auto& one : cases) {
    CAPTURE(one.toml);
    Config config;
    const Status status = apply_text(config, one.toml);
    REQUIRE(status.code() == ErrorCode::kInvalidArgument);
    for (const std::string& text : one.named) {
      CHECK_MESSAGE(mentions(status, text), status.context());
    }
  }
}

TEST_CASE("a key that fails leaves its field as it was") {
  Config config;
  CHECK_FALSE(set_config_key(config, "fsync", "no", "flag").ok());
  CHECK_FALSE(set_config_key(config, "segment-bytes", "0", "flag").ok());
  CHECK_FALSE(set_config_key(config, "listen", "x", "flag").ok());
  CHECK(config.fsync.to_string() == "batch");
  CHECK(config.segment_bytes == limits::kSegmentBytesDefault);
  CHECK(config.listen == Config().listen);
}

TEST_CASE("sizes and times") {
  CHECK(*parse_bytes("0") == 0);
  CHECK(*parse_bytes("1KiB") == 1024);
  CHECK(*parse_bytes("3GiB") == 3ull << 30);
  for (const std::string_view text : {"", "KiB", "1 KiB", "1kb", "-1", "1.5MiB", "0x10",
                                      "99999999999999999999", "17179869184GiB"}) {
    CAPTURE(text);
    CHECK_FALSE(parse_bytes(text).ok());
  }
  for (const uint64_t bytes :
       {uint64_t{0}, uint64_t{1}, uint64_t{1023}, uint64_t{1024}, uint64_t{1} << 40, UINT64_MAX}) {
    CHECK(*parse_bytes(format_bytes(bytes)) == bytes);
  }
  CHECK(*parse_milliseconds("2h") == 7'200'000);
  CHECK(*parse_milliseconds("15ms") == 15);
  CHECK_FALSE(parse_milliseconds("15").ok());
  CHECK(format_milliseconds(90'000) == "90s");
}

TEST_CASE("suggestions are near or absent") {
  const std::vector<std::string> known = {"listen", "loops", "shards"};
  CHECK(suggestion("lissten", known) == "did you mean 'listen'?");
  CHECK(suggestion("shard", known) == "did you mean 'shards'?");
  CHECK(suggestion("zzzzzzzz", known).empty());
  CHECK(suggestion("", known).empty());
  CHECK(suggestion(std::string(100'000, 'x'), known).empty());
}

TEST_CASE("a file is read with its name in the errors, a huge or missing one is refused") {
  testing::TempDirectory directory;
  PosixFileSystem fs;
  Config config;
  CHECK(apply_config_file(config, fs, directory / "none.toml").code() == ErrorCode::kNotFound);
  const auto write = [&](const std::string& name, const std::string& text) {
    auto file = fs.open(directory / name, OpenMode::kCreateNew);
    REQUIRE(file.ok());
    const ByteView part = as_bytes(text);
    REQUIRE((*file)->write(0, {&part, 1}).ok());
    return directory / name;
  };
  CHECK(apply_config_file(config, fs, write("good.toml", "loops = 2\n")).ok());
  CHECK(config.loops == 2);
  const Status bad = apply_config_file(config, fs, write("bad.toml", "loops = 2\nloop = 3\n"));
  CHECK(mentions(bad, "bad.toml:2"));
  CHECK(apply_config_file(config, fs, write("huge.toml", std::string(kConfigFileBytesMax + 1, '#')))
            .code() == ErrorCode::kTooLarge);
}

}  // namespace
}  // namespace tidemark::broker
