// Record batches: what a message costs to encode, check and decode, and the checksums below.
//
// The argument is the size of a value (entry: the number of batches; checksums: bytes). per_record
// is the time of one record; a batch has 64 KiB before it is compressed, and all values in it
// differ.
#include <algorithm>
#include <cstdint>
#include <vector>

#include <benchmark/benchmark.h>

#include "log/base/check.h"
#include "log/base/checksum.h"
#include "log/base/random.h"
#include "log/format/batch_builder.h"
#include "log/format/log_record.h"
#include "log/format/record_batch.h"

namespace tidemark::format {
namespace {

constexpr size_t kBatchBytesTarget = 64 * limits::kKiB;
constexpr size_t kValuesBytes = 64 * limits::kKiB;
constexpr int64_t kNowMs = 1'700'000'000'000;

// Letters of four bits each: zstd saves about half.
std::vector<uint8_t> payload(size_t size) {
  Random random(1);
  std::vector<uint8_t> bytes(size);
  std::generate(bytes.begin(), bytes.end(),
                [&] { return static_cast<uint8_t>('a' + random.below(16)); });
  return bytes;
}

// Fills the builder with records whose values are different parts of `values`.
uint32_t fill(BatchBuilder& builder, RecordInput record, ByteView values, size_t value_bytes) {
  for (size_t at = 0; builder.bytes() < kBatchBytesTarget;
       at = (at + value_bytes) % (values.size() - value_bytes)) {
    record.value = values.subspan(at, value_bytes);
    TIDEMARK_CHECK(builder.append(record).ok());
  }
  return builder.record_count();
}

Buffer one_batch(size_t value_bytes, Codec codec) {
  BatchBuilder builder;
  fill(builder, {.timestamp_ms = kNowMs}, payload(kValuesBytes), value_bytes);
  auto batch = builder.finish(codec, 1, {});
  TIDEMARK_CHECK(batch.ok());
  return std::move(*batch);
}

void count(benchmark::State& state, size_t records, size_t bytes) {
  const auto iterations = static_cast<double>(state.iterations());
  state.counters["per_record"] =
      benchmark::Counter(iterations * static_cast<double>(records),
                         benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
  state.SetBytesProcessed(static_cast<int64_t>(iterations * static_cast<double>(bytes)));
}

// append() alone; the batch is thrown away.
void append(benchmark::State& state) {
  BatchBuilder builder;
  const std::vector<uint8_t> values = payload(kValuesBytes);
  const auto value_bytes = static_cast<size_t>(state.range(0));
  const RecordInput record{.timestamp_ms = kNowMs};
  const uint32_t records = fill(builder, record, values, value_bytes);
  const size_t bytes = builder.bytes();
  for (auto _ : state) {
    builder.reset();
    benchmark::DoNotOptimize(fill(builder, record, values, value_bytes));
  }
  count(state, records, bytes);
}

void append_key_and_headers(benchmark::State& state) {
  BatchBuilder builder;
  const std::vector<uint8_t> values = payload(kValuesBytes);
  const auto value_bytes = static_cast<size_t>(state.range(0));
  const HeaderInput headers[] = {{"trace", ByteView(values).first(16), true},
                                 {"type", ByteView(values).first(8), true}};
  const RecordInput record{.timestamp_ms = kNowMs,
                           .has_key = true,
                           .key = ByteView(values).first(12),
                           .headers = headers};
  const uint32_t records = fill(builder, record, values, value_bytes);
  const size_t bytes = builder.bytes();
  for (auto _ : state) {
    builder.reset();
    benchmark::DoNotOptimize(fill(builder, record, values, value_bytes));
  }
  count(state, records, bytes);
}

// append() and finish(): a batch ready to be sent.
void encode(benchmark::State& state, Codec codec) {
  BatchBuilder builder;
  const std::vector<uint8_t> values = payload(kValuesBytes);
  const auto value_bytes = static_cast<size_t>(state.range(0));
  const RecordInput record{.timestamp_ms = kNowMs};
  const uint32_t records = fill(builder, record, values, value_bytes);
  const size_t bytes = builder.bytes();
  builder.reset();
  for (auto _ : state) {
    fill(builder, record, values, value_bytes);
    benchmark::DoNotOptimize(builder.finish(codec, 1, {}).ok());
  }
  count(state, records, bytes);
}

void verify(benchmark::State& state) {
  const Buffer batch = one_batch(static_cast<size_t>(state.range(0)), Codec::kNone);
  for (auto _ : state) {
    benchmark::DoNotOptimize(verify_batch(batch.view()).ok());
  }
  count(state, decode_batch_header(batch.view())->record_count, batch.size());
}

void validate(benchmark::State& state, Codec codec) {
  const Buffer batch = one_batch(static_cast<size_t>(state.range(0)), codec);
  for (auto _ : state) {
    TIDEMARK_CHECK(validate_produced_batch(batch.view()).ok());
  }
  count(state, decode_batch_header(batch.view())->record_count, batch.size());
}

void decode(benchmark::State& state, Codec codec) {
  const Buffer batch = one_batch(static_cast<size_t>(state.range(0)), codec);
  for (auto _ : state) {
    auto reader = BatchReader::open(batch.view());
    RecordView record;
    while (reader->next(record)) {
      benchmark::DoNotOptimize(record);
    }
    TIDEMARK_CHECK(reader->status().ok());
  }
  count(state, decode_batch_header(batch.view())->record_count, batch.size());
}

// An entry payload out of `range` batches of 4 KiB: what the broker gathers in one turn of its
// loop.
void entry(benchmark::State& state) {
  const std::vector<uint8_t> batch = payload(4 * limits::kKiB);
  RecordListBuilder builder;
  for (auto _ : state) {
    for (int64_t left = state.range(0); left > 0; --left) {
      builder.add_produce({TopicId(1), PartitionIndex(2)}, kNowMs, batch);
    }
    benchmark::DoNotOptimize(builder.take());
  }
  state.SetBytesProcessed(state.iterations() * state.range(0) * static_cast<int64_t>(batch.size()));
}

void checksum_crc32c(benchmark::State& state) {
  const std::vector<uint8_t> bytes = payload(static_cast<size_t>(state.range(0)));
  for (auto _ : state) {
    benchmark::DoNotOptimize(crc32c(bytes));
  }
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations()) * state.range(0));
}

void checksum_xxh3(benchmark::State& state) {
  const std::vector<uint8_t> bytes = payload(static_cast<size_t>(state.range(0)));
  for (auto _ : state) {
    benchmark::DoNotOptimize(xxh3(bytes));
  }
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations()) * state.range(0));
}

