#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <thread>
#include <vector>

#include <fmt/format.h>

#include "bench/peers/workload.h"
#include "log/base/clock.h"

namespace tidemark::bench {
namespace {

constexpr int kRoundTrips = 5'000;
constexpr size_t kMessageBytes = 100;
constexpr size_t kChunkBytes = size_t{64} << 10;
constexpr size_t kStreamBytes = size_t{512} << 20;

// A descriptor that is closed at the end.
class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {
    if (fd_ < 0) {
      throw PeerError(fmt::format("loopback: {}", std::strerror(errno)));
    }
  }

  ~Descriptor() { close(fd_); }

  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;

  [[nodiscard]] int get() const { return fd_; }

 private:
  int fd_;
};

void check(int result) {
  if (result < 0) {
    throw PeerError(fmt::format("loopback: {}", std::strerror(errno)));
  }
}

// False at the end of the stream.
bool read_all(int fd, char* bytes, size_t size) {
  for (size_t done = 0; done < size;) {
    const ssize_t got = ::recv(fd, bytes + done, size - done, 0);
    if (got <= 0) {
      return false;
    }
    done += static_cast<size_t>(got);
  }
  return true;
}

bool write_all(int fd, const char* bytes, size_t size) {
  for (size_t done = 0; done < size;) {
    const ssize_t put = ::send(fd, bytes + done, size - done, MSG_NOSIGNAL);
    if (put <= 0) {
      return false;
    }
    done += static_cast<size_t>(put);
  }
  return true;
}

// The other side: answers each message, then takes a stream and says that it has all of it.
void serve(int fd) {
  const int on = 1;
  (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  std::vector<char> chunk(kChunkBytes);
  for (int i = 0; i < kRoundTrips; ++i) {
    if (!read_all(fd, chunk.data(), kMessageBytes) || !write_all(fd, chunk.data(), kMessageBytes)) {
      return;
    }
  }
  for (size_t got = 0; got < kStreamBytes; got += kChunkBytes) {
    if (!read_all(fd, chunk.data(), kChunkBytes)) {
      return;
    }
  }
  (void)write_all(fd, chunk.data(), 1);
}

Loopback measure(int fd) {
  Loopback out;
  std::vector<char> chunk(kChunkBytes, 'x');
  tools::Histogram round_trip_ns;
  const auto require = [](bool done) {
    if (!done) {
      throw PeerError("loopback: the connection broke");
    }
  };
  for (int i = 0; i < kRoundTrips; ++i) {
    const int64_t before = system_clock().monotonic().ns;
    require(write_all(fd, chunk.data(), kMessageBytes));
    require(read_all(fd, chunk.data(), kMessageBytes));
    round_trip_ns.record(static_cast<uint64_t>(system_clock().monotonic().ns - before));
  }
  const int64_t before = system_clock().monotonic().ns;
  for (size_t sent = 0; sent < kStreamBytes; sent += kChunkBytes) {
    require(write_all(fd, chunk.data(), kChunkBytes));
  }
  require(read_all(fd, chunk.data(), 1));
  const double seconds = static_cast<double>(system_clock().monotonic().ns - before) / 1e9;
  out.round_trip_us_p50 = static_cast<double>(round_trip_ns.percentile(0.5)) / 1e3;
  out.mb_per_s = static_cast<double>(kStreamBytes) / 1e6 / seconds;
  return out;
}

}  // namespace

Loopback measure_loopback() {
  const Descriptor listener(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  check(bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), size));
  check(listen(listener.get(), 1));
  check(getsockname(listener.get(), reinterpret_cast<sockaddr*>(&address), &size));
  const Descriptor client(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  check(connect(client.get(), reinterpret_cast<const sockaddr*>(&address), size));
  const int on = 1;
  (void)setsockopt(client.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  const Descriptor server(accept(listener.get(), nullptr, nullptr));
  std::thread other([fd = server.get()] { serve(fd); });
  Loopback out;
  try {
    out = measure(client.get());
  } catch (const PeerError&) {
    (void)shutdown(server.get(), SHUT_RDWR);
    other.join();
    throw;
  }
  other.join();
  return out;
}

}  // namespace tidemark::bench
