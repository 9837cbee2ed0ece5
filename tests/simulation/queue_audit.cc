#include "tests/simulation/queue_audit.h"

#include <algorithm>
#include <utility>

#include "tests/simulation/queue_client.h"

namespace tidemark::sim {

namespace {

constexpr int64_t kRetryUs = 100'000;

}  // namespace

// --- QueueAuditor
// -------------------------------------------------------------------------------------------------------

void QueueAuditor::look() {
  questions_.clear();
  floors_.clear();
  unsettled_ = 0;
  text_.clear();
  for (uint32_t group = 0; group < options_.queue_groups; ++group) {
    for (uint16_t shard = 0; shard < options_.shards; ++shard) {
      questions_.push_back({queue_group_name(group), ShardId{shard}});
    }
  }
  left_ = questions_.size();
  ask();
}

void QueueAuditor::ask() {
  if (left_ == 0) {
    return;
  }
  Question& question = questions_[left_ - 1];
  question.known.clear();
  for (const KnownTopic& topic : directory_.topics) {
    for (size_t i = 0; i < topic.shards.size() && !topic.deleting; ++i) {
      if (topic.shards[i] == question.shard) {
        question.known[topic.partition(i)] = model_.end_of(topic.partition(i));
      }
    }
  }
  connection_ = connection_to(question.shard);
  if (connection_ == 0) {
    return scheduler_.after_us(kRetryUs, [this] { ask(); });
  }
  correlation_ = next_correlation();
  network_.send(connection_, testing::queue_describe_request(question.group, {}, correlation_));
}

void QueueAuditor::on_reply(uint64_t connection, const protocol::Frame& frame) {
  if (connection != connection_ || frame.header.correlation != correlation_) {
    return;
  }
  connection_ = 0;
  if (const Status error = testing::error_of(frame); !error.ok()) {
    require(is_transient(error.code()), "a description was refused: " + error.to_string());
    return scheduler_.after_us(kRetryUs, [this] { ask(); });
  }
  judge(questions_[--left_], testing::read_queue_describe_reply(frame));
  ask();
}

void QueueAuditor::judge(const Question& question,
                         const std::vector<testing::QueueInfoResult>& infos) {
  for (const auto& [partition, known] : question.known) {
    const QueueModel::Name name{question.group, partition};
    const std::string where = name.group + ", topic " + std::to_string(partition.topic.value()) +
                              " partition " + std::to_string(partition.index.value());
    const auto info = std::find_if(infos.begin(), infos.end(),
                                   [&](const auto& one) { return one.partition == partition; });
    if (info == infos.end()) {
      unsettled_ += known > Offset{0} ? 1 : 0;
      text_ += known > Offset{0} ? ", " + where + " is not known" : "";
      continue;
    }
    require(Offset{info->end} >= known, "I7: " + where + " ends at " + std::to_string(info->end) +
                                            ", but known was up to " +
                                            std::to_string(known.value()));
    require(info->floor <= info->end && info->unsettled <= info->end - info->floor &&
                (info->unsettled > 0 || info->floor == info->end),
            "I20: " + std::to_string(info->unsettled) + " are not settled from " +
                std::to_string(info->floor) + " to " + std::to_string(info->end) + ": " + where);
    floors_[name] = Offset{info->floor};
    if (Offset{info->floor} < goals_.try_emplace(name, Offset{info->end}).first->second) {
      ++unsettled_;
      text_ += ", " + where + ": " + std::to_string(info->unsettled) + " from " +
               std::to_string(info->floor) + " to " + std::to_string(info->end) + " (" +
               std::to_string(info->leased) + " leased, " + std::to_string(info->retrying) +
               " in retry)";
    }
  }
}

void QueueAuditor::on_lost(uint64_t connection) {
  if (connection == connection_) {
    connection_ = 0;
    scheduler_.after_us(kRetryUs, [this] { ask(); });
  }
}

// --- DeadLetterReader
// ---------------------------------------------------------------------------------------------------

void DeadLetterReader::start() {
  left_ = directory_.dead_letters.has_value() ? directory_.dead_letters->shards.size() : 0;
  offset_ = Offset{0};
  ask();
}

void DeadLetterReader::ask() {
  if (left_ == 0) {
    return;
  }
  connection_ = connection_to(directory_.dead_letters->shards[left_ - 1]);
  if (connection_ == 0) {
    return scheduler_.after_us(kRetryUs, [this] { ask(); });
  }
  correlation_ = next_correlation();
  const std::vector<testing::FetchInput> parts = {
      {directory_.dead_letters->partition(left_ - 1), offset_}};
  network_.send(connection_, testing::fetch_request(parts, {}, correlation_));
}

void DeadLetterReader::on_reply(uint64_t connection, const protocol::Frame& frame) {
  if (connection != connection_ || frame.header.correlation != correlation_) {
    return;
  }
  connection_ = 0;
  if (const Status error = testing::error_of(frame); !error.ok()) {
    require(is_transient(error.code()), "dead letters were refused: " + error.to_string());
    return scheduler_.after_us(kRetryUs, [this] { ask(); });
  }
  const testing::FetchPartResult part = testing::read_fetch_reply(frame).at(0);
  require(part.status.ok(), "dead letters cannot be read: " + part.status.to_string());
  for (const testing::DeadLetterResult& letter : testing::read_dead_letters(frame)) {
    require(letter.offset == offset_, "I6: expected dead letter " +
                                          std::to_string(offset_.value()) + ", got " +
                                          std::to_string(letter.offset.value()));
    ++offset_;
    if (!directory_.alive(letter.from)) {
      continue;
    }
    model_.read(letter.from, letter.from_offset, letter.value);
    model_.queues().dead_letter({letter.group, letter.from},
                                {letter.from_offset, letter.deliveries, letter.time_ms});
  }
  require(part.next == offset_, "a fetch of dead letters that skips");
  if (offset_ == part.high_watermark) {
    --left_;
    offset_ = Offset{0};
  }
  ask();
}

void DeadLetterReader::on_lost(uint64_t connection) {
  if (connection == connection_) {
    connection_ = 0;
    scheduler_.after_us(kRetryUs, [this] { ask(); });
  }
}

}  // namespace tidemark::sim
