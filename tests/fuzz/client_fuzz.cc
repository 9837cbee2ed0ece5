// A broker that answers the client whatever it likes: every call ends, with a result that is in
// order and no longer than asked for, or with an error that says why.
//
// The input: a byte for the call, a byte of flags (bit 0: Hello is answered from the input too,
// bit 1: Metadata is, bit 2: the type of an answer may be wrong), then the answers in the order of
// the requests: table and payload, each with its size (two bytes) in front. When there are no more,
// the connection is lost and nobody is there any more.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "clients/cpp/src/call.h"
#include "clients/cpp/src/chunk_reader.h"
#include "clients/cpp/src/delay_calls.h"
#include "clients/cpp/src/fetcher.h"
#include "clients/cpp/src/group_calls.h"
#include "clients/cpp/src/queue_calls.h"
#include "clients/cpp/src/queue_engine.h"
#include "clients/cpp/src/txn_calls.h"
#include "log/base/check.h"
#include "tests/fuzz/input.h"
#include "tests/support/request_builder.h"
#include "tests/support/sim_clock.h"

namespace tidemark::client_core {
namespace {

namespace fbs = protocol::fbs;
using protocol::FrameType;

constexpr int64_t kDeadlineMs = 2'000;
constexpr int64_t kRunMs = 30'000;
constexpr size_t kAnswersMax = 64;

class Broker final : public ChannelFactory {
 public:
  explicit Broker(testing::FuzzInput input) : input_(input), flags_(input_.number<uint8_t>()) {}

  std::unique_ptr<Channel> open(const Address& /*address*/, ChannelEvents& events) override {
    return std::make_unique<Line>(*this, events);
  }

  // Moves one thing one step; false if nothing can move.
  bool step() {
    for (Line* line : lines_) {
      if (line->step()) {
        return true;  // the lines may have changed
      }
    }
    return false;
  }

 private:
  class Line final : public Channel {
   public:
    Line(Broker& broker, ChannelEvents& events) : broker_(broker), events_(events) {
      broker_.lines_.insert(this);
    }

    ~Line() override { broker_.lines_.erase(this); }

    void send(protocol::OutFrame frame) override {
      requests_.push_back(testing::to_frame(frame).header);
    }

    bool step() {
      if (closed_ || (open_ && requests_.empty())) {
        return false;
      }
      if (!open_ && !broker_.over()) {
        open_ = true;
        events_.on_open();
        return true;
      }
      if (broker_.over()) {
        closed_ = true;
        events_.on_closed(Status(ErrorCode::kUnavailable, "nobody is there"));
        return true;
      }
      const protocol::FrameHeader request = requests_.front();
      requests_.pop_front();
      events_.on_frame(broker_.answer(request));
      return true;
    }

   private:
    Broker& broker_;
    ChannelEvents& events_;
    std::deque<protocol::FrameHeader> requests_;
    bool open_ = false;
    bool closed_ = false;
  };

  [[nodiscard]] bool over() const { return input_.done() || answers_ == kAnswersMax; }

  protocol::Frame answer(const protocol::FrameHeader& request) {
    ++answers_;
    auto type = static_cast<FrameType>(request.type);
    if (type == FrameType::kHello && (flags_ & 1) == 0) {
      return good_hello(request);
    }
    if (type == FrameType::kMetadata && (flags_ & 2) == 0) {
      return good_metadata(request);
    }
    if ((flags_ & 4) != 0 && input_.number<uint8_t>() % 4 == 3) {
      type = FrameType::kError;
    }
    const ByteView table = input_.sized();
    const ByteView payload = input_.sized();
    std::vector<SharedBytes> pieces;
    if (!payload.empty()) {
      pieces.emplace_back(Buffer::copy_of(payload));
    }
    return testing::to_frame(protocol::make_frame(type, /*reply=*/true, request.shard,
                                                  request.correlation, table, std::move(pieces)));
  }

  static protocol::Frame finish(const protocol::FrameHeader& request,
                                const flatbuffers::FlatBufferBuilder& builder) {
    return testing::to_frame(protocol::make_frame(
        static_cast<FrameType>(request.type),
        /*reply=*/true, request.shard, request.correlation, protocol::finished(builder)));
  }

  static protocol::Frame good_hello(const protocol::FrameHeader& request) {
    flatbuffers::FlatBufferBuilder builder(256);
    fbs::HelloReplyBuilder hello(builder);
    hello.add_cluster_id(77);
    hello.add_node_id(1);
    hello.add_shards(2);
    hello.add_message_bytes_max(1 << 20);
    hello.add_batch_bytes_max(1 << 20);
    hello.add_frame_bytes_max(1 << 24);
    builder.Finish(hello.Finish());
    return finish(request, builder);
  }

