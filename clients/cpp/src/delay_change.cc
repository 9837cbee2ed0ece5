// Cancel and reschedule: every target gets an answer of its own.
//
// Asking twice would do no harm to the message, but the second answer would be kNotFound: so a
// target whose request may have been carried out is not asked for again.
#include <algorithm>

#include "clients/cpp/src/delay_calls.h"
#include "clients/cpp/src/delay_item.h"

namespace tidemark::client_core {

namespace {

using protocol::FrameType;
namespace fbs = protocol::fbs;

using Refs = std::vector<flatbuffers::Offset<fbs::DelayRef>>;
// Completes the request's table around the targets.
using TableBuilder = std::function<void(flatbuffers::FlatBufferBuilder&, const Refs&)>;

client::Status to_client(const Status& status) { return to_public(status); }

// Not done, and may be done if it is asked for again.
bool may_change_later(const Status& status) {
  return may_ask_again(status) && !error_outcome_unknown(status.code());
}

class ChangeCall {
 public:
  ChangeCall(Asker& asker, FrameType type, const std::vector<client::DelayTarget>& targets,
             TableBuilder finish)
      : asker_(asker),
        type_(type),
        targets_(targets),
        finish_(std::move(finish)),
        changes_(targets.size()) {
    for (size_t i = 0; i < targets.size(); ++i) {
      open_.push_back(i);
    }
  }

  Result<std::vector<client::DelayChange>> run(std::string_view name) {
    RETURN_IF_ERROR(asker_.check());
    while (true) {
      Result<client::TopicDescription> topic = find_topic(asker_, name);
      if (!topic.ok()) {
        last_error_ = topic.error();
        break;
      }
      ask_open(*topic);
      if (open_.empty()) {
        return std::move(changes_);
      }
      if (!asker_.pause()) {
        break;
      }
    }
    if (open_.size() == targets_.size()) {
      return last_error_;
    }
    for (const size_t i : open_) {
      if (changes_[i].status.ok()) {
        changes_[i].status = to_client(last_error_);
      }
    }
    return std::move(changes_);
  }

 private:
  // One round: every open target is asked for once, at its home.
  void ask_open(const client::TopicDescription& topic) {
    std::map<Home, std::vector<size_t>> waiting;
    for (const size_t i : std::exchange(open_, {})) {
      const Result<Home> home = home_of(topic, targets_[i]);
      if (home.ok()) {
        waiting[*home].push_back(i);
      } else {
        changes_[i].status = to_client(home.error());
      }
    }
    ask_in_chunks(
        asker_, type_, std::move(waiting), kDelayRefsPerRequestMax,
        [&](const std::vector<size_t>& items) {
          flatbuffers::FlatBufferBuilder builder(256);
          Refs refs;
          for (const size_t i : items) {
            refs.push_back(build_ref(builder, topic, targets_[i]));
          }
          finish_(builder, refs);
          return finished_copy(builder);
        },
        [&](Home home, const std::vector<size_t>& items, const Reply& reply) {
          take_reply(topic, home.second, items, reply);
        });
    std::sort(open_.begin(), open_.end());
  }

  void take_reply(const client::TopicDescription& topic, uint16_t shard,
                  const std::vector<size_t>& chunk, const Reply& reply) {
    Status status = reply.status;
    const fbs::DelayChangeReply* table = nullptr;
    if (status.ok()) {
      table = &table_of<fbs::DelayChangeReply>(reply);
      if (table->results() == nullptr || table->results()->size() != chunk.size()) {
        status =
            Status(ErrorCode::kOutcomeUnknown, "DelayChangeReply does not answer every target");
      }
    }
    for (size_t i = 0; i < chunk.size(); ++i) {
      const fbs::DelayChangeResult* const result =
          status.ok() ? table->results()->Get(static_cast<flatbuffers::uoffset_t>(i)) : nullptr;
      settle(chunk[i], result != nullptr ? protocol::to_status(result->error()) : status);
      if (result == nullptr || !changes_[chunk[i]].status.ok()) {
        continue;
      }
      changes_[chunk[i]].outcome = outcome_of(result->outcome());
      if (result->outcome() == fbs::DelayOutcome::kRescheduled && result->receipt() != nullptr) {
        changes_[chunk[i]].receipt = to_receipt(*result->receipt(), shard, topic.id);
      }
    }
  }

  void settle(size_t target, const Status& status) {
    changes_[target].status = to_client(status);
    if (!status.ok() && may_change_later(status)) {
      last_error_ = status;
      open_.push_back(target);
    }
  }

  static client::DelayOutcome outcome_of(fbs::DelayOutcome outcome) {
    switch (outcome) {
      case fbs::DelayOutcome::kCancelled:
        return client::DelayOutcome::kCancelled;
      case fbs::DelayOutcome::kRescheduled:
        return client::DelayOutcome::kRescheduled;
      case fbs::DelayOutcome::kAlreadyDelivered:
        return client::DelayOutcome::kAlreadyDelivered;
      case fbs::DelayOutcome::kNotFound:
        break;
    }
    return client::DelayOutcome::kNotFound;
  }

  Asker& asker_;
  FrameType type_;
  const std::vector<client::DelayTarget>& targets_;
  TableBuilder finish_;
  std::vector<client::DelayChange> changes_;
  std::vector<size_t> open_;  // targets without a final answer, in order
  Status last_error_;
};

}  // namespace

Result<std::vector<client::DelayChange>> cancel_delayed(
    Asker& asker, std::string_view topic, const std::vector<client::DelayTarget>& targets) {
  ChangeCall call(asker, FrameType::kDelayCancel, targets,
                  [](flatbuffers::FlatBufferBuilder& builder, const Refs& refs) {
                    builder.Finish(fbs::CreateDelayCancel(builder, builder.CreateVector(refs)));
                  });
  return call.run(topic);
}

Result<std::vector<client::DelayChange>> reschedule_delayed(
    Asker& asker, std::string_view topic, const std::vector<client::DelayTarget>& targets,
    const client::Delay& when, int64_t now_ms) {
  if (when.repeat() != client::Delay::Repeat::kNever || !when.key().empty()) {
    return Status(ErrorCode::kInvalidArgument,
                  "a message is rescheduled with Delay::after or Delay::at, without a key");
  }
  ASSIGN_OR_RETURN(const format::ScheduleItem item, to_item(when, now_ms));
  ChangeCall call(
      asker, FrameType::kDelayReschedule, targets,
      [&item](flatbuffers::FlatBufferBuilder& builder, const Refs& refs) {
        builder.Finish(fbs::CreateDelayReschedule(
            builder, builder.CreateVector(refs), static_cast<uint8_t>(item.due_kind), item.due_ms));
      });
  return call.run(topic);
}

}  // namespace tidemark::client_core
