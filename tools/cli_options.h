// Options and positionals that many commands have.
//
// Thread: one.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace tidemark::tools {

// Options whose text is parsed by tools/parse.h while the command line is read, so that a mistake
// names the option.
CLI::Option* add_duration(CLI::App& app, const std::string& names, int64_t& out_ms,
                          const std::string& help);
// The same within bounds.
CLI::Option* add_duration_within(CLI::App& app, const std::string& name, int64_t& out_ms,
                                 int64_t ms_min, int64_t ms_max, const std::string& help);
CLI::Option* add_duration_within(CLI::App& app, const std::string& name,
                                 std::optional<int64_t>& out_ms, int64_t ms_min, int64_t ms_max,
                                 const std::string& help);
CLI::Option* add_bytes(CLI::App& app, const std::string& names, uint64_t& out_bytes,
                       const std::string& help);
CLI::Option* add_bytes(CLI::App& app, const std::string& names, std::optional<uint64_t>& out_bytes,
                       const std::string& help);
// A check for options: "" if `text` is a number above 0, else what is wrong.
std::string check_positive(const std::string& text);
// A positional that must be the name of a topic.
CLI::Option* add_topic_name(CLI::App& app, std::string& out);
// The same as an option.
CLI::Option* add_topic_option(CLI::App& app, const std::string& name, std::string& out,
                              const std::string& help);
// An option, or a positional, that must be a name for a consumer group.
CLI::Option* add_group_name(CLI::App& app, const std::string& name, std::string& out,
                            const std::string& help);
// --filter and --tag of whatever reads messages.
void add_filter_options(CLI::App& app, std::string& filter, std::vector<std::string>& tags);

}  // namespace tidemark::tools
