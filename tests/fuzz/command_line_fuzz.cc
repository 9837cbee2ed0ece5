// Words of a command line, lines of standard input, and what another process tells the tool: what
// is refused has a reason, what is accepted says the same when it is printed and read again.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "broker/meta/topic_name.h"
#include "clients/cpp/src/address.h"
#include "log/base/bytes.h"
#include "log/base/check.h"
#include "log/log.h"
#include "tidemark/delay.h"
#include "tidemark/transaction.h"
#include "tools/broker_metrics.h"
#include "tools/check_rules.h"
#include "tools/dead_letters.h"
#include "tools/json_text.h"
#include "tools/message_format.h"
#include "tools/parse.h"
#include "tools/top_view.h"

namespace tidemark::tools {
namespace {

constexpr int64_t kNowMs = 1'774'746'000'000;

// Whether it was accepted; what was refused has a reason.
template <typename T>
bool accepted(const Result<T>& result) {
  if (!result.ok()) {
    TIDEMARK_CHECK(result.error().code() == ErrorCode::kInvalidArgument);
    TIDEMARK_CHECK(!result.error().context().empty());
  }
  return result.ok();
}

void try_numbers(std::string_view text) {
  if (const auto ms = parse_duration_ms(text); accepted(ms)) {
    TIDEMARK_CHECK(*ms >= 0);
    const auto again = parse_duration_ms(format_duration(*ms));
    TIDEMARK_CHECK(again.ok() && *again == *ms, format_duration(*ms));
    TIDEMARK_CHECK(!format_span(*ms).empty());
  }
  if (const auto bytes = parse_bytes(text); accepted(bytes)) {
    TIDEMARK_CHECK(*bytes <= uint64_t{INT64_MAX});
    TIDEMARK_CHECK(parse_bytes(std::to_string(*bytes)).value() == *bytes);
    TIDEMARK_CHECK(!format_bytes(*bytes).empty() && !format_count(*bytes).empty());
  }
  if (const auto rate = parse_rate(text); accepted(rate)) {
    TIDEMARK_CHECK(*rate > 0 && *rate <= 1e300);
  }
}

void try_times(std::string_view text) {
  if (const auto ms = parse_time_ms(text); accepted(ms)) {
    const auto again = parse_time_ms(format_time(*ms));
    // A year that is before 0 or above 9999 in UTC has no text that can be read.
    const bool has_text = *ms >= -62'167'219'200'000 && *ms < 253'402'300'800'000;
    TIDEMARK_CHECK(again.ok() ? *again == *ms : !has_text, format_time(*ms));
  }
  static_cast<void>(accepted(parse_due_ms(text, kNowMs)));
  if (const auto start = parse_start_point(text, kNowMs); accepted(start)) {
    TIDEMARK_CHECK(start->time_ms >= 0);
    TIDEMARK_CHECK(start->kind != StartPoint::Kind::kOffset ||
                   parse_start_point(std::to_string(start->offset), 0)->offset == start->offset);
  }
}

void try_names(std::string_view text) {
  if (meta::check_topic_name(text).ok()) {
    TIDEMARK_CHECK(!text.empty() && text.size() <= 200 && text != "." && text != "..");
    TIDEMARK_CHECK(text.find('/') == std::string_view::npos);
  }
  if (const auto pair = parse_key_value(text); accepted(pair)) {
    TIDEMARK_CHECK(!pair->key.empty() && pair->key + "=" + pair->value == text);
  }
  if (const auto bound = parse_lag_bound(text); accepted(bound)) {
    TIDEMARK_CHECK(text.starts_with(bound->group));
  }
  if (const auto bound = parse_letters_bound(text); accepted(bound)) {
    TIDEMARK_CHECK(text.starts_with(bound->topic));
  }
  if (const auto address = client_core::parse_address(text, 7000); accepted(address)) {
    TIDEMARK_CHECK(!address->host.empty());
    const auto again = client_core::parse_address(address->text(), 1);
    TIDEMARK_CHECK(again.ok() && *again == *address, address->text());
  }
  if (const auto policy = log::FsyncPolicy::parse(text); policy.ok()) {
    const auto again = log::FsyncPolicy::parse(policy->to_string());
    TIDEMARK_CHECK(again.ok() && again->mode == policy->mode &&
                   again->interval_ms == policy->interval_ms);
  }
}

void try_handles(std::string_view text) {
  const auto handle = client::DelayHandle::parse(text);
  TIDEMARK_CHECK(handle.ok() ? handle->to_string() == text : !handle.status().ok());
  const auto txn = client::TransactionId::parse(text);
  TIDEMARK_CHECK(txn.ok() ? txn->to_string() == text : !txn.status().ok());
}

void try_formats(std::string_view text) {
  if (const auto bytes = unescape(text); accepted(bytes)) {
    TIDEMARK_CHECK(bytes->size() <= text.size());
  }
  PrintedMessage message;
  message.topic = "t";
  message.has_key = true;
  message.key = text;
  message.value = text;
  const PrintedHeader header{text, text};
  message.headers = {&header, 1};
  if (const auto format = MessageFormat::parse(text); accepted(format)) {
    std::string out;
    format->append(message, out);
  }
  std::string json;
  append_json(message, json);
  TIDEMARK_CHECK(json.ends_with("}\n") && std::ranges::count(json, '\n') == 1, "one line");
  TIDEMARK_CHECK(is_utf8(json));
  const auto read = nlohmann::json::parse(json, nullptr, /*allow_exceptions=*/false);
  TIDEMARK_CHECK(!read.is_discarded() && read.contains(is_utf8(text) ? "value" : "value_base64"));
  TIDEMARK_CHECK(is_utf8(dump_json({{"text", std::string(text)}})));
}

void try_metrics(std::string_view text) {
  const BrokerMetrics metrics = BrokerMetrics::parse(text);
  for (const CheckResult& result : check_metrics(CheckRules::defaults(), metrics)) {
    TIDEMARK_CHECK(result.value || !result.ok());
  }
  const TopView top = compare(BrokerMetrics(), metrics, 1);
  TIDEMARK_CHECK(is_utf8(top_text(top, 1)));
  const auto read = nlohmann::json::parse(dump_json(top_json(top)), nullptr, false);
  TIDEMARK_CHECK(!read.is_discarded() && read.is_object());
  TIDEMARK_CHECK(metrics.sum("tidemark_none") == std::nullopt ||
                 text.find("tidemark_none") != std::string_view::npos);
}

}  // namespace
}  // namespace tidemark::tools

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  namespace tools = tidemark::tools;
  const std::string_view text = tidemark::as_text({data, size});
  tools::try_numbers(text);
  tools::try_times(text);
  tools::try_names(text);
  tools::try_handles(text);
  tools::try_formats(text);
  tools::try_metrics(text);
  return 0;
}
