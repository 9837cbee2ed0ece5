// Consumed messages on standard output, and the sentence about them at the end.
//
// Thread: one.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "log/base/clock.h"
#include "tidemark/message.h"
#include "tidemark/queue.h"
#include "tools/message_format.h"
#include "tools/output.h"

namespace tidemark::tools {

class MessagePrinter {
 public:
  // `format` as MessageFormat has it, without meaning for JSON; a usage error if it is wrong.
  MessagePrinter(bool json, const std::string& format);

  // Gathers; what has gathered is written by flush(), or before when it is much.
  void print(std::string_view topic, uint32_t partition, const client::ReceivedMessage& message);
  void print(const client::QueueMessage& message);

  void flush() { out_.flush(); }

  [[nodiscard]] bool nothing_gathered() const { return out_.empty(); }

  [[nodiscard]] uint64_t messages() const { return messages_; }

  [[nodiscard]] uint64_t value_bytes() const { return value_bytes_; }

  // "consumed 1,234 messages, 12.3 MB in 1.20 s (...)", as a note.
  void summarize(MonotonicTime started) const;

 private:
  void print(PrintedMessage printed, std::span<const client::Header> headers);

  bool json_;
  MessageFormat format_;
  OutputBuffer out_;
  std::vector<PrintedHeader> headers_;
  uint64_t messages_ = 0;
  uint64_t value_bytes_ = 0;
};

}  // namespace tidemark::tools
