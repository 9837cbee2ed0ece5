// Topics across shards: requests to the metadata shard, mail to the others, crashes in between.
#include <deque>

#include <doctest/doctest.h>

#include "tests/unit/broker/shard/shard_harness.h"

namespace tidemark::shard {
namespace {

namespace fbs = protocol::fbs;

// Two shards; mail between them is delivered when the test says so, or lost, or twice.
struct TwoShards {
  ShardHarness meta{0, 2};
  ShardHarness other{1, 2};

  ShardHarness& shard(ShardId id) { return id == ShardId{0} ? meta : other; }

  // Ends turns and collects mail in the order it was sent.
  std::deque<ShardMail> turn() {
    std::deque<ShardMail> letters;
    for (ShardHarness* one : {&meta, &other}) {
      one->settle();
      for (ShardMail& letter : one->outbox.take_mail()) {
        letters.push_back(std::move(letter));
      }
    }
    return letters;
  }

  // Delivers mail, each `copies` times, until none is left.
  void deliver_all(int copies = 1) {
    for (auto letters = turn(); !letters.empty(); letters = turn()) {
      for (const ShardMail& letter : letters) {
        for (int i = 0; i < copies; ++i) {
          shard(letter.to).core->receive_mail(letter, shard(letter.to).now);
        }
      }
    }
  }

  // Half a second later, when mail is repeated.
  void later(int64_t ms = 500) {
    for (ShardHarness* one : {&meta, &other}) {
      one->advance_ms(ms);
      one->core->tick(one->now);
    }
  }

