#include "tools/broker_metrics.h"

#include <netdb.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <memory>
#include <utility>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "tools/errors.h"

namespace tidemark::tools {
namespace {

constexpr const char* kHttpPortDefault = "9471";
constexpr size_t kAnswerBytesMax = size_t{4} << 20;

class Socket {
 public:
  explicit Socket(int fd) : fd_(fd) {}

  ~Socket() {
    if (fd_ >= 0) {
      ::close(fd_);
    }
  }

  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;

  [[nodiscard]] int get() const { return fd_; }

 private:
  int fd_;
};

// The answer to one GET, head included; empty if there is none.
std::string ask(const addrinfo& address, const std::string& host) {
  const Socket socket(
      ::socket(address.ai_family, address.ai_socktype | SOCK_CLOEXEC, address.ai_protocol));
  const timeval patience = {.tv_sec = 1, .tv_usec = 0};
  ::setsockopt(socket.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
  ::setsockopt(socket.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
  const std::string request =
      fmt::format("GET /metrics HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", host);
  if (socket.get() < 0 || ::connect(socket.get(), address.ai_addr, address.ai_addrlen) != 0 ||
      ::send(socket.get(), request.data(), request.size(), MSG_NOSIGNAL) !=
          static_cast<ssize_t>(request.size())) {
    return {};
  }
  std::string answer;
  std::array<char, 16384> part{};
  ssize_t got = 0;
  while (answer.size() < kAnswerBytesMax &&
         (got = ::recv(socket.get(), part.data(), part.size(), 0)) > 0) {
    answer.append(part.data(), static_cast<size_t>(got));
  }
  return got == 0 && answer.starts_with("HTTP/1.1 200 ") ? answer : std::string();
}

// The number at the end of a line.
std::optional<double> value_of(std::string_view line) {
  const std::string_view text = line.substr(line.rfind(' ') + 1);
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool read = error == std::errc() && end == text.data() + text.size() && !text.empty();
  return read && std::isfinite(value) ? std::optional(value) : std::nullopt;
}

// Host and port of "host:port"; an address of IPv6 has brackets around it.
MetricsPlace split_place(const std::string& text) {
  const size_t colon = text.rfind(':');
  const bool has_port = colon != std::string::npos && !text.ends_with(']');
  MetricsPlace place = {.host = has_port ? text.substr(0, colon) : text,
                        .port = has_port ? text.substr(colon + 1) : kHttpPortDefault};
  if (place.host.starts_with('[') && place.host.ends_with(']')) {
    place.host = place.host.substr(1, place.host.size() - 2);
  }
  return place;
}

}  // namespace

BrokerMetrics BrokerMetrics::parse(std::string_view text) {
  BrokerMetrics metrics;
  while (!text.empty()) {
    const size_t end = text.find('\n');
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    const std::string_view name = line.substr(0, line.find_first_of("{ "));
    const std::optional<double> value = value_of(line);
    if (!name.starts_with("tidemark_") || name.size() == line.size() || !value) {
      continue;
    }
    if (name == "tidemark_build_info") {
      metrics.build_ = line;
    }
    const auto [at, is_first] = metrics.numbers_.try_emplace(std::string(name));
    Numbers& numbers = at->second;
    numbers.sum += *value;
    numbers.max = is_first ? *value : std::max(numbers.max, *value);
    numbers.zeros += *value == 0 ? 1 : 0;
  }
  return metrics;
}

std::optional<double> BrokerMetrics::find(std::string_view name, double Numbers::*which) const {
  const auto at = numbers_.find(name);
  return at == numbers_.end() ? std::nullopt : std::optional(at->second.*which);
}

std::optional<double> BrokerMetrics::sum(std::string_view name) const {
  return find(name, &Numbers::sum);
}

std::optional<double> BrokerMetrics::max(std::string_view name) const {
  return find(name, &Numbers::max);
}

std::optional<double> BrokerMetrics::zeros(std::string_view name) const {
  return find(name, &Numbers::zeros);
}

bool BrokerMetrics::is_of(uint64_t cluster_id, uint64_t node) const {
  return build_.find(fmt::format("cluster_id=\"{}\"", cluster_id)) != std::string::npos &&
         build_.find(fmt::format("node_id=\"{}\"", node)) != std::string::npos;
}

uint64_t to_count(double value) {
  constexpr auto kMax = static_cast<double>(kCountMax);
  return static_cast<uint64_t>(std::min(std::max(0.0, value), kMax));
}

MetricsPlace metrics_place(const std::string& given, const std::string& host) {
  return given.empty() ? MetricsPlace{.host = host, .port = kHttpPortDefault} : split_place(given);
}

MetricsPlace metrics_place_of(const std::string& given, const std::string& brokers) {
  return metrics_place(given, split_place(brokers.substr(0, brokers.find(','))).host);
}

void add_metrics_option(CLI::App& command, std::string& out) {
  command
      .add_option("--metrics", out,
                  "Where the broker serves /metrics (default: port 9471 of its host)")
      ->type_name("HOST:PORT");
}

std::optional<BrokerMetrics> read_metrics(const MetricsPlace& place) {
  addrinfo hints = {};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (::getaddrinfo(place.host.c_str(), place.port.c_str(), &hints, &found) != 0) {
    return std::nullopt;
  }
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> addresses(found, &::freeaddrinfo);
  for (const addrinfo* one = found; one != nullptr; one = one->ai_next) {
    const std::string answer = ask(*one, place.host);
    if (!answer.empty()) {
      return BrokerMetrics::parse(answer);
    }
  }
  return std::nullopt;
}

BrokerMetrics require_metrics(const MetricsPlace& place) {
  std::optional<BrokerMetrics> metrics = read_metrics(place);
  if (!metrics || !metrics->sum("tidemark_build_info")) {
    throw CommandError(ExitCode::kUnavailable, "Unavailable",
                       fmt::format("no broker answers with its metrics at {}: see --metrics, and "
                                   "http-listen of the broker",
                                   place.to_string()));
  }
  return *std::move(metrics);
}

std::optional<LogWrites> log_writes_of(const BrokerMetrics& metrics, uint64_t cluster_id,
                                       uint64_t node) {
  if (!metrics.is_of(cluster_id, node)) {
    return std::nullopt;
  }
  const double bytes = metrics.sum("tidemark_log_written_bytes_total").value_or(0);
  const double syncs = metrics.sum("tidemark_log_syncs_total").value_or(0);
  return LogWrites{.bytes = to_count(bytes), .syncs = to_count(syncs)};
}

}  // namespace tidemark::tools
