#include "broker/data_directory.h"

#include <cerrno>
#include <memory>
#include <set>
#include <string>

#include <doctest/doctest.h>

#include "log/base/posix_file_system.h"
#include "tests/support/sim_file_system.h"
#include "tests/support/temp_directory.h"

namespace tidemark::broker {
namespace {

struct Fixture {
  testing::TempDirectory temp;
  PosixFileSystem fs;
  Random random{7};
  std::string path = temp / "data";

  Result<std::unique_ptr<DataDirectory>> open(uint16_t shards, uint16_t usual = 4) {
    return DataDirectory::open(fs, random, path, shards, usual);
  }

  void write(const std::string& name, const std::string& text) {
    if (*fs.exists(path + "/" + name)) {
      REQUIRE(fs.remove(path + "/" + name).ok());
    }
    auto file = fs.open(path + "/" + name, OpenMode::kCreateNew);
    REQUIRE(file.ok());
    const ByteView part = as_bytes(text);
    REQUIRE((*file)->write(0, {&part, 1}).ok());
  }
};

TEST_CASE("an identity is made once and stays") {
  Fixture fixture;
  Identity first;
  {
    auto directory = fixture.open(0);
    REQUIRE_MESSAGE(directory.ok(), directory.status().to_string());
    first = (*directory)->identity();
    CHECK(first.cluster_id != 0);
    CHECK(first.shards == 4);
    CHECK(first.node == NodeId{1});
    auto log = (*directory)->log_directory(ShardId{2});
    REQUIRE(log.ok());
    CHECK(*log == fixture.path + "/shard-2/log");
    CHECK(*fixture.fs.exists(*log));
    CHECK(*fixture.fs.exists(*(*directory)->views_directory(ShardId{2})));
  }
  // Another default does not matter, the same number does not hurt.
  for (const uint16_t shards : {uint16_t{0}, uint16_t{4}}) {
    auto again = fixture.open(shards, 9);
    REQUIRE_MESSAGE(again.ok(), again.status().to_string());
    CHECK((*again)->identity() == first);
  }
}

TEST_CASE("another number of shards is refused by name") {
  Fixture fixture;
  REQUIRE(fixture.open(2).ok());
  auto other = fixture.open(3);
  REQUIRE_FALSE(other.ok());
  CHECK(other.error().code() == ErrorCode::kConflict);
  CHECK(other.error().context().find("was created with 2") != std::string_view::npos);
}

TEST_CASE("a second owner is refused while the first lives") {
  Fixture fixture;
  auto first = fixture.open(1);
  REQUIRE(first.ok());
  auto second = fixture.open(1);
  REQUIRE_FALSE(second.ok());
  CHECK(second.error().code() == ErrorCode::kLocked);
  *first = nullptr;
  CHECK(fixture.open(1).ok());
}

TEST_CASE("what a crash left of a first start is no obstacle") {
  Fixture fixture;
  REQUIRE(fixture.fs.create_directories(fixture.path).ok());
  fixture.write("cluster.toml.new", "form");
  CHECK(fixture.open(3).ok());
}

TEST_CASE("shards without an identity are not taken over") {
  Fixture fixture;
  {
    auto directory = fixture.open(1);
    REQUIRE(directory.ok());
    REQUIRE((*directory)->log_directory(ShardId{0}).ok());
  }
  REQUIRE(fixture.fs.remove(fixture.path + "/cluster.toml").ok());
  auto orphan = fixture.open(1);
  REQUIRE_FALSE(orphan.ok());
  CHECK(orphan.error().code() == ErrorCode::kCorrupted);
  CHECK(orphan.error().context().find("cluster.toml is missing") != std::string_view::npos);
}

// Opens it while the `k`-th call fails, then twice on a good disk, with a power failure at the
// latest before the second time. False: there is no such call.
bool open_with_failure(uint64_t seed, uint64_t k, int error, bool sticky, bool power) {
  SimFileSystem fs(seed);
  Random random{7};
  fs.fail_any_at(
      {SimCall::kOpen, SimCall::kRead, SimCall::kWrite, SimCall::kSync, SimCall::kRename,
       SimCall::kRemove, SimCall::kSyncDirectory, SimCall::kList, SimCall::kExists, SimCall::kSize},
      k, error, sticky);
  Identity identity;
  {
    const auto first = DataDirectory::open(fs, random, "data", 0, 4);
    if (first.ok()) {
      identity = (*first)->identity();
    } else {
      CHECK(first.status().to_string().find("injected") != std::string::npos);
    }
    CHECK(first.ok() == (fs.failures() == 0));
    CHECK(fs.syncs_repeated() == 0);
  }
  const bool failed = fs.failures() > 0;
  fs.heal();
  if (power) {
    fs.crash();
  }
  {
    const auto second = DataDirectory::open(fs, random, "data", 0, 4);
    REQUIRE_MESSAGE(second.ok(), second.status().to_string());
    CHECK((failed || (*second)->identity() == identity));
    identity = (*second)->identity();
    REQUIRE((*second)->log_directory(ShardId{0}).ok());
  }
  fs.crash();
  const auto third = DataDirectory::open(fs, random, "data", 0, 4);
  REQUIRE_MESSAGE(third.ok(), third.status().to_string());
  CHECK((*third)->identity() == identity);
  return failed;
}

TEST_CASE("whichever call of a first start fails, the next start works and its identity stays") {
  for (const int error : {EIO, ENOSPC}) {
    for (const bool sticky : {false, true}) {
      for (const bool power : {false, true}) {
        CAPTURE(error);
        CAPTURE(sticky);
        CAPTURE(power);
        // The seed decides what a power failure leaves.
        for (uint64_t seed = 1; seed <= 10; ++seed) {
          CAPTURE(seed);
          uint64_t k = 1;
          while (open_with_failure(seed, k, error, sticky, power)) {
            ++k;
          }
          CHECK(k - 1 == 8);
        }
      }
    }
  }
}

TEST_CASE("text and identity are the same thing") {
  for (const Identity& identity :
       {Identity{1, NodeId{1}, 1}, Identity{UINT64_MAX, NodeId{77}, 256}}) {
    const auto parsed = identity_from_text(identity_to_text(identity), "x");
    REQUIRE(parsed.ok());
    CHECK(*parsed == identity);
  }
}

TEST_CASE("a damaged identity is named with its line") {
  const Identity identity{5, NodeId{1}, 4};
  const std::string good = identity_to_text(identity);
  const auto replaced = [&good](const std::string& from, const std::string& to) {
    std::string text = good;
    text.replace(text.find(from), from.size(), to);
    return text;
  };

  const struct {
    std::string text;
    ErrorCode code;
    std::string named;
  } cases[] = {
      {"", ErrorCode::kCorrupted, "needs format"},
      {replaced("shards = 4", "shards = 4x"), ErrorCode::kCorrupted, "p:5: bad value of 'shards'"},
      {replaced("shards = 4", "shards = 257"), ErrorCode::kCorrupted, "1 to 256"},
      {replaced("shards = 4", "shards = \"4\""), ErrorCode::kCorrupted, "bad value of 'shards'"},
      {replaced("shards = 4", ""), ErrorCode::kCorrupted, "needs format"},
      {replaced("\"0000000000000005\"", "5"), ErrorCode::kCorrupted, "bad value of 'cluster-id'"},
      {replaced("0000000000000005", "0000000000000000"), ErrorCode::kCorrupted, "needs format"},
      {replaced("format = 1", "format = 2"), ErrorCode::kUnsupportedVersion, "data format 2"},
  };

  for (const auto& one : cases) {
    CAPTURE(one.text);
    const auto parsed = identity_from_text(one.text, "p");
    REQUIRE_FALSE(parsed.ok());
    CHECK(parsed.error().code() == one.code);
    CHECK_MESSAGE(parsed.error().context().find(one.named) != std::string_view::npos,
                  parsed.error().context());
  }
  // A later version of this broker may write more keys of the same format.
  CHECK(identity_from_text(good + "later = \"x\"\n", "p").ok());
}

}  // namespace
}  // namespace tidemark::broker
