#include "broker/data_directory.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <utility>
#include <vector>

#include "log/base/check.h"
#include "log/base/limits.h"

namespace tidemark::broker {

namespace {

constexpr std::string_view kIdentityName = "cluster.toml";
constexpr std::string_view kNewIdentityName = "cluster.toml.new";
constexpr uint64_t kFormat = 1;
constexpr uint64_t kIdentityBytesMax = 64 * limits::kKiB;

std::string hex(uint64_t value) {
  static constexpr std::string_view kDigits = "0123456789abcdef";
  std::string out(16, '0');
  for (size_t i = 16; i-- > 0; value >>= 4) {
    out[i] = kDigits[value & 15];
  }
  return out;
}

std::optional<uint64_t> number(std::string_view text, int base) {
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  return error == std::errc() && end == text.data() + text.size() && !text.empty()
             ? std::optional(value)
             : std::nullopt;
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && text.front() == ' ') {
    text.remove_prefix(1);
  }
  while (!text.empty() && (text.back() == ' ' || text.back() == '\r')) {
    text.remove_suffix(1);
  }
  return text;
}

}  // namespace

std::string identity_to_text(const Identity& identity) {
  return "# Written once, when this data directory was created. Not to be edited: the logs beside "
         "it refer to it.\n"
         "format = " +
         std::to_string(kFormat) +
         "\n"
         "cluster-id = \"" +
         hex(identity.cluster_id) +
         "\"\n"
         "node-id = " +
         std::to_string(identity.node.value()) +
         "\n"
         "shards = " +
         std::to_string(identity.shards) + "\n";
}

Result<Identity> identity_from_text(std::string_view text, std::string_view path) {
  std::optional<uint64_t> format;
  std::optional<uint64_t> cluster;
  std::optional<uint64_t> node;
  std::optional<uint64_t> shards;
  size_t line_number = 0;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = trimmed(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
    ++line_number;
    if (line.empty() || line.front() == '#') {
      continue;
    }
    const size_t equals = line.find('=');
    const std::string_view key = trimmed(line.substr(0, equals));
    std::string_view value =
        equals == std::string_view::npos ? "" : trimmed(line.substr(equals + 1));
    std::optional<uint64_t>* field = key == "format"       ? &format
                                     : key == "cluster-id" ? &cluster
                                     : key == "node-id"    ? &node
                                     : key == "shards"     ? &shards
                                                           : nullptr;
    const bool is_text = value.size() >= 2 && value.front() == '"' && value.back() == '"';
    if (is_text) {
      value = value.substr(1, value.size() - 2);
    }
    if (field != nullptr) {
      *field = is_text == (key == "cluster-id") ? number(value, is_text ? 16 : 10) : std::nullopt;
    }
    // A newer format may have more keys; the check of the format comes below.
    if (field != nullptr && !field->has_value()) {
      return Status(ErrorCode::kCorrupted, std::string(path) + ":" + std::to_string(line_number) +
                                               ": bad value of '" + std::string(key) + "'");
    }
  }
  if (format.has_value() && *format != kFormat) {
    return Status(ErrorCode::kUnsupportedVersion,
                  std::string(path) + ": data format " + std::to_string(*format) +
                      ", this broker reads " + std::to_string(kFormat));
  }
  if (!format || !cluster || *cluster == 0 || !node || *node == 0 || !shards || *shards == 0 ||
      *shards > limits::kShardsMax) {
    return Status(ErrorCode::kCorrupted,
                  std::string(path) + ": needs format, cluster-id, node-id and shards (1 to " +
                      std::to_string(limits::kShardsMax) + ")");
  }
  return Identity{*cluster, NodeId{*node}, static_cast<uint16_t>(*shards)};
}

Result<std::unique_ptr<DataDirectory>> DataDirectory::open(FileSystem& fs, Random& random,
                                                           std::string path, uint16_t shards,
                                                           uint16_t shards_default) {
  TIDEMARK_CHECK(shards_default > 0 && shards_default <= limits::kShardsMax);
  RETURN_IF_ERROR(fs.create_directories(path));
  std::unique_ptr<DataDirectory> directory(new DataDirectory(fs, std::move(path)));
  ASSIGN_OR_RETURN(directory->lock_, fs.lock_directory(directory->path_));
  RETURN_IF_ERROR(directory->load_identity(random, shards, shards_default));
  return directory;
}

Status DataDirectory::load_identity(Random& random, uint16_t shards, uint16_t shards_default) {
  const std::string path = path_ + "/" + std::string(kIdentityName);
  ASSIGN_OR_RETURN(const bool exists, fs_.exists(path));
  if (!exists) {
    ASSIGN_OR_RETURN(const std::vector<std::string> names, fs_.list(path_));
    for (const std::string& name : names) {
      if (name.starts_with("shard-")) {
        return {ErrorCode::kCorrupted,
                path + " is missing, but " + name + " is there: restore the file"};
      }
    }
    while (identity_.cluster_id == 0) {
      identity_.cluster_id = random.next();
    }
    identity_.shards = shards != 0 ? shards : shards_default;
    return store_identity();
  }
  ASSIGN_OR_RETURN(const std::unique_ptr<File> file, fs_.open(path, OpenMode::kReadOnly));
  ASSIGN_OR_RETURN(const uint64_t size, file->size());
  if (size > kIdentityBytesMax) {
    return {ErrorCode::kCorrupted, path + ": " + std::to_string(size) + " bytes"};
  }
  Buffer text(static_cast<size_t>(size));
  RETURN_IF_ERROR(file->read(0, text.mutable_view()));
  ASSIGN_OR_RETURN(identity_, identity_from_text(as_text(text.view()), path));
  if (shards != 0 && shards != identity_.shards) {
    return {ErrorCode::kConflict,
            "shards = " + std::to_string(shards) + ", but " + path_ + " was created with " +
                std::to_string(identity_.shards) +
                "; the number of shards is fixed when a data directory is created"};
  }
  // Whoever gave the file its name may have been stopped before it was durable.
  return fs_.sync_directory(path_);
}

// The file appears complete or not at all.
Status DataDirectory::store_identity() {
  const std::string fresh = path_ + "/" + std::string(kNewIdentityName);
  ASSIGN_OR_RETURN(const bool left_over, fs_.exists(fresh));
  if (left_over) {
    RETURN_IF_ERROR(fs_.remove(fresh));
  }
  {
    ASSIGN_OR_RETURN(const std::unique_ptr<File> file, fs_.open(fresh, OpenMode::kCreateNew));
    const std::string text = identity_to_text(identity_);
    const ByteView part = as_bytes(text);
    RETURN_IF_ERROR(file->write(0, {&part, 1}));
    RETURN_IF_ERROR(file->sync());
  }
  RETURN_IF_ERROR(fs_.rename(fresh, path_ + "/" + std::string(kIdentityName)));
  return fs_.sync_directory(path_);
}

Result<std::string> DataDirectory::shard_directory(ShardId shard, std::string_view part) {
  std::string path = path_ + "/shard-" + std::to_string(shard.value()) + "/" + std::string(part);
  RETURN_IF_ERROR(fs_.create_directories(path));
  return path;
}

Result<std::string> DataDirectory::log_directory(ShardId shard) {
  return shard_directory(shard, "log");
}

Result<std::string> DataDirectory::views_directory(ShardId shard) {
  return shard_directory(shard, "views");
}

}  // namespace tidemark::broker
