// GroupConsumer: reads topics together with the other members of a consumer group. The broker gives
// each partition to one member; positions are kept by the broker.
//
//   auto consumer = GroupConsumer::create(client, {.group = "billing", .topics = {"orders"}});
//   while (...) {
//     auto batch = consumer->poll(1'000);
//     if (!batch.ok()) { ... }
//     for (const ReceivedMessage& m : batch->messages) { ... }   // the next poll() commits them
//   }
//
// Promises: every message is given to the group at least once; a position never goes back but by
// seek() or an operator's reset; what is committed is only what the program is done with: messages
// of a batch count as done when poll() or commit() is called, or when on_messages has returned. A
// member that lost a partition (it was away for longer than its session timeout) cannot commit for
// it any more: the broker refuses its epoch. When members come and go, only the partitions that
// move are interrupted.
//
// Thread: every member may be called from any thread, but only one thread may be in poll() or use
// what it returned. The consumer has a thread of its own for the group. Callbacks of rebalances
// come inside poll(), or, in callback style, on that thread: no call of on_messages is under way
// then for the partitions concerned. Calls that wait (commit, close) are not for on_messages when
// that runs on the I/O thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tidemark/client.h"
#include "tidemark/consumer.h"
#include "tidemark/error.h"

namespace tidemark::client {

struct TopicPartition {
  std::string topic;
  uint32_t partition = 0;

  friend auto operator<=>(const TopicPartition&, const TopicPartition&) = default;
};

enum class CommitMode {
  kAuto,    // what is done is committed every auto_commit_interval_ms, and before a partition goes
  kManual,  // commit() alone
};

struct GroupOptions {
  std::string group;                // 1 to 255 bytes
  std::vector<std::string> topics;  // 1 to 256; those that do not exist yet are waited for
  // Static member: comes back after a restart within the session timeout and gets the partitions it
  // had, without a rebalance. A second one of the same name replaces the first.
  std::string instance = {};
  // Not heard of for this long (1 s to 5 min), a member is gone.
  int64_t session_timeout_ms = 10'000;
  CommitMode commit = CommitMode::kAuto;
  int64_t auto_commit_interval_ms = 1'000;
  // Where reading begins in a partition that the group has no position in: start or end.
  Position initial = Position::start();
  // How to read. on_messages: callback style, poll() must not be used.
  ConsumerOptions reading = {};
  // Partitions came / are about to go. on_revoked comes when the program has no batch of them: in
  // manual mode it may commit() inside.
  std::function<void(const std::vector<TopicPartition>&)> on_assigned = {};
  std::function<void(const std::vector<TopicPartition>&)> on_revoked = {};
  // Partitions went without being given up: the session timed out or an operator reset the group.
  std::function<void(const std::vector<TopicPartition>&)> on_lost = {};
};

struct GroupPosition {
  TopicPartition partition;
  uint64_t offset = 0;  // the next one to be read
};

class GroupConsumerImpl;

class GroupConsumer {
 public:
  // Does not wait for the broker. kInvalidArgument names the option that is wrong.
  static Result<GroupConsumer> create(const Client& client, GroupOptions options);
  // close(5'000).
  ~GroupConsumer();
  GroupConsumer(GroupConsumer&&) noexcept;
  GroupConsumer& operator=(GroupConsumer&&) noexcept;

  // As Consumer::poll(); an empty batch while nothing is assigned. kFenced: another member took
  // over the instance name: this one is done.
  Result<MessageBatch> poll(int64_t timeout_ms);

  // Commits what is done and waits for the answer. kFenced: a partition of it went to another
  // member meanwhile (the rest is committed). kOutcomeUnknown, kTimedOut: it may be committed.
  Status commit(int64_t deadline_ms = 5'000);
  // Commits exactly these; manual mode. An offset below the committed one changes nothing.
  Status commit(const std::vector<GroupPosition>& positions, int64_t deadline_ms = 5'000);

  // Goes on from there; the next commit may lie before the committed position then. kNotFound: not
  // assigned.
  Status seek(std::string_view topic, uint32_t partition, Position position);
  Status pause(std::string_view topic, uint32_t partition);
  Status resume(std::string_view topic, uint32_t partition);

  [[nodiscard]] std::vector<TopicPartition> assignment() const;
  [[nodiscard]] uint64_t generation() const;
  [[nodiscard]] Status last_error() const;

  // Commits what is done (auto; not the batch that the program still has), gives up the partitions
  // and leaves the group, so that others get them at once. Idempotent.
  Status close(int64_t deadline_ms);

 private:
  explicit GroupConsumer(std::shared_ptr<GroupConsumerImpl> impl);

  std::shared_ptr<GroupConsumerImpl> impl_;
};

// --- for operators ---

struct GroupLag {
  TopicPartition partition;
  uint16_t shard = 0;
  std::optional<uint64_t> committed;
  std::optional<int64_t> committed_ms;
  uint32_t epoch = 0;
  uint64_t start_offset = 0;
  uint64_t end_offset = 0;
  // Messages that are stored and not yet committed: never negative. Counted at one moment of the
  // partition.
  uint64_t lag = 0;
  std::string member;  // that works on it; empty: none
};

struct GroupMemberInfo {
  std::string member;
  std::string instance;
  std::vector<std::string> topics;
  std::vector<TopicPartition> assigned;
  int64_t heard_ms_ago = 0;
  int64_t session_timeout_ms = 0;
};

struct GroupDescription {
  std::string group;
  uint64_t generation = 0;
  std::vector<GroupMemberInfo> members;
  std::vector<GroupLag> partitions;  // with a position or a member, by topic and number
  uint64_t lag = 0;                  // of all
};

struct GroupSummary {
  std::string group;
  uint32_t members = 0;
  uint32_t partitions = 0;  // with a position
  uint32_t queues = 0;      // partitions that it works on in queue mode
};

struct GroupReset {
  TopicPartition partition;
  Position to = Position::start();
};

struct GroupResetResult {
  TopicPartition partition;
  Status status;
  uint64_t offset = 0;
};

// Thread: any, except the client's I/O thread (kInvalidArgument). Every call waits for its answer,
// at most deadline_ms; passing failures are tried again until then.
class Groups {
 public:
  static Result<Groups> create(const Client& client);

  // By name.
  Result<std::vector<GroupSummary>> list(int64_t deadline_ms = 10'000);
  // kNotFound: neither members nor positions.
  Result<GroupDescription> describe(std::string_view group, int64_t deadline_ms = 10'000);
  // Sets positions. A member that works on such a partition is fenced and begins anew there;
  // `force` is needed when the group has members (else kConflict).
  Result<std::vector<GroupResetResult>> reset(std::string_view group,
                                              const std::vector<GroupReset>& resets, bool force,
                                              int64_t deadline_ms = 10'000);
  // Forgets its positions; how many. kConflict: it has members. kNotFound.
  Result<uint64_t> remove(std::string_view group, int64_t deadline_ms = 10'000);

 private:
  explicit Groups(Client client) : client_(std::move(client)) {}

  Client client_;
};

}  // namespace tidemark::client
