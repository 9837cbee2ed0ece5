// Consumer groups at the shard: positions and leases, and heartbeats at the metadata shard.
#include <doctest/doctest.h>

#include "tests/support/group_requests.h"
#include "tests/unit/broker/shard/txn_harness.h"

namespace tidemark::shard {
namespace {

namespace fbs = protocol::fbs;
using fbs::GroupCommitKind;
using MailKind = ShardMail::Kind;
using testing::GroupShare;
using testing::HeartbeatInput;
using testing::HeartbeatResult;

constexpr PartitionId kPartition = ShardHarness::kPartition;
constexpr PartitionId kOther = ShardHarness::kOther;
constexpr PartitionId kNowhere{TopicId{9}, PartitionIndex{0}};
constexpr int64_t kClaimsMs = 3'100;  // after the start everything is given out

struct Positions {
  TxnHarness shard;

  testing::GroupCommitOutcome commit(uint64_t offset, uint32_t epoch = 0,
                                     GroupCommitKind kind = GroupCommitKind::kCommit,
                                     PartitionId partition = kPartition) {
    return commit_all({{partition, epoch, Offset{offset}}}, kind).at(0);
  }

  std::vector<testing::GroupCommitOutcome> commit_all(
      const std::vector<testing::CommitInput>& items,
      GroupCommitKind kind = GroupCommitKind::kCommit, const std::string& group = "billing") {
    return testing::read_group_commit_reply(
        shard.ask(testing::group_commit_request(group, items, kind)));
  }

  testing::GroupOffsetResult look(PartitionId partition = kPartition) {
    return testing::read_group_offsets_reply(
               shard.ask(testing::group_offsets_request("billing", {{partition}})))
        .at(0);
  }

  // As the metadata shard asks for it. Gives the epoch.
  uint32_t lease(const std::string& group = "billing", PartitionId partition = kPartition) {
    ShardMail mail;
    mail.kind = MailKind::kGroupLease;
    mail.group = group;
    mail.partition = partition;
    shard.core->receive_mail(mail, shard.now);
    shard.settle();
    const std::vector<ShardMail> answers = shard.outbox.take_mail();
    REQUIRE(answers.size() == 1);
    CHECK(answers[0].kind == MailKind::kGroupLeased);
    CHECK(answers[0].group == group);
    CHECK(answers[0].partition == partition);
    return answers[0].group_epoch;
  }
};

// A metadata shard and another one with a partition each of topic "t".
struct Members {
  TxnCluster cluster{2};

  Members() {
    cluster[0].receive(testing::topic_create_request({"t", 2}));
    cluster.settle();
    REQUIRE(testing::error_of(cluster[0].outbox.take()).ok());
  }

  TxnHarness& meta() { return cluster[0]; }

  static HeartbeatInput input(const std::string& member, std::vector<GroupShare> owned = {},
                              uint64_t generation = 0) {
    HeartbeatInput input;
    input.member = member;
    input.topics = {"t"};
    input.owned = std::move(owned);
    input.generation = generation;
    return input;
  }

  HeartbeatResult beat(const HeartbeatInput& heartbeat) {
    meta().receive(testing::group_heartbeat_request(heartbeat));
    cluster.settle();
    const protocol::Frame reply = meta().outbox.take();
    REQUIRE_MESSAGE(testing::error_of(reply).ok(), testing::error_of(reply).to_string());
    return testing::read_heartbeat_reply(reply);
  }

  // A member that has both partitions, and says so.
  HeartbeatResult settle_in(const std::string& member) {
    beat(input(member));
    cluster.tick_for_ms(kClaimsMs);
    const HeartbeatResult told = beat(input(member));
    REQUIRE(told.assigned.size() == 2);
    return beat(input(member, told.assigned, told.generation));
  }

