// The scripts bench/peers/<name>.sh: they know how a server is brought, started and stopped.
//
// Thread: one. Blocking. What goes wrong is thrown as PeerError; the scripts' own words are on
// stderr.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace tidemark::bench {

class PeerScript {
 public:
  PeerScript(const std::string& folder, std::string peer);

  void fetch() const;
  [[nodiscard]] std::string version() const;
  [[nodiscard]] std::vector<std::string> modes() const;
  [[nodiscard]] std::string settings(const std::string& mode) const;

  [[nodiscard]] const std::string& peer() const { return peer_; }

 private:
  friend class RunningServer;

  void run(const std::string& arguments) const;
  [[nodiscard]] std::string ask(const std::string& arguments) const;

  std::string peer_;
  std::string command_;
};

// A server on a data folder of its own, which goes with it.
class RunningServer {
 public:
  // Serves when it returns.
  RunningServer(const PeerScript& script, std::string data, uint16_t port, const std::string& mode);
  ~RunningServer();
  RunningServer(const RunningServer&) = delete;
  RunningServer& operator=(const RunningServer&) = delete;

 private:
  const PeerScript& script_;
  std::string data_;
};

}  // namespace tidemark::bench
