#include <charconv>
#include <limits>

#include "tidemark/transaction.h"

namespace tidemark::client {

namespace {

constexpr unsigned kEpochShift = 48;
constexpr uint64_t kCountMax = (uint64_t{1} << kEpochShift) - 1;

// Takes a number and, unless it is the last one, the hyphen behind it. False: not written as
// to_string() writes it.
bool take_number(std::string_view& text, uint64_t low, uint64_t high, bool last, uint64_t& out) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  const auto digits = static_cast<size_t>(end - text.data());
  if (error != std::errc() || out < low || out > high || (digits > 1 && text.front() == '0')) {
    return false;
  }
  text.remove_prefix(digits);
  if (last) {
    return text.empty();
  }
  if (text.empty() || text.front() != '-') {
    return false;
  }
  text.remove_prefix(1);
  return true;
}

}  // namespace

std::string TransactionId::to_string() const {
  if (empty()) {
    return {};
  }
  return std::to_string(producer) + "-" + std::to_string(number >> kEpochShift) + "-" +
         std::to_string(number & kCountMax) + "-" + std::to_string(shard);
}

Result<TransactionId> TransactionId::parse(std::string_view text) {
  std::string_view rest = text;
  uint64_t producer = 0;
  uint64_t epoch = 0;
  uint64_t count = 0;
  uint64_t shard = 0;
  const bool well_formed =
      take_number(rest, 1, std::numeric_limits<uint64_t>::max(), false, producer) &&
      take_number(rest, 0, std::numeric_limits<uint16_t>::max(), false, epoch) &&
      take_number(rest, 1, kCountMax, false, count) &&
      take_number(rest, 0, std::numeric_limits<uint16_t>::max(), true, shard);
  if (!well_formed) {
    return Status(ErrorCode::kInvalidArgument,
                  "not the id of a transaction: \"" + std::string(text.substr(0, 100)) +
                      "\"; one looks like 7-0-1234-1 (producer, epoch, count, shard)");
  }
  return TransactionId{.producer = producer,
                       .number = epoch << kEpochShift | count,
                       .shard = static_cast<uint16_t>(shard)};
}

}  // namespace tidemark::client
