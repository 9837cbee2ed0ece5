#include "tests/simulation/group_operator.h"

#include <set>

namespace tidemark::sim {

namespace fbs = protocol::fbs;

namespace {

constexpr int64_t kRetryUs = 100'000;

std::string group_name(uint64_t number) { return "readers-" + std::to_string(number); }

}  // namespace

// --- GroupOperator

void GroupOperator::schedule() {
  scheduler_.after_us(static_cast<int64_t>(random_.between(10'000, 400'000)), [this] {
    if (!finishing_) {
      work();
      schedule();
    }
  });
}

void GroupOperator::work() {
  const std::string group = group_name(random_.below(options_.groups));
  const ShardId shard{static_cast<uint16_t>(random_.below(options_.shards))};
  PartitionId partition;
  switch (random_.below(8)) {
    case 0:
      if (directory_.pick(random_, partition)) {
        const Offset to{random_.chance(2, 3) ? 0
                                             : random_.below(model_.end_of(partition).value() + 1)};
        send_commits(directory_.shard_of(partition), group, Kind::kReset, {{partition, 0, to}});
      }
      return;
    case 1:
      if (directory_.pick(random_, partition)) {
        send_look(directory_.shard_of(partition), group, {partition});
      }
      return;
    case 2:
    case 3:
      if (connection_ == 0 && (connection_ = connection_to(ShardId{0})) != 0) {
        correlation_ = next_correlation();
        group_ = group;
        network_.send(connection_, testing::group_describe_request(group, correlation_));
      }
      return;
    default:
      send_look(shard, group, {});
      return;
  }
}

void GroupOperator::on_other(uint64_t connection, const protocol::Frame& frame) {
  if (connection != connection_ || frame.header.correlation != correlation_) {
    return;
  }
  connection_ = 0;
  if (const Status error = testing::error_of(frame); !error.ok()) {
    require(error.code() == ErrorCode::kNotFound || is_transient(error.code()),
            "a description was refused: " + error.to_string());
    return;
  }
  read_describe(testing::read_reply<fbs::GroupDescribeReply>(frame));
}

void GroupOperator::read_describe(const fbs::GroupDescribeReply& reply) const {
  std::set<PartitionId> assigned;
  std::set<std::string> instances;
  for (uint32_t i = 0; reply.members() != nullptr && i < reply.members()->size(); ++i) {
    const fbs::GroupMember& member = *reply.members()->Get(i);
    const std::string name(protocol::view(member.member()));
    const std::string instance(protocol::view(member.instance()));
    require(instance.empty() || instances.insert(instance).second,
            "I9: two members of " + group_ + " are " + instance);
    require(member.heard_ms_ago() < member.session_timeout_ms() + 1'000,
            "I9: " + name + " of " + group_ + " should be gone");
    for (uint32_t j = 0; member.assigned() != nullptr && j < member.assigned()->size(); ++j) {
      const fbs::GroupPartition& one = *member.assigned()->Get(j);
      require(assigned.insert({TopicId{one.topic()}, PartitionIndex{one.partition()}}).second,
              "I9: two members of " + group_ + " have topic " + std::to_string(one.topic()) +
                  " partition " + std::to_string(one.partition()));
    }
  }
}

// --- GroupAuditor

void GroupAuditor::look() {
  questions_.clear();
  lag_ = 0;
  text_.clear();
  for (uint32_t group = 0; group < options_.groups; ++group) {
    for (const KnownTopic& topic : directory_.topics) {
      for (size_t i = 0; i < topic.shards.size() && !topic.deleting; ++i) {
        questions_.push_back({group_name(group), topic.partition(i)});
      }
    }
  }
  left_ = questions_.size();
  ask();
}

void GroupAuditor::ask() {
  if (left_ == 0) {
    return;
  }
  const GroupModel::Name& question = questions_[left_ - 1];
  known_ = model_.end_of(question.partition);
  if (!send_look(directory_.shard_of(question.partition), question.group, {question.partition})) {
    scheduler_.after_us(kRetryUs, [this] { ask(); });
  }
}

void GroupAuditor::on_look(const std::vector<testing::GroupOffsetResult>& results) {
  const GroupModel::Name& question = questions_[--left_];
  const testing::GroupOffsetResult& result = results.at(0);
  require(result.status.ok(), "a position is not told: " + result.status.to_string());
  require(result.end >= known_, "I7: topic " + std::to_string(question.partition.topic.value()) +
                                    " partition " +
                                    std::to_string(question.partition.index.value()) + " ends at " +
                                    std::to_string(result.end.value()) + ", but known was up to " +
                                    std::to_string(known_.value()));
  Range& range = ranges_.try_emplace(question, Range{result.start, result.end}).first->second;
  range.start = result.start;
  const Offset goal = range.end;
  if (goal > result.position()) {
    const uint64_t lag = goal.value() - result.position().value();
    lag_ += lag;
    text_ += ", " + question.group + " topic " + std::to_string(question.partition.topic.value()) +
             " partition " + std::to_string(question.partition.index.value()) + ": " +
             std::to_string(lag) + " of " + std::to_string(goal.value());
  }
  ask();
}

void GroupAuditor::on_look_failed(const std::vector<PartitionId>& /*partitions*/) {
  scheduler_.after_us(kRetryUs, [this] { ask(); });
}

}  // namespace tidemark::sim
