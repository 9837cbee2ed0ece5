// GroupConsumer: a Consumer whose assignment the broker decides.
//
//   group thread: heartbeat (short long polls) --> what is assigned --> arriving, revoking
//   the program, between two batches (poll), or the group thread (callback style):
//     revoking --> no longer read, on_revoked, committed --> left out of the next heartbeat
//     arriving --> on_assigned, read from the group's position --> owned
//
// Locks: `mutex_` for what is known, never held over a call to the broker or the program;
// `committing_` for one commit at a time.
#include <algorithm>
#include <condition_variable>
#include <map>
#include <mutex>
#include <set>
#include <thread>

#include "clients/cpp/src/group_calls.h"
#include "log/base/limits.h"
#include "log/base/random.h"
#include "tidemark/group.h"

namespace tidemark::client {

using client_core::Call;
using client_core::GroupCommitItem;
using client_core::GroupCommitted;
using client_core::GroupOffset;
using client_core::GroupPlace;
using client_core::to_public;
namespace fbs = protocol::fbs;

namespace {

// How long a heartbeat waits at the broker for news: about how soon a partition that was given up
// reaches the next member.
constexpr uint32_t kHeartbeatWaitMs = 300;
constexpr int64_t kHeartbeatDeadlineMs = 5'000;
constexpr int64_t kRetryMs = 200;
constexpr int64_t kLeaseCheckMs = 1'000;
// poll() looks for a rebalance this often.
constexpr int64_t kSliceMs = 50;

Status check(const GroupOptions& options) {
  const auto bad = [](const std::string& why) { return Status(ErrorCode::kInvalidArgument, why); };
  if (options.group.empty() || options.group.size() > limits::kGroupNameBytesMax) {
    return bad("group has 1 to " + std::to_string(limits::kGroupNameBytesMax) + " bytes");
  }
  if (options.instance.size() > limits::kGroupNameBytesMax) {
    return bad("instance has at most " + std::to_string(limits::kGroupNameBytesMax) + " bytes");
  }
  if (options.topics.empty() || options.topics.size() > limits::kGroupTopicsMax) {
    return bad("topics are 1 to " + std::to_string(limits::kGroupTopicsMax));
  }
  if (options.session_timeout_ms < limits::kGroupSessionMsMin ||
      options.session_timeout_ms > limits::kGroupSessionMsMax) {
    return bad("session_timeout_ms is " + std::to_string(options.session_timeout_ms) +
               "; allowed are " + std::to_string(limits::kGroupSessionMsMin) + " to " +
               std::to_string(limits::kGroupSessionMsMax));
  }
  if (options.auto_commit_interval_ms < 1) {
    return bad("auto_commit_interval_ms is at least 1");
  }
  if (options.initial.kind() == Position::Kind::kOffset ||
      options.initial.kind() == Position::Kind::kTimestamp) {
    return bad("initial is start or end");
  }
  return {};
}

std::string random_member() {
  tidemark::Random random(tidemark::seed_from_system());
  std::string out;
  for (int i = 0; i < 16; ++i) {
    out.push_back("0123456789abcdef"[random.below(16)]);
  }
  return out;
}

}  // namespace

class GroupConsumerImpl {
 public:
  GroupConsumerImpl(const Client& client, GroupOptions options)
      : client_(client), options_(std::move(options)), member_(random_member()) {}

  ~GroupConsumerImpl() { static_cast<void>(close(0)); }

  GroupConsumerImpl(const GroupConsumerImpl&) = delete;
  GroupConsumerImpl& operator=(const GroupConsumerImpl&) = delete;

  Status start() {
    ConsumerOptions reading = options_.reading;
    if (options_.reading.on_messages) {
      reading.on_messages = [this](const Result<MessageBatch>& batch) { deliver(batch); };
    }
    auto consumer = Consumer::create(client_, std::move(reading));
    if (!consumer.ok()) {
      return consumer.status();
    }
    consumer_ = std::make_unique<Consumer>(std::move(*consumer));
    thread_ = std::thread([this] { run(); });
    return {};
  }

