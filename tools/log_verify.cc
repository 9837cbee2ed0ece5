// tidemark log verify: every hash and checksum of a log, offline and read-only.
#include <algorithm>
#include <optional>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "broker/shard/rebuild.h"
#include "log/base/posix_file_system.h"
#include "log/format/log_record.h"
#include "log/format/record_batch.h"
#include "log/segment_reader.h"
#include "log/verify.h"
#include "tools/cli.h"
#include "tools/errors.h"
#include "tools/log.h"
#include "tools/log_files.h"
#include "tools/output.h"
#include "tools/parse.h"

namespace tidemark::tools {
namespace {

using Json = nlohmann::ordered_json;
using log::LogFinding;

struct DirectoryReport {
  std::string directory;
  log::LogVerification log;
  uint64_t batches = 0;
  uint64_t messages = 0;
  // Of the views that the log gives, with --state-hash; why there is none otherwise.
  std::optional<shard::StateHash> state;
  std::string no_state;
};

bool same_place(const LogFinding& a, const LogFinding& b) {
  return a.file == b.file && a.offset == b.offset;
}

// What is damaged in one look only was being written, or dropped by retention, while it was read.
void keep_confirmed(std::vector<LogFinding>& findings, const std::vector<LogFinding>& second_look) {
  std::erase_if(findings, [&second_look](const LogFinding& finding) {
    return finding.kind == LogFinding::Kind::kDamage &&
           std::ranges::none_of(second_look, [&finding](const LogFinding& other) {
             return other.kind == LogFinding::Kind::kDamage && same_place(finding, other);
           });
  });
}

void add_damage(DirectoryReport& report, const std::string& file, const log::SegmentEntry& entry,
                std::string what) {
  if (report.log.findings.size() < log::kLogFindingsMax) {
    report.log.findings.push_back(
        {LogFinding::Kind::kDamage, file, entry.offset, entry.header().position, std::move(what)});
  }
}

// Of a record that carries a batch: counts it, or says what is wrong with either.
template <typename Record>
void check_batch(DirectoryReport& report, const std::string& file, const log::SegmentEntry& entry,
                 const Result<Record>& record, Result<format::BatchHeader> (*verify)(ByteView)) {
  if (!record.ok()) {
    return add_damage(report, file, entry, record.error().to_string());
  }
  const Result<format::BatchHeader> batch = verify(record->batch);
  if (!batch.ok()) {
    return add_damage(report, file, entry,
                      fmt::format("record batch at byte {} of the entry: {}", record->batch_offset,
                                  batch.error().to_string()));
  }
  ++report.batches;
  report.messages += batch->record_count;
}

// The records of an entry whose hash holds: they must parse, and each batch must match its own
// checksum.
void check_records(DirectoryReport& report, const std::string& file, const log::SegmentEntry& entry,
                   ByteView payload) {
  format::RecordListReader list(payload);
  format::LogRecord record;
  while (list.next(record)) {
    if (record.kind == format::RecordKind::kProduce) {
      check_batch(report, file, entry, format::decode_produce(record), format::verify_whole_batch);
    } else if (record.kind == format::RecordKind::kCompact) {
      check_batch(report, file, entry, format::decode_compact(record), format::verify_batch);
    }
  }
  if (!list.status().ok()) {
    add_damage(report, file, entry, list.status().to_string());
  }
}

// A segment that cannot be read is a finding of log::verify_log() already.
Status check_batches(FileSystem& fs, DirectoryReport& report, const std::string& file) {
  Result<log::SegmentReader> reader = log::SegmentReader::open(fs, report.directory + "/" + file);
  if (!reader.ok()) {
    return Status();
  }
  log::SegmentEntry entry;
  for (;;) {
    ASSIGN_OR_RETURN(const log::SegmentReader::Step step, reader->next(entry, LogPosition{0}));
    if (step != log::SegmentReader::Step::kEntry) {
      ASSIGN_OR_RETURN(const bool more, reader->find_next(entry));
      if (!more) {
        return Status();
      }
    }
    if (entry.header().kind != log::EntryKind::kCommand) {
      continue;
    }
    ASSIGN_OR_RETURN(const ByteView payload, reader->payload(entry));
    check_records(report, file, entry, payload);
  }
}

// The views are rebuilt from the log alone, so its beginning must still be there.
void add_state_hash(FileSystem& fs, DirectoryReport& report) {
  const Result<shard::StateHash> state = shard::hash_of_log(fs, report.directory);
  if (state.ok()) {
    report.state = *state;
  } else {
    report.no_state = state.status().to_string();
  }
}

Result<DirectoryReport> check_directory(FileSystem& fs, const LogFiles& files, bool state_hash) {
  DirectoryReport report;
  report.directory = files.directory;
  ASSIGN_OR_RETURN(report.log, log::verify_log(fs, files.directory));
  if (report.log.damaged()) {
    ASSIGN_OR_RETURN(const log::LogVerification second_look, log::verify_log(fs, files.directory));
    keep_confirmed(report.log.findings, second_look.findings);
  }
  for (const std::string& file : files.segments) {
    RETURN_IF_ERROR(check_batches(fs, report, file));
  }
  if (state_hash && !report.log.damaged()) {
    add_state_hash(fs, report);
  }
  return report;
}

std::string_view finding_kind_name(LogFinding::Kind kind) {
  switch (kind) {
    case LogFinding::Kind::kDamage:
      return "damage";
    case LogFinding::Kind::kTornTail:
      return "torn_tail";
    case LogFinding::Kind::kNote:
      return "note";
  }
  return "unknown";
}

Json to_json(const DirectoryReport& report) {
  Json findings = Json::array();
  for (const LogFinding& finding : report.log.findings) {
    findings.push_back({{"kind", finding_kind_name(finding.kind)},
                        {"file", finding.file},
                        {"offset", finding.offset},
                        {"position", finding.position.value()},
                        {"what", finding.what}});
  }
  Json object = Json::object();
  object["directory"] = report.directory;
  object["damaged"] = report.log.damaged();
  object["segments"] = report.log.segments;
  object["sealed_segments"] = report.log.sealed_segments;
  object["entries"] = report.log.replicated_entries;
  object["local_entries"] = report.log.local_entries;
  object["bytes"] = report.log.bytes;
  object["batches"] = report.batches;
  object["messages"] = report.messages;
  object["first_position"] = report.log.first.value();
  object["end_position"] = report.log.end.value();
  if (report.state.has_value()) {
    object["state_hash"] = fmt::format("{:016x}", report.state->hash);
    object["state_index"] = report.state->index.value();
  } else if (!report.no_state.empty()) {
    object["state_error"] = report.no_state;
  }
  object["findings"] = std::move(findings);
  return object;
}

std::string to_text(const DirectoryReport& report) {
  std::string out;
  for (const LogFinding& finding : report.log.findings) {
    const std::string_view advice =
        finding.kind == LogFinding::Kind::kTornTail
            ? "; not acknowledged, the next start cuts it (or a broker is writing it now)"
            : "";
    out += fmt::format("{}  {}/{}: offset {}, position {}: {}{}\n", finding_kind_name(finding.kind),
                       report.directory, finding.file, finding.offset, finding.position.value(),
                       finding.what, advice);
  }
  out += fmt::format(
      "{}  {}: {} segments, {} entries, {} batches, {} messages, {}, positions {} to {}\n",
      report.log.damaged() ? "DAMAGED" : "clean", report.directory, report.log.segments,
      format_count(report.log.replicated_entries + report.log.local_entries),
      format_count(report.batches), format_count(report.messages), format_bytes(report.log.bytes),
      report.log.first.value(), report.log.end.value());
  if (report.state.has_value()) {
    out += fmt::format("state  {}: {:016x} after index {}\n", report.directory, report.state->hash,
                       report.state->index.value());
  } else if (!report.no_state.empty()) {
    out += fmt::format("state  {}: {}\n", report.directory, report.no_state);
  }
  return out;
}

}  // namespace

int verify_log(const Globals& globals, const LogVerifyOptions& options) {
  PosixFileSystem fs;
  const Result<std::vector<LogFiles>> found = find_log_files(fs, options.path);
  throw_if_error(found.status(), "log verify");
  Json directories = Json::array();
  bool damaged = false;
  uint64_t messages = 0;
  OutputBuffer out;
  for (const LogFiles& files : *found) {
    const Result<DirectoryReport> report = check_directory(fs, files, options.state_hash);
    throw_if_error(report.status(), files.directory);
    damaged = damaged || report->log.damaged();
    messages += report->messages;
    if (globals.json) {
      directories.push_back(to_json(*report));
    } else {
      out.text() += to_text(*report);
      out.flush();
    }
  }
  if (globals.json) {
    out.text() += Json{{"damaged", damaged}, {"logs", std::move(directories)}}.dump() + "\n";
  } else if (found->size() > 1) {
    out.text() += fmt::format("{}  {} logs, {} messages\n", damaged ? "DAMAGED" : "clean",
                              found->size(), format_count(messages));
  }
  out.flush();
  return static_cast<int>(damaged ? ExitCode::kFailed : ExitCode::kOk);
}

}  // namespace tidemark::tools
