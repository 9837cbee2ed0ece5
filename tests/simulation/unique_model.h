// UniqueModel: what must hold for a topic whose messages have ids that count (dedupe_window_ms).
// Delivery: one message as it was sent; several may have one id. That what is read was sent, and
// that an offset means one delivery for ever, is the model's (I2 to I4).
//
//   I26 of the deliveries with one id that reach a partition within the window one is stored, the
//       others are answered with its offset; one that comes later is stored for itself. What is
//       acknowledged is stored, if only by another delivery of its id
//
// Times are log times. A delivery that was stored was so at one of the times when it arrived.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <vector>

#include "log/base/ids.h"
#include "log/base/random.h"

namespace tidemark::sim {

class UniqueModel {
 public:
  explicit UniqueModel(int64_t window_ms) : window_ms_(window_ms) {}

  // New, or one of the partition's last ones.
  uint64_t pick_id(PartitionId partition, Random& random);
  // `id` 0: it has none. `sequenced`: by its producer; then it is stored once in any case.
  void sent(PartitionId partition, uint64_t uid, uint64_t id, bool sequenced);
  void arrived(uint64_t uid, int64_t log_ms);
  // A delivery that arrived at `log_ms` is answered: it is at `offset`.
  void answered(uint64_t uid, Offset offset, int64_t log_ms);

  // Acknowledged, nobody said where it is: a batch that is known by its sequence.
  void acknowledged(uint64_t uid) { deliveries_.at(uid).acknowledged = true; }

  struct Stored {
    Offset offset;
    uint64_t uid = 0;
  };

  // All that is stored in a partition, in order.
  void check_drained(PartitionId partition, const std::vector<Stored>& messages);

  struct Counters {
    uint64_t sent = 0;
    uint64_t answered = 0;
    uint64_t repeated = 0;  // answered, and stored by another delivery
    uint64_t again = 0;     // stored, as was another one with its id before
  };

  [[nodiscard]] const Counters& counters() const { return counters_; }

 private:
  struct Answer {
    Offset offset;
    int64_t log_ms = 0;
  };

  struct Delivery {
    PartitionId partition;
    uint64_t id = 0;
    bool sequenced = false;
    bool acknowledged = false;
    std::vector<int64_t> arrived_ms;
    std::vector<Answer> answers;
  };

  [[nodiscard]] int64_t first_ms(uint64_t uid) const;
  [[nodiscard]] int64_t last_ms(uint64_t uid) const;
  [[nodiscard]] std::string name(uint64_t uid) const;
  void check_apart(const std::vector<Stored>& messages);
  void check_answers(uint64_t uid, const std::map<Offset, uint64_t>& stored);

  const int64_t window_ms_;
  std::map<uint64_t, Delivery> deliveries_;          // by uid
  std::map<PartitionId, std::deque<uint64_t>> ids_;  // last ones
  uint64_t next_id_ = 1;
  Counters counters_;
};

}  // namespace tidemark::sim