  Result<MessageBatch> poll(int64_t timeout_ms) {
    if (options_.reading.on_messages) {
      return Status(ErrorCode::kInvalidArgument, "poll() cannot be used together with on_messages");
    }
    finish_batch();
    tidemark::Clock& clock = tidemark::system_clock();
    const int64_t until_ns = clock.monotonic().ns + timeout_ms * client_core::kNsPerMs;
    while (true) {
      if (const Status status = state(); !status.ok()) {
        return status;
      }
      take_rebalance();
      const int64_t left_ms =
          std::max<int64_t>(0, (until_ns - clock.monotonic().ns) / client_core::kNsPerMs);
      Result<MessageBatch> batch = read(std::min(left_ms, kSliceMs));
      if (!batch.ok() || !batch->messages.empty() || left_ms == 0) {
        return batch;
      }
    }
  }

  Status commit(int64_t deadline_ms) {
    finish_batch();
    return commit_done(deadline_ms, nullptr);
  }

  Status commit(const std::vector<GroupPosition>& positions, int64_t deadline_ms) {
    std::vector<Wanted> wanted;
    {
      const std::lock_guard lock(mutex_);
      for (const GroupPosition& position : positions) {
        const auto it = owned_.find(position.partition);
        if (it == owned_.end()) {
          return Status(ErrorCode::kNotFound, position.partition.topic + " partition " +
                                                  std::to_string(position.partition.partition) +
                                                  " is not assigned");
        }
        wanted.push_back(
            {it->first, it->second.place, it->second.epoch, position.offset, it->second.rewind});
      }
    }
    return send_commits(wanted, deadline_ms);
  }

  Status seek(std::string_view topic, uint32_t partition, Position position) {
    const TopicPartition key{std::string(topic), partition};
    if (const Status status = consumer_->seek(topic, partition, position); !status.ok()) {
      return status;
    }
    const std::lock_guard lock(mutex_);
    if (const auto it = owned_.find(key); it != owned_.end()) {
      it->second.rewind = true;
      it->second.done.reset();
    }
    if (current_.has_value() && current_->first == key) {
      current_.reset();
    }
    return {};
  }

  Status pause(std::string_view topic, uint32_t partition, bool paused) {
    const TopicPartition key{std::string(topic), partition};
    const std::lock_guard lock(mutex_);
    if (!owned_.contains(key)) {
      return Status(ErrorCode::kNotFound,
                    key.topic + " partition " + std::to_string(partition) + " is not assigned");
    }
    if (paused) {
      paused_.insert(key);
    } else {
      paused_.erase(key);
    }
    if (revoking_.contains(key)) {
      return {};  // it is on its way out, and not read
    }
    return paused ? consumer_->pause(topic, partition) : consumer_->resume(topic, partition);
  }

  std::vector<TopicPartition> assignment() const {
    const std::lock_guard lock(mutex_);
    std::vector<TopicPartition> out;
    for (const auto& [key, owned] : owned_) {
      out.push_back(key);
    }
    return out;
  }

  uint64_t generation() const {
    const std::lock_guard lock(mutex_);
    return generation_;
  }

  Status last_error() const {
    {
      const std::lock_guard lock(mutex_);
      if (!last_error_.ok()) {
        return to_public(last_error_);
      }
    }
    return consumer_->last_error();
  }

  Status close(int64_t deadline_ms) {
    {
      const std::lock_guard lock(mutex_);
      if (std::exchange(closing_, true)) {
        return {};
      }
    }
    changed_.notify_all();
    if (thread_.joinable()) {
      thread_.join();
    }
    if (consumer_ == nullptr) {
      return {};
    }
    consumer_->close();
    Status status;
    if (options_.commit == CommitMode::kAuto && deadline_ms > 0) {
      status = commit_done(deadline_ms, nullptr);
    }
    {
      const std::lock_guard lock(mutex_);
      owned_.clear();
    }
    if (deadline_ms > 0) {
      static_cast<void>(ask_heartbeat(true, 0, deadline_ms));
    }
    return status;
  }

 private:
  struct Owned {
    GroupPlace place;
    uint32_t epoch = 0;
    std::optional<uint64_t> done;       // next offset after what the program is done with
    std::optional<uint64_t> committed;  // recorded by the broker
    bool rewind = false;                // the next commit may go back
  };

  struct Arriving {
    Owned owned;
    Position from = Position::start();
  };

  struct Wanted {
    TopicPartition key;
    GroupPlace place;
    uint32_t epoch = 0;
    uint64_t offset = 0;
    bool rewind = false;
  };

  Status state() const {
    const std::lock_guard lock(mutex_);
    if (!fatal_.ok()) {
      return to_public(fatal_);
    }
    return closing_ ? Status(ErrorCode::kShuttingDown, "the consumer is closed") : Status();
  }

