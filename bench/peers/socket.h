// A TCP connection to the loopback interface for protocols that are spoken here: what is to be sent
// gathers in one buffer, what has come lies in another.
//
// Thread: one. Errors, and the end of the stream, are thrown as PeerError.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace tidemark::bench {

class Socket {
 public:
  // Connected when it returns.
  Socket(std::string peer, uint16_t port);
  ~Socket();
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;

  // Adds to what is to be sent.
  void put(std::string_view bytes) { out_.append(bytes); }

  // Sends what the kernel takes and receives what is there; waits at most `wait_us` if nothing is.
  void exchange(int64_t wait_us);

  // What has come and was not consumed; valid until the next exchange().
  [[nodiscard]] std::string_view received() const {
    return std::string_view(in_).substr(consumed_);
  }

  void consume(size_t bytes) { consumed_ += bytes; }

  // The next line that has come, without its CR LF, consumed.
  std::optional<std::string_view> line();
  // Waits for it, at most 10 s.
  std::string wait_line();

  [[noreturn]] void fail(std::string_view what) const;

 private:
  void write_some();
  bool read_some();

  std::string peer_;
  int fd_ = -1;
  std::string out_;
  size_t sent_ = 0;
  std::string in_;
  size_t consumed_ = 0;
};

}  // namespace tidemark::bench
