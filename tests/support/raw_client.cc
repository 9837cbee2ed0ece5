#include "tests/support/raw_client.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>

#include "broker/protocol/messages.h"
#include "log/base/check.h"

namespace tidemark::testing {

using protocol::Frame;
using protocol::FrameHeader;
using protocol::OutFrame;

RawClient::RawClient(uint16_t port) : socket_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  TIDEMARK_CHECK(socket_ >= 0);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const int connected =
      ::connect(socket_, reinterpret_cast<const sockaddr*>(&address), sizeof address);
  TIDEMARK_CHECK(connected == 0, "connect to port " + std::to_string(port));
  TIDEMARK_CHECK(::fcntl(socket_, F_SETFL, O_NONBLOCK) == 0);
}

RawClient::~RawClient() { ::close(socket_); }

size_t RawClient::send_some(ByteView bytes) {
  const ssize_t sent = ::send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
  if (sent < 0) {
    closed_ = closed_ || (errno != EAGAIN && errno != EINTR);
    return 0;
  }
  return static_cast<size_t>(sent);
}

bool RawClient::send(ByteView bytes, int ms_max) {
  while (!bytes.empty()) {
    const size_t sent = send_some(bytes);
    bytes = bytes.subspan(sent);
    if (closed_) {
      return false;
    }
    pollfd wait = {socket_, POLLOUT, 0};
    if (sent == 0 && ::poll(&wait, 1, ms_max) == 0) {
      return false;
    }
  }
  return true;
}

bool RawClient::send(const OutFrame& frame) { return send(to_bytes(frame)); }

void RawClient::shut_down() { ::shutdown(socket_, SHUT_WR); }

bool RawClient::pump(int ms_max) {
  pollfd wait = {socket_, POLLIN, 0};
  if (closed_ || ::poll(&wait, 1, ms_max) <= 0) {
    return false;
  }
  uint8_t piece[65'536];
  const ssize_t got = ::recv(socket_, piece, sizeof piece, 0);
  if (got <= 0) {
    closed_ = got == 0 || errno != EAGAIN;
    return false;
  }
  received_.insert(received_.end(), piece, piece + got);
  return true;
}

std::optional<Frame> RawClient::next_frame() {
  if (received_.size() < protocol::kFrameHeaderBytes) {
    return std::nullopt;
  }
  const auto header = protocol::decode_frame_header(received_, limits::kFrameBytesMax);
  TIDEMARK_CHECK(header.ok(), header.status().to_string());
  if (received_.size() < header->frame_bytes) {
    return std::nullopt;
  }
  Frame frame{*header,
              SharedBytes(Buffer::copy_of(ByteView(received_).first(header->frame_bytes)))};
  received_.erase(received_.begin(), received_.begin() + header->frame_bytes);
  return frame;
}

std::optional<Frame> RawClient::wait_frame(int ms_max) {
  while (true) {
    if (std::optional<Frame> frame = next_frame()) {
      return frame;
    }
    if (!pump(ms_max)) {
      return std::nullopt;
    }
  }
}

bool RawClient::wait_closed(int ms_max) {
  while (pump(ms_max)) {
  }
  return closed_;
}

std::string RawClient::wait_text(int ms_max) {
  wait_closed(ms_max);
  return std::string(as_text(received_));
}

OutFrame hello_frame(uint16_t preferred_shard, uint64_t correlation) {
  flatbuffers::FlatBufferBuilder builder;
  const auto client = builder.CreateString("raw test client");
  builder.Finish(protocol::fbs::CreateHello(builder, client, preferred_shard));
  return protocol::make_frame(protocol::FrameType::kHello, /*reply=*/false, protocol::kNoShard,
                              correlation, protocol::finished(builder));
}

OutFrame bare_frame(protocol::FrameType type, uint64_t correlation, uint16_t shard) {
  return protocol::make_frame(type, /*reply=*/false, shard, correlation, {});
}

std::vector<uint8_t> header_bytes(const FrameHeader& header) {
  std::vector<uint8_t> bytes(protocol::kFrameHeaderBytes);
  protocol::encode_frame_header(header, bytes);
  return bytes;
}

std::vector<uint8_t> to_bytes(const OutFrame& frame) {
  std::vector<uint8_t> bytes(frame.head.data(), frame.head.data() + frame.head.size());
  for (const SharedBytes& part : frame.payload) {
    bytes.insert(bytes.end(), part.data(), part.data() + part.size());
  }
  return bytes;
}

}  // namespace tidemark::testing
