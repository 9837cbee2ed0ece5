// The connection of one command to the cluster, and the errors of the client library as errors of
// the tool.
//
// Thread: as the client library says.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tidemark/admin.h"
#include "tidemark/client.h"
#include "tidemark/error.h"
#include "tools/cli.h"
#include "tools/errors.h"

namespace tidemark::tools {

CommandError command_error(const client::Status& status, std::string_view doing);

inline void require(const client::Status& status, std::string_view doing) {
  if (!status.ok()) {
    throw command_error(status, doing);
  }
}

// The value, or the error as a CommandError "<doing>: <what>".
template <typename T>
T require(client::Result<T> result, std::string_view doing) {
  require(result.status(), doing);
  return std::move(result).value();
}

class Session {
 public:
  // Does not wait for a broker.
  explicit Session(const Globals& globals);

  [[nodiscard]] const client::Client& client() const { return client_; }

  [[nodiscard]] client::Admin& admin() { return admin_; }

  // For one request; from --timeout.
  [[nodiscard]] int64_t deadline_ms() const { return deadline_ms_; }

  // Throws (kNotFound) if there is none.
  client::TopicDescription describe_topic(const std::string& name);

 private:
  int64_t deadline_ms_;
  client::Client client_;
  client::Admin admin_;
};

// Prints the table or the JSON text, whichever is asked for, to standard output.
void print_result(const Globals& globals, const std::string& table, const std::string& json);

}  // namespace tidemark::tools
