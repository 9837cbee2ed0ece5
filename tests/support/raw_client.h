// A TCP client that sends whatever bytes the test wants and takes frames out of what comes back.
//
// Waiting functions take a bound and say by their result whether it came in time.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "broker/protocol/frame.h"
#include "log/base/bytes.h"

namespace tidemark::testing {

class RawClient {
 public:
  // Connects to 127.0.0.1; CHECKs that it works.
  explicit RawClient(uint16_t port);
  ~RawClient();
  RawClient(const RawClient&) = delete;
  RawClient& operator=(const RawClient&) = delete;

  // Sends all of it; false if the peer closed meanwhile. Blocks while the socket is full, at most
  // `ms_max`.
  bool send(ByteView bytes, int ms_max = 10'000);
  bool send(const protocol::OutFrame& frame);
  // Sends what the socket takes at once; gives the bytes taken.
  size_t send_some(ByteView bytes);
  // No more will be sent.
  void shut_down();

  // Reads what is there or comes within `ms_max`; false if nothing came.
  bool pump(int ms_max);
  // The next frame that was received, if it is complete.
  std::optional<protocol::Frame> next_frame();
  // The same, reading until there is one, the peer closed or `ms_max` passed without any byte.
  std::optional<protocol::Frame> wait_frame(int ms_max = 10'000);
  // Reads until the peer closes; false if it does not within `ms_max` without any byte.
  bool wait_closed(int ms_max = 10'000);
  // Everything that was received and not taken as frames, as text.
  std::string wait_text(int ms_max = 10'000);

  // The peer has closed or reset the connection.
  [[nodiscard]] bool closed() const { return closed_; }

  [[nodiscard]] size_t buffered() const { return received_.size(); }

 private:
  int socket_ = -1;
  bool closed_ = false;
  std::vector<uint8_t> received_;
};

// --- frames a test sends ---

protocol::OutFrame hello_frame(uint16_t preferred_shard = protocol::kNoShard,
                               uint64_t correlation = 1);
// A request with an empty table.
protocol::OutFrame bare_frame(protocol::FrameType type, uint64_t correlation,
                              uint16_t shard = protocol::kNoShard);
// Header bytes alone, valid unless changed afterwards.
std::vector<uint8_t> header_bytes(const protocol::FrameHeader& header);
std::vector<uint8_t> to_bytes(const protocol::OutFrame& frame);

}  // namespace tidemark::testing
