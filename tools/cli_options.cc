#include "tools/cli_options.h"

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "broker/meta/topic_name.h"
#include "log/base/limits.h"
#include "tools/parse.h"

namespace tidemark::tools {
namespace {

template <typename Value>
CLI::Option* add_bounded_duration(CLI::App& app, const std::string& name, Value& out_ms,
                                  int64_t ms_min, int64_t ms_max, const std::string& help) {
  const auto parse = [&out_ms, name, ms_min, ms_max](const std::string& text) {
    const Result<int64_t> parsed = parse_duration_ms(text);
    if (!parsed.ok()) {
      throw CLI::ValidationError(name, std::string(parsed.error().context()));
    }
    if (*parsed < ms_min || *parsed > ms_max) {
      throw CLI::ValidationError(
          name, fmt::format("'{}' is not within {} and {}", text, format_duration(ms_min),
                            format_duration(ms_max)));
    }
    out_ms = *parsed;
  };
  return app.add_option_function<std::string>(name, parse, help)->type_name("DURATION");
}

template <typename Value>
CLI::Option* add_bytes_option(CLI::App& app, const std::string& names, Value& out_bytes,
                              const std::string& help) {
  const auto parse = [&out_bytes, names](const std::string& text) {
    const Result<uint64_t> parsed = parse_bytes(text);
    if (!parsed.ok()) {
      throw CLI::ValidationError(names, std::string(parsed.error().context()));
    }
    out_bytes = *parsed;
  };
  return app.add_option_function<std::string>(names, parse, help)->type_name("BYTES");
}

}  // namespace

CLI::Option* add_duration(CLI::App& app, const std::string& names, int64_t& out_ms,
                          const std::string& help) {
  const auto parse = [&out_ms, names](const std::string& text) {
    const Result<int64_t> parsed = parse_duration_ms(text);
    if (!parsed.ok()) {
      throw CLI::ValidationError(names, std::string(parsed.error().context()));
    }
    out_ms = *parsed;
  };
  return app.add_option_function<std::string>(names, parse, help)->type_name("TIME");
}

CLI::Option* add_duration_within(CLI::App& app, const std::string& name, int64_t& out_ms,
                                 int64_t ms_min, int64_t ms_max, const std::string& help) {
  return add_bounded_duration(app, name, out_ms, ms_min, ms_max, help);
}

CLI::Option* add_duration_within(CLI::App& app, const std::string& name,
                                 std::optional<int64_t>& out_ms, int64_t ms_min, int64_t ms_max,
                                 const std::string& help) {
  return add_bounded_duration(app, name, out_ms, ms_min, ms_max, help);
}

CLI::Option* add_bytes(CLI::App& app, const std::string& names, uint64_t& out_bytes,
                       const std::string& help) {
  return add_bytes_option(app, names, out_bytes, help);
}

CLI::Option* add_bytes(CLI::App& app, const std::string& names, std::optional<uint64_t>& out_bytes,
                       const std::string& help) {
  return add_bytes_option(app, names, out_bytes, help);
}

std::string check_positive(const std::string& text) {
  double value = 0;
  const bool positive = CLI::detail::lexical_cast(text, value) && value > 0;
  return positive ? std::string() : fmt::format("'{}' is not a number above 0", text);
}

CLI::Option* add_topic_name(CLI::App& app, std::string& out) {
  return add_topic_option(app, "topic", out, "Name of the topic")->required();
}

CLI::Option* add_topic_option(CLI::App& app, const std::string& name, std::string& out,
                              const std::string& help) {
  const auto valid = [](const std::string& text) {
    return std::string(meta::check_topic_name(text).context());  // empty: valid
  };
  return app.add_option(name, out, help)->check(valid)->type_name("TOPIC");
}

CLI::Option* add_group_name(CLI::App& app, const std::string& name, std::string& out,
                            const std::string& help) {
  const auto valid = [](const std::string& text) {
    const bool fits = !text.empty() && text.size() <= limits::kGroupNameBytesMax;
    return fits ? std::string()
                : fmt::format("the name of a group has 1 to {} bytes, this one {}",
                              limits::kGroupNameBytesMax, text.size());
  };
  return app.add_option(name, out, help)->check(valid)->type_name("GROUP");
}

void add_filter_options(CLI::App& app, std::string& filter, std::vector<std::string>& tags) {
  const auto fits = [](const std::string& text) {
    return !text.empty() && text.size() <= limits::kFilterBytesMax
               ? std::string()
               : fmt::format("an expression has 1 to {} bytes, this one {}",
                             limits::kFilterBytesMax, text.size());
  };
  app.add_option("--filter", filter,
                 "Only messages whose headers make this true; the broker leaves the others out")
      ->check(fits)
      ->type_name("EXPRESSION");
  app.add_option("--tag", tags,
                 "Only messages with this tag; may be given several times: with one of them")
      ->allow_extra_args(false)
      ->type_name("TAG");
}

}  // namespace tidemark::tools
