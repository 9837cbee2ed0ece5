// What a history is made of: operations, fields and which of them an operation may carry. The
// manual is HISTORY.md; a table here and a table there say the same.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string_view>

namespace tidemark::checker {

enum class Op : uint8_t {
  // of the run
  kNote,
  kConfig,
  kTopic,
  kFault,
  kHeal,
  kClock,
  // of producers
  kRegister,
  kSend,
  kCancel,
  kReschedule,
  kTxnBegin,
  kTxnCommit,
  kTxnRollback,
  kTxnCheck,
  // of consumers
  kSeek,
  kPoll,
  kRead,
  kAssign,
  kOffsetCommit,
  kOffsetFetch,
  kOffsetReset,
  kLease,
  kSettle,
  // of the end
  kTrim,
  kDrainStart,
  kDrain,
  kDrainGap,
  kDrainEnd,
  kPending,
  kTxnFinal,
  kGroupFinal,
  kQueueFinal,
  kDead,
};

// An operation is invoked and then ends in one of three ways, or nobody knows: then it has no end,
// or kInfo. What was only observed has kOk.
enum class Phase : uint8_t { kInvoke, kOk, kFail, kInfo };

enum class Field : uint8_t {
  // numbers
  kTimeNs,
  kWallMs,
  kId,
  kPartition,
  kOffset,
  kEnd,
  kHighWatermark,
  kUid,
  kProducer,
  kEpoch,
  kSequence,
  kCrc,
  kBytes,
  kDelayMs,
  kDueMs,
  kLogMs,
  kGeneration,
  kDeliveries,
  kFrom,
  kMembers,
  kTimeoutMs,
  kRetentionMs,
  kRetentionBytes,
  kMaxDeliveries,
  kMaxChecks,
  kMaxLateMs,
  kP999LateMs,
  kRecoveryMs,
  kSkewMs,
  kProgressMs,
  // texts
  kProcess,
  kTopicName,
  kKey,
  kTxn,
  kGroup,
  kMember,
  kSession,
  kHandle,
  kHow,
  kState,
  kKind,
  kError,
  kText,
};

inline constexpr size_t kFieldCount = static_cast<size_t>(Field::kText) + 1;
inline constexpr size_t kOpCount = static_cast<size_t>(Op::kDead) + 1;
static_assert(kFieldCount <= 64, "a set of fields is one word");

constexpr bool is_text(Field field) { return field >= Field::kProcess; }

using FieldSet = uint64_t;

constexpr FieldSet set_of(Field field) { return FieldSet{1} << static_cast<unsigned>(field); }

constexpr FieldSet set_of(std::initializer_list<Field> fields) {
  FieldSet set = 0;
  for (const Field field : fields) {
    set |= set_of(field);
  }
  return set;
}

// Names as in the file.
std::string_view name_of(Field field);
std::string_view name_of(Op op);
std::string_view name_of(Phase phase);

struct OpRule {
  std::string_view name;
  bool operation = false;  // has phases and an id
  FieldSet required = 0;   // of the invocation, or of what was observed
  FieldSet allowed = 0;    // besides, in any phase
};

const OpRule& rule_of(Op op);

}  // namespace tidemark::checker
