// tidemark log dump: the entries of a log, offline and read-only.
#include <array>
#include <limits>
#include <map>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "log/base/posix_file_system.h"
#include "log/format/log_record.h"
#include "log/format/record_batch.h"
#include "log/segment_reader.h"
#include "tools/cli.h"
#include "tools/errors.h"
#include "tools/interrupt.h"
#include "tools/log.h"
#include "tools/log_dump_delays.h"
#include "tools/log_dump_queue.h"
#include "tools/log_dump_records.h"
#include "tools/log_dump_txns.h"
#include "tools/log_files.h"
#include "tools/output.h"
#include "tools/parse.h"

namespace tidemark::tools {
namespace {

using Json = nlohmann::ordered_json;
using log::SegmentEntry;
using log::SegmentReader;

struct Totals {
  uint64_t segments = 0;
  uint64_t entries = 0;
  uint64_t entry_bytes = 0;
  uint64_t batches = 0;
  uint64_t messages = 0;
  uint64_t batch_bytes = 0;
  uint64_t damaged_places = 0;
  DelayTotals delays;
  TxnTotals txns;
  QueueTotals queues;
  std::map<std::string_view, uint64_t> entries_by_kind;
  std::map<std::string_view, uint64_t> records_by_kind;
};

// What of an entry is about one subject: all of it but the records about anything else, if there is
// a record about it.
struct Share {
  bool any = false;
  uint64_t others_bytes = 0;

  void add(const format::LogRecord& record, bool about_it) {
    any = any || about_it;
    others_bytes += about_it ? 0 : format::record_bytes(record.body.size());
  }

  [[nodiscard]] uint64_t bytes_of(uint64_t entry_bytes) const {
    return any ? entry_bytes - others_bytes : 0;
  }
};

double ratio(uint64_t bytes, uint64_t of) {
  return of == 0 ? 0 : static_cast<double>(bytes) / static_cast<double>(of);
}

// One pass over the segments of a directory; prints as it goes, or only adds up for --stats.
class Dumper {
 public:
  Dumper(const Globals& globals, const LogDumpOptions& options)
      : json_(globals.json), options_(options) {}

  void dump(FileSystem& fs, const LogFiles& files);
  void finish();

  [[nodiscard]] const Totals& totals() const { return totals_; }

  [[nodiscard]] bool done() const {
    return interrupted() || (options_.limit > 0 && totals_.entries >= options_.limit);
  }

 private:
  void dump_segment(SegmentReader& reader, bool last);
  void dump_entry(SegmentReader& reader, const SegmentEntry& entry);

  struct Damage {
    uint64_t offset = 0;
    std::string why;
    bool at_end = false;  // of the last segment, and nothing that verifies follows
  };

  void on_damage(const SegmentReader& reader, const Damage& damage);
  void add_record(const format::LogRecord& record, Json& list, std::string& text);
  void add_produce(const format::LogRecord& record, Json& object, std::string& text);
  void print_stats();