  // --- reading

  // The program is done with the batch it has.
  void finish_batch() {
    const std::lock_guard lock(mutex_);
    if (current_.has_value()) {
      if (const auto it = owned_.find(current_->first); it != owned_.end()) {
        it->second.done = current_->second;
      }
      current_.reset();
    }
  }

  Result<MessageBatch> read(int64_t timeout_ms) {
    {
      std::unique_lock lock(mutex_);
      if (owned_.empty()) {
        changed_.wait_for(lock, std::chrono::milliseconds(timeout_ms));
        return MessageBatch{};
      }
    }
    Result<MessageBatch> batch = consumer_->poll(timeout_ms);
    if (!batch.ok() && batch.status().code() == ErrorCode::kInvalidArgument) {
      const std::lock_guard lock(mutex_);
      if (owned_.empty()) {
        return MessageBatch{};  // the last partition was lost meanwhile
      }
    }
    if (batch.ok() && !batch->messages.empty()) {
      const std::lock_guard lock(mutex_);
      current_ = {TopicPartition{std::string(batch->topic), batch->partition}, batch->next_offset};
    }
    return batch;
  }

  // Callback style: one batch for the program.
  void deliver(const Result<MessageBatch>& batch) {
    if (!batch.ok()) {
      return options_.reading.on_messages(batch);
    }
    const TopicPartition key{std::string(batch->topic), batch->partition};
    uint32_t epoch = 0;
    {
      const std::lock_guard lock(mutex_);
      const auto it = owned_.find(key);
      if (it == owned_.end()) {
        return;  // it was given up meanwhile: the next one to have it reads this again
      }
      epoch = it->second.epoch;
      handling_ = key;
    }
    options_.reading.on_messages(batch);
    const std::lock_guard lock(mutex_);
    handling_.reset();
    if (const auto it = owned_.find(key); it != owned_.end() && it->second.epoch == epoch) {
      it->second.done = batch->next_offset;
    }
  }

  // --- rebalances

  // Gives up and takes over what the broker said. The program has no batch of what goes.
  void take_rebalance() {
    give_up_revoked();
    std::map<TopicPartition, Arriving> arriving;
    {
      const std::lock_guard lock(mutex_);
      arriving = std::exchange(arriving_, {});
    }
    if (arriving.empty()) {
      return;
    }
    std::vector<TopicPartition> keys;
    std::vector<Assignment> assignment;
    {
      const std::lock_guard lock(mutex_);
      for (const auto& [key, one] : arriving) {
        keys.push_back(key);
        assignment.push_back({key.topic, key.partition, one.from});
        owned_[key] = one.owned;
      }
    }
    if (options_.on_assigned) {
      options_.on_assigned(keys);
    }
    if (const Status status = consumer_->add(assignment); !status.ok()) {
      // Closed meanwhile: nothing is read of them, so they are nobody's to hold.
      const std::lock_guard lock(mutex_);
      for (const TopicPartition& key : keys) {
        owned_.erase(key);
      }
    }
  }

  void give_up_revoked() {
    std::vector<TopicPartition> keys;
    {
      const std::lock_guard lock(mutex_);
      for (const TopicPartition& key : revoking_) {
        if (handling_ != key) {  // else at the next round: heartbeats do not wait for the program
          keys.push_back(key);
          static_cast<void>(consumer_->remove(key.topic, key.partition));
        }
      }
    }
    if (keys.empty()) {
      return;
    }
    if (options_.on_revoked) {
      options_.on_revoked(keys);
    }
    if (options_.commit == CommitMode::kAuto) {
      static_cast<void>(commit_done(kHeartbeatDeadlineMs, &keys));
    }
    const std::lock_guard lock(mutex_);
    for (const TopicPartition& key : keys) {
      owned_.erase(key);
      revoking_.erase(key);
      paused_.erase(key);
    }
  }

  // --- commits

  // Of all partitions, or of `only` these.
  Status commit_done(int64_t deadline_ms, const std::vector<TopicPartition>* only) {
    std::vector<Wanted> wanted;
    {
      const std::lock_guard lock(mutex_);
      for (const auto& [key, owned] : owned_) {
        const bool chosen =
            only == nullptr || std::find(only->begin(), only->end(), key) != only->end();
        if (chosen && owned.done.has_value() && (owned.rewind || owned.done != owned.committed)) {
          wanted.push_back({key, owned.place, owned.epoch, *owned.done, owned.rewind});
        }
      }
    }
    return send_commits(wanted, deadline_ms);
  }

