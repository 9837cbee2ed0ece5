// Messages of a benchmark that can be told apart when they come back.
//
// Thread: one.
#pragma once

#include <cstdint>
#include <cstring>
#include <optional>
#include <string_view>
#include <vector>

#include "tidemark/consumer.h"
#include "tools/bench.h"

namespace tidemark::tools {

// First bytes of every value.
struct Stamp {
  uint64_t run = 0;  // tells our messages from those of others on the same topic
  uint64_t index = 0;
  int64_t time = 0;  // in the unit of the benchmark
};

static_assert(sizeof(Stamp) == 24);

// Values with a stamp; one buffer, rewritten for each message. Requires: room for a Stamp.
class StampedPayload {
 public:
  StampedPayload(size_t size, uint64_t run) : run_(run) {
    const Payloads random(size);
    value_.assign(random.at(0).begin(), random.at(0).end());
  }

  std::string_view make(uint64_t index, int64_t time) {
    const Stamp stamp = {.run = run_, .index = index, .time = time};
    std::memcpy(value_.data(), &stamp, sizeof(stamp));
    return {value_.data(), value_.size()};
  }

 private:
  uint64_t run_;
  std::vector<char> value_;
};

// Nothing for a message that is not of this run.
inline std::optional<Stamp> stamp_of(const client::ReceivedMessage& message, uint64_t run) {
  Stamp stamp;
  if (!message.value || message.value->size() < sizeof(stamp)) {
    return std::nullopt;
  }
  std::memcpy(&stamp, message.value->data(), sizeof(stamp));
  return stamp.run == run ? std::optional<Stamp>(stamp) : std::nullopt;
}

}  // namespace tidemark::tools
