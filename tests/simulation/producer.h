// Producer: an idempotent producer. Sends batches to several partitions, several in flight each,
// and sends again, in order and under the same sequences, whatever it has no answer for.
//
//   batch:  unsent --send--> in flight --ok--> acknowledged (gone)
//             ^                 |
//             +-- lost, refused-+    (a stream sends again when none of its batches is in flight
//             any more)
#pragma once

#include <deque>
#include <map>

#include "tests/simulation/client.h"

namespace tidemark::sim {

class Producer : public Client {
 public:
  Producer(Scheduler& scheduler, SimNetwork& network, Model& model, Directory& directory,
           const Options& options, uint64_t seed);

  void start() { schedule(1'000); }

  [[nodiscard]] bool idle() const override;
  [[nodiscard]] std::string describe() const override;

  void on_reply(uint64_t connection, const protocol::Frame& frame) override;

 protected:
  struct Encoded {
    SharedBytes bytes;
    bool ttl = false;  // some message has a time to live of its own
  };

  // The messages `first_uid` and the `count` - 1 behind it, as one record batch.
  virtual Encoded encode(PartitionId partition, uint64_t first_uid, size_t count,
                         format::BatchBuilder::Producer producer);

  // They were acknowledged, perhaps not for the first time.
  virtual void on_stored(PartitionId /*partition*/, uint64_t /*first_uid*/, size_t /*count*/,
                         const testing::ProducePartResult& /*result*/) {}

 private:
  struct Batch {
    uint64_t first_uid = 0;
    size_t count = 0;
    uint64_t sequence = 0;  // of the first message, not wrapped
    Encoded encoded;
    bool in_flight = false;
  };

  // What goes to one partition.
  struct Stream {
    uint64_t next_sequence = 0;
    std::deque<Batch> batches;  // not acknowledged, in order
    bool resend =
        false;  // something was refused or lost: wait until nothing is in flight, then begin anew
    int64_t not_before_ns = 0;
    bool acknowledged_any = false;
  };

  struct Request {
    uint64_t connection = 0;
    std::vector<std::pair<PartitionId, uint64_t>> parts;  // with the batch's sequence
  };

  void on_lost(uint64_t connection) override;
  void schedule(int64_t us);
  void work();
  void ask_for_id();
  void make_batch();
  void send_stream(PartitionId partition, Stream& stream);
  void send(uint64_t connection, PartitionId partition, const Batch& batch);
  void on_part(PartitionId partition, uint64_t sequence, const testing::ProducePartResult& result);
  void on_acknowledged(PartitionId partition, Stream& stream, uint64_t sequence,
                       const testing::ProducePartResult& result);
  void on_refused(PartitionId partition, Stream& stream, uint64_t sequence, const Status& status);
  void be_born_again();

  uint64_t producer_ = 0;  // id; 0: not known
  bool asking_ = false;
  uint64_t asking_on_ = 0;
  std::map<PartitionId, Stream> streams_;
  std::map<uint64_t, Request> requests_;  // by correlation

  struct Answered {
    uint64_t first_uid;
    size_t count;
  };

  std::map<std::pair<PartitionId, uint64_t>, Answered>
      answered_;  // by sequence: late answers must agree
};

}  // namespace tidemark::sim
