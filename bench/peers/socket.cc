#include "bench/peers/socket.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include <fmt/format.h>

#include "bench/peers/adapter.h"
#include "log/base/clock.h"

namespace tidemark::bench {
namespace {

constexpr size_t kReadBytes = size_t{256} << 10;
constexpr int64_t kAnswerNs = 10'000'000'000;

}  // namespace

Socket::Socket(std::string peer, uint16_t port) : peer_(std::move(peer)) {
  fd_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (fd_ < 0 || connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    fail(fmt::format("connecting to 127.0.0.1:{}: {}", port, std::strerror(errno)));
  }
  const int on = 1;
  (void)setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

Socket::~Socket() {
  if (fd_ >= 0) {
    close(fd_);
  }
}

void Socket::fail(std::string_view what) const {
  throw PeerError(fmt::format("{}: {}", peer_, what));
}

void Socket::write_some() {
  while (sent_ < out_.size()) {
    const ssize_t done =
        ::send(fd_, out_.data() + sent_, out_.size() - sent_, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (done < 0 && errno == EINTR) {
      continue;
    }
    if (done < 0 && errno == EAGAIN) {
      return;
    }
    if (done < 0) {
      fail(fmt::format("send: {}", std::strerror(errno)));
    }
    sent_ += static_cast<size_t>(done);
  }
  out_.clear();
  sent_ = 0;
}

bool Socket::read_some() {
  in_.erase(0, std::exchange(consumed_, 0));
  const size_t before = in_.size();
  in_.resize(before + kReadBytes);
  const ssize_t done = ::recv(fd_, in_.data() + before, kReadBytes, MSG_DONTWAIT);
  const int error = errno;
  in_.resize(before + static_cast<size_t>(std::max<ssize_t>(done, 0)));
  if (done == 0) {
    fail("the server closed the connection");
  }
  if (done < 0 && error != EAGAIN && error != EINTR) {
    fail(fmt::format("recv: {}", std::strerror(error)));
  }
  return done > 0;
}

void Socket::exchange(int64_t wait_us) {
  write_some();
  if (read_some() || wait_us <= 0) {
    return;
  }
  const int64_t deadline_ns = system_clock().monotonic().ns + wait_us * 1'000;
  for (;;) {
    const int64_t left_ns = deadline_ns - system_clock().monotonic().ns;
    if (left_ns <= 0) {
      return;
    }
    const bool writing = sent_ < out_.size();
    pollfd waiting = {.fd = fd_,
                      .events = static_cast<int16_t>(writing ? POLLIN | POLLOUT : POLLIN),
                      .revents = 0};
    const timespec left = {.tv_sec = left_ns / 1'000'000'000, .tv_nsec = left_ns % 1'000'000'000};
    if (ppoll(&waiting, 1, &left, nullptr) <= 0) {
      continue;
    }
    if ((waiting.revents & POLLOUT) != 0) {
      write_some();
    }
    if ((waiting.revents & ~POLLOUT) != 0 && read_some()) {
      return;
    }
  }
}

std::optional<std::string_view> Socket::line() {
  const std::string_view text = received();
  const size_t end = text.find("\r\n");
  if (end == std::string_view::npos) {
    return std::nullopt;
  }
  consume(end + 2);
  return text.substr(0, end);
}

std::string Socket::wait_line() {
  const int64_t deadline_ns = system_clock().monotonic().ns + kAnswerNs;
  for (;;) {
    if (const std::optional<std::string_view> found = line()) {
      return std::string(*found);
    }
    if (system_clock().monotonic().ns > deadline_ns) {
      fail("no answer within 10 s");
    }
    exchange(100'000);
  }
}

}  // namespace tidemark::bench
