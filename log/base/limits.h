// Every bound in one place: unit in the name, reason beside it. Bounds that a user may change are
// configuration keys whose range is given here.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tidemark::limits {

inline constexpr size_t kKiB = 1024;
inline constexpr size_t kMiB = 1024 * kKiB;

// Names of topics: [A-Za-z0-9._-], not "." or "..".
inline constexpr size_t kTopicNameBytesMax = 200;
inline constexpr uint32_t kPartitionsPerTopicMax = 1024;
inline constexpr uint32_t kTopicsMax = 10'000;
// Of all topics of a cluster: a reply that lists them all fits in one frame.
inline constexpr uint32_t kPartitionsMax = 50'000;
inline constexpr uint16_t kShardsMax = 256;

// One message: key, value and headers together.
inline constexpr size_t kMessageBytesMax = 1 * kMiB;
inline constexpr size_t kHeadersPerMessageMax = 64;
// A record batch on the wire and in the log. Room for one largest message and its framing.
inline constexpr size_t kBatchBytesMax = kMessageBytesMax + 64 * kKiB;
inline constexpr uint32_t kRecordsPerBatchMax = 65'536;
// What a compressed batch may inflate to.
inline constexpr size_t kInflatedBatchBytesMax = 16 * kMiB;

// A log entry (one raft proposal) carries the records gathered in one turn of the loop. Research on
// libraft: 64 KiB to 1 MiB per entry is the best range.
inline constexpr size_t kEntryPayloadBytesTarget = 1 * kMiB;
inline constexpr size_t kEntryPayloadBytesMax = 2 * kMiB;
// One write+sync of the disk worker; larger ones halve the throughput of a shared disk.
inline constexpr size_t kGroupCommitBytesMax = 2 * kMiB;

inline constexpr uint64_t kSegmentBytesDefault = 256 * kMiB;
inline constexpr uint64_t kSegmentBytesMin = 4 * kMiB;
inline constexpr uint64_t kSegmentBytesMax = 2048 * kMiB;
// Disk space is taken ahead of need in steps of this size, so that an accepted write cannot hit a
// full disk.
inline constexpr uint64_t kAllocateStepBytesMin = 1 * kMiB;
inline constexpr uint64_t kAllocateStepBytesMax = 32 * kMiB;
// Kept free for what must always be writable: votes, snapshots, trims, ends of transactions.
inline constexpr uint64_t kControlReserveBytes = 256 * kKiB;
inline constexpr size_t kRecycledSegmentsMax = 2;
// Rows of a segment's position table (one per run of local records) and of its term table; a
// segment that reaches this is sealed early, so that its seal stays small.
inline constexpr size_t kSegmentRowsMax = 4096;
// What libraft gives us to remember with a snapshot; repeated at the start of every segment.
inline constexpr size_t kSnapshotManifestBytesMax = 512 * kKiB;

// A frame on the wire, header included: checked before anything is allocated.
inline constexpr size_t kFrameBytesMax = 8 * kMiB;
// Before the handshake a connection may only send small frames.
inline constexpr size_t kFrameBytesMaxBeforeHello = 4 * kKiB;
inline constexpr size_t kPartsPerRequestMax = 256;
// FlatBuffers tables in one frame: the largest is a list of all topics and partitions.
inline constexpr uint32_t kTablesPerFrameMax = 131'072;
inline constexpr uint32_t kConnectionsMax = 10'000;
inline constexpr uint32_t kRequestsInFlightPerConnectionMax = 256;
// A connection whose unsent replies exceed this is not read from until they drain.
inline constexpr size_t kOutQueueBytesPerConnectionMax = 16 * kMiB;
inline constexpr size_t kInFlightBytesPerConnectionMax = 16 * kMiB;

// Produce bytes accepted by one shard and not yet on disk; above it produce gets kOverloaded.
inline constexpr size_t kWriteBufferBytesPerShardDefault = 64 * kMiB;
// Log tail kept in memory for consumers, per shard.
inline constexpr size_t kTailCacheBytesPerShardDefault = 64 * kMiB;
inline constexpr uint32_t kRetryAfterMsDefault = 50;

inline constexpr uint32_t kFetchWaitMsMax = 60'000;
inline constexpr size_t kFetchBytesMax = 4 * kMiB;
inline constexpr size_t kFetchWaitersPerShardMax = 65'536;

// Producers remembered per partition; the one idle longest is forgotten first.
inline constexpr size_t kProducersPerPartitionMax = 10'000;
// Batches remembered per producer and partition; a client keeps at most this many in flight.
inline constexpr size_t kProducerBatchesRemembered = 5;