  bool json_;
  const LogDumpOptions& options_;
  Totals totals_;
  OutputBuffer out_;
};

void Dumper::dump(FileSystem& fs, const LogFiles& files) {
  for (size_t i = 0; i < files.segments.size() && !done(); ++i) {
    const std::string path = files.directory + "/" + files.segments[i];
    Result<SegmentReader> reader = SegmentReader::open(fs, path);
    if (!reader.ok()) {
      ++totals_.damaged_places;
      note(std::string(reader.error().context()));
      continue;
    }
    ++totals_.segments;
    dump_segment(*reader, i + 1 == files.segments.size());
  }
}

void Dumper::dump_segment(SegmentReader& reader, bool last) {
  const log::SegmentHeader& header = reader.header();
  if (!json_ && !options_.stats) {
    out_.text() += fmt::format(
        "segment {} of {}: shard {}, from position {} and index {}, cluster {:016x}, {}\n",
        header.sequence, reader.name(), header.shard.value(), header.first_position.value(),
        header.first_index.value(), header.cluster_id, reader.seal_offset() ? "sealed" : "open");
  }
  SegmentEntry entry;
  while (!done()) {
    const uint64_t before = reader.offset();
    const Result<SegmentReader::Step> step = reader.next(entry, LogPosition{options_.from});
    throw_if_error(step.status(), "reading");
    if (*step == SegmentReader::Step::kEnd) {
      return;
    }
    if (*step == SegmentReader::Step::kDamaged) {
      Damage damage = {.offset = before, .why = reader.damage(), .at_end = false};
      const Result<bool> found = reader.find_next(entry);
      throw_if_error(found.status(), "reading");
      damage.at_end = last && !*found;
      on_damage(reader, damage);
      if (!*found) {
        return;
      }
    }
    const bool replicated = log::is_replicated(entry.header().kind);
    const LogPosition end =
        entry.header().position + (replicated ? log::entry_bytes(entry.header().payload_bytes) : 0);
    if (end.value() > options_.from || options_.from == 0) {
      dump_entry(reader, entry);
    }
  }
}

void Dumper::on_damage(const SegmentReader& reader, const Damage& damage) {
  if (damage.at_end) {
    // Being written just now, or what the next start cuts.
    note(fmt::format("{}: offset {}: the log ends here; what follows is no whole entry",
                     reader.name(), damage.offset));
    return;
  }
  ++totals_.damaged_places;
  note(fmt::format("{}: offset {}: damaged: {}", reader.name(), damage.offset, damage.why));
}

void Dumper::dump_entry(SegmentReader& reader, const SegmentEntry& entry) {
  const log::EntryHeader& header = entry.header();
  ++totals_.entries;
  totals_.entry_bytes += log::entry_bytes(header.payload_bytes);
  ++totals_.entries_by_kind[entry_kind_name(header.kind)];
  Json records = Json::array();
  std::string text;
  if (header.kind == log::EntryKind::kCommand) {
    const Result<ByteView> payload = reader.payload(entry);
    if (!payload.ok()) {
      ++totals_.damaged_places;
      note(std::string(payload.error().context()));
      return;
    }
    format::RecordListReader list(*payload);
    format::LogRecord record;
    Share delays;
    Share txns;
    Share queues;
    while (list.next(record)) {
      delays.add(record, is_delay_record(record.kind));
      txns.add(record, is_txn_record(record.kind));
      queues.add(record, is_queue_record(record.kind));
      add_record(record, records, text);
    }
    totals_.delays.log_bytes += delays.bytes_of(log::entry_bytes(header.payload_bytes));
    totals_.txns.log_bytes += txns.bytes_of(log::entry_bytes(header.payload_bytes));
    totals_.queues.log_bytes += queues.bytes_of(log::entry_bytes(header.payload_bytes));
    if (!list.status().ok()) {
      ++totals_.damaged_places;
      note(
          fmt::format("{}: offset {}: {}", reader.name(), entry.offset, list.status().to_string()));
    }
  }
  if (options_.stats) {
    return;
  }
  if (json_) {
    Json object = Json::object();
    object["segment"] = reader.header().sequence;
    object["file_offset"] = entry.offset;
    object["position"] = header.position.value();
    object["index"] = header.index.value();
    object["term"] = header.term.value();
    object["kind"] = entry_kind_name(header.kind);
    object["bytes"] = header.payload_bytes;
    if (header.kind == log::EntryKind::kCommand) {
      object["records"] = std::move(records);
    }
    out_.text() += object.dump() + "\n";
  } else {
    out_.text() +=
        fmt::format("{:>14} index {} term {} {} {} bytes at {}\n{}", header.position.value(),
                    header.index.value(), header.term.value(), entry_kind_name(header.kind),
                    header.payload_bytes, entry.offset, text);
  }
  out_.commit();
}

void Dumper::add_record(const format::LogRecord& record, Json& list, std::string& text) {
  const std::string_view kind = record_kind_name(record.kind);
  ++totals_.records_by_kind[kind];
  Json object = Json::object();
  object["kind"] = kind;
  object["bytes"] = record.body.size();
  std::string line = fmt::format("{:>14}   {} {} bytes", "", kind, record.body.size());
  if (record.kind == format::RecordKind::kProduce) {
    add_produce(record, object, line);
  } else if (is_delay_record(record.kind)) {
    describe_delay_record(record, object, line, totals_.delays);
  } else if (is_txn_record(record.kind)) {
    describe_txn_record(record, object, line, totals_.txns);
  } else if (record.kind == format::RecordKind::kMessageIds) {
    describe_message_ids(record.body, object, line);
  } else if (is_compaction_record(record.kind)) {
    describe_compaction(record, object, line);
  } else if (is_queue_record(record.kind)) {
    describe_queue_record(record, object, line, totals_.queues);
  }
  if (!options_.stats) {
    list.push_back(std::move(object));
    text += line + "\n";
  }
}

void Dumper::add_produce(const format::LogRecord& record, Json& object, std::string& text) {
  const Result<format::ProduceRecord> produce = format::decode_produce(record);
  if (!produce.ok()) {
    object["error"] = produce.error().to_string();
    text += " " + produce.error().to_string();
    return;
  }
  object["topic_id"] = produce->partition.topic.value();
  object["partition"] = produce->partition.index.value();
  object["received_ms"] = produce->received_ms;
  text += fmt::format(" topic {} partition {} at {}", produce->partition.topic.value(),
                      produce->partition.index.value(), format_time(produce->received_ms));
  const Result<format::BatchHeader> batch = format::decode_batch_header(produce->batch);
  if (!batch.ok()) {
    object["error"] = batch.error().to_string();
    text += " " + batch.error().to_string();
    return;
  }
  ++totals_.batches;
  totals_.messages += batch->record_count;
  totals_.batch_bytes += batch->batch_bytes;
  object["messages"] = batch->record_count;
  object["batch_bytes"] = batch->batch_bytes;
  object["codec"] = static_cast<int>(batch->codec);
  object["producer_id"] = batch->producer_id;
  object["producer_epoch"] = batch->producer_epoch;
  object["base_sequence"] = batch->base_sequence;
  text += fmt::format(": {} messages in {} bytes{}, producer {} epoch {} sequence {}",
                      batch->record_count, batch->batch_bytes,
                      batch->codec == format::Codec::kZstd ? " (zstd)" : "", batch->producer_id,
                      batch->producer_epoch, batch->base_sequence);
}

void add_queue_stats(const QueueTotals& queues, Json& object) {
  object["queue_records"] = queues.records;
  object["queue_record_bytes"] = queues.record_bytes;
  object["queue_log_bytes"] = queues.log_bytes;
  object["queue_acks"] = queues.acks;
  object["queue_failures"] = queues.failures;
  object["queue_letters"] = queues.letters;
  object["queue_ack_bytes_per_ack"] = queues.bytes_per_ack();
  object["message_ids"] = queues.message_ids;
}

std::string queue_stats_text(const QueueTotals& queues) {
  if (queues.records == 0) {
    return "";
  }
  return fmt::format(
      "queues    {} acks, {} failures, {} letters: {} in the log, {:.2f} bytes of records per "
      "ack\n",
      format_count(queues.acks), format_count(queues.failures), format_count(queues.letters),
      format_bytes(queues.log_bytes), queues.bytes_per_ack());
}

void Dumper::print_stats() {
  const DelayTotals& delays = totals_.delays;
  const TxnTotals& txns = totals_.txns;
  const double delayed_ratio = ratio(delays.log_bytes, delays.body_bytes);
  const double half_ratio = ratio(txns.log_bytes, txns.half_body_bytes);
  if (json_) {
    Json object = Json::object();
    object["segments"] = totals_.segments;
    object["entries"] = totals_.entries;
    object["entry_bytes"] = totals_.entry_bytes;
    object["batches"] = totals_.batches;
    object["messages"] = totals_.messages;
    object["batch_bytes"] = totals_.batch_bytes;
    object["damaged_places"] = totals_.damaged_places;
    object["delayed_messages"] = delays.messages;
    object["delayed_body_bytes"] = delays.body_bytes;
    object["delayed_log_bytes"] = delays.log_bytes;
    object["delayed_ratio"] = delayed_ratio;
    object["txn_records"] = txns.records;
    object["txn_log_bytes"] = txns.log_bytes;
    object["half_messages"] = txns.half_messages;
    object["half_bytes"] = txns.half_bytes;
    object["half_body_bytes"] = txns.half_body_bytes;
    object["half_ratio"] = half_ratio;
    add_queue_stats(totals_.queues, object);
    object["entries_by_kind"] = totals_.entries_by_kind;
    object["records_by_kind"] = totals_.records_by_kind;
    out_.text() += object.dump() + "\n";
    return;
  }
  out_.text() += fmt::format(
      "segments  {}\nentries   {} in {}\nbatches   {} in {}\nmessages  {}\ndamaged   {}\n",
      format_count(totals_.segments), format_count(totals_.entries),
      format_bytes(totals_.entry_bytes), format_count(totals_.batches),
      format_bytes(totals_.batch_bytes), format_count(totals_.messages), totals_.damaged_places);
  if (delays.log_bytes > 0) {
    out_.text() += fmt::format("delayed   {} of {}: {} in the log, {:.3f} times as much\n",
                               format_count(delays.messages), format_bytes(delays.body_bytes),
                               format_bytes(delays.log_bytes), delayed_ratio);
  }
  if (txns.records > 0) {
    out_.text() += fmt::format("halves    {} of {}: {} in the log, {:.3f} times as much\n",
                               format_count(txns.half_messages), format_bytes(txns.half_body_bytes),
                               format_bytes(txns.log_bytes), half_ratio);
  }
  out_.text() += queue_stats_text(totals_.queues);
  Table table({{"WHAT"}, {"KIND"}, {"COUNT", Table::Align::kRight}});
  for (const auto& [kind, count] : totals_.entries_by_kind) {
    table.add({"entry", std::string(kind), format_count(count)});
  }
  for (const auto& [kind, count] : totals_.records_by_kind) {
    table.add({"record", std::string(kind), format_count(count)});
  }
  out_.text() += "\n" + table.to_string();
}

void Dumper::finish() {
  if (options_.stats) {
    print_stats();
  }
  out_.flush();
}

}  // namespace

int dump_log(const Globals& globals, const LogDumpOptions& options) {
  catch_interrupts();
  PosixFileSystem fs;
  const Result<std::vector<LogFiles>> found = find_log_files(fs, options.path);
  throw_if_error(found.status(), "log dump");
  Dumper dumper(globals, options);
  for (const LogFiles& files : *found) {
    dumper.dump(fs, files);
  }
  dumper.finish();
  return static_cast<int>(dumper.totals().damaged_places > 0 ? ExitCode::kFailed : ExitCode::kOk);
}

}  // namespace tidemark::tools