  protocol::Frame ask(const protocol::Frame& request, int copies = 1) {
    meta.receive(request);
    deliver_all(copies);
    later(10);  // answers to waiting requests are given within a tick
    return meta.outbox.take();
  }
};

struct TopicReply {
  Status status;
  std::vector<uint16_t> shards;
  uint32_t id = 0;
};

TopicReply read_topic(const protocol::Frame& reply) {
  TopicReply out;
  out.status = testing::error_of(reply);
  if (!out.status.ok()) {
    return out;
  }
  const auto* topic = testing::read_reply<fbs::TopicReply>(reply).topic();
  if (topic != nullptr) {
    out.id = topic->id();
    for (const auto* partition : *topic->partitions()) {
      out.shards.push_back(partition->shard());
    }
  }
  return out;
}

TEST_CASE("a topic is created when both shards have opened its partitions") {
  TwoShards shards;
  shards.meta.receive(testing::topic_create_request({"t", 4}, 9));
  shards.meta.settle();
  CHECK(shards.meta.outbox.replies.empty());  // recorded, not yet open
  shards.deliver_all();
  const protocol::Frame frame = shards.meta.outbox.take();
  CHECK(frame.header.correlation == 9);
  const TopicReply reply = read_topic(frame);
  CHECK(reply.status.ok());
  CHECK(reply.shards == std::vector<uint16_t>{0, 1, 0, 1});
  CHECK(shards.meta.core->views().partitions().size() == 2);
  CHECK(shards.other.core->views().partitions().size() == 2);
  CHECK(shards.meta.core->views().catalog().find("t")->state == meta::TopicState::kReady);
}

TEST_CASE("bad names, counts and settings are refused, the metadata shard alone answers") {
  TwoShards shards;
  const auto code = [&](const protocol::Frame& request) {
    return testing::error_of(shards.ask(request)).code();
  };
  CHECK(code(testing::topic_create_request({"a/b", 1})) == ErrorCode::kInvalidArgument);
  CHECK(code(testing::topic_create_request({"t", 0})) == ErrorCode::kInvalidArgument);
  CHECK(code(testing::topic_create_request({"t", limits::kPartitionsPerTopicMax + 1})) ==
        ErrorCode::kInvalidArgument);
  CHECK(code(testing::topic_create_request({"t", 1, -2})) == ErrorCode::kInvalidArgument);
  CHECK(code(testing::topic_delete_request("t")) == ErrorCode::kUnknownTopic);
  CHECK(code(testing::topic_create_request({"t", 2})) == ErrorCode::kOk);
  CHECK(code(testing::topic_create_request({"t", 2})) == ErrorCode::kAlreadyExists);
  const std::vector<std::string> unknown = {"colour"};
  CHECK(code(testing::topic_alter_request({"t", 2}, unknown)) == ErrorCode::kInvalidArgument);
  const std::vector<std::string> partitions = {"partitions"};
  CHECK(code(testing::topic_alter_request({"t", 1}, partitions)) == ErrorCode::kInvalidArgument);
  CHECK(code(testing::topic_alter_request({"nobody", 1}, partitions)) == ErrorCode::kUnknownTopic);
  shards.other.receive(testing::topic_create_request({"u", 1}));
  CHECK(testing::error_of(shards.other.outbox.take()).code() == ErrorCode::kWrongShard);
}

TEST_CASE("two requests for one name in one turn: the first wins, the second is told") {
  TwoShards shards;
  shards.meta.receive(testing::topic_create_request({"t", 1}, 1));
  shards.meta.receive(testing::topic_create_request({"t", 1}, 2));
  shards.deliver_all();
  CHECK(shards.meta.outbox.replies.size() == 2);
  CHECK(testing::error_of(shards.meta.outbox.take()).code() == ErrorCode::kAlreadyExists);
  CHECK(read_topic(shards.meta.outbox.take()).status.ok());
}

TEST_CASE("alter adds partitions and changes retention on both shards") {
  TwoShards shards;
  (void)shards.ask(testing::topic_create_request({"t", 2}));
  const std::vector<std::string> set = {"partitions", "retention_ms"};
  const TopicReply reply =
      read_topic(shards.ask(testing::topic_alter_request({"t", 5, 60'000}, set)));
  CHECK(reply.status.ok());
  CHECK(reply.shards == std::vector<uint16_t>{0, 1, 0, 1, 0});
  for (ShardHarness* one : {&shards.meta, &shards.other}) {
    for (const auto& [id, partition] : one->core->views().partitions()) {
      CHECK(partition.config().retention_ms == 60'000);
      CHECK(partition.config().version == 2);
    }
  }
  CHECK(shards.other.core->views().partitions().size() == 2);
}

TEST_CASE("a deleted topic is gone on both shards, its name free, its id not used again") {
  TwoShards shards;
  const TopicReply first = read_topic(shards.ask(testing::topic_create_request({"t", 2})));
  CHECK(read_topic(shards.ask(testing::topic_delete_request("t"))).status.ok());
  CHECK(shards.meta.core->views().partitions().empty());
  CHECK(shards.other.core->views().partitions().empty());
  CHECK(shards.meta.core->views().catalog().topics().empty());
  const TopicReply second = read_topic(shards.ask(testing::topic_create_request({"t", 2})));
  CHECK(second.id > first.id);
}

TEST_CASE("mail that comes twice or three times changes nothing") {
  TwoShards shards;
  CHECK(read_topic(shards.ask(testing::topic_create_request({"t", 4}), 3)).status.ok());
  CHECK(shards.meta.outbox.replies.empty());
  CHECK(shards.other.core->views().partitions().size() == 2);
  CHECK(read_topic(shards.ask(testing::topic_delete_request("t"), 2)).status.ok());
  CHECK(shards.other.core->views().partitions().empty());
}

TEST_CASE("mail that is lost is sent again") {
  TwoShards shards;
  shards.meta.receive(testing::topic_create_request({"t", 4}));
  CHECK(shards.turn().size() == 2);  // lost
  shards.later();
  auto letters = shards.turn();
  REQUIRE(letters.size() == 2);
  for (const ShardMail& letter : letters) {
    shards.shard(letter.to).core->receive_mail(letter, shards.meta.now);
  }
  CHECK(shards.turn().size() == 2);  // the answers are lost as well
  shards.later();
  shards.deliver_all();
  CHECK(read_topic(shards.meta.outbox.take()).status.ok());
}

TEST_CASE(
    "a crash of either shard at any step of create, alter and delete ends in the state that was "
    "asked for") {
  const std::vector<std::string> set = {"partitions"};
  const std::vector<protocol::Frame> requests = {testing::topic_create_request({"t", 3}),
                                                 testing::topic_alter_request({"t", 6}, set),
                                                 testing::topic_delete_request("t")};
  for (size_t last = 0; last < requests.size(); ++last) {
    for (int crash_after = 0; crash_after < 6; ++crash_after) {
      for (int who = 0; who < 3; ++who) {
        CAPTURE(last);
        CAPTURE(crash_after);
        CAPTURE(who);
        TwoShards shards;
        for (size_t i = 0; i < last; ++i) {
          (void)shards.ask(requests[i]);
        }
        shards.meta.receive(requests[last]);
        shards.meta.settle();  // recorded
        auto letters = shards.turn();
        for (int step = 0; step < crash_after && !letters.empty(); ++step) {
          const ShardMail letter = letters.front();
          letters.pop_front();
          shards.shard(letter.to).core->receive_mail(letter, shards.meta.now);
          for (ShardMail& more : shards.turn()) {
            letters.push_back(std::move(more));
          }
        }
        if (who != 1) {
          shards.meta.restart();
        }
        if (who != 0) {
          shards.other.restart();
        }
        for (int i = 0; i < 3; ++i) {
          shards.later();
          shards.deliver_all();
        }
        const meta::Topic* topic = shards.meta.core->views().catalog().find("t");
        const size_t wanted = last == 0 ? 3 : last == 1 ? 6 : 0;
        REQUIRE((topic != nullptr) == (wanted > 0));
        CHECK(shards.meta.core->views().partitions().size() +
                  shards.other.core->views().partitions().size() ==
              wanted);
        CHECK(shards.meta.core->views().catalog().topics().size() == (wanted > 0 ? 1 : 0));
        CHECK((topic == nullptr || topic->unconfirmed.empty()));
      }
    }
  }
}

TEST_CASE(
    "a request that the other shard does not follow is answered after a while, the change is "
    "recorded") {
  TwoShards shards;
  shards.meta.receive(testing::topic_create_request({"t", 2}));
  (void)shards.turn();
  shards.later(9'000);
  CHECK(shards.meta.outbox.replies.empty());
  shards.later(2'000);
  CHECK(testing::error_of(shards.meta.outbox.take()).code() == ErrorCode::kTimedOut);
  shards.deliver_all();
  shards.later();
  shards.deliver_all();
  CHECK(shards.other.core->views().partitions().size() == 1);
}

TEST_CASE("a topic request is answered also when its shard stops leading while others follow") {
  TwoShards shards;
  shards.meta.receive(testing::topic_create_request({"t", 2}));
  (void)shards.turn();
  shards.meta.consensus.set_role(replica::Role::kFollower);
  shards.later(11'000);
  CHECK(testing::error_of(shards.meta.outbox.take()).code() == ErrorCode::kTimedOut);
}

TEST_CASE("a topic request that is recorded while the broker stops is answered") {
  TwoShards shards;
  shards.meta.receive(testing::topic_create_request({"t", 2}));
  shards.meta.core->begin_stop();
  shards.meta.settle();
  CHECK(testing::error_of(shards.meta.outbox.take()).code() == ErrorCode::kShuttingDown);
}

TEST_CASE("metadata lists all topics, or those asked for with what is unknown said") {
  TwoShards shards;
  (void)shards.ask(testing::topic_create_request({"a", 2, 1000}));
  (void)shards.ask(testing::topic_create_request({"b", 1}));
  (void)shards.ask(testing::topic_create_request({"gone", 1}));
  shards.meta.receive(testing::topic_delete_request("gone"));
  shards.meta.settle();
  const protocol::Frame all = shards.meta.ask(testing::metadata_request({}));
  const auto& listed = testing::read_reply<fbs::MetadataReply>(all);
  REQUIRE(listed.topics()->size() == 2);
  CHECK(protocol::view(listed.topics()->Get(0)->name()) == "a");
  CHECK(listed.topics()->Get(0)->config()->retention_ms() == 1000);
  CHECK(listed.brokers()->size() == 1);
  const std::vector<std::string> names = {"b", "nobody"};
  const protocol::Frame some = shards.meta.ask(testing::metadata_request(names));
  const auto* topics = testing::read_reply<fbs::MetadataReply>(some).topics();
  CHECK(topics->Get(0)->error() == nullptr);
  CHECK(protocol::to_status(topics->Get(1)->error()).code() == ErrorCode::kUnknownTopic);
}

}  // namespace
}  // namespace tidemark::shard
