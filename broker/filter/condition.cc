#include "broker/filter/condition.h"

#include <algorithm>
#include <compare>

namespace tidemark::filter {
namespace {

bool holds(Comparison comparison, std::strong_ordering order) {
  switch (comparison) {
    case Comparison::kEqual:
      return order == 0;
    case Comparison::kNotEqual:
      return order != 0;
    case Comparison::kLess:
      return order < 0;
    case Comparison::kLessOrEqual:
      return order <= 0;
    case Comparison::kGreater:
      return order > 0;
    case Comparison::kGreaterOrEqual:
      return order >= 0;
    case Comparison::kIn:
    case Comparison::kNotIn:
      break;
  }
  return false;
}

// `order_of(value)`: the header's value compared with it.
template <typename OrderOf>
bool holds_for(const Condition& condition, const OrderOf& order_of) {
  const auto equals = [&](const Value& value) { return order_of(value) == 0; };
  const std::vector<Value>& values = condition.values;
  if (condition.comparison == Comparison::kIn) {
    return std::any_of(values.begin(), values.end(), equals);
  }
  if (condition.comparison == Comparison::kNotIn) {
    return std::none_of(values.begin(), values.end(), equals);
  }
  return holds(condition.comparison, order_of(values.front()));
}

bool holds_for_header(const Condition& condition, const format::HeaderView& header) {
  if (!header.has_value) {
    return false;
  }
  const std::string_view text = as_text(header.value);
  // Bytes, not characters: char_traits compares char as unsigned.
  const auto text_order = [&](const Value& value) { return text <=> value.text; };
  switch (condition.value_kind) {
    case ValueKind::kText:
      return holds_for(condition, text_order);
    case ValueKind::kTruth:
      return (text == "true" || text == "false") && holds_for(condition, text_order);
    case ValueKind::kNumber: {
      const std::optional<Decimal> number = parse_decimal(text);
      return number.has_value() && holds_for(condition, [&](const Value& value) {
               return compare(*number, value.number);
             });
    }
  }
  return false;
}

bool header_exists(const Condition& condition, const format::RecordView& record) {
  format::HeaderCursor cursor(record.headers, record.header_count);
  format::HeaderView header;
  while (cursor.next(header)) {
    if (header.key == condition.name) {
      return true;
    }
  }
  return false;
}

// Of several headers of the name any, for "not equal" and "not in" all; one at least.
bool compare_headers(const Condition& condition, const format::RecordView& record) {
  const bool all =
      condition.comparison == Comparison::kNotEqual || condition.comparison == Comparison::kNotIn;
  bool found = false;
  format::HeaderCursor cursor(record.headers, record.header_count);
  format::HeaderView header;
  while (cursor.next(header)) {
    if (header.key != condition.name) {
      continue;
    }
    found = true;
    if (const bool one = holds_for_header(condition, header); one != all) {
      return one;
    }
  }
  return all && found;
}

}  // namespace

bool is_true(const Condition& condition, const format::RecordView& record) {
  const auto operand_is_true = [&](const Condition& operand) { return is_true(operand, record); };
  const std::vector<Condition>& operands = condition.operands;
  switch (condition.kind) {
    case ConditionKind::kAnd:
      return std::all_of(operands.begin(), operands.end(), operand_is_true);
    case ConditionKind::kOr:
      return std::any_of(operands.begin(), operands.end(), operand_is_true);
    case ConditionKind::kNot:
      return !operand_is_true(operands.front());
    case ConditionKind::kExists:
      return header_exists(condition, record);
    case ConditionKind::kCompare:
      return compare_headers(condition, record);
  }
  return false;
}

}  // namespace tidemark::filter