  Status commit(uint16_t shard, const GroupShare& share, uint64_t offset) {
    const testing::CommitInput item{share.partition, share.epoch, Offset{offset}};
    return testing::read_group_commit_reply(
               cluster[shard].ask(testing::group_commit_request("billing", {&item, 1})))
        .at(0)
        .status;
  }
};

ErrorCode refusal(ShardHarness& shard, const protocol::Frame& request, const std::string& says) {
  const Status status = testing::error_of(shard.ask(request));
  CHECK_MESSAGE(status.to_string().find(says) != std::string::npos, status.to_string());
  return status.code();
}

// --- positions

TEST_CASE("a commit goes forward only, a rewind goes back, a reset goes anywhere") {
  Positions positions;
  positions.shard.produce_values({"a", "b", "c", "d"});
  CHECK(positions.commit(3).offset == Offset{3});
  const auto lower = positions.commit(1);
  CHECK(lower.status.ok());
  CHECK(lower.offset == Offset{3});
  CHECK(positions.commit(1, 0, GroupCommitKind::kRewind).offset == Offset{1});
  CHECK(positions.look().committed == Offset{1});
  const auto reset = positions.commit(4, 77, GroupCommitKind::kReset);
  CHECK(reset.status.ok());
  CHECK(reset.epoch == 1);
  CHECK(positions.look().committed == Offset{4});
  CHECK(positions.look().lag() == 0);
}

TEST_CASE("only the present epoch may commit and rewind") {
  Positions positions;
  positions.shard.produce_values({"a", "b", "c"});
  CHECK(positions.commit(1).status.ok());  // it was never leased
  CHECK(positions.lease() == 1);
  CHECK(positions.commit(2, 1).status.ok());
  CHECK(positions.lease() == 2);
  for (const uint32_t epoch : {0u, 1u, 3u}) {
    CAPTURE(epoch);
    for (const auto kind : {GroupCommitKind::kCommit, GroupCommitKind::kRewind}) {
      const auto refused = positions.commit(3, epoch, kind);
      CHECK(refused.status.code() == ErrorCode::kFenced);
      CHECK(refused.epoch == 2);
      CHECK(refused.offset == Offset{2});
    }
  }
  CHECK(positions.commit(0, 0, GroupCommitKind::kReset).epoch == 3);
  CHECK(positions.commit(3, 2).status.code() == ErrorCode::kFenced);
  CHECK(positions.commit(3, 3).status.ok());
}

TEST_CASE("a commit before another lease in the same turn still counts") {
  Positions positions;
  positions.shard.produce_values({"a"});
  CHECK(positions.lease() == 1);
  const testing::CommitInput item{kPartition, 1, Offset{1}};
  positions.shard.receive(testing::group_commit_request("billing", {&item, 1}));
  CHECK(positions.lease() == 2);
  CHECK(testing::read_group_commit_reply(positions.shard.outbox.take()).at(0).status.ok());
  CHECK(positions.look().committed == Offset{1});
}

TEST_CASE("each position of a commit is judged alone") {
  Positions positions;
  positions.shard.produce_values({"a"});
  const auto results = positions.commit_all({{kNowhere, 0, Offset{0}},
                                             {kPartition, 0, Offset{2}},
                                             {kOther, 5, Offset{0}},
                                             {kPartition, 0, Offset{1}}});
  REQUIRE(results.size() == 4);
  CHECK(results[0].status.code() == ErrorCode::kUnknownPartition);
  CHECK(results[1].status.code() == ErrorCode::kOffsetOutOfRange);
  CHECK(results[2].status.code() == ErrorCode::kFenced);
  CHECK(results[3].status.ok());
  CHECK(positions.look().committed == Offset{1});
  CHECK(positions.look(kNowhere).status.code() == ErrorCode::kUnknownPartition);
}

TEST_CASE("groups know nothing of each other") {
  Positions positions;
  positions.shard.produce_values({"a"});
  CHECK(positions.lease("shipping") == 1);
  CHECK(positions.commit(1).status.ok());
  const auto shipping = testing::read_group_offsets_reply(
      positions.shard.ask(testing::group_offsets_request("shipping", {})));
  REQUIRE(shipping.size() == 1);
  CHECK_FALSE(shipping[0].committed.has_value());
  CHECK(shipping[0].epoch == 1);
  CHECK(shipping[0].lag() == 1);
}

TEST_CASE("without partitions all positions of the group are told") {
  Positions positions;
  CHECK(testing::read_group_offsets_reply(
            positions.shard.ask(testing::group_offsets_request("billing", {})))
            .empty());
  positions.commit_all({{kPartition, 0, Offset{0}}, {kOther, 0, Offset{0}}});
  const auto all = testing::read_group_offsets_reply(
      positions.shard.ask(testing::group_offsets_request("billing", {})));
  REQUIRE(all.size() == 2);
  CHECK(all[0].partition == kPartition);
  CHECK(all[1].partition == kOther);
  CHECK(all[1].committed == Offset{0});
}

TEST_CASE("half messages do not count until they are committed") {
  Positions positions;
  positions.shard.put(txn_id(), 0, {"a", "b"});
  CHECK(positions.look().lag() == 0);
  CHECK(positions.commit(1).status.code() == ErrorCode::kOffsetOutOfRange);
  CHECK(positions.shard.commit().status.ok());
  CHECK(positions.look().lag() == 2);
  CHECK(positions.commit(1).status.ok());
  CHECK(positions.look().lag() == 1);
}

TEST_CASE("delayed messages count when they can be read") {
  Positions positions;
  positions.shard.take_in({{"a", 100}});
  CHECK(positions.look().lag() == 0);
  positions.shard.run_ms(97);
  REQUIRE(positions.shard.core->views().find(kPartition)->end() == Offset{1});  // in the log
  CHECK(positions.look().end == Offset{0});
  CHECK(positions.look().lag() == 0);
  positions.shard.run_ms(3);
  CHECK(positions.look().end == Offset{1});
  CHECK(positions.look().lag() == 1);
}

TEST_CASE("positions and epochs survive a restart, with a checkpoint and without") {
  for (const bool from_checkpoint : {false, true}) {
    CAPTURE(from_checkpoint);
    Positions positions;
    positions.shard.produce_values({"a", "b", "c"});
    CHECK(positions.lease() == 1);
    CHECK(positions.commit(2, 1).status.ok());
    if (from_checkpoint) {
      positions.shard.checkpoint();
    }
    CHECK(positions.lease() == 2);
    CHECK(positions.commit(1, 2, GroupCommitKind::kRewind).status.ok());
    CHECK(positions.commit(0, 0, GroupCommitKind::kCommit, kOther).status.ok());
    const uint64_t hash = positions.shard.core->views().hash();
    const auto before = positions.look();
    from_checkpoint ? positions.shard.restart_from_checkpoint() : positions.shard.restart();
    CHECK(positions.shard.core->views().hash() == hash);
    const auto after = positions.look();
    CHECK(after.committed == Offset{1});
    CHECK(after.epoch == 2);
    CHECK(after.committed_ms == before.committed_ms);
    CHECK(positions.look(kOther).committed == Offset{0});
    CHECK(positions.commit(3, 1).status.code() == ErrorCode::kFenced);
    CHECK(positions.commit(3, 2).status.ok());
  }
}

TEST_CASE("a commit that is not written yet is not told") {
  Positions positions;
  positions.shard.produce_values({"a"});
  const testing::CommitInput item{kPartition, 0, Offset{1}};
  positions.shard.receive(testing::group_commit_request("billing", {&item, 1}));
  positions.shard.core->flush(positions.shard.now);
  CHECK(positions.shard.outbox.replies.empty());
  positions.shard.receive(testing::group_offsets_request("billing", {{kPartition}}));
  const auto look = testing::read_group_offsets_reply(positions.shard.outbox.take()).at(0);
  CHECK_FALSE(look.committed.has_value());
  positions.shard.restart();
  CHECK_FALSE(positions.look().committed.has_value());
}

TEST_CASE("requests about positions that make no sense are refused by name") {
  Positions positions;
  TxnHarness& shard = positions.shard;
  const std::string long_name(limits::kGroupNameBytesMax + 1, 'g');
  const std::vector<testing::CommitInput> one = {{kPartition, 0, Offset{0}}};
  const std::vector<testing::CommitInput> many(limits::kGroupItemsPerRequestMax + 1, one[0]);
  const std::vector<PartitionId> partitions(limits::kGroupItemsPerRequestMax + 1, kPartition);
  for (const std::string& name : {std::string(), long_name}) {
    CAPTURE(name.size());
    for (const protocol::Frame& request :
         {testing::group_commit_request(name, one), testing::group_offsets_request(name, {}),
          testing::group_delete_request(name)}) {
      CHECK(refusal(shard, request, "name of 1 to 255 bytes") == ErrorCode::kInvalidArgument);
    }
  }
  CHECK(refusal(shard, testing::group_commit_request("g", {}), "1 to 1024 positions") ==
        ErrorCode::kInvalidArgument);
  CHECK(refusal(shard, testing::group_commit_request("g", many), "1 to 1024 positions") ==
        ErrorCode::kInvalidArgument);
  CHECK(refusal(shard, testing::group_commit_request("g", one, static_cast<GroupCommitKind>(3)),
                "kind of a commit") == ErrorCode::kInvalidArgument);
  CHECK(refusal(shard, testing::group_offsets_request("g", partitions), "at most 1024") ==
        ErrorCode::kInvalidArgument);
  CHECK(shard.core->views().positions().size() == 0);
}

// --- leases

TEST_CASE("a lease of a partition that is not there is not answered") {
  Positions positions;
  ShardMail mail;
  mail.kind = MailKind::kGroupLease;
  mail.group = "billing";
  mail.partition = kNowhere;
  positions.shard.core->receive_mail(mail, positions.shard.now);
  positions.shard.settle();
  CHECK(positions.shard.outbox.take_mail().empty());
}

TEST_CASE("a lease that is asked for twice at once is given once") {
  Positions positions;
  ShardMail mail;
  mail.kind = MailKind::kGroupLease;
  mail.group = "billing";
  mail.partition = kPartition;
  positions.shard.core->receive_mail(mail, positions.shard.now);
  CHECK(positions.lease() == 1);
}

TEST_CASE("partitions are leased on their shards before they are assigned") {
  Members members;
  CHECK(members.beat(Members::input("a")).assigned.empty());  // others may claim them
  members.cluster.tick_for_ms(kClaimsMs);
  const HeartbeatResult told = members.beat(Members::input("a"));
  CHECK(told.members == 1);
  CHECK(told.assigned == std::vector<GroupShare>{{kPartition, 1}, {kOther, 1}});
  CHECK(members.commit(0, told.assigned[0], 0).ok());
  CHECK(members.commit(1, told.assigned[1], 0).ok());
}

TEST_CASE("mail about leases that gets lost is sent again, and the newest epoch is told") {
  for (const auto kind : {MailKind::kGroupLease, MailKind::kGroupLeased}) {
    Members members;
    members.cluster.lost = [&](const ShardMail& mail) { return mail.kind == kind; };
    members.beat(Members::input("a"));
    members.cluster.tick_for_ms(kClaimsMs);
    CHECK(members.beat(Members::input("a")).assigned.empty());
    members.cluster.tick_for_ms(2'000);
    CHECK(members.beat(Members::input("a")).assigned.empty());
    members.cluster.lost = [](const ShardMail&) { return false; };
    members.cluster.tick_for_ms(1'100);
    const HeartbeatResult told = members.beat(Members::input("a"));
    REQUIRE(told.assigned.size() == 2);
    CHECK((told.assigned[1].epoch > 1) == (kind == MailKind::kGroupLeased));
    CHECK(members.commit(0, told.assigned[0], 0).ok());
    CHECK(members.commit(1, told.assigned[1], 0).ok());
  }
}

TEST_CASE("mail about leases that comes twice leaves the member with the present epoch") {
  Members members;
  members.cluster.copies = 2;
  const HeartbeatResult told = members.settle_in("a");
  CHECK(members.commit(0, told.assigned[0], 0).ok());
  CHECK(members.commit(1, told.assigned[1], 0).ok());
}

TEST_CASE("a partition moves when its member has given it up, with another epoch") {
  Members members;
  const HeartbeatResult alone = members.settle_in("a");
  CHECK(members.beat(Members::input("b")).assigned.empty());
  const HeartbeatResult asked = members.beat(Members::input("a", alone.assigned, alone.generation));
  REQUIRE(asked.assigned.size() == 1);
  members.cluster.tick_for_ms(1'000);
  CHECK(members.beat(Members::input("b")).assigned.empty());  // "a" still works on it
  members.beat(Members::input("a", asked.assigned, asked.generation));
  const HeartbeatResult moved = members.beat(Members::input("b"));
  REQUIRE(moved.assigned.size() == 1);
  CHECK(moved.assigned[0].epoch == 2);
  const auto shard = static_cast<uint16_t>(moved.assigned[0].partition.index.value());
  CHECK(members.commit(shard, {moved.assigned[0].partition, 1}, 0).code() == ErrorCode::kFenced);
  CHECK(members.commit(shard, moved.assigned[0], 0).ok());
}

TEST_CASE("members that say what they work on keep it after a restart") {
  Members members;
  const HeartbeatResult before = members.settle_in("a");
  members.meta().restart();
  const HeartbeatResult after =
      members.beat(Members::input("a", before.assigned, before.generation));
  CHECK(after.assigned == before.assigned);
  members.cluster.tick_for_ms(kClaimsMs);
  CHECK(members.beat(Members::input("a", after.assigned, after.generation)).assigned ==
        before.assigned);
}

// --- heartbeats

TEST_CASE("heartbeats wait, and end with the topic, the time, or the connection") {
  Members members;
  HeartbeatInput waiting = Members::input("a");
  waiting.topics = {"later"};
  waiting.generation = members.beat(waiting).generation;
  waiting.wait_ms = 1'000;
  TxnHarness& meta = members.meta();
  meta.receive(testing::group_heartbeat_request(waiting));
  members.cluster.tick_for_ms(500);
  CHECK(meta.outbox.replies.empty());
  members.cluster.tick_for_ms(600);
  CHECK(testing::read_heartbeat_reply(meta.outbox.take()).generation == waiting.generation);
  members.cluster.tick_for_ms(kClaimsMs);
  meta.receive(testing::group_heartbeat_request(waiting, 7));
  meta.receive(testing::topic_create_request({"later", 1}, 8));
  members.cluster.settle();
  members.cluster.tick_for_ms(100);
  REQUIRE(meta.outbox.replies.size() == 2);
  for (int i = 0; i < 2; ++i) {
    const protocol::Frame reply = meta.outbox.take();
    if (reply.header.correlation == 7) {
      const HeartbeatResult told = testing::read_heartbeat_reply(reply);
      CHECK(told.assigned.size() == 1);
      waiting.generation = told.generation;
      waiting.owned = told.assigned;
    }
  }
  meta.receive(testing::group_heartbeat_request(waiting), 5);
  meta.core->connection_closed(0, 5);
  members.cluster.tick_for_ms(1'100);
  CHECK(meta.outbox.replies.empty());
}

TEST_CASE("heartbeats belong to the metadata shard") {
  Members members;
  CHECK(refusal(members.cluster[1], testing::group_heartbeat_request(Members::input("a")),
                "coordinated by shard 0") == ErrorCode::kWrongShard);
}

TEST_CASE("heartbeats that make no sense are refused by name") {
  Members members;
  const auto refused = [&](const HeartbeatInput& input, const std::string& says) {
    CHECK(refusal(members.meta(), testing::group_heartbeat_request(input), says) ==
          ErrorCode::kInvalidArgument);
  };
  HeartbeatInput input = Members::input("a");
  input.group = "";
  refused(input, "consumer group has a name of 1 to 255 bytes");
  input.group = std::string(limits::kGroupNameBytesMax + 1, 'g');
  refused(input, "consumer group has a name of 1 to 255 bytes");
  input = Members::input("");
  refused(input, "member has an id of 1 to 64 bytes");
  input = Members::input(std::string(limits::kGroupMemberBytesMax + 1, 'm'));
  refused(input, "member has an id of 1 to 64 bytes");
  input = Members::input("a");
  input.instance = std::string(limits::kGroupNameBytesMax + 1, 'i');
  refused(input, "instance has a name of at most 255 bytes");
  input = Members::input("a");
  input.topics = std::vector<std::string>(limits::kGroupTopicsMax + 1, "t");
  refused(input, "at most 256 topics");
  for (const uint32_t session_ms : {999u, 300'001u}) {
    input = Members::input("a");
    input.session_timeout_ms = session_ms;
    refused(input, "session timeout of " + std::to_string(session_ms));
  }
  CHECK(refusal(members.meta(), testing::group_describe_request("billing"), "billing") ==
        ErrorCode::kNotFound);
}

TEST_CASE("whoever waits is answered when the shard stops") {
  Members members;
  HeartbeatInput waiting = Members::input("a");
  waiting.generation = members.beat(waiting).generation;
  waiting.wait_ms = 1'000;
  members.meta().receive(testing::group_heartbeat_request(waiting));
  CHECK(members.meta().outbox.replies.empty());
  members.meta().core->begin_stop();
  CHECK(testing::error_of(members.meta().outbox.take()).code() == ErrorCode::kShuttingDown);
}

// --- operators

TEST_CASE("a group with members is shown, and is not deleted") {
  Members members;
  const HeartbeatResult told = members.settle_in("a");
  CHECK(members.commit(0, told.assigned[0], 0).ok());
  const protocol::Frame reply = members.meta().ask(testing::group_describe_request("billing"));
  const auto& shown = testing::read_reply<fbs::GroupDescribeReply>(reply);
  REQUIRE(shown.members()->size() == 1);
  CHECK(protocol::view(shown.members()->Get(0)->member()) == "a");
  CHECK(shown.members()->Get(0)->assigned()->size() == 2);
  CHECK(shown.members()->Get(0)->session_timeout_ms() == 10'000);
  CHECK(refusal(members.meta(), testing::group_delete_request("billing"), "has 1 members") ==
        ErrorCode::kConflict);
  CHECK(members.meta().core->views().positions().size() == 1);
}

TEST_CASE("a group without members is deleted with its positions, and begins anew") {
  Members members;
  const HeartbeatResult told = members.settle_in("a");
  CHECK(members.commit(0, told.assigned[0], 0).ok());
  HeartbeatInput last = Members::input("a");
  last.leave = true;
  members.beat(last);
  for (uint16_t shard = 0; shard < 2; ++shard) {
    const protocol::Frame reply =
        members.cluster[shard].ask(testing::group_delete_request("billing"));
    CHECK(testing::read_reply<fbs::GroupDeleteReply>(reply).partitions() == 1);
    CHECK(members.cluster[shard].core->views().positions().size() == 0);
  }
  CHECK(refusal(members.meta(), testing::group_describe_request("billing"), "billing") ==
        ErrorCode::kNotFound);
  const protocol::Frame again = members.meta().ask(testing::group_delete_request("billing"));
  CHECK(testing::read_reply<fbs::GroupDeleteReply>(again).partitions() == 0);
  CHECK(members.settle_in("b").assigned.size() == 2);
}

TEST_CASE("the list has groups with members and groups with positions") {
  Members members;
  members.beat(Members::input("a"));
  const testing::CommitInput item{kPartition, 0, Offset{0}};
  members.meta().ask(testing::group_commit_request("shipping", {&item, 1}));
  const protocol::Frame reply = members.meta().ask(testing::group_list_request());
  const auto& groups = *testing::read_reply<fbs::GroupListReply>(reply).groups();
  REQUIRE(groups.size() == 2);
  CHECK(protocol::view(groups.Get(0)->group()) == "billing");
  CHECK(groups.Get(0)->members() == 1);
  CHECK(groups.Get(0)->partitions() == 0);
  CHECK(protocol::view(groups.Get(1)->group()) == "shipping");
  CHECK(groups.Get(1)->members() == 0);
  CHECK(groups.Get(1)->partitions() == 1);
}

}  // namespace
}  // namespace tidemark::shard
