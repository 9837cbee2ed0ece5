#include "broker/replica/raft_configuration.h"

#include <algorithm>
#include <utility>

#include "log/base/check.h"
#include "log/base/coding.h"

namespace tidemark::replica {

namespace {

constexpr uint8_t kEncodingVersion = 1;

Result<std::vector<Server>> parse(ByteReader& reader) {
  if (reader.le<uint8_t>() != kEncodingVersion) {
    return Status(ErrorCode::kCorrupted, "group configuration of an unknown version");
  }
  const auto count = reader.le<uint64_t>();
  std::vector<Server> servers;
  for (uint64_t i = 0; i < count && !reader.failed(); ++i) {
    Server server;
    server.member.id = NodeId(reader.le<uint64_t>());
    for (auto byte = reader.le<uint8_t>(); byte != 0; byte = reader.le<uint8_t>()) {
      server.member.address.push_back(static_cast<char>(byte));
    }
    const auto role = reader.le<uint8_t>();
    if (role > RAFT_SPARE) {
      return Status(ErrorCode::kCorrupted,
                    "group configuration with a role of " + std::to_string(role));
    }
    server.role = static_cast<ServerRole>(role);
    servers.push_back(std::move(server));
  }
  if (reader.failed()) {
    return Status(ErrorCode::kCorrupted, "group configuration that ends early");
  }
  return servers;
}

}  // namespace

raft_configuration RaftConfiguration::release() {
  const raft_configuration released = raw_;
  raft_configuration_init(&raw_);
  return released;
}

void clear_configuration_padding(MutableByteView bytes) {
  ByteReader reader(bytes);
  if (parse(reader).ok()) {
    std::fill_n(bytes.data() + reader.consumed(), reader.remaining(), uint8_t{0});
  }
}

std::vector<uint8_t> encode_configuration(const raft_configuration& configuration) {
  raft_buffer buffer{};
  TIDEMARK_CHECK(raft_configuration_encode(&configuration, &buffer) == 0, "out of memory");
  const auto* bytes = static_cast<const uint8_t*>(buffer.base);
  std::vector<uint8_t> encoded(bytes, bytes + buffer.len);
  raft_free(buffer.base);
  clear_configuration_padding(encoded);
  return encoded;
}

Result<std::vector<Server>> decode_configuration(ByteView bytes) {
  ByteReader reader(bytes);
  return parse(reader);
}

Status fill_configuration(const std::vector<Server>& servers, RaftConfiguration& out) {
  for (const Server& server : servers) {
    const int code =
        raft_configuration_add(out.get(), server.member.id.value(), server.member.address.c_str(),
                               static_cast<int>(server.role));
    if (code != 0) {
      return {ErrorCode::kInvalidArgument, "member " + std::to_string(server.member.id.value()) +
                                               " at \"" + server.member.address +
                                               "\": " + raft_strerror(code)};
    }
  }
  return {};
}

}  // namespace tidemark::replica
