#include "tests/support/connect.h"

#include <utility>

#include <doctest/doctest.h>

namespace tidemark::testing {

client::Client connect(const std::string& address) {
  client::ClientOptions options;
  options.brokers = {address};
  auto connected = client::Client::create(options);
  REQUIRE_MESSAGE(connected.ok(), connected.status().to_string());
  return std::move(*connected);
}

}  // namespace tidemark::testing
