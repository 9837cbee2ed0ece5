// The sending half of a benchmark: messages at a pace (or as fast as they are taken), each with the
// time that it counts from.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <string_view>

#include "log/base/clock.h"
#include "tidemark/producer.h"
#include "tools/bench.h"
#include "tools/progress.h"

namespace tidemark::tools {

// What has been answered. Written on the client's thread; counters may be read at any time, the
// rest after flush() or close().
struct AckCounts {
  std::atomic<uint64_t> acked{0};
  std::atomic<uint64_t> failed{0};
  MonotonicTime last_ack;
  Histogram latency_ns;
  client::Status first_error;
};

struct SendLimits {
  uint64_t count = 0;  // 0: no bound
  double seconds = 0;  // 0: no bound
};

// Makes the value of message `index`, which counts from `intended`; valid until the next call.
using MakeValue = std::function<std::string_view(uint64_t index, MonotonicTime intended)>;

// A producer that sends what a benchmark asks for, in one piece or in several with pauses between
// them. Throws CommandError when nothing at all could be stored.
class Sender {
 public:
  // Brings the connections and the producer id about, which is not measured. What is given has to
  // outlive the sender; `sent` counts up while it sends.
  Sender(const client::Client& client, const Globals& globals, const BenchOptions& options,
         AckCounts& counts, std::atomic<uint64_t>& sent);

  // Sends until a limit is reached, something fails or an interrupt comes; answers may come later.
  // Gives the time the first message counts from.
  MonotonicTime send(const SendLimits& send_limits, const MakeValue& make_value,
                     Progress& progress);
  // Waits for all answers.
  void flush();
  // As flush(), and nothing is sent afterwards.
  void close();

  // Nothing more is to be sent: an interrupt came, or something failed.
  [[nodiscard]] bool stopped() const;

 private:
  [[nodiscard]] bool send_one(const client::Message& message, uint64_t intended_ns);
  void warm_up();
  void check(const client::FlushResult& answered) const;

  const Globals& globals_;
  const BenchOptions& options_;
  AckCounts& counts_;
  std::atomic<uint64_t>& sent_;
  client::Producer producer_;
  client::Topic topic_;
  uint64_t next_index_ = 0;
};

// What a progress bar counts up to; 0: not known.
uint64_t expected_messages(const BenchOptions& options, const SendLimits& send_limits);

}  // namespace tidemark::tools