// Delayed messages. Due times reach 34 years ahead: what five levels of 256 slots of 1 ms hold.
inline constexpr int64_t kDelayMsMax = int64_t{34} * 366 * 24 * 3600 * 1000;
// Entries of the timing wheel in memory, per shard: 32 bytes each.
inline constexpr size_t kWheelEntriesPerShardDefault = size_t{1} << 20;
// Entries of the wheel, cancelled ones that wait for their time included: what LMDB's map and the
// table of states are laid out for.
inline constexpr uint64_t kDelayEntriesPerShardMax = uint64_t{1} << 30;
// Pending messages with a key, and recurring ones: they are in memory whole.
inline constexpr uint64_t kDelayKeysPerShardMax = 1'000'000;
inline constexpr uint64_t kDelaySeriesPerShardMax = 100'000;
inline constexpr size_t kDelayRefsPerRequestMax = 1024;
inline constexpr uint32_t kDelayListMax = 10'000;
// A recurring message: shorter than a second is a stream, longer than 34 years is a typing error.
inline constexpr int64_t kRecurrenceEveryMsMin = 1000;
inline constexpr int64_t kRecurrenceEveryMsMax = int64_t{34} * 366 * 24 * 3'600'000;
// Room for lists in all six fields; the longest IANA name has 32 bytes.
inline constexpr size_t kCronBytesMax = 200;
inline constexpr size_t kZoneNameBytesMax = 64;
// How far ahead a cron schedule is searched: the days of the week come back to the same dates.
inline constexpr int64_t kCronYearsAheadMax = 28;

// Transactions. Those that have not ended are in memory whole, 200 to 400 bytes each, and for each
// the log keeps room for its end.
inline constexpr size_t kTxnOpenPerShardMax = 131'072;
inline constexpr uint64_t kTxnEndBytesReserved = 256;  // and two bytes for each shard
// What is kept for ends takes at most this part of a segment: 1 / 8.
inline constexpr uint64_t kTxnReserveSegmentPart = 8;
// Parts (batches and schedule sets) of one transaction.
inline constexpr uint32_t kTxnHalvesMax = 1024;
// Delayed messages in the parts of all open transactions: about 50 bytes of memory each.
inline constexpr uint64_t kTxnDelayedPerShardMax = 1'000'000;
inline constexpr size_t kTxnTextBytesMax = 255;  // producer group, instance, reference
inline constexpr uint32_t kTxnTimeoutMsDefault = 6'000;
inline constexpr uint32_t kTxnTimeoutMsMin = 100;
inline constexpr uint32_t kTxnTimeoutMsMax = 24 * 3'600'000;
inline constexpr int64_t kTxnCheckBackoffMsMax = int64_t{5} * 60'000;
inline constexpr int64_t kTxnPendingAgeMsDefault = int64_t{24} * 3'600'000;
inline constexpr int64_t kTxnOutcomeAgeMsDefault = int64_t{24} * 3'600'000;
inline constexpr size_t kTxnItemsPerRequestMax = 1024;
inline constexpr uint32_t kTxnListMax = 10'000;
// Outcomes are remembered in chunks of 256 consecutive transactions of a producer, about 150 bytes
// each; beyond this the oldest are forgotten early.
inline constexpr size_t kTxnOutcomeChunksPerShardMax = 262'144;
// Check-back polls that wait, and producer groups known at a time.
inline constexpr size_t kTxnPollsPerShardMax = 16'384;
inline constexpr size_t kTxnGroupsPerShardMax = 16'384;
// Named producers of a cluster; beyond this the one idle longest is forgotten.
inline constexpr size_t kProducerNamesMax = 100'000;

// Consumer groups.
inline constexpr size_t kGroupNameBytesMax = 255;
inline constexpr size_t kGroupMemberBytesMax = 64;
inline constexpr size_t kGroupsMax = 10'000;
inline constexpr size_t kGroupMembersMax = 10'000;        // of one group
inline constexpr size_t kGroupMembersInAllMax = 100'000;  // of a cluster
inline constexpr size_t kGroupTopicsMax = 256;            // of one subscription
// Positions: of a group and a partition each, about 150 bytes of memory.
inline constexpr size_t kGroupPositionsPerShardMax = 1'000'000;
inline constexpr size_t kGroupItemsPerRequestMax = 1024;
inline constexpr uint32_t kGroupSessionMsMin = 1'000;
inline constexpr uint32_t kGroupSessionMsMax = 300'000;

