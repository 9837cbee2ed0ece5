// Which dead letters there are.
#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include <fmt/format.h>

#include "log/base/clock.h"
#include "log/format/message_properties.h"
#include "tools/dlq.h"
#include "tools/errors.h"
#include "tools/interrupt.h"
#include "tools/partition_ranges.h"
#include "tools/patience.h"
#include "tools/progress.h"

namespace tidemark::tools {
namespace {

constexpr int64_t kPollMs = 100;

// What is read, and what of it is not settled.
class LetterReader {
 public:
  LetterReader(Session& session, const std::string& topic, const DlqCommand& command)
      : topic_(topic),
        queues_(queues_of(session)),
        ranges_(ranges_to_read(session, command)),
        consumer_(
            require(client::Consumer::create(session.client(), reading_of(command)), "consumer")) {}

  bool run(const Globals& globals, const LetterSeen& seen) {
    if (ranges_.finished()) {
      return true;
    }
    require(consumer_.assign(ranges_.assignment(topic_, true)), fmt::format("topic {}", topic_));
    Progress progress("dead letters", ranges_.messages_left(), "messages",
                      progress_wanted(globals.quiet));
    Patience patience(globals.timeout_ms, false);
    const uint64_t all = ranges_.messages_left();
    while (!ranges_.finished()) {
      if (interrupted()) {
        return false;
      }
      const auto batch = consumer_.poll(kPollMs);
      require(batch.status(), fmt::format("topic {}", topic_));
      for (const client::ReceivedMessage& message : batch->messages) {
        if (!give(batch->partition, message, seen)) {
          return true;
        }
      }
      if (batch->messages.empty() ? ranges_.advance(consumer_, topic_)
                                  : ranges_.advance(batch->partition, batch->next_offset)) {
        patience.on_progress();
        progress.update(all - ranges_.messages_left(), 0);
      } else {
        patience.on_nothing(consumer_.last_error());
      }
    }
    return true;
  }

 private:
  static client::ConsumerOptions reading_of(const DlqCommand& command) {
    client::ConsumerOptions reading;
    reading.tags = command.tags;
    reading.filter = command.filter;
    // What retention has taken meanwhile is no letter any more.
    reading.out_of_range = client::OutOfRange::kStart;
    return reading;
  }

  // From the first one that is not settled on: what was redriven or purged long ago is not read.
  PartitionRanges ranges_to_read(Session& session, const DlqCommand& command) {
    const Result<StartPoint> from = parse_start_point(command.from, system_clock().wall().ms);
    if (!from.ok()) {
      throw usage_error(fmt::format("--from: {}", from.error().context()));
    }
    const PartitionRanges stored = resolve_ranges(session, topic_, command.partitions, *from);
    std::vector<PartitionRanges::Range> ranges;
    for (PartitionRanges::Range range : stored.ranges()) {
      const auto ask = [this, partition = range.partition, deadline_ms = session.deadline_ms()](
                           uint64_t offset, size_t max) {
        return require(queues_.unsettled(format::kDeadLetterGroup, topic_, partition, offset, max,
                                         deadline_ms),
                       fmt::format("topic {} partition {}", topic_, partition));
      };
      OpenOffsets& open = open_.emplace(range.partition, OpenOffsets(ask)).first->second;
      if (range.next < range.end) {
        range.next = std::min(open.next(range.next).value_or(range.end), range.end);
      }
      ranges.push_back(range);
    }
    return PartitionRanges(std::move(ranges));
  }

  bool give(uint32_t partition, const client::ReceivedMessage& message, const LetterSeen& seen) {
    if (!ranges_.contains(partition, message.offset) ||
        !open_.at(partition).contains(message.offset)) {
      return true;
    }
    const std::optional<DeadLetter> letter = dead_letter_of(message);
    return !letter || seen(partition, message, *letter);
  }

  const std::string& topic_;
  client::Queues queues_;
  std::map<uint32_t, OpenOffsets> open_;  // by partition
  PartitionRanges ranges_;
  client::Consumer consumer_;
};

// Of one topic, as partition by number; what "$dlq" has not begun in is all unsettled.
client::Result<uint64_t> count_letters(Session& session, const std::string& topic,
                                       const std::vector<client::QueuePartitionInfo>& known) {
  auto partitions = session.admin().describe_partitions(topic, session.deadline_ms());
  if (!partitions.ok()) {
    return partitions.status();
  }
  uint64_t letters = 0;
  for (const client::PartitionDescription& one : *partitions) {
    const auto at = std::ranges::find_if(known, [&](const client::QueuePartitionInfo& queue) {
      return queue.topic == topic && queue.partition == one.partition;
    });
    if (!one.status.ok()) {
      return one.status;
    }
    letters += at != known.end() ? at->unsettled : one.end_offset - one.start_offset;
  }
  return letters;
}

client::Result<std::vector<client::QueuePartitionInfo>> settled_letters(const Session& session) {
  return queues_of(session).describe(format::kDeadLetterGroup, session.deadline_ms());
}

}  // namespace

bool read_dead_letters(const Globals& globals, Session& session, const std::string& topic,
                       const DlqCommand& command, const LetterSeen& seen) {
  return LetterReader(session, topic, command).run(globals, seen);
}

client::Result<std::vector<std::string>> dead_letter_topics(Session& session) {
  const auto topics = session.admin().list_topics(session.deadline_ms());
  if (!topics.ok()) {
    return topics.status();
  }
  std::set<std::string> names;
  for (const client::TopicDescription& topic : *topics) {
    if (!topic.config.dead_letter_topic.empty()) {
      names.insert(topic.config.dead_letter_topic);
    }
  }
  return std::vector<std::string>(names.begin(), names.end());
}

std::optional<uint64_t> count_dead_letters(Session& session, const std::string& topic) {
  const auto known = require(settled_letters(session), "dead letters");
  const auto letters = count_letters(session, topic, known);
  if (letters.status().code() == client::ErrorCode::kUnknownTopic) {
    return std::nullopt;
  }
  return require(letters, fmt::format("topic {}", topic));
}

client::Result<std::vector<TopicLetters>> count_all_dead_letters(Session& session) {
  const auto topics = dead_letter_topics(session);
  if (!topics.ok()) {
    return topics.status();
  }
  std::vector<TopicLetters> out;
  if (topics->empty()) {
    return out;
  }
  const auto known = settled_letters(session);
  if (!known.ok()) {
    return known.status();
  }
  for (const std::string& topic : *topics) {
    const auto letters = count_letters(session, topic, *known);
    if (letters.ok()) {
      out.push_back({.topic = topic, .letters = *letters});
    } else if (letters.status().code() != client::ErrorCode::kUnknownTopic) {
      return letters.status();
    }
  }
  return out;
}

}  // namespace tidemark::tools