  Status send_commits(const std::vector<Wanted>& wanted, int64_t deadline_ms) {
    const std::lock_guard committing(committing_);
    Status first;
    for (const bool rewind : {false, true}) {
      std::vector<GroupCommitItem> items;
      std::vector<const Wanted*> which;
      for (const Wanted& one : wanted) {
        if (one.rewind == rewind) {
          items.push_back({one.place, one.epoch, one.offset});
          which.push_back(&one);
        }
      }
      if (items.empty()) {
        continue;
      }
      Call call(client_, deadline_ms);
      if (const tidemark::Status status = call.check(); !status.ok()) {
        return to_public(status);
      }
      const std::vector<GroupCommitted> done = client_core::commit_group(
          call, options_.group,
          rewind ? fbs::GroupCommitKind::kRewind : fbs::GroupCommitKind::kCommit, items);
      const Status status = take_committed(which, done);
      first = first.ok() ? status : first;
    }
    return first;
  }

  Status take_committed(const std::vector<const Wanted*>& which,
                        const std::vector<GroupCommitted>& done) {
    Status first;
    std::vector<TopicPartition> lost;
    {
      const std::lock_guard lock(mutex_);
      for (size_t i = 0; i < which.size(); ++i) {
        const auto it = owned_.find(which[i]->key);
        if (!done[i].status.ok() && first.ok()) {
          first = to_public(done[i].status);
        }
        if (it == owned_.end() || it->second.epoch != which[i]->epoch) {
          continue;
        }
        if (done[i].status.ok()) {
          it->second.committed = which[i]->offset;
          it->second.rewind = it->second.rewind && !which[i]->rewind;
        } else if (done[i].status.code() == tidemark::ErrorCode::kFenced) {
          lost.push_back(it->first);
          lost_epochs_[it->first] = it->second.epoch;
          owned_.erase(it);
        }
      }
    }
    drop_lost(lost);
    return first;
  }

  // Partitions that were taken away: they are no longer owned.
  void drop_lost(const std::vector<TopicPartition>& lost) {
    for (const TopicPartition& key : lost) {
      static_cast<void>(consumer_->remove(key.topic, key.partition));
      const std::lock_guard lock(mutex_);
      revoking_.erase(key);
      paused_.erase(key);
    }
    if (!lost.empty() && options_.on_lost) {
      options_.on_lost(lost);
    }
  }

  // Who has nothing to commit is not told that an operator reset its position: it looks.
  void check_leases() {
    std::vector<TopicPartition> keys;
    std::vector<GroupPlace> places;
    {
      const std::lock_guard lock(mutex_);
      for (const auto& [key, owned] : owned_) {
        keys.push_back(key);
        places.push_back(owned.place);
      }
    }
    Call call(client_, kHeartbeatDeadlineMs);
    const std::vector<GroupOffset> offsets =
        client_core::group_offsets(call, options_.group, places);
    std::vector<TopicPartition> lost;
    {
      const std::lock_guard lock(mutex_);
      for (size_t i = 0; i < keys.size(); ++i) {
        const auto it = owned_.find(keys[i]);
        if (it != owned_.end() && offsets[i].status.ok() && offsets[i].epoch > it->second.epoch) {
          lost.push_back(keys[i]);
          lost_epochs_[keys[i]] = it->second.epoch;
          owned_.erase(it);
        }
      }
    }
    drop_lost(lost);
  }

  // --- membership; the group thread

  void run() {
    tidemark::Clock& clock = tidemark::system_clock();
    int64_t commit_at_ns = clock.monotonic().ns;
    int64_t check_at_ns = commit_at_ns;
    while (state().ok()) {
      if (const tidemark::Status status = beat(); !status.ok()) {
        std::unique_lock lock(mutex_);
        last_error_ = status;
        if (status.code() == tidemark::ErrorCode::kFenced) {
          fatal_ = status;
        } else {
          changed_.wait_for(lock, std::chrono::milliseconds(kRetryMs), [this] { return closing_; });
        }
      }
      changed_.notify_all();
      if (options_.reading.on_messages) {
        take_rebalance();
      }
      if (clock.monotonic().ns >= check_at_ns) {
        check_at_ns = clock.monotonic().ns + kLeaseCheckMs * client_core::kNsPerMs;
        check_leases();
      }
      if (options_.commit == CommitMode::kAuto && clock.monotonic().ns >= commit_at_ns) {
        commit_at_ns =
            clock.monotonic().ns + options_.auto_commit_interval_ms * client_core::kNsPerMs;
        static_cast<void>(commit_done(kHeartbeatDeadlineMs, nullptr));
      }
    }
  }

