// What a filter's expression is once it is parsed: a tree of conditions.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "broker/filter/decimal.h"
#include "log/base/result.h"
#include "log/format/record_batch.h"

namespace tidemark::filter {

enum class ConditionKind : uint8_t { kAnd, kOr, kNot, kExists, kCompare };

enum class Comparison : uint8_t {
  kEqual,
  kNotEqual,
  kLess,
  kLessOrEqual,
  kGreater,
  kGreaterOrEqual,
  kIn,
  kNotIn,
};

// How the value of a header is read for a comparison.
enum class ValueKind : uint8_t { kText, kNumber, kTruth };

struct Value {
  std::string text = {};  // kText; kTruth: "true" or "false"
  Decimal number = {};    // kNumber; views the expression
};

struct Condition {
  ConditionKind kind = ConditionKind::kAnd;
  std::vector<Condition> operands = {};  // kAnd, kOr: two at least; kNot: one
  std::string name = {};                 // kExists, kCompare: of the header
  // kCompare: one value; for kIn and kNotIn one or more, all of one kind.
  Comparison comparison = Comparison::kEqual;
  ValueKind value_kind = ValueKind::kText;
  std::vector<Value> values = {};
};

// The tree of `expression`, which stays alive and in place as long as it. kInvalidArgument,
// kLimitExceeded: see Filter::parse().
Result<Condition> parse_condition(std::string_view expression);

// Recursion is at most as deep as what parse_condition() took. No allocation.
bool is_true(const Condition& condition, const format::RecordView& record);

}  // namespace tidemark::filter
