#include "tidemark/client.h"

#include <cstdlib>

#include "clients/cpp/src/client_impl.h"

#ifndef TIDEMARK_VERSION
#define TIDEMARK_VERSION "0.1.0"
#endif

namespace tidemark::client_core {

client::Status to_public(const Status& status) {
  if (status.ok()) {
    return {};
  }
  return {static_cast<client::ErrorCode>(status.code()), std::string(status.context())};
}

}  // namespace tidemark::client_core

namespace tidemark::client {

namespace {

constexpr size_t kBrokersMax = 100;
constexpr size_t kClientNameBytesMax = 100;
constexpr int64_t kTimeoutMsMax = 3'600'000;

Status bad_option(std::string text) { return {ErrorCode::kInvalidArgument, std::move(text)}; }

Status check_range(std::string_view name, int64_t value) {
  if (value >= 1 && value <= kTimeoutMsMax) {
    return {};
  }
  return bad_option(std::string(name) + " is " + std::to_string(value) + "; allowed are 1 to " +
                    std::to_string(kTimeoutMsMax));
}

Status check(const ClientOptions& options) {
  if (options.brokers.empty() || options.brokers.size() > kBrokersMax) {
    return bad_option("brokers has " + std::to_string(options.brokers.size()) +
                      " entries; allowed are 1 to " + std::to_string(kBrokersMax));
  }
  if (options.client_name.size() > kClientNameBytesMax) {
    return bad_option("client_name is longer than " + std::to_string(kClientNameBytesMax) +
                      " bytes");
  }
  for (const auto& [name, value] :
       {std::pair{"connect_timeout_ms", options.connect_timeout_ms},
        std::pair{"request_timeout_ms", options.request_timeout_ms},
        std::pair{"reconnect_backoff_min_ms", options.reconnect_backoff_min_ms},
        std::pair{"reconnect_backoff_max_ms", options.reconnect_backoff_max_ms}}) {
    Status status = check_range(name, value);
    if (!status.ok()) {
      return status;
    }
  }
  if (options.reconnect_backoff_min_ms > options.reconnect_backoff_max_ms) {
    return bad_option("reconnect_backoff_min_ms is larger than reconnect_backoff_max_ms");
  }
  return {};
}

std::string_view trimmed(std::string_view text) {
  const size_t first = text.find_first_not_of(" \t");
  if (first == std::string_view::npos) {
    return {};
  }
  return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

}  // namespace

Result<Client> Client::create(ClientOptions options) {
  Status status = check(options);
  if (!status.ok()) {
    return status;
  }
  client_core::ClusterOptions cluster;
  for (const std::string& broker : options.brokers) {
    auto address = client_core::parse_address(trimmed(broker), kDefaultPort);
    if (!address.ok()) {
      return client_core::to_public(address.error());
    }
    cluster.brokers.push_back(std::move(*address));
  }
  cluster.request_timeout_ns = options.request_timeout_ms * client_core::kNsPerMs;
  cluster.session = {.client_name = options.client_name,
                     .connect_timeout_ns = options.connect_timeout_ms * client_core::kNsPerMs,
                     .backoff_min_ns = options.reconnect_backoff_min_ms * client_core::kNsPerMs,
                     .backoff_max_ns = options.reconnect_backoff_max_ms * client_core::kNsPerMs};
  auto runtime = client_core::Runtime::start(std::move(cluster));
  if (!runtime.ok()) {
    return client_core::to_public(runtime.error());
  }
  return Client(std::make_shared<ClientImpl>(std::move(*runtime), std::move(options)));
}

std::vector<std::string> split_brokers(std::string_view text) {
  std::vector<std::string> out;
  while (!text.empty()) {
    const size_t comma = std::min(text.find(','), text.size());
    const std::string_view entry = trimmed(text.substr(0, comma));
    if (!entry.empty()) {
      out.emplace_back(entry);
    }
    text.remove_prefix(std::min(comma + 1, text.size()));
  }
  return out;
}

std::vector<std::string> brokers_from_environment() {
  const char* const value =
      std::getenv("TIDEMARK_BROKERS");  // NOLINT(concurrency-mt-unsafe): nobody sets it
  std::vector<std::string> brokers = split_brokers(value != nullptr ? value : "");
  return brokers.empty() ? ClientOptions().brokers : brokers;
}

std::string_view library_version() { return TIDEMARK_VERSION; }

}  // namespace tidemark::client
