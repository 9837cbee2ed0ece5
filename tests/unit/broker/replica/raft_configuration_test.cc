#include "broker/replica/raft_configuration.h"

#include <algorithm>

#include <doctest/doctest.h>

namespace tidemark::replica {
namespace {

std::vector<Server> three_servers() {
  return {{{NodeId(1), "10.0.0.1:9470"}, ServerRole::kVoter},
          {{NodeId(70'000), "b:1"}, ServerRole::kStandby},
          {{NodeId(UINT64_MAX), ""}, ServerRole::kSpare}};
}

std::vector<uint8_t> encoded(const std::vector<Server>& servers) {
  RaftConfiguration configuration;
  REQUIRE(fill_configuration(servers, configuration).ok());
  return encode_configuration(*configuration.get());
}

TEST_CASE("a configuration is read back as it was written by libraft") {
  const auto decoded = decode_configuration(encoded(three_servers()));
  REQUIRE(decoded.ok());
  REQUIRE(decoded->size() == 3);
  const std::vector<Server> expected = three_servers();
  for (size_t i = 0; i < expected.size(); ++i) {
    CHECK((*decoded)[i].member.id == expected[i].member.id);
    CHECK((*decoded)[i].member.address == expected[i].member.address);
    CHECK((*decoded)[i].role == expected[i].role);
  }
}

TEST_CASE("the same configuration is always the same bytes") {
  std::vector<Server> servers = three_servers();
  for (int length = 0; length < 8; ++length) {
    servers[1].member.address.push_back('x');
    const std::vector<uint8_t> bytes = encoded(servers);
    CHECK(bytes.size() % 8 == 0);
    std::vector<uint8_t> dirty = bytes;
    size_t used = 9;
    for (const Server& server : servers) {
      used += 8 + server.member.address.size() + 1 + 1;
    }
    std::fill(dirty.begin() + static_cast<ptrdiff_t>(used), dirty.end(), uint8_t{0xEE});
    clear_configuration_padding(dirty);
    CHECK(dirty == bytes);
    CHECK(std::all_of(bytes.begin() + static_cast<ptrdiff_t>(used), bytes.end(),
                      [](uint8_t byte) { return byte == 0; }));
  }
  std::vector<uint8_t> no_configuration = {9, 8, 7};
  clear_configuration_padding(no_configuration);
  CHECK(no_configuration == std::vector<uint8_t>{9, 8, 7});
}

TEST_CASE("bytes that are cut or changed are corrupted, never more") {
  const std::vector<uint8_t> good = encoded(three_servers());
  size_t refused = 0;
  for (size_t size = 0; size + 8 < good.size(); ++size) {
    CHECK(decode_configuration(ByteView(good).first(size)).status().code() ==
          ErrorCode::kCorrupted);
  }
  for (size_t at = 0; at < good.size(); ++at) {
    std::vector<uint8_t> bad = good;
    bad[at] ^= 0xFF;
    const auto decoded = decode_configuration(bad);
    if (!decoded.ok()) {
      CHECK(decoded.status().code() == ErrorCode::kCorrupted);
      ++refused;
    }
  }
  CHECK(refused > 9);  // at least the version and the count
}

TEST_CASE("servers that cannot be members are refused by name") {
  RaftConfiguration same_id;
  const Status twice = fill_configuration(
      {{{NodeId(1), "a:1"}, ServerRole::kVoter}, {{NodeId(1), "b:1"}, ServerRole::kVoter}},
      same_id);
  CHECK(twice.code() == ErrorCode::kInvalidArgument);
  CHECK(twice.to_string().find("member 1 at \"b:1\"") != std::string::npos);
}

}  // namespace
}  // namespace tidemark::replica