  tidemark::Status beat() {
    const client_core::Reply reply = ask_heartbeat(false, kHeartbeatWaitMs, kHeartbeatDeadlineMs);
    RETURN_IF_ERROR(reply.status);
    return take_answer(client_core::table_of<fbs::GroupHeartbeatReply>(reply));
  }

  client_core::Reply ask_heartbeat(bool leave, uint32_t wait_ms, int64_t deadline_ms) {
    flatbuffers::FlatBufferBuilder builder(512);
    const auto group = builder.CreateString(options_.group);
    const auto member = builder.CreateString(member_);
    const auto instance = builder.CreateString(options_.instance);
    const auto topics = builder.CreateVectorOfStrings(options_.topics);
    std::vector<fbs::GroupPartition> owned;
    uint64_t generation = 0;
    {
      const std::lock_guard lock(mutex_);
      for (const auto& [key, one] : owned_) {
        owned.emplace_back(one.place.topic, one.place.partition, one.epoch);
      }
      generation = generation_;
    }
    const auto working = builder.CreateVectorOfStructs(owned);
    builder.Finish(fbs::CreateGroupHeartbeat(builder, group, member, instance, topics,
                                             static_cast<uint32_t>(options_.session_timeout_ms),
                                             wait_ms, generation, working, leave));
    Call call(client_, deadline_ms);
    return call.ask(protocol::FrameType::kGroupHeartbeat, client_core::finished_copy(builder),
                    client_core::Cluster::Repeat::kAlways);
  }

  tidemark::Status take_answer(const fbs::GroupHeartbeatReply& answer) {
    std::map<TopicPartition, Arriving> fresh;
    std::set<TopicPartition> assigned;
    if (answer.assigned() != nullptr) {
      for (const fbs::GroupPartition* one : *answer.assigned()) {
        ASSIGN_OR_RETURN(const auto place, place_of(one->topic(), one->partition()));
        assigned.insert(place.first);
        const std::lock_guard lock(mutex_);
        if (const auto it = owned_.find(place.first); it != owned_.end()) {
          it->second.epoch = one->epoch();
        } else if (const auto lost = lost_epochs_.find(place.first);
                   lost == lost_epochs_.end() || one->epoch() > lost->second) {
          fresh[place.first].owned.place = place.second;
          fresh[place.first].owned.epoch = one->epoch();
        }
      }
    }
    RETURN_IF_ERROR(find_positions(fresh));
    const std::lock_guard lock(mutex_);
    generation_ = answer.generation();
    last_error_ = tidemark::Status();
    // The program may have taken some over meanwhile.
    std::erase_if(fresh, [this](const auto& one) { return owned_.contains(one.first); });
    arriving_ = std::move(fresh);
    for (const auto& [key, owned] : owned_) {
      set_revoking(key, !assigned.contains(key));
    }
    return tidemark::Status();
  }

  // No further batch of a partition that is to go; nothing is lost if it may stay after all.
  // Requires: the lock.
  void set_revoking(const TopicPartition& key, bool revoking) {
    if (revoking && revoking_.insert(key).second) {
      static_cast<void>(consumer_->pause(key.topic, key.partition));
    } else if (!revoking && revoking_.erase(key) > 0 && !paused_.contains(key)) {
      static_cast<void>(consumer_->resume(key.topic, key.partition));
    }
  }

  tidemark::Status find_positions(std::map<TopicPartition, Arriving>& fresh) {
    std::vector<GroupPlace> places;
    places.reserve(fresh.size());
    for (const auto& [key, one] : fresh) {
      places.push_back(one.owned.place);
    }
    if (places.empty()) {
      return tidemark::Status();
    }
    Call call(client_, kHeartbeatDeadlineMs);
    const std::vector<GroupOffset> offsets =
        client_core::group_offsets(call, options_.group, places);
    size_t i = 0;
    for (auto& [key, one] : fresh) {
      const GroupOffset& offset = offsets[i++];
      RETURN_IF_ERROR(offset.status);
      one.owned.committed = offset.committed;
      one.from = offset.committed.has_value()
                     ? Position::offset(std::max(*offset.committed, offset.start_offset))
                     : options_.initial;
    }
    return tidemark::Status();
  }

