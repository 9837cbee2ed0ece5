#include "broker/shard/stored_source.h"

#include <optional>
#include <vector>

#include <doctest/doctest.h>

#include "broker/kv/memory_store.h"
#include "tests/support/log_harness.h"
#include "tests/support/request_builder.h"

namespace tidemark::shard {
namespace {

TEST_CASE("a batch from disk is checked: its CRC, and its messages if their number is known") {
  log::LogHarness harness;
  REQUIRE(harness.open());
  const SharedBytes batch = testing::build_batch_of(3, 100);
  const LogPosition entry =
      harness.log->append(log::EntryKind::kCommand, Term{1}, LogIndex{1}, batch, [] {});
  harness.settle();
  const partition::BatchRef ref{Offset{5}, 3, static_cast<uint32_t>(batch.size()),
                                entry + log::kEntryHeaderBytes, 1000};
  kv::MemoryStore store;
  InlineExecutor reads;
  StoredSource source(*harness.log, harness.fs, "log", store, reads);
  const auto read = [&](const partition::BatchRef& wanted) {
    std::optional<Result<SharedBytes>> result;
    source.read({wanted}, [&](std::vector<Result<SharedBytes>> batches) {
      result.emplace(std::move(batches.at(0)));
    });
    reads.run_all();
    return std::move(result.value());
  };
  CHECK(read(ref).ok());

  partition::BatchRef unknown = ref;
  unknown.count = 0;
  CHECK(read(unknown).ok());

  partition::BatchRef other = ref;
  other.count = 2;
  const std::string place = "record batch at log position " + std::to_string(ref.position.value());
  CHECK(read(other).status().code() == ErrorCode::kCorrupted);
  CHECK(read(other).status().context() ==
        place + " (offsets 5 to 6): number of offsets differs from the index");

  unknown.bytes -= 1;
  CHECK(read(unknown).status().code() == ErrorCode::kCorrupted);
  CHECK(read(unknown).status().context().find(place + ": ") == 0);
}

}  // namespace
}  // namespace tidemark::shard
