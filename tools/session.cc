#include "tools/session.h"

#include <algorithm>

#include <fmt/format.h>

#include "tools/output.h"

namespace tidemark::tools {
namespace {

client::Client connect(const Globals& globals) {
  client::ClientOptions options;
  options.brokers = client::split_brokers(globals.brokers);
  options.client_name = "tidemark-cli " TIDEMARK_VERSION;
  options.connect_timeout_ms = std::min<int64_t>(options.connect_timeout_ms, globals.timeout_ms);
  options.request_timeout_ms = globals.timeout_ms;
  return require(client::Client::create(std::move(options)), "--brokers");
}

}  // namespace

CommandError command_error(const client::Status& status, std::string_view doing) {
  // The numbers of both tables are those of the wire.
  const ErrorCode code = error_from_wire(static_cast<uint16_t>(status.code()));
  return CommandError(exit_code_of(code), std::string(client::error_name(status.code())),
                      fmt::format("{}: {}", doing, status.to_string()));
}

Session::Session(const Globals& globals)
    : deadline_ms_(globals.timeout_ms), client_(connect(globals)), admin_(client_) {}

client::TopicDescription Session::describe_topic(const std::string& name) {
  return require(admin_.describe_topic(name, deadline_ms_), fmt::format("topic {}", name));
}

void print_result(const Globals& globals, const std::string& table, const std::string& json) {
  print(globals.json ? json + "\n" : table);
}

}  // namespace tidemark::tools
