#include "timerwheel/packed_chunk.h"

#include <algorithm>
#include <limits>
#include <set>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "tests/support/split_mix.h"

namespace tidemark::timerwheel {
namespace {

constexpr uint64_t kMax = std::numeric_limits<uint64_t>::max();

std::vector<Entry> round_trip(const std::vector<Entry>& entries) {
  std::vector<Entry> out;
  REQUIRE(unpack_chunk(pack_chunk(entries), out) == std::nullopt);
  return out;
}

std::string with_checksum(std::string chunk) {
  const uint64_t checksum = chunk_checksum(chunk);
  for (size_t i = 0; i < 8; ++i) {
    chunk[kChunkChecksumAt + i] = static_cast<char>(static_cast<uint8_t>(checksum >> (8 * i)));
  }
  return chunk;
}

// A chunk with the given bytes for its entries, and a right checksum.
std::string chunk_of(uint8_t count, const std::string& entries, uint64_t first_due = 1) {
  std::string chunk(kChunkHeaderBytes, '\0');
  chunk[0] = static_cast<char>(kChunkVersion);
  chunk[kChunkCountAt] = static_cast<char>(count);
  for (size_t i = 0; i < 8; ++i) {
    chunk[kChunkFirstDueAt + i] = static_cast<char>(static_cast<uint8_t>(first_due >> (8 * i)));
  }
  return with_checksum(chunk + entries);
}

bool is_refused(const std::string& chunk) {
  std::vector<Entry> out{{1, 2, 3, 4}};
  const bool refused = unpack_chunk(chunk, out).has_value();
  REQUIRE((!refused || out == std::vector<Entry>{{1, 2, 3, 4}}));
  return refused;
}

std::vector<Entry> random_entries(SplitMix& random, size_t count) {
  std::set<Key> keys;
  const auto some = [&] { return random.next() >> random.below(64); };
  const Tick base = some();
  const uint64_t span = 1 + some() / 2;
  while (keys.size() < count) {
    keys.insert({random.chance(1, 9) ? some() : base + random.below(span), some()});
  }
  std::vector<Entry> entries;
  uint64_t tag = some();
  for (const Key& key : keys) {
    tag = random.chance(1, 3) ? some() : random.chance(1, 2) ? tag ^ (some() >> 32) : tag;
    entries.push_back({key.due, key.id, random.chance(1, 2) ? key.id : some(), tag});
  }
  return entries;
}

}  // namespace

TEST_CASE("packed chunk: the bytes of version 1") {
  const std::vector<Entry> entries = {{1'700'000'000'000, 5, 5, 0x0000'0007'0000'0003},
                                      {1'700'000'000'000, 6, 6, 0x0000'0007'0000'0003},
                                      {1'700'000'000'300, 4, 9, 0x0000'0007'0000'0001},
                                      {1'700'000'000'301, 4, 8, 0x0000'0006'0000'0080}};
  const std::string chunk = pack_chunk(entries);
  const auto bytes = [](std::initializer_list<int> list) {
    std::string text;
    std::for_each(list.begin(), list.end(), [&](int b) { text.push_back(static_cast<char>(b)); });
    return text;
  };
  CHECK(chunk.substr(0, 8) == bytes({1, 0, 0, 0, 4, 0, 0, 0}));
  CHECK(chunk.substr(8, 8) == bytes({0x98, 0x0d, 0x6b, 0xf9, 0x83, 0x38, 0x49, 0x75}));
  CHECK(chunk.substr(16, 8) == bytes({0x00, 0x68, 0xe5, 0xcf, 0x8b, 0x01, 0, 0}));
  CHECK(chunk.substr(24) == bytes({2, 10, 0, 7, 3,        //
                                   0, 2, 0,               //
                                   0xb1, 0x09, 3, 10, 2,  //
                                   6, 0, 1, 1, 0x80, 0x01}));
  CHECK(round_trip(entries) == entries);
}

TEST_CASE("packed chunk: the ends of the range") {
  const std::vector<Entry> entries = {{0, 0, 0, 0},
                                      {0, kMax, kMax, kMax},
                                      {kMax, 0, kMax, 0},
                                      {kMax, 1, 0, kMax},
                                      {kMax, kMax, 1, 1}};
  CHECK(round_trip(entries) == entries);
  for (const Entry& entry : entries) {
    CHECK(round_trip({entry}) == std::vector<Entry>{entry});
  }
}

TEST_CASE("packed chunk: random round trips; the encoding of what was decoded is the same") {
  for (uint64_t seed = 1; seed <= 2'000; ++seed) {
    CAPTURE(seed);
    SplitMix random(seed);
    const std::vector<Entry> entries = random_entries(random, 1 + random.below(100));
    const std::string chunk = pack_chunk(entries);
    std::vector<Entry> out;
    REQUIRE(unpack_chunk(chunk, out) == std::nullopt);
    REQUIRE(out == entries);
    REQUIRE(pack_chunk(out) == chunk);
  }
}

TEST_CASE("packed chunk: every truncation and every flipped bit is refused") {
  SplitMix random(3);
  const std::string chunk = pack_chunk(random_entries(random, 60));
  for (size_t size = 0; size < chunk.size(); ++size) {
    REQUIRE(is_refused(chunk.substr(0, size)));
  }
  CHECK(is_refused(chunk + '\0'));
  for (size_t bit = 0; bit < 8 * chunk.size(); ++bit) {
    std::string damaged = chunk;
    damaged[bit / 8] = static_cast<char>(damaged[bit / 8] ^ (1 << (bit % 8)));
    REQUIRE(is_refused(damaged));
  }
}

TEST_CASE("packed chunk: under a right checksum, damage is refused or is another valid chunk") {
  size_t accepted = 0;
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    CAPTURE(seed);
    SplitMix random(seed);
    const std::string chunk = pack_chunk(random_entries(random, 1 + random.below(40)));
    for (size_t size = kChunkHeaderBytes; size < chunk.size(); ++size) {
      REQUIRE(is_refused(with_checksum(chunk.substr(0, size))));
    }
    for (size_t bit = 0; bit < 8 * chunk.size(); ++bit) {
      std::string damaged = chunk;
      damaged[bit / 8] = static_cast<char>(damaged[bit / 8] ^ (1 << (bit % 8)));
      damaged = with_checksum(damaged);
      std::vector<Entry> out;
      if (!unpack_chunk(damaged, out)) {
        ++accepted;
        REQUIRE(pack_chunk(out) == damaged);
      }
    }
  }
  CHECK(accepted > 0);
}

TEST_CASE("packed chunk: what the decoder refuses") {
  const std::string good("\0\2\0", 3);
  CHECK_FALSE(is_refused(chunk_of(1, good)));
  CHECK_FALSE(is_refused(chunk_of(2, good + good)));
  CHECK(is_refused(chunk_of(0, "")));
  CHECK(is_refused(chunk_of(2, good)));
  CHECK(is_refused(chunk_of(1, good + good)));
  // The first difference is not 0; the key does not ascend; the due passes the end.
  CHECK(is_refused(chunk_of(1, std::string("\4\2\0", 3))));
  CHECK(is_refused(chunk_of(2, good + std::string("\0\0\0", 3))));
  CHECK(is_refused(chunk_of(2, good + std::string("\4\2\0", 3), kMax)));
  CHECK_FALSE(is_refused(chunk_of(2, good + std::string("\4\2\0", 3), kMax - 1)));
  // Not the shortest form; above 64 bits; tags that change nothing or too much; mode 3.
  CHECK(is_refused(chunk_of(1, std::string("\0\x82\0\0", 4))));
  CHECK(is_refused(chunk_of(2, good + std::string("\x80\0\2\0", 4))));
  CHECK(is_refused(chunk_of(1, std::string(1, '\0') + std::string(9, '\xff') + "\2" + '\0')));
  CHECK_FALSE(is_refused(chunk_of(1, std::string(1, '\0') + std::string(9, '\xff') + "\1" + '\0')));
  CHECK(is_refused(chunk_of(1, std::string("\1\2\0\0", 4))));
  CHECK(is_refused(chunk_of(1, std::string("\1\2\0\x80\x80\x80\x80\x10", 8))));
  CHECK(is_refused(chunk_of(1, std::string("\2\2\0\0\1", 5))));
  CHECK(is_refused(chunk_of(1, std::string("\3\2\0", 3))));
  std::string version = chunk_of(1, good);
  version[0] = 2;
  CHECK(is_refused(with_checksum(version)));
  version[0] = 1;
  version[3] = 1;
  CHECK(is_refused(with_checksum(version)));
}

TEST_CASE("packed chunk: bytes per entry in the shapes that occur") {
  SplitMix random(9);
  // A thousand entries of a slot of 65 s: ids and positions from anywhere in 10 million.
  std::vector<Entry> entries;
  for (int i = 0; i < 1024; ++i) {
    const uint64_t id = random.below(10'000'000);
    entries.push_back({random.below(65'536), id, id, uint64_t{7} << 32 | random.below(16)});
  }
  std::sort(entries.begin(), entries.end(),
            [](const Entry& a, const Entry& b) { return a.key() < b.key(); });
  const auto bytes_each = [&] { return pack_chunk(entries).size() / entries.size(); };
  CHECK(bytes_each() <= 9);
  for (Entry& entry : entries) {
    entry.position = random.below(10'000'000'000);
  }
  CHECK(bytes_each() <= 13);
  for (size_t i = 0; i < entries.size(); ++i) {
    entries[i] = {1'000, i, i, 7};
  }
  CHECK(bytes_each() <= 3);
}

}  // namespace tidemark::timerwheel
