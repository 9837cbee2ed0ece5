// tidemark consume --queue: the command as one of the consumers that share a queue. What is acked
// is what standard output has taken.
#include <algorithm>
#include <deque>
#include <utility>

#include <fmt/format.h>

#include "log/base/clock.h"
#include "log/base/limits.h"
#include "tidemark/queue.h"
#include "tools/cli.h"
#include "tools/consume.h"
#include "tools/errors.h"
#include "tools/interrupt.h"
#include "tools/message_printer.h"
#include "tools/patience.h"
#include "tools/session.h"

namespace tidemark::tools {
namespace {

using client::QueueConsumer;
using client::QueueMessage;

constexpr int64_t kLastAcksMsMax = 5'000;

class QueueReader {
 public:
  QueueReader(const Globals& globals, const ConsumeOptions& options, const Session& session)
      : options_(options),
        printer_(globals.json, options.format),
        patience_(globals.timeout_ms, options.count == 0 && options.idle_exit_ms == 0),
        in_flight_(queue_in_flight(options)),
        consumer_(require(QueueConsumer::create(session.client(), queue_options()),
                          fmt::format("group {}", options.group))) {}

  void run() {
    while (!interrupted() && !enough() && !idle()) {
      auto message = consumer_.receive(printer_.nothing_gathered() ? kConsumePollMs : 0);
      require(message.status(), fmt::format("group {}", options_.group));
      if (!*message) {
        let_go();
        patience_.on_nothing(consumer_.last_error());
        continue;
      }
      patience_.on_progress();
      heard_ = system_clock().monotonic();
      printer_.print(**message);
      printed_.push_back(std::move(**message));
      if (printed_.size() >= (in_flight_ + 3) / 4) {
        let_go();
      }
    }
    printer_.flush();
  }

  // What was not printed, or is only looked at, goes back as it came.
  ~QueueReader() { give_back(); }

  QueueReader(const QueueReader&) = delete;
  QueueReader& operator=(const QueueReader&) = delete;

  // Acks the rest, or gives it back.
  void leave() {
    consumer_.pause();
    if (options_.ack) {
      settle(printed_.size());
    }
    give_back();
    const client::Status acked = consumer_.flush(kLastAcksMsMax);
    const client::Status closed = consumer_.close(kLastAcksMsMax);
    if (options_.ack) {
      require(acked, "what was printed may come again, an ack failed");
    }
    require(closed, fmt::format("leaving group {}", options_.group));
  }

  void summarize() const { printer_.summarize(started_); }

  [[nodiscard]] bool enough() const {
    return options_.count > 0 && printer_.messages() >= options_.count;
  }

 private:
  [[nodiscard]] client::QueueOptions queue_options() const {
    client::QueueOptions queue;
    queue.group = options_.group;
    queue.topics = options_.topics;
    queue.visibility_ms = options_.visibility_ms.value_or(queue.visibility_ms);
    queue.in_flight_max = in_flight_;
    // A reader of standard output may take its time.
    queue.auto_extend_ms = options_.ack ? int64_t{limits::kQueueVisibilityMsMax} : 0;
    queue.tags = options_.tags;
    queue.filter = options_.filter;
    queue.ordered = options_.ordered;
    queue.from_end = options_.from_end || options_.from == "end";
    return queue;
  }

  // Writes what was printed, and makes room for more as far as the count allows.
  void let_go() {
    printer_.flush();
    size_t most = printed_.size();
    if (options_.count > 0) {
      most = std::min<uint64_t>(most, options_.count - in_flight_ - settled_);
    }
    settle(most);
  }

  // Of the first `most`: acks them, or drops those whose leases are over.
  void settle(size_t most) {
    for (size_t i = 0; i < most; ++i) {
      if (options_.ack) {
        printed_.front().ack();
      } else if (printed_.front().lease_left_ms() > 0) {
        return;
      }
      printed_.pop_front();
      ++settled_;
    }
  }

  void give_back() {
    for (QueueMessage& message : printed_) {
      message.release();
    }
    printed_.clear();
  }

  [[nodiscard]] bool idle() {
    const MonotonicTime now = system_clock().monotonic();
    if (!consumer_.last_error().ok()) {
      heard_ = now;
    }
    return options_.idle_exit_ms > 0 && now.ns - heard_.ns > options_.idle_exit_ms * 1'000'000;
  }

  const ConsumeOptions& options_;
  MessagePrinter printer_;
  Patience patience_;
  const size_t in_flight_;
  uint64_t settled_ = 0;
  const MonotonicTime started_ = system_clock().monotonic();
  MonotonicTime heard_ = started_;
  // Before `printed_`, which it outlives.
  QueueConsumer consumer_;
  std::deque<QueueMessage> printed_;
};

void check_options(const ConsumeOptions& options) {
  check_group_start(options);
  if (!options.instance.empty() || options.session_timeout_ms) {
    throw usage_error("--instance, --session-timeout: a group in queue mode has no members");
  }
}

}  // namespace

int consume_as_queue(const Globals& globals, const ConsumeOptions& options) {
  check_options(options);
  Session session(globals);
  for (const std::string& topic : options.topics) {
    session.describe_topic(topic);  // else a misspelt name is waited for
  }
  QueueReader reader(globals, options, session);
  reader.run();
  reader.leave();
  reader.summarize();
  const bool stopped_early =
      interrupted() && options.count > 0 && !reader.enough() && !options.follow;
  return static_cast<int>(stopped_early ? ExitCode::kPartlyDone : ExitCode::kOk);
}

}  // namespace tidemark::tools
