// The remoting protocol of RocketMQ as far as the comparison needs it: frames with a JSON header,
// and the stored form of messages.
//
//   frame    length (4 bytes, big-endian), length of the header (4; its top byte 0: JSON), header,
//            body
//
// Thread: one for each connection. Errors are thrown as PeerError.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>

#include "bench/peers/socket.h"

namespace tidemark::bench {

using RocketFields = std::map<std::string, std::string>;

enum class RocketCode : int {
  kPullMessage = 11,
  kUpdateAndCreateTopic = 17,
  kEndTransaction = 37,
  kSendMessage = 310,  // "V2": names of one letter
  kSendBatch = 320,
};

// Codes of answers.
inline constexpr int kRocketSuccess = 0;
inline constexpr int kRocketFlushDiskTimeout = 10;
inline constexpr int kRocketPullNotFound = 19;
inline constexpr int kRocketPullRetry = 20;

struct RocketAnswer {
  int32_t opaque = 0;  // of the request
  int code = 0;
  std::string remark;
  RocketFields fields;
  std::string_view body;  // valid during the call
};

class RocketConnection {
 public:
  explicit RocketConnection(uint16_t port) : socket_("rocketmq", port) {}

  // Gives the number that the answer will have. Sent with the next exchange().
  int32_t request(RocketCode code, const RocketFields& fields, std::string_view body = {});

  void exchange(int64_t wait_us) { socket_.exchange(wait_us); }

  // Gives each answer that has come whole to `sink`; true if there was one.
  bool take(const std::function<void(const RocketAnswer&)>& sink);

  // One request, and its answer; throws if it is another than success.
  RocketFields ask(RocketCode code, const RocketFields& fields);

  // Throws if an answer is not a success.
  void require(const RocketAnswer& answer) const;

  [[noreturn]] void fail(std::string_view what) const { socket_.fail(what); }

 private:
  Socket socket_;
  int32_t next_opaque_ = 1;
};

// "name\1value\2..."
std::string rocket_properties(const RocketFields& properties);

// Appends a message as it stands in a batch that is sent.
void append_batched(std::string& batch, std::string_view value);

// Gives the body of each message of a pulled block to `sink`.
void for_each_pulled(std::string_view block, const std::function<void(std::string_view)>& sink);

}  // namespace tidemark::bench
