#include "tests/checker/event.h"

namespace tidemark::checker {

namespace {

using enum Field;

constexpr std::array<std::string_view, kFieldCount> kFieldNames = {
    "t_ns",
    "wall_ms",
    "id",
    "part",
    "off",
    "end",
    "hw",
    "uid",
    "pid",
    "epoch",
    "seq",
    "crc",
    "bytes",
    "delay_ms",
    "due_ms",
    "log_ms",
    "gen",
    "deliveries",
    "from",
    "members",
    "timeout_ms",
    "retention_ms",
    "retention_bytes",
    "max_deliveries",
    "max_checks",
    "max_late_ms",
    "p999_late_ms",
    "recovery_ms",
    "skew_ms",
    "progress_ms",
    "proc",
    "topic",
    "key",
    "txn",
    "group",
    "member",
    "session",
    "handle",
    "how",
    "state",
    "kind",
    "err",
    "text",
};

constexpr FieldSet kPlace = set_of({kTopicName, kPartition});
constexpr FieldSet kSpot = kPlace | set_of(kOffset);
constexpr FieldSet kGroupPlace = kPlace | set_of(kGroup);
constexpr FieldSet kCommitter = set_of({kGeneration, kMember});
// A record that was read; without `uid` nobody could tell which one it is.
constexpr FieldSet kRecord = set_of({kUid, kCrc, kLogMs, kKey, kBytes});

constexpr std::array<OpRule, kOpCount> kRules = {{
    {"note", false, 0, set_of(kText)},
    {"config", false, 0,
     set_of({kSkewMs, kMaxLateMs, kP999LateMs, kRecoveryMs, kProgressMs, kMaxChecks})},
    {"topic", false, set_of(kTopicName),
     set_of({kRetentionMs, kRetentionBytes, kMaxDeliveries, kText})},
    {"fault", true, set_of(kKind), set_of(kText)},
    {"heal", false, 0, set_of(kText)},
    {"clock", false, set_of(kSkewMs), set_of(kText)},
    {"register", true, set_of({kProducer, kEpoch}), set_of(kHandle)},
    {"send", true, set_of({kTopicName, kUid}),
     set_of({kPartition, kOffset, kProducer, kEpoch, kSequence, kKey, kCrc, kBytes, kDelayMs,
             kDueMs, kHandle, kTxn})},
    {"cancel", true, set_of({kTopicName, kUid}), set_of({kPartition, kHandle, kKey})},
    {"reschedule", true, set_of({kTopicName, kUid, kDueMs}), set_of({kPartition, kHandle, kKey})},
    {"txn_begin", false, set_of(kTxn), set_of({kProducer, kEpoch, kTimeoutMs, kGroup, kText})},
    {"txn_commit", true, set_of(kTxn), set_of({kProducer, kEpoch, kHow})},
    {"txn_rollback", true, set_of(kTxn), set_of({kProducer, kEpoch, kHow})},
    {"txn_check", false, set_of(kTxn), set_of({kGroup, kHow})},
    {"seek", false, kPlace | set_of(kSession), set_of(kOffset)},
    {"poll", false, kPlace | set_of({kSession, kHighWatermark}), set_of({kOffset, kEnd})},
    {"read", false, kSpot | set_of(kSession), kRecord | kCommitter | set_of(kGroup)},
    {"assign", false, kGroupPlace | set_of({kMember, kGeneration}), set_of(kOffset)},
    {"offset_commit", true, kGroupPlace | set_of(kOffset), kCommitter},
    {"offset_fetch", true, kGroupPlace, kCommitter | set_of(kOffset)},
    {"offset_reset", true, kGroupPlace | set_of(kOffset), kCommitter},
    {"lease", false, kGroupPlace | set_of({kOffset, kUid}),
     set_of({kMember, kDeliveries, kCrc, kHandle})},
    {"settle", true, kGroupPlace | set_of({kOffset, kUid, kHow}),
     set_of({kMember, kDelayMs, kHandle})},
    {"trim", false, kSpot, set_of(kText)},
    {"drain_start", false, kSpot, 0},
    {"drain", false, kSpot, kRecord},
    {"drain_gap", false, kSpot | set_of(kEnd), set_of(kText)},
    {"drain_end", false, kPlace | set_of(kEnd), 0},
    {"pending", false, kPlace | set_of(kUid), set_of({kDueMs, kHandle, kKey})},
    {"txn_final", false, set_of({kTxn, kState}), 0},
    {"group_final", false, kGroupPlace | set_of(kOffset), set_of({kFrom, kMembers})},
    {"queue_final", false, kGroupPlace | set_of({kOffset, kEnd}), set_of(kFrom)},
    {"dead", false, kGroupPlace | set_of({kOffset, kUid}), set_of(kDeliveries)},
}};

constexpr std::array<std::string_view, 4> kPhaseNames = {"invoke", "ok", "fail", "info"};

}  // namespace

std::string_view name_of(Field field) { return kFieldNames[static_cast<size_t>(field)]; }

std::string_view name_of(Op op) { return rule_of(op).name; }

std::string_view name_of(Phase phase) { return kPhaseNames[static_cast<size_t>(phase)]; }

const OpRule& rule_of(Op op) { return kRules[static_cast<size_t>(op)]; }

}  // namespace tidemark::checker