  // Topic "t" with a partition on each of two shards.
  static protocol::Frame good_metadata(const protocol::FrameHeader& request) {
    flatbuffers::FlatBufferBuilder builder(512);
    const auto host = builder.CreateString("b");
    const auto broker = fbs::CreateBrokerInfo(builder, 1, host, 1);
    std::vector<flatbuffers::Offset<fbs::PartitionInfo>> partitions;
    for (uint16_t i = 0; i < 2; ++i) {
      partitions.push_back(fbs::CreatePartitionInfo(builder, i, i, 1));
    }
    const auto name = builder.CreateString("t");
    const auto places = builder.CreateVector(partitions);
    fbs::TopicInfoBuilder topic(builder);
    topic.add_name(name);
    topic.add_id(1);
    topic.add_partitions(places);
    const auto topics = topic.Finish();
    const auto brokers = builder.CreateVector(&broker, 1);
    const auto all = builder.CreateVector(&topics, 1);
    fbs::MetadataReplyBuilder reply(builder);
    reply.add_brokers(brokers);
    reply.add_topics(all);
    builder.Finish(reply.Finish());
    return finish(request, builder);
  }

  testing::FuzzInput input_;
  uint8_t flags_;
  size_t answers_ = 0;
  std::set<Line*> lines_;
};

// The I/O loop, and calls that wait for it.
class Loop final : public Asker {
 public:
  explicit Loop(testing::FuzzInput input)
      : broker_(input),
        cluster_({.brokers = {{"seed", 1}}, .session = {.client_name = "fuzz"}}, broker_, clock_,
                 1),
        until_{clock_.monotonic().ns + kDeadlineMs * kNsPerMs} {}

