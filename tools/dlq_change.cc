// tidemark dlq redrive|purge
#include <algorithm>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "log/base/clock.h"
#include "log/base/limits.h"
#include "log/format/message_properties.h"
#include "tools/change_counts.h"
#include "tools/confirm.h"
#include "tools/dlq.h"
#include "tools/errors.h"
#include "tools/interrupt.h"
#include "tools/json_text.h"
#include "tools/output.h"
#include "tools/pacer.h"
#include "tools/parse.h"

namespace tidemark::tools {
namespace {

using Json = nlohmann::ordered_json;
using Statuses = std::vector<client::Status>;

// With a rate, so much of a second goes in one request.
constexpr double kBatchesPerSecond = 10;

struct Verb {
  ChangeWords words;
  std::string_view danger;
  // One status each. Offsets are ascending, 1 to kQueueItemsPerRequestMax.
  std::function<Statuses(uint32_t partition, const std::vector<uint64_t>& offsets)> change;
};

// Letters on their way: gathered for each partition, and changed many at once.
class LetterChanges {
 public:
  LetterChanges(const DlqCommand& command, const Verb& verb)
      : command_(command),
        verb_(verb),
        pacer_(command.rate, system_clock().monotonic()),
        batch_max_(pacer_.unlimited()
                       ? limits::kQueueItemsPerRequestMax
                       : static_cast<size_t>(std::clamp<double>(
                             command.rate / kBatchesPerSecond, 1,
                             static_cast<double>(limits::kQueueItemsPerRequestMax)))) {}

  // False: there are as many as may be.
  bool add(uint32_t partition, uint64_t offset) {
    ++matched_;
    if (!command_.dry_run) {
      std::vector<uint64_t>& offsets = waiting_[partition];
      offsets.push_back(offset);
      if (offsets.size() >= batch_max_) {
        send(partition, std::exchange(offsets, {}));
      }
    }
    return command_.letters_max == 0 || matched_ < command_.letters_max;
  }

  void send_rest() {
    for (auto& [partition, offsets] : std::exchange(waiting_, {})) {
      if (!offsets.empty()) {
        send(partition, offsets);
      }
    }
  }

  void print_all(const Globals& globals) const {
    Json failures = Json::object();
    for (const auto& [code, count] : failures_) {
      failures[std::string(client::error_name(code))] = count;
    }
    Json object = Json{{"topic", command_.topic}, {"dry_run", command_.dry_run}};
    object["matched"] = matched_;
    object[std::string(verb_.words.done)] = counts_.done;
    object["failed"] = failed();
    object["failures"] = std::move(failures);
    const std::string text =
        command_.dry_run
            ? fmt::format("{} dead letters would be {}\n", format_count(matched_), verb_.words.done)
            : fmt::format("{} of {} dead letters {}\n", format_count(counts_.done),
                          format_count(matched_), verb_.words.done);
    print_result(globals, text, dump_json(object));
  }

  [[nodiscard]] const ChangeCounts& counts() const { return counts_; }

 private:
  // Those that were not tried, too: an error or an interrupt came before.
  [[nodiscard]] uint64_t failed() const { return command_.dry_run ? 0 : matched_ - counts_.done; }

  void send(uint32_t partition, const std::vector<uint64_t>& offsets) {
    if (!pacer_.unlimited()) {
      (void)pacer_.wait(counts_.total());
    }
    if (interrupted()) {
      return;
    }
    for (const client::Status& status : verb_.change(partition, offsets)) {
      const client::ErrorCode code = status.code();
      if (status.ok()) {
        ++counts_.done;
        continue;
      }
      ++failures_[code];
      if (code == client::ErrorCode::kNotFound) {
        ++counts_.not_found;  // somebody else was first
      } else if (code == client::ErrorCode::kUnknownPartition) {
        counts_.add_conflict("of a partition that is gone");
      } else {
        counts_.add_failure(code);
      }
    }
  }

  const DlqCommand& command_;
  const Verb& verb_;
  Pacer pacer_;
  size_t batch_max_;
  std::map<uint32_t, std::vector<uint64_t>> waiting_;  // by partition
  uint64_t matched_ = 0;
  ChangeCounts counts_;
  std::map<client::ErrorCode, uint64_t> failures_;
};

int change_letters(const Globals& globals, const DlqCommand& command, Session& session,
                   const Verb& verb) {
  if (!command.dry_run && !command.yes) {
    confirm(std::string(verb.danger),
            fmt::format("Type the name of topic {} to confirm: ", command.topic), command.topic,
            "nothing was changed");
  }
  LetterChanges changes(command, verb);
  const auto take = [&changes](uint32_t partition, const client::ReceivedMessage& message,
                               const DeadLetter& /*letter*/) {
    return changes.add(partition, message.offset) && !interrupted();
  };
  const std::optional<CommandError> stopped = run_steps(changes.counts(), [&] {
    read_dead_letters(globals, session, command.topic, command, take);
    changes.send_rest();
    return false;
  });
  changes.print_all(globals);
  throw_unless_all_done(changes.counts(), verb.words, stopped);
  if (interrupted()) {
    throw CommandError(changes.counts().done > 0 ? ExitCode::kPartlyDone : ExitCode::kFailed,
                       "Cancelled", "interrupted");
  }
  return 0;
}

}  // namespace

int redrive_dead_letters(const Globals& globals, const DlqCommand& command) {
  catch_interrupts();
  Session session(globals);
  client::Queues queues = queues_of(session);
  const Verb verb = {
      .words = {.noun = "dead letter", .done = "redriven", .conflict_name = "UnknownPartition"},
      .danger = "dlq redrive delivers messages again",
      .change = [&](uint32_t partition, const std::vector<uint64_t>& offsets) {
        return require(queues.redrive(command.topic, partition, offsets, session.deadline_ms()),
                       fmt::format("topic {}", command.topic));
      }};
  return change_letters(globals, command, session, verb);
}

int purge_dead_letters(const Globals& globals, const DlqCommand& command) {
  catch_interrupts();
  Session session(globals);
  client::Queues queues = queues_of(session);
  const Verb verb = {
      .words = {.noun = "dead letter", .done = "purged", .conflict_name = "Conflict"},
      .danger = "dlq purge gives messages up",
      .change = [&](uint32_t partition, const std::vector<uint64_t>& offsets) {
        const std::vector<client::OffsetRange> ranges = ranges_of(offsets);
        const Statuses each = require(queues.ack(format::kDeadLetterGroup, command.topic, partition,
                                                 ranges, session.deadline_ms()),
                                      fmt::format("topic {}", command.topic));
        Statuses all;
        for (size_t i = 0; i < ranges.size(); ++i) {
          all.insert(all.end(), ranges[i].count, each.at(i));
        }
        return all;
      }};
  return change_letters(globals, command, session, verb);
}

}  // namespace tidemark::tools
