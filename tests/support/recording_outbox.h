// RecordingOutbox: keeps what a shard sends, for a test to look at.
#pragma once

#include <deque>
#include <utility>
#include <vector>

#include "broker/shard/session.h"
#include "log/base/check.h"
#include "tests/support/request_builder.h"

namespace tidemark::testing {

class RecordingOutbox final : public shard::Outbox {
 public:
  struct Reply {
    shard::ReplyTo to;
    protocol::Frame frame;
    std::vector<SharedBytes> payload;  // as it was handed over: shares memory with what was sent
  };

  void reply(const shard::ReplyTo& to, protocol::OutFrame frame) override {
    replies.push_back({to, to_frame(frame), frame.payload});
    TIDEMARK_CHECK(replies.back().frame.header.correlation == to.correlation,
                   "a reply has the correlation id of its request");
  }

  void mail(shard::ShardMail letter) override { letters.push_back(std::move(letter)); }

  // The oldest reply. Requires: there is one.
  protocol::Frame take() {
    TIDEMARK_CHECK(!replies.empty(), "a reply was expected");
    protocol::Frame frame = std::move(replies.front().frame);
    replies.pop_front();
    return frame;
  }

  std::vector<shard::ShardMail> take_mail() { return std::exchange(letters, {}); }

  std::deque<Reply> replies;
  std::vector<shard::ShardMail> letters;
};

}  // namespace tidemark::testing
