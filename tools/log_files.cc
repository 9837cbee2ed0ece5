#include "tools/log_files.h"

#include <filesystem>
#include <system_error>

#include <fmt/format.h>

#include "log/file_names.h"

namespace tidemark::tools {
namespace {

constexpr int kLevelsMax = 4;

Status collect(FileSystem& fs, const std::string& directory, int levels,
               std::vector<LogFiles>& out) {
  ASSIGN_OR_RETURN(const std::vector<log::SegmentFileName> segments,
                   log::list_segment_files(fs, directory));
  if (!segments.empty()) {
    LogFiles files;
    files.directory = directory;
    for (const log::SegmentFileName& segment : segments) {
      files.segments.push_back(segment.name);
    }
    out.push_back(std::move(files));
    return Status();
  }
  if (levels == 0) {
    return Status();
  }
  ASSIGN_OR_RETURN(const std::vector<std::string> names, fs.list(directory));
  for (const std::string& name : names) {
    const std::filesystem::path path = std::filesystem::path(directory) / name;
    std::error_code ignored;
    if (std::filesystem::is_directory(path, ignored)) {
      RETURN_IF_ERROR(collect(fs, path.string(), levels - 1, out));
    }
  }
  return Status();
}

}  // namespace

Result<std::vector<LogFiles>> find_log_files(FileSystem& fs, const std::string& path) {
  std::error_code error;
  const std::filesystem::file_status status = std::filesystem::status(path, error);
  if (!std::filesystem::exists(status)) {
    return Status(ErrorCode::kNotFound, fmt::format("{}: no such file or directory", path));
  }
  std::vector<LogFiles> out;
  if (!std::filesystem::is_directory(status)) {
    const std::filesystem::path file(path);
    out.push_back({.directory = file.has_parent_path() ? file.parent_path().string() : ".",
                   .segments = {file.filename().string()}});
    return out;
  }
  RETURN_IF_ERROR(collect(fs, path, kLevelsMax, out));
  if (out.empty()) {
    return Status(ErrorCode::kNotFound,
                  fmt::format("{}: there is no log segment in this directory or below it", path));
  }
  return out;
}

std::string_view entry_kind_name(log::EntryKind kind) {
  switch (kind) {
    case log::EntryKind::kCommand:
      return "command";
    case log::EntryKind::kBarrier:
      return "barrier";
    case log::EntryKind::kConfiguration:
      return "configuration";
    case log::EntryKind::kVote:
      return "vote";
    case log::EntryKind::kTruncate:
      return "truncate";
    case log::EntryKind::kSnapshot:
      return "snapshot";
    case log::EntryKind::kSeal:
      return "seal";
  }
  return "unknown";
}

// NOLINTNEXTLINE(readability-function-size): a case for each kind
std::string_view record_kind_name(format::RecordKind kind) {
  switch (kind) {
    case format::RecordKind::kProduce:
      return "produce";
    case format::RecordKind::kTopicCreate:
      return "topic_create";
    case format::RecordKind::kTopicAlter:
      return "topic_alter";
    case format::RecordKind::kTopicDelete:
      return "topic_delete";
    case format::RecordKind::kTopicProgress:
      return "topic_progress";
    case format::RecordKind::kProducerIds:
      return "producer_ids";
    case format::RecordKind::kPartitionOpen:
      return "partition_open";
    case format::RecordKind::kPartitionDrop:
      return "partition_drop";
    case format::RecordKind::kTrim:
      return "trim";
    case format::RecordKind::kSchedule:
      return "schedule";
    case format::RecordKind::kRelocate:
      return "relocate";
    case format::RecordKind::kAdvance:
      return "advance";
    case format::RecordKind::kDelayCancel:
      return "delay_cancel";
    case format::RecordKind::kDelayReschedule:
      return "delay_reschedule";
    case format::RecordKind::kDelayNext:
      return "delay_next";
    case format::RecordKind::kRelocated:
      return "relocated";
    case format::RecordKind::kCompact:
      return "compact";
    case format::RecordKind::kCompacted:
      return "compacted";
    case format::RecordKind::kHalf:
      return "half";
    case format::RecordKind::kRelocateHalf:
      return "relocate_half";
    case format::RecordKind::kProducerName:
      return "producer_name";
    case format::RecordKind::kProducerFenced:
      return "producer_fenced";
    case format::RecordKind::kTxnEnd:
      return "txn_end";
    case format::RecordKind::kTxnSettle:
      return "txn_settle";
    case format::RecordKind::kTxnJoin:
      return "txn_join";
    case format::RecordKind::kTxnConfirm:
      return "txn_confirm";
    case format::RecordKind::kTxnChecked:
      return "txn_checked";
    case format::RecordKind::kTxnParked:
      return "txn_parked";
    case format::RecordKind::kTxnRecheck:
      return "txn_recheck";
    case format::RecordKind::kTxnForget:
      return "txn_forget";
    case format::RecordKind::kProducerFence:
      return "producer_fence";
    case format::RecordKind::kGroupCommit:
      return "group_commit";
    case format::RecordKind::kGroupLease:
      return "group_lease";
    case format::RecordKind::kGroupDrop:
      return "group_drop";
    case format::RecordKind::kQueueSettle:
      return "queue_settle";
    case format::RecordKind::kMessageIds:
      return "message_ids";
  }
  return "unknown";
}

}  // namespace tidemark::tools
