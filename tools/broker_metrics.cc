#include "tools/broker_metrics.h"

#include <netdb.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <array>
#include <charconv>
#include <memory>

#include <fmt/format.h>

namespace tidemark::tools {
namespace {

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
  std::array<char, 16384> part;
  ssize_t got = 0;
  while (answer.size() < kAnswerBytesMax &&
         (got = ::recv(socket.get(), part.data(), part.size(), 0)) > 0) {
    answer.append(part.data(), static_cast<size_t>(got));
  }
  return got == 0 && answer.starts_with("HTTP/1.1 200 ") ? answer : std::string();
}

// The number at the end of a line; 0 if it is none.
uint64_t value_of(std::string_view line) {
  const std::string_view text = line.substr(line.rfind(' ') + 1);
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size() ? value : 0;
}

}  // namespace

std::optional<LogWrites> parse_log_writes(std::string_view metrics, uint64_t cluster_id,
                                          uint64_t node) {
  LogWrites writes;
  bool is_ours = false;
  while (!metrics.empty()) {
    const size_t end = metrics.find('\n');
    const std::string_view line = metrics.substr(0, end);
    metrics.remove_prefix(end == std::string_view::npos ? metrics.size() : end + 1);
    if (line.starts_with("tidemark_build_info{")) {
      is_ours = line.find(fmt::format("cluster_id=\"{}\"", cluster_id)) != std::string_view::npos &&
                line.find(fmt::format("node_id=\"{}\"", node)) != std::string_view::npos;
    } else if (line.starts_with("tidemark_log_written_bytes_total{")) {
      writes.bytes += value_of(line);
    } else if (line.starts_with("tidemark_log_syncs_total{")) {
      writes.syncs += value_of(line);
    }
  }
  return is_ours ? std::optional(writes) : std::nullopt;
}

std::optional<LogWrites> read_log_writes(const std::string& host, const std::string& port,
                                         uint64_t cluster_id, uint64_t node) {
  addrinfo hints = {};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (::getaddrinfo(host.c_str(), port.c_str(), &hints, &found) != 0) {
    return std::nullopt;
  }
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> addresses(found, &::freeaddrinfo);
  return parse_log_writes(ask(*addresses, host), cluster_id, node);
}

}  // namespace tidemark::tools
