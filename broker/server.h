// Server: the broker as a whole. Opens the data directory, starts the loops, serves, and stops in
// order.
//
//   kOpening   every loop opens its shards; sockets are bound, nothing is accepted
//   kServing   `ready` was printed
//   kStopping  nothing is accepted any more; the shards refuse new requests, finish what they
//              accepted, checkpoint
//   kClosing   unsent replies are written (at most Reactor::kCloseMsMax), connections close, loops
//              end
//
// Signals: SIGTERM and SIGINT stop in order, the second one at once.
//
// Thread: the one that calls create() and run(); it is loop 0's.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "broker/config.h"
#include "broker/data_directory.h"
#include "broker/net/http_server.h"
#include "broker/net/listener.h"
#include "broker/reactor.h"

namespace tidemark::broker {

class Server final : public Coordinator, public net::HttpHandler {
 public:
  // Locks the data directory, creates it if there is none, binds the sockets. `fs` and `clock`
  // outlive the server.
  static Result<std::unique_ptr<Server>> create(Config config, FileSystem& fs, Clock& clock,
                                                uint64_t seed);
  ~Server() override;
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  // Serves until a signal; prints the ready line to stdout. Ok after an ordered stop, else the
  // first thing that went wrong.
  Status run();

  // --- Coordinator ---
  void loop_opened(OpenedMessage message) override;
  void loop_report(ReportMessage message) override;
  void shards_stopped(ShardsStoppedMessage message) override;
  // --- net::HttpHandler ---
  void http_get(net::HttpRequestId request, std::string_view path) override;

 private:
  enum class State { kOpening, kServing, kStopping, kClosing };
  enum class Page { kMetrics, kReady };

  // A page that waits for the reports of all loops.
  struct Gather {
    net::HttpRequestId request = 0;
    Page page = Page::kMetrics;
    MonotonicTime started;
    std::vector<std::optional<LoopReport>> reports;
    size_t missing = 0;
  };

  Server(FileSystem& fs, Clock& clock) : fs_(fs), clock_(clock) {}

  Status open_data(Random& random);
  Status create_loops();
  Status bind_sockets();
  Status watch_signals();
  void signalled(int signal);

  void serve();
  void fail(const Status& status);
  void stop();
  void close();
  void every_second();

  void begin_gather(net::HttpRequestId request, Page page);
  [[nodiscard]] net::HttpResponse metrics_page(Gather gather) const;
  [[nodiscard]] net::HttpResponse ready_page(const Gather& gather) const;

  [[nodiscard]] Reactor& main_loop() { return *world_.reactors[0]; }

  FileSystem& fs_;
  Clock& clock_;
  std::unique_ptr<DataDirectory> data_;
  World world_;
  // On loop 0.
  std::unique_ptr<net::Listener> listener_;
  std::unique_ptr<net::Listener> http_listener_;  // until it is given to http_
  std::unique_ptr<net::HttpServer> http_;
  std::unique_ptr<net::Timer> second_timer_;
  std::vector<std::unique_ptr<net::SignalWatcher>> signals_;

  State state_ = State::kOpening;
  bool stop_requested_ = false;
  std::string http_address_ = "off";
  Status failure_;  // the first
  size_t loops_opened_ = 0;
  std::vector<bool> loops_stopped_;
  WallTime started_;
  MonotonicTime started_monotonic_;
  MonotonicTime first_signal_;
  MonotonicTime stopping_since_;
  uint64_t next_gather_ = 1;
  std::map<uint64_t, Gather> gathers_;  // at most one for each HTTP connection
};

}  // namespace tidemark::broker