// Queue mode. A queue is a group and a partition; what it has settled costs at most 512 bytes for
// 4096 messages.
inline constexpr size_t kQueuesPerShardMax = 65'536;
// Unsettled messages whose delivery failed: about 80 bytes each.
inline constexpr size_t kQueueFailuresPerShardMax = 1'000'000;
// Unsettled messages of a queue that are looked at: about 150 bytes each.
inline constexpr size_t kQueueWindow = 65'536;
inline constexpr size_t kQueueItemsPerRequestMax = 1024;
inline constexpr size_t kQueueMessagesPerReceiveMax = 1024;
inline constexpr uint32_t kQueueVisibilityMsMin = 1'000;
inline constexpr uint32_t kQueueVisibilityMsMax = 12 * 3'600'000;
inline constexpr int64_t kQueueDelayMsMax = int64_t{366} * 24 * 3'600'000;
inline constexpr size_t kQueueReasonBytesMax = 255;
inline constexpr uint32_t kQueueDeliveriesMax = 1'000;
inline constexpr uint32_t kRetryFactorPercentMin = 100;
inline constexpr uint32_t kRetryFactorPercentMax = 1'000;
inline constexpr size_t kQueueReceiversPerShardMax = 65'536;

// Filters of consumers.
inline constexpr size_t kFilterBytesMax = 4096;
inline constexpr size_t kFilterNodesMax = 256;
inline constexpr size_t kFilterDepthMax = 32;
inline constexpr size_t kFilterTagsMax = 64;

// Message ids remembered of a partition, about 90 bytes each; beyond it the oldest are forgotten
// early.
inline constexpr size_t kMessageIdsPerPartitionMax = 1'000'000;
inline constexpr size_t kMessageIdBytesMax = 255;
inline constexpr int64_t kDedupeWindowMsDefault = int64_t{2} * 60'000;
inline constexpr int64_t kDedupeWindowMsMin = 1'000;
inline constexpr int64_t kDedupeWindowMsMax = int64_t{7} * 24 * 3'600'000;

// Jobs and messages between threads; a sender that finds the queue full keeps the work and tries
// again.
inline constexpr size_t kMailboxMessagesMax = 4096;
inline constexpr size_t kDiskJobsInFlightMax = 8;
inline constexpr size_t kColdReadsInFlightPerShardMax = 64;

// A checkpoint starts when this much log was applied since the last one, or after the time when
// there is anything new.
inline constexpr uint64_t kCheckpointLogBytes = 64 * kMiB;
inline constexpr uint64_t kCheckpointRecordsMax = 1'000'000;
inline constexpr int64_t kCheckpointIntervalMs = 60'000;

// How often a shard looks for what retention lets go and for segments that only delayed messages
// keep: a look costs microseconds for each partition.
inline constexpr int64_t kRetentionIntervalMs = 5'000;

// Compaction. Of one run on a shard, in memory: 24 MiB for the newest offset of so many keys; with
// more keys it goes on behind them in the next run.
inline constexpr size_t kCompactionKeysMax = 786'432;
// A partition to which less was appended is not gone over.
inline constexpr uint64_t kCompactionBytesMin = 1 * kMiB;
// Changed batches that no checkpoint has stored: about 100 bytes each. Then a run waits for one.
inline constexpr size_t kCompactionMovesMax = 262'144;
// Read, and written again, in one step of a run.
inline constexpr size_t kCompactionStepBytes = 1 * kMiB;

// libraft forgets old entries after this many new ones: forgetting costs a few microseconds each
// time, remembering about 110 bytes an entry.
inline constexpr uint32_t kRaftEntriesPerTrim = 4096;
// Messages to peers that wait for a vote to become durable; beyond it new ones are lost, which raft
// bears.
inline constexpr size_t kHeldPeerMessagesMax = 1024;

static_assert(kBatchBytesMax + 4 * kKiB < kEntryPayloadBytesMax,
              "a largest batch fits in one entry");
static_assert(kEntryPayloadBytesMax < kFrameBytesMax, "an entry travels in one frame");
static_assert(kPartitionsMax + 4 * kTopicsMax < kTablesPerFrameMax, "all topics can be listed");
static_assert(kPartitionsMax * size_t{48} + kTopicsMax * (kTopicNameBytesMax + size_t{128}) <
                  kFrameBytesMax,
              "all topics can be listed");
static_assert(kBatchBytesMax <= kFetchBytesMax, "a fetch can always return one whole batch");
static_assert(kEntryPayloadBytesMax + kMiB < kSegmentBytesMin,
              "an entry fits in the smallest segment");

}  // namespace tidemark::limits