BENCHMARK(append)->Arg(100)->Arg(1024);
BENCHMARK(append_key_and_headers)->Arg(100)->Arg(1024);
BENCHMARK_CAPTURE(encode, plain, Codec::kNone)->Arg(100)->Arg(1024);
BENCHMARK_CAPTURE(encode, zstd, Codec::kZstd)->Arg(100)->Arg(1024);
BENCHMARK(verify)->Arg(100)->Arg(1024);
BENCHMARK_CAPTURE(validate, plain, Codec::kNone)->Arg(100)->Arg(1024);
BENCHMARK_CAPTURE(validate, zstd, Codec::kZstd)->Arg(100)->Arg(1024);
BENCHMARK_CAPTURE(decode, plain, Codec::kNone)->Arg(100)->Arg(1024);
BENCHMARK_CAPTURE(decode, zstd, Codec::kZstd)->Arg(100)->Arg(1024);
BENCHMARK(entry)->Arg(1)->Arg(16)->Arg(255);
BENCHMARK(checksum_crc32c)->Arg(200)->Arg(16 << 10)->Arg(1 << 20);
BENCHMARK(checksum_xxh3)->Arg(200)->Arg(16 << 10)->Arg(1 << 20);

}  // namespace
}  // namespace tidemark::format

BENCHMARK_MAIN();
