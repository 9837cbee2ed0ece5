// A checkpoint store from a damaged disk: the values as they are, and sealed by their keys, so that
// what is behind the seals is reached as well. Loading says that it is damaged, or gives views that
// can be looked at and stored again; the same store gives the same views.
//
// The input: pairs of a key (its size in a byte in front) and a value (its size in two bytes in
// front) without its seal.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "broker/delay/kv_slot_store.h"
#include "broker/kv/memory_store.h"
#include "broker/partition/chunk_reader.h"
#include "broker/partition/stored_value.h"
#include "broker/shard/views.h"
#include "log/base/check.h"
#include "log/base/checksum.h"
#include "tests/fuzz/input.h"

namespace tidemark::shard {
namespace {

constexpr size_t kPairsMax = 64;

using Pairs = std::map<std::string, std::string>;

Pairs read_pairs(ByteView bytes) {
  testing::FuzzInput input(bytes);
  Pairs pairs;
  for (size_t i = 0; i < kPairsMax && !input.done(); ++i) {
    const auto key_bytes = input.number<uint8_t>();
    const std::string key(as_text(input.bytes(key_bytes)));
    pairs[key] = as_text(input.sized());
  }
  pairs.erase("");
  return pairs;
}

std::string with_hash(std::string_view body, uint64_t seed) {
  std::vector<uint8_t> out(body.begin(), body.end());
  ByteWriter(out).le(xxh3(as_bytes(body), seed));
  return std::string(as_text(out));
}

std::string sealed(std::string_view key, std::string_view body) {
  switch (key.front()) {
    case 'M':
    case 'T':
    case 'P':
    case 'I':
    case 'J':
      return with_hash(body, 0);
    case 'S':
      return with_hash(body,
                       key.size() == 9 ? load_be<uint64_t>(as_bytes(key).data() + 1) : uint64_t{0});
    case 'D':
    case 'N':
    case 'Y':
    case 'B':
    case 'X':
    case 'W':
      return std::string(body);
    default: {
      std::vector<uint8_t> out(body.begin(), body.end());
      return partition::seal_value(out, key);
    }
  }
}

void look_around(const Views& views, kv::ReadView& store) {
  static_cast<void>(views.low_position());
  for (const auto& [id, partition] : views.partitions()) {
    const auto refs = partition::find_stored(store, id, partition.start(), 1 << 20);
    if (!refs.ok()) {
      TIDEMARK_CHECK(refs.error().code() == ErrorCode::kCorrupted, refs.error().to_string());
    }
  }
}

void try_store(const Pairs& pairs) {
  kv::MemoryStore store;
  kv::WriteBatch batch;
  for (const auto& [key, value] : pairs) {
    batch.put(key, value);
  }
  TIDEMARK_CHECK(store.commit(batch).ok());
  const auto reader = std::move(store.read()).value();
  Views views(ShardId{0});
  const Status status = views.load(*reader);
  if (!status.ok()) {
    TIDEMARK_CHECK(status.code() == ErrorCode::kCorrupted, status.to_string());
    return;
  }
  look_around(views, *reader);
  const uint64_t hash = views.hash();
  Views again(ShardId{0});
  TIDEMARK_CHECK(again.load(*reader).ok() && again.hash() == hash, "the same store again");
  // Nothing has changed: what a checkpoint writes now is what is there.
  Views::Delta delta = views.freeze();
  delay::KvSlotStore slots(*reader, &delta.batch);
  if (delta.spill.write(slots)) {
    return;  // the slots are damaged
  }
  TIDEMARK_CHECK(store.commit(delta.batch).ok());
  views.commit_done(delta, LogPosition{0});
  TIDEMARK_CHECK(views.hash() == hash, "a checkpoint changes nothing");
  Views third(ShardId{0});
  const auto later = std::move(store.read()).value();
  const Status reloaded = third.load(*later);
  // Keys of slots carry no proof: one that lies in the past is dropped, whatever it said to hold.
  const bool has_slots =
      std::ranges::any_of(pairs, [](const auto& pair) { return pair.first.front() == 'W'; });
  TIDEMARK_CHECK(
      reloaded.ok() ? third.hash() == hash : has_slots && reloaded.code() == ErrorCode::kCorrupted,
      "a checkpoint changes nothing");
}

void try_input(ByteView bytes) {
  Pairs pairs = read_pairs(bytes);
  try_store(pairs);
  for (auto& [key, value] : pairs) {
    value = sealed(key, value);
  }
  try_store(pairs);
}

}  // namespace
}  // namespace tidemark::shard

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  tidemark::shard::try_input({data, size});
  return 0;
}
