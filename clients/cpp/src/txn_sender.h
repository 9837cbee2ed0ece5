// Packs parts and ends of many transactions into few requests.
//
// Thread: the I/O thread. Per session, flush() sends up to 256 parts or about 1 MiB in one Produce
// and up to 1,024 ends in one TxnEnd, several of each under way. While as many are under way as may
// be, what comes is gathered: the busier the broker, the fuller the requests. Every job is answered
// exactly once, during later turns; what is not wanted any more (Txn::parts_wanted, end_serial) is
// answered kCancelled instead of being sent.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "broker/protocol/messages.h"
#include "clients/cpp/src/cluster.h"
#include "clients/cpp/src/txn_state.h"

namespace tidemark::client_core {

struct PartJob {
  std::shared_ptr<Txn> txn;
  std::unique_ptr<TxnPart> part;
};

struct EndJob {
  std::shared_ptr<Txn> txn;
  uint64_t serial = 0;  // as Txn::end_serial when it was made
};

class TxnSender : public std::enable_shared_from_this<TxnSender> {
 public:
  struct Answers {
    std::function<void(PartJob, const Status&, uint32_t retry_after_ms)> part;
    std::function<void(EndJob, const Status&, protocol::fbs::TxnState, uint32_t retry_after_ms)>
        end;
  };

  TxnSender(Cluster& cluster, std::string group, Answers answers);

  // In the order in which they come, per session.
  void add(Session& session, PartJob job);
  void add(Session& session, EndJob job);
  void flush();
  // Answers to what is under way are not passed on any more.
  void stop();

 private:
  struct Lane {
    std::deque<PartJob> parts;
    std::deque<EndJob> ends;
    size_t part_requests = 0;  // under way
    size_t part_bytes = 0;
    size_t end_requests = 0;
  };

  void send_parts(Session& session, Lane& lane);
  void send_ends(Session& session, Lane& lane);
  void on_parts(Lane& lane, size_t bytes, std::vector<PartJob>& sent, Reply reply);
  void on_ends(Lane& lane, std::vector<EndJob>& sent, Reply reply);
  [[nodiscard]] MonotonicTime request_deadline() const;

  Cluster& cluster_;
  std::string group_;
  Answers answers_;
  bool stopped_ = false;
  std::unordered_map<Session*, Lane> lanes_;  // references stay valid
  flatbuffers::FlatBufferBuilder builder_{4096};
};

}  // namespace tidemark::client_core