  // Name and place of a partition that the broker names by topic id.
  tidemark::Result<std::pair<TopicPartition, GroupPlace>> place_of(uint32_t topic,
                                                                   uint32_t partition) {
    for (const bool again : {false, true}) {
      for (const TopicDescription& known : topics_) {
        if (known.id == topic && partition < known.partitions.size()) {
          return std::pair{
              TopicPartition{known.name, partition},
              GroupPlace{topic, partition, client_core::home_of(known.partitions[partition])}};
        }
      }
      if (!again) {
        Call call(client_, kHeartbeatDeadlineMs);
        topics_.clear();
        for (const std::string& name : options_.topics) {
          if (auto found = client_core::find_topic(call, name); found.ok()) {
            topics_.push_back(std::move(*found));
          }
        }
      }
    }
    return tidemark::Status(tidemark::ErrorCode::kUnknownTopic,
                            "topic id " + std::to_string(topic) + " is in no subscription");
  }

  Client client_;
  GroupOptions options_;
  const std::string member_;
  std::unique_ptr<Consumer> consumer_;
  std::thread thread_;
  std::vector<TopicDescription> topics_;  // of the group thread

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::mutex committing_;
  bool closing_ = false;
  tidemark::Status fatal_;
  tidemark::Status last_error_;
  uint64_t generation_ = 0;
  std::map<TopicPartition, Owned> owned_;  // read from; those that are revoking included
  std::set<TopicPartition> revoking_;
  std::set<TopicPartition> paused_;         // by the program
  std::optional<TopicPartition> handling_;  // callback style: whose batch the program has
  std::map<TopicPartition, Arriving> arriving_;
  // Epochs that were refused: an answer that still has one was on its way when that was noticed.
  std::map<TopicPartition, uint32_t> lost_epochs_;
  std::optional<std::pair<TopicPartition, uint64_t>> current_;  // that the program has: next offset
};

Result<GroupConsumer> GroupConsumer::create(const Client& client, GroupOptions options) {
  if (const Status status = check(options); !status.ok()) {
    return status;
  }
  auto impl = std::make_shared<GroupConsumerImpl>(client, std::move(options));
  if (const Status status = impl->start(); !status.ok()) {
    return status;
  }
  return GroupConsumer(std::move(impl));
}

GroupConsumer::GroupConsumer(std::shared_ptr<GroupConsumerImpl> impl) : impl_(std::move(impl)) {}

GroupConsumer::~GroupConsumer() {
  if (impl_ != nullptr) {
    static_cast<void>(impl_->close(5'000));
  }
}

GroupConsumer::GroupConsumer(GroupConsumer&&) noexcept = default;

GroupConsumer& GroupConsumer::operator=(GroupConsumer&& other) noexcept {
  if (impl_ != nullptr && this != &other) {
    static_cast<void>(impl_->close(5'000));
  }
  impl_ = std::move(other.impl_);
  return *this;
}

Result<MessageBatch> GroupConsumer::poll(int64_t timeout_ms) { return impl_->poll(timeout_ms); }

Status GroupConsumer::commit(int64_t deadline_ms) { return impl_->commit(deadline_ms); }

Status GroupConsumer::commit(const std::vector<GroupPosition>& positions, int64_t deadline_ms) {
  return impl_->commit(positions, deadline_ms);
}

Status GroupConsumer::seek(std::string_view topic, uint32_t partition, Position position) {
  return impl_->seek(topic, partition, position);
}

Status GroupConsumer::pause(std::string_view topic, uint32_t partition) {
  return impl_->pause(topic, partition, true);
}

Status GroupConsumer::resume(std::string_view topic, uint32_t partition) {
  return impl_->pause(topic, partition, false);
}

std::vector<TopicPartition> GroupConsumer::assignment() const { return impl_->assignment(); }

uint64_t GroupConsumer::generation() const { return impl_->generation(); }

Status GroupConsumer::last_error() const { return impl_->last_error(); }

Status GroupConsumer::close(int64_t deadline_ms) { return impl_->close(deadline_ms); }

}  // namespace tidemark::client
