// The membership of a group as libraft writes it into the log: u8 version = 1, u64 count, then for
// each server u64 id, address ended by a zero byte, u8 role; little-endian, padded with zeros to a
// multiple of 8. libraft encodes, but has no public decoder.
#pragma once

extern "C" {
#include <raft.h>
}

#include <cstdint>
#include <string>
#include <vector>

#include "broker/replica/raft_engine.h"
#include "log/base/bytes.h"
#include "log/base/result.h"

namespace tidemark::replica {

enum class ServerRole : uint8_t {
  kStandby = RAFT_STANDBY,  // gets the log, has no vote
  kVoter = RAFT_VOTER,
  kSpare = RAFT_SPARE,  // gets nothing
};

struct Server {
  Member member;
  ServerRole role = ServerRole::kVoter;
};

// Owns a raft_configuration.
class RaftConfiguration {
 public:
  RaftConfiguration() { raft_configuration_init(&raw_); }

  ~RaftConfiguration() { raft_configuration_close(&raw_); }

  RaftConfiguration(const RaftConfiguration&) = delete;
  RaftConfiguration& operator=(const RaftConfiguration&) = delete;

  raft_configuration* get() { return &raw_; }

  // Gives the contents to libraft, which closes them.
  raft_configuration release();

 private:
  raft_configuration raw_{};
};

// libraft leaves the padding of what it encodes uninitialised: makes it zeros. Bytes that are no
// configuration stay as they are.
void clear_configuration_padding(MutableByteView bytes);
std::vector<uint8_t> encode_configuration(const raft_configuration& configuration);
// kCorrupted if the bytes are not a configuration.
Result<std::vector<Server>> decode_configuration(ByteView bytes);
// Adds `servers` to the empty `out`. kInvalidArgument for a server that libraft refuses (id 0, the
// same id or address twice).
Status fill_configuration(const std::vector<Server>& servers, RaftConfiguration& out);

}  // namespace tidemark::replica
