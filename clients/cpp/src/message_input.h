// From a message of the program to a record in a batch: what the write buffers of producers and of
// transactions have in common.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "clients/cpp/src/batch.h"
#include "log/base/limits.h"
#include "log/base/result.h"
#include "log/format/batch_builder.h"
#include "log/format/record_batch.h"
#include "tidemark/message.h"

namespace tidemark::client_core {

// kInvalidArgument: no name of a topic.
Status check_topic_name(std::string_view name);

// The topic of this name in a producer's table, new with this name if it is not there yet.
// kInvalidArgument: no name of a topic; kLimitExceeded.
template <typename T>
Result<T*> find_or_add_topic(std::map<std::string, std::unique_ptr<T>, std::less<>>& topics,
                             std::string_view name) {
  if (const auto found = topics.find(name); found != topics.end()) {
    return found->second.get();
  }
  RETURN_IF_ERROR(check_topic_name(name));
  if (topics.size() >= limits::kTopicsMax) {
    return Status(ErrorCode::kLimitExceeded,
                  "a producer sends to at most " + std::to_string(limits::kTopicsMax) + " topics");
  }
  auto topic = std::make_unique<T>();
  topic->name = name;
  return topics.emplace(topic->name, std::move(topic)).first->second.get();
}

// Headers of a record, with room for the text of those that the library makes. A record views it,
// so it stays where it is.
struct RecordHeaders {
  RecordHeaders() = default;
  RecordHeaders(const RecordHeaders&) = delete;
  RecordHeaders& operator=(const RecordHeaders&) = delete;

  std::vector<format::HeaderInput> list;
  std::array<char, 20> ttl = {};
  char priority = '0';
};

// Views the message, and `headers`, which it fills: those of the message, then its properties
// (log/format/message_properties.h). `now_ms`: wall time, of a message without a time of its own.
// kTooLarge; kLimitExceeded: more headers than a message may have; kInvalidArgument: a property is
// out of range.
Result<format::RecordInput> to_record(const client::Message& message, int64_t now_ms,
                                      RecordHeaders& headers);
// The same of a record in a batch.
format::RecordInput to_record(const format::RecordView& record, RecordHeaders& headers);

// What the message costs of a write buffer: not less than what it adds to its batch. `item` is null
// for a plain one.
size_t charge_of(const format::RecordInput& record, const format::ScheduleItem* item);
// Whether an open batch can take a message of this kind and charge, for a size of `batch_bytes`.
bool suits_batch(const Batch& batch, bool delayed, size_t charge, size_t batch_bytes);
// Requires: the batch is open and of the message's kind. Notes whether it has a time to live.
Status append_to(Batch& batch, const format::RecordInput& record, const format::ScheduleItem* item);

// The partition asked for (or kAnyPartition), else that of the delay's key, else of the message's
// key; nullopt: any will do. kInvalidArgument: there is no such partition.
Result<std::optional<uint32_t>> named_partition(std::string_view topic, size_t partitions,
                                                uint32_t asked, const format::RecordInput& record,
                                                const format::ScheduleItem* item);

// A copy, properties as headers, and a view of it with `headers` filled. `now_ms` as above.
// Requires: to_record() accepts the message.
client::OwnedMessage own_message(const client::Message& message, int64_t now_ms);
client::Message view_of(const client::OwnedMessage& message, std::vector<client::Header>& headers);

// Builders keep their memory: the few that are idle are used again. Not synchronised.
class BuilderPool {
 public:
  // Opens the batch. Requires: Batch::delayed is set.
  void give(Batch& batch);
  // Takes the builder from the batch; forgets what is in it.
  void take_back(Batch& batch);

 private:
  std::vector<std::unique_ptr<format::BatchBuilder>> builders_;
  std::vector<std::unique_ptr<format::ScheduleBuilder>> schedules_;
};

}  // namespace tidemark::client_core
