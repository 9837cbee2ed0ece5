#include "tests/simulation/producer.h"

#include <algorithm>

namespace tidemark::sim {

namespace {

constexpr int64_t kRetryNs = 100'000'000;
constexpr size_t kWaitingBatchesMax = 20;  // per partition; then the application waits

}  // namespace

Producer::Producer(Scheduler& scheduler, SimNetwork& network, Model& model, Directory& directory,
                   const Options& options, uint64_t seed)
    : Client(scheduler, network, model, directory, options, seed) {}

bool Producer::idle() const {
  return std::all_of(streams_.begin(), streams_.end(),
                     [](const auto& entry) { return entry.second.batches.empty(); });
}

std::string Producer::describe() const {
  std::string text = "producer " + std::to_string(producer_);
  for (const auto& [partition, stream] : streams_) {
    if (!stream.batches.empty()) {
      text += ", topic " + std::to_string(partition.topic.value()) + " partition " +
              std::to_string(partition.index.value()) + ": " +
              std::to_string(stream.batches.size()) + " batches from sequence " +
              std::to_string(stream.batches.front().sequence);
    }
  }
  return text;
}

void Producer::schedule(int64_t us) {
  scheduler_.after_us(us, [this] {
    work();
    schedule(static_cast<int64_t>(
                 random_.below(static_cast<uint64_t>(options_.produce_interval_us_max))) +
             1);
  });
}

void Producer::work() {
  if (producer_ == 0) {
    return ask_for_id();
  }
  if (!finishing_) {
    make_batch();
    if (options_.connection_reset_ms != 0 && random_.chance(1, 2'000)) {
      return be_born_again();
    }
  }
  for (auto& [partition, stream] : streams_) {
    send_stream(partition, stream);
  }
}

void Producer::ask_for_id() {
  if (asking_ || finishing_) {
    return;
  }
  asking_on_ = connection_to(ShardId{0});
  if (asking_on_ != 0) {
    asking_ = true;
    network_.send(asking_on_, testing::init_producer_request(next_correlation()));
  }
}

// The process ends and another takes its place, under another id: what has no answer stays without
// one.
void Producer::be_born_again() {
  producer_ = 0;
  streams_.clear();
  requests_.clear();
  answered_.clear();
}

void Producer::make_batch() {
  PartitionId partition;
  if (!directory_.pick(random_, partition)) {
    return;
  }
  Stream& stream = streams_[partition];
  if (stream.batches.size() >= kWaitingBatchesMax) {
    return;
  }
  Batch batch;
  batch.count = random_.between(1, options_.batch_messages_max);
  batch.sequence = stream.next_sequence;
  for (size_t i = 0; i < batch.count; ++i) {
    const auto pad = static_cast<uint32_t>(random_.below(options_.value_bytes_max));
    const uint64_t uid = model_.sent(partition, producer_, stream.next_sequence++, pad);
    batch.first_uid = i == 0 ? uid : batch.first_uid;
  }
  batch.encoded =
      encode(partition, batch.first_uid, batch.count,
             {static_cast<int64_t>(producer_), 0, static_cast<int32_t>(batch.sequence)});
  stream.batches.push_back(std::move(batch));
}

Producer::Encoded Producer::encode(PartitionId /*partition*/, uint64_t first_uid, size_t count,
                                   format::BatchBuilder::Producer producer) {
  std::vector<std::string> values;
  for (size_t i = 0; i < count; ++i) {
    values.push_back(model_.value_of(first_uid + i));
  }
  return {testing::build_batch(values, producer, scheduler_.clock().wall().ms)};
}

void Producer::send_stream(PartitionId partition, Stream& stream) {
  if (!directory_.alive(partition)) {
    stream.batches.clear();
    return;
  }
  const auto in_flight =
      static_cast<size_t>(std::count_if(stream.batches.begin(), stream.batches.end(),
                                        [](const Batch& batch) { return batch.in_flight; }));
  if (stream.resend) {
    if (in_flight > 0 || scheduler_.now_ns() < stream.not_before_ns) {
      return;
    }
    stream.resend = false;
  }
  size_t room =
      options_.batches_in_flight_max - std::min<size_t>(in_flight, options_.batches_in_flight_max);
  for (Batch& batch : stream.batches) {
    if (batch.in_flight) {
      continue;
    }
    const uint64_t connection = room > 0 ? connection_to(directory_.shard_of(partition)) : 0;
    if (connection == 0) {
      return;
    }
    --room;
    batch.in_flight = true;
    send(connection, partition, batch);
    if (random_.chance(1, 50)) {
      send(connection, partition, batch);  // the network repeats it
    }
  }
}

void Producer::send(uint64_t connection, PartitionId partition, const Batch& batch) {
  const uint64_t correlation = next_correlation();
  requests_[correlation] = {connection, {{partition, batch.sequence}}};
  answered_[{partition, batch.sequence}] = {batch.first_uid, batch.count};
  const testing::ProduceInput part{partition, batch.encoded.bytes, batch.encoded.ttl};
  network_.send(connection, testing::produce_request({&part, 1}, correlation));
}

void Producer::on_reply(uint64_t /*connection*/, const protocol::Frame& frame) {
  if (frame.header.type == static_cast<uint16_t>(protocol::FrameType::kInitProducer)) {
    if (asking_) {
      producer_ = testing::read_reply<protocol::fbs::InitProducerReply>(frame).producer_id();
      require(producer_ != 0, "producer id 0 was given");
    }
    asking_ = false;
    return;
  }
  const auto it = requests_.find(frame.header.correlation);
  if (it == requests_.end()) {
    asking_ =
        asking_ && testing::error_of(frame).ok();  // refused: ask again; or of the process before
    return;
  }
  const Request request = std::move(it->second);
  requests_.erase(it);
  const Status error = testing::error_of(frame);
  std::vector<testing::ProducePartResult> results(request.parts.size(),
                                                  {error, 0, Offset{}, 0, false});
  if (error.ok()) {
    results = testing::read_produce_reply(frame);
    require(results.size() == request.parts.size(),
            "a produce reply with another number of parts than its request");
  }
  for (size_t i = 0; i < results.size(); ++i) {
    on_part(request.parts[i].first, request.parts[i].second, results[i]);
  }
}

void Producer::on_part(PartitionId partition, uint64_t sequence,
                       const testing::ProducePartResult& result) {
  Stream& stream = streams_[partition];
  if (!directory_.alive(partition)) {
    return;
  }
  if (result.status.ok()) {
    on_acknowledged(partition, stream, sequence, result);
  } else {
    on_refused(partition, stream, sequence, result.status);
  }
}

void Producer::on_acknowledged(PartitionId partition, Stream& stream, uint64_t sequence,
                               const testing::ProducePartResult& result) {
  const Answered& batch = answered_.at({partition, sequence});
  model_.acknowledged(batch.first_uid, batch.count, result.base);
  on_stored(partition, batch.first_uid, batch.count, result);
  stream.acknowledged_any = true;
  std::erase_if(stream.batches, [&](const Batch& waiting) { return waiting.sequence == sequence; });
}

void Producer::on_refused(PartitionId partition, Stream& stream, uint64_t sequence,
                          const Status& status) {
  const auto batch =
      std::find_if(stream.batches.begin(), stream.batches.end(),
                   [&](const Batch& waiting) { return waiting.sequence == sequence; });
  if (batch == stream.batches.end()) {
    return;  // a copy; the other one was acknowledged
  }
  const bool first = batch == stream.batches.begin();
  const std::string what = status.to_string() + ", sequence " + std::to_string(sequence) +
                           " of producer " + std::to_string(producer_) + ", topic " +
                           std::to_string(partition.topic.value()) + " partition " +
                           std::to_string(partition.index.value());
  if (status.code() == ErrorCode::kOutOfOrderSequence ||
      status.code() == ErrorCode::kUnknownProducer) {
    // Only right behind a batch that did not get in before it.
    require(!first, "I1, I11: everything before it was acknowledged: " + what);
  } else if (status.code() == ErrorCode::kUnknownPartition) {
    require(!stream.acknowledged_any, "a partition is gone: " + what);
  } else {
    require(is_transient(status.code()), "a valid batch was refused: " + what);
  }
  batch->in_flight = false;
  stream.resend = true;
  stream.not_before_ns = scheduler_.now_ns() + kRetryNs;
}

void Producer::on_lost(uint64_t connection) {
  if (asking_on_ == connection) {
    asking_ = false;
  }
  for (auto it = requests_.begin(); it != requests_.end();) {
    if (it->second.connection != connection) {
      ++it;
      continue;
    }
    for (const auto& [partition, sequence] : it->second.parts) {
      Stream& stream = streams_[partition];
      for (Batch& batch : stream.batches) {
        if (batch.sequence == sequence) {
          batch.in_flight = false;
          stream.resend = true;
          stream.not_before_ns = scheduler_.now_ns() + kRetryNs;
        }
      }
    }
    it = requests_.erase(it);
  }
}

}  // namespace tidemark::sim
