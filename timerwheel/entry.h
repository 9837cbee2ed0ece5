// What a wheel holds: a small value with a due tick.
//
// Order: by key, that is by due tick and within a tick by id. No two entries of a wheel have the
// same key. The rest is opaque to the wheel.
#pragma once

#include <compare>
#include <cstdint>
#include <limits>

namespace tidemark::timerwheel {

// A point in time; the wheel never asks a clock. Its users count milliseconds since 1970.
using Tick = uint64_t;

struct Key {
  Tick due = 0;
  uint64_t id = 0;

  friend constexpr auto operator<=>(const Key&, const Key&) = default;
};

// The smallest key of a tick.
constexpr Key first_key(Tick due) { return {due, 0}; }

// The largest key of a tick.
constexpr Key last_key(Tick due) { return {due, std::numeric_limits<uint64_t>::max()}; }

// The key right after `key`. Requires: `key` is not the largest of all.
constexpr Key next_key(Key key) {
  return key == last_key(key.due) ? first_key(key.due + 1) : Key{key.due, key.id + 1};
}

// The key right before `key`. Requires: `key` is not the smallest of all.
constexpr Key previous_key(Key key) {
  return key.id == 0 ? last_key(key.due - 1) : Key{key.due, key.id - 1};
}

struct Entry {
  Tick due = 0;
  uint64_t id = 0;
  uint64_t position = 0;
  uint64_t tag = 0;

  [[nodiscard]] constexpr Key key() const { return {due, id}; }

  friend bool operator==(const Entry&, const Entry&) = default;
};

static_assert(sizeof(Entry) == 32);

}  // namespace tidemark::timerwheel