  template <typename Done>
  void run_until(Done done) {
    const int64_t end = clock_.monotonic().ns + kRunMs * kNsPerMs;
    while (!done() && clock_.monotonic().ns < end) {
      for (auto& task : std::exchange(posted, {})) {
        task();
      }
      const MonotonicTime now = clock_.monotonic();
      MonotonicTime next = cluster_.run(now);
      for (Component* const component : components) {
        next = std::min(next, component->run(now));
      }
      next = std::min(next, cluster_.run(now));
      if (!broker_.step() && posted.empty()) {
        clock_.advance_ns(std::clamp(next.ns - now.ns, 10 * kNsPerMs, 1'000 * kNsPerMs));
      }
    }
  }

  [[nodiscard]] Status check() const override { return {}; }

  Reply ask(FrameType type, Buffer table, Cluster::Repeat repeat) override {
    std::optional<Reply> answer;
    cluster_.call(type, table.view(), until_, repeat,
                  [&](Reply reply) { answer = std::move(reply); });
    run_until([&] { return answer.has_value(); });
    TIDEMARK_CHECK(answer.has_value(), "a call without an end");
    return std::move(*answer);
  }

  std::map<Home, Reply> ask_homes(FrameType type, std::map<Home, Buffer> tables) override {
    const size_t homes = tables.size();
    std::optional<std::map<Home, Reply>> answer;
    send_to_homes(cluster_, type, tables, until_,
                  [&](auto replies) { answer = std::move(replies); });
    run_until([&] { return answer.has_value(); });
    TIDEMARK_CHECK(answer.has_value() && answer->size() == homes, "a call without an end");
    return std::move(*answer);
  }

  [[nodiscard]] BrokerFacts facts() override { return cluster_.facts(); }

  bool pause() override {
    clock_.advance_ms(500);
    return clock_.monotonic() < until_;
  }

  [[nodiscard]] Cluster& cluster() { return cluster_; }

  std::vector<Component*> components;
  std::vector<std::function<void()>> posted;

 private:
  SimClock clock_;
  Broker broker_;
  Cluster cluster_;
  MonotonicTime until_;
};

template <typename T>
bool said_why(const Result<T>& result) {
  TIDEMARK_CHECK(result.ok() || !result.error().ok());
  return result.ok();
}

// --- calls ---

void try_topics(Loop& loop) {
  const auto all = find_all_topics(loop);
  if (said_why(all)) {
    TIDEMARK_CHECK(std::is_sorted(all->begin(), all->end(),
                                  [](const auto& a, const auto& b) { return a.name < b.name; }));
  }
  const auto one = find_topic(loop, "t");
  TIDEMARK_CHECK(!said_why(one) || one->name == "t");
}

void try_delay_list(Loop& loop) {
  const client::DelayQuery query{.limit = 10};
  const auto list = list_delayed(loop, "t", query);
  if (!said_why(list)) {
    return;
  }
  TIDEMARK_CHECK(list->size() <= query.limit);
  for (size_t i = 1; i < list->size(); ++i) {
    TIDEMARK_CHECK((*list)[i - 1].due_ms <= (*list)[i].due_ms, "by due time");
  }
}

std::vector<client::DelayTarget> delay_targets() {
  client::DelayHandle handle;
  handle.topic = 1;
  handle.id = 7;
  handle.due_ms = 1'000;
  return {client::DelayTarget::of_key("k"), client::DelayTarget::of(handle),
          client::DelayTarget::of_key("", 9)};
}

void try_delays(Loop& loop, int which) {
  const auto targets = delay_targets();
  switch (which) {
    case 0:
      static_cast<void>(said_why(show_delayed(loop, "t", targets[0])));
      return;
    case 1: {
      const auto stats = delay_stats(loop, "t");
      TIDEMARK_CHECK(!said_why(stats) || stats->size() == 1);
      return;
    }
    case 2: {
      const auto changes = cancel_delayed(loop, "t", targets);
      TIDEMARK_CHECK(!said_why(changes) || changes->size() == targets.size());
      return;
    }
    default: {
      const auto changes =
          reschedule_delayed(loop, "t", targets, client::Delay::after(5), 1'700'000'000'000);
      TIDEMARK_CHECK(!said_why(changes) || changes->size() == targets.size());
      return;
    }
  }
}

void try_groups(Loop& loop, int which) {
  const std::vector<GroupPlace> places = {{1, 0, {1, 0}}, {1, 1, {1, 1}}};
  switch (which) {
    case 0: {
      // So that the places are known.
      static_cast<void>(find_all_topics(loop));
      TIDEMARK_CHECK(commit_group(loop, "g", fbs::GroupCommitKind::kCommit,
                                  {{places[0], 1, 5}, {places[1], 1, 6}})
                         .size() == places.size());
      TIDEMARK_CHECK(group_offsets(loop, "g", places).size() == places.size());
      return;
    }
    case 1: {
      const auto groups = list_groups(loop);
      if (said_why(groups)) {
        for (size_t i = 1; i < groups->size(); ++i) {
          TIDEMARK_CHECK((*groups)[i - 1].group < (*groups)[i].group, "each once, by name");
        }
      }
      return;
    }
    case 2: {
      const auto group = describe_group(loop, "g");
      TIDEMARK_CHECK(!said_why(group) || group->group == "g");
      return;
    }
    case 3: {
      const std::vector<client::GroupReset> resets = {{{"t", 0}, client::Position::end()},
                                                      {{"t", 1}, client::Position::timestamp(5)},
                                                      {{"t", 7}, client::Position::offset(5)}};
      const auto results = reset_group(loop, "g", resets, false);
      TIDEMARK_CHECK(!said_why(results) || results->size() == resets.size());
      return;
    }
    default:
      static_cast<void>(said_why(remove_group(loop, "g")));
      return;
  }
}

void try_txns(Loop& loop, int which) {
  const std::vector<client::TransactionId> ids = {{.producer = 1, .number = 1, .shard = 0},
                                                  {.producer = 1, .number = 2, .shard = 9}};
  switch (which) {
    case 0: {
      const auto list = list_transactions(loop, {.limit = 10});
      TIDEMARK_CHECK(!said_why(list) || list->size() <= 10);
      return;
    }
    case 1: {
      const auto info = show_transaction(loop, ids[0]);
      TIDEMARK_CHECK(!said_why(info) || info->id == ids[0]);
      return;
    }
    case 2: {
      const auto changes = end_transactions(loop, ids, true);
      TIDEMARK_CHECK(!said_why(changes) || changes->size() == ids.size());
      return;
    }
    case 3: {
      const auto changes = recheck_transactions(loop, ids);
      TIDEMARK_CHECK(!said_why(changes) || changes->size() == ids.size());
      return;
    }
    default:
      static_cast<void>(said_why(transaction_totals(loop)));
      return;
  }
}

void try_queues(Loop& loop, int which) {
  const std::vector<client::OffsetRange> ranges = {{5, 3}, {10, 1}};
  switch (which) {
    case 0:
      static_cast<void>(said_why(describe_queues(loop, "g")));
      return;
    case 1: {
      const auto acked = ack_ranges(loop, "g", "t", 0, ranges);
      TIDEMARK_CHECK(!said_why(acked) || acked->size() == ranges.size());
      return;
    }
    case 2: {
      const auto redriven = redrive_offsets(loop, "t", 0, {5, 6, 7});
      TIDEMARK_CHECK(!said_why(redriven) || redriven->size() == 3);
      return;
    }
    default: {
      const auto open = unsettled_ranges(loop, "g", "t", 0, 3, 100);
      if (said_why(open)) {
        TIDEMARK_CHECK(open->size() <= 100);
        uint64_t from = 3;
        for (const client::OffsetRange& range : *open) {
          TIDEMARK_CHECK(range.first >= from && range.count > 0, "in order");
          TIDEMARK_CHECK(range.count <= UINT64_MAX - range.first);
          from = range.first + range.count;
        }
      }
      return;
    }
  }
}

void read_chunk(Fetcher& fetcher, const Chunk& chunk) {
  ChunkReader reader;
  reader.open(chunk.bytes, chunk.from);
  uint64_t next = chunk.from;
  while (!reader.done()) {
    const Status status = reader.read(3);
    for (const client::ReceivedMessage& message : reader.messages()) {
      TIDEMARK_CHECK(message.offset >= next, "offsets only grow");
      next = message.offset + 1;
    }
    TIDEMARK_CHECK(reader.next_offset() >= next);
    next = reader.next_offset();
    if (!status.ok()) {
      fetcher.stop(chunk);
      return;
    }
  }
  static_cast<void>(fetcher.advance(chunk, std::max(next, chunk.next_offset)));
}

void try_fetch(Loop& loop) {
  const auto fetcher = std::make_shared<Fetcher>(
      FetcherOptions{.out_of_range = client::OutOfRange::kStart}, loop.cluster(), [] {}, [] {}, 1);
  TIDEMARK_CHECK(fetcher->assign({{"t", 0}, {"t", 1, client::Position::offset(3)}}).ok());
  loop.components.push_back(fetcher.get());
  for (int i = 0; i < 4; ++i) {
    std::optional<Chunk> chunk;
    int turns = 0;
    loop.run_until([&] {
      if (auto next = fetcher->next_chunk(0); next.ok()) {
        chunk = std::move(*next);
      }
      return chunk.has_value() || ++turns > 100;
    });
    if (!chunk) {
      break;
    }
    if (chunk->error.ok()) {
      read_chunk(*fetcher, *chunk);
    }
    fetcher->release(*chunk);
  }
  fetcher->close();
  loop.components.clear();
}

void try_queue(Loop& loop) {
  const auto engine = std::make_shared<QueueEngine>(
      QueueEngineOptions{.group = "g", .topics = {"t"}, .in_flight_max = 8},
      QueueEngineHooks{.wake = [] {},
                       .post = [&](auto task) { loop.posted.push_back(std::move(task)); }},
      loop.cluster(), 1);
  loop.components.push_back(engine.get());
  size_t settled = 0;
  size_t taken = 0;
  int turns = 0;
  loop.run_until([&] {
    if (auto state = engine->next(0); state.ok() && *state != nullptr) {
      client::QueueMessage message = client::QueueMessageState::give(std::move(*state));
      TIDEMARK_CHECK(message.topic() == "t" && message.partition() < 2);
      ++taken;
      const auto done = [&](const client::Status&) { ++settled; };
      taken % 3 == 1 ? message.ack(done) : message.nack("why", std::nullopt, done);
    }
    return ++turns > 100;
  });
  TIDEMARK_CHECK(engine->in_flight() <= 8);
  engine->stop();
  turns = 0;
  loop.run_until([&] { return ++turns > 30; });
  engine->close();
  turns = 0;
  loop.run_until([&] { return ++turns > 3; });
  TIDEMARK_CHECK(settled <= taken, "told once");
  loop.components.clear();
}

void try_call(testing::FuzzInput input) {
  const int call = input.number<uint8_t>() % 22;
  Loop loop(input);
  if (call == 0) {
    try_topics(loop);
  } else if (call == 1) {
    try_delay_list(loop);
  } else if (call < 6) {
    try_delays(loop, call - 2);
  } else if (call < 11) {
    try_groups(loop, call - 6);
  } else if (call < 16) {
    try_txns(loop, call - 11);
  } else if (call < 20) {
    try_queues(loop, call - 16);
  } else {
    call == 20 ? try_fetch(loop) : try_queue(loop);
  }
}

}  // namespace
}  // namespace tidemark::client_core

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  tidemark::client_core::try_call(tidemark::testing::FuzzInput({data, size}));
  return 0;
}
