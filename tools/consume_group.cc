// tidemark consume --group: the command as a member of a consumer group. What is committed is what
// standard output has taken, to the message.
#include <algorithm>
#include <map>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "log/base/clock.h"
#include "tidemark/group.h"
#include "tools/cli.h"
#include "tools/consume.h"
#include "tools/errors.h"
#include "tools/group_view.h"
#include "tools/interrupt.h"
#include "tools/message_printer.h"
#include "tools/output.h"
#include "tools/parse.h"
#include "tools/patience.h"
#include "tools/session.h"

namespace tidemark::tools {
namespace {

using client::GroupConsumer;
using client::TopicPartition;

constexpr int64_t kCommitNs = 1'000'000'000;
// Of a commit while reading: a broker that is away shows in the next poll().
constexpr int64_t kCommitMsMax = 2'000;
constexpr int64_t kLastCommitMsMax = 5'000;

// Positions behind what was written to standard output, until they are committed.
class Written {
 public:
  void set(const TopicPartition& partition, uint64_t next_offset) {
    next_[partition] = next_offset;
  }

  void forget(const std::vector<TopicPartition>& partitions) {
    for (const TopicPartition& partition : partitions) {
      next_.erase(partition);
    }
  }

  // What could not be committed stays, to be committed again.
  client::Status commit(GroupConsumer& consumer, int64_t deadline_ms) {
    committed_ = system_clock().monotonic();
    if (next_.empty()) {
      return {};
    }
    std::vector<client::GroupPosition> positions;
    positions.reserve(next_.size());
    for (const auto& [partition, offset] : next_) {
      positions.push_back({.partition = partition, .offset = offset});
    }
    const client::Status status = consumer.commit(positions, deadline_ms);
    if (status.ok()) {
      next_.clear();
    }
    return status;
  }

  [[nodiscard]] bool is_time() const {
    return system_clock().monotonic().ns - committed_.ns >= kCommitNs;
  }

 private:
  std::map<TopicPartition, uint64_t> next_;
  MonotonicTime committed_ = system_clock().monotonic();
};

// "0, 3"; of several topics "mails 0-3; orders 1".
std::string names_of(const ConsumeOptions& options, const std::vector<TopicPartition>& partitions) {
  if (options.topics.size() > 1) {
    return partitions_text(partitions);
  }
  std::string out;
  for (const TopicPartition& one : partitions) {
    out += fmt::format("{}{}", out.empty() ? "" : ", ", one.partition);
  }
  return out;
}

class Member {
 public:
  Member(const Globals& globals, const ConsumeOptions& options, const Session& session)
      : options_(options),
        printer_(globals.json, options.format),
        patience_(globals.timeout_ms, options.count == 0 && options.idle_exit_ms == 0),
        consumer_(require(GroupConsumer::create(session.client(), group_options()),
                          fmt::format("group {}", options.group))) {}

  void run() {
    while (!interrupted() && !enough() && !idle()) {
      // Before poll(): a partition may go while it runs, and what is committed then was written.
      printer_.flush();
      const auto batch = consumer_.poll(kConsumePollMs);
      require(batch.status(), fmt::format("group {}", options_.group));
      if (batch->topic.empty()) {
        patience_.on_nothing(consumer_.last_error());
      } else {
        print(*batch);
      }
      commit_now_and_then();
    }
    printer_.flush();
  }

  // Commits the rest and leaves, so that others get the partitions at once.
  void leave() {
    const client::Status committed = written_.commit(consumer_, kLastCommitMsMax);
    const client::Status closed = consumer_.close(kLastCommitMsMax);
    require(committed, "what was printed last may come again, its commit failed");
    require(closed, fmt::format("leaving group {}", options_.group));
  }

  void summarize() const { printer_.summarize(started_); }

  [[nodiscard]] bool enough() const {
    return options_.count > 0 && printer_.messages() >= options_.count;
  }

 private:
  client::GroupOptions group_options() {
    client::GroupOptions group;
    group.group = options_.group;
    group.topics = options_.topics;
    group.instance = options_.instance;
    group.session_timeout_ms = options_.session_timeout_ms.value_or(group.session_timeout_ms);
    // A batch of which only a part is wanted must not be committed whole.
    group.commit = client::CommitMode::kManual;
    group.initial = options_.from == "end" ? client::Position::end() : client::Position::start();
    // What retention has taken since the last commit is gone for the group.
    group.reading.out_of_range = client::OutOfRange::kStart;
    group.reading.tags = options_.tags;
    group.reading.filter = options_.filter;
    group.on_assigned = [this](const std::vector<TopicPartition>& partitions) {
      note(fmt::format("assigned: {}", names_of(options_, partitions)));
    };
    group.on_revoked = [this](const std::vector<TopicPartition>& partitions) {
      note(fmt::format("given up: {}", names_of(options_, partitions)));
      tell(written_.commit(consumer_, kCommitMsMax));
      written_.forget(partitions);
    };
    group.on_lost = [this](const std::vector<TopicPartition>& partitions) {
      note(fmt::format("lost: {}", names_of(options_, partitions)));
      written_.forget(partitions);
    };
    return group;
  }

  void print(const client::MessageBatch& batch) {
    patience_.on_progress();
    heard_ = batch.messages.empty() ? heard_ : system_clock().monotonic();
    const TopicPartition partition = {std::string(batch.topic), batch.partition};
    for (const client::ReceivedMessage& message : batch.messages) {
      printer_.print(batch.topic, batch.partition, message);
      if (enough()) {
        written_.set(partition, message.offset + 1);
        return;
      }
    }
    written_.set(partition, batch.next_offset);
  }

  void commit_now_and_then() {
    if (!written_.is_time()) {
      return;
    }
    printer_.flush();
    tell(written_.commit(consumer_, kCommitMsMax));
  }

  // It is tried again: a passing failure is worth no more than a note.
  static void tell(const client::Status& committed) {
    if (!committed.ok()) {
      note(fmt::format("commit: {}", committed.to_string()));
    }
  }

  // Counted from when the group took it in.
  [[nodiscard]] bool idle() {
    const MonotonicTime now = system_clock().monotonic();
    if (consumer_.generation() == 0 || !consumer_.last_error().ok()) {
      heard_ = now;
    }
    return options_.idle_exit_ms > 0 && now.ns - heard_.ns > options_.idle_exit_ms * 1'000'000;
  }

  const ConsumeOptions& options_;
  MessagePrinter printer_;
  Patience patience_;
  Written written_;
  const MonotonicTime started_ = system_clock().monotonic();
  MonotonicTime heard_ = started_;
  GroupConsumer consumer_;  // its callbacks use the others
};

}  // namespace

int consume_as_member(const Globals& globals, const ConsumeOptions& options) {
  check_group_start(options);
  Session session(globals);
  for (const std::string& topic : options.topics) {
    session.describe_topic(topic);  // else a misspelt name is waited for
  }
  Member member(globals, options, session);
  member.run();
  member.leave();
  member.summarize();
  const bool stopped_early =
      interrupted() && options.count > 0 && !member.enough() && !options.follow;
  return static_cast<int>(stopped_early ? ExitCode::kPartlyDone : ExitCode::kOk);
}

}  // namespace tidemark::tools
