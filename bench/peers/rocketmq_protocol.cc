#include "bench/peers/rocketmq_protocol.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "bench/peers/adapter.h"
#include "log/base/clock.h"

namespace tidemark::bench {
namespace {

constexpr int kAnswerFlag = 1;
// Says how new the client is; the number of a release of the 5.x line.
constexpr int kClientVersion = 453;
constexpr int64_t kAnswerNs = 15'000'000'000;

void append_u32(std::string& out, uint32_t value) {
  for (int shift = 24; shift >= 0; shift -= 8) {
    out += static_cast<char>(value >> shift);
  }
}

uint32_t u32_at(std::string_view bytes, size_t at) {
  uint32_t out = 0;
  for (size_t i = 0; i < 4; ++i) {
    out = out << 8 | static_cast<uint8_t>(bytes[at + i]);
  }
  return out;
}

RocketAnswer parse(std::string_view header) {
  // Without exceptions: what is no JSON is discarded and has no fields.
  const nlohmann::json json = nlohmann::json::parse(header, nullptr, false);
  if (!json.is_object()) {
    throw PeerError("rocketmq: a header that is no JSON object");
  }
  RocketAnswer out;
  out.opaque = json.value("opaque", 0);
  out.code = json.value("code", -1);
  if (const auto remark = json.find("remark"); remark != json.end() && remark->is_string()) {
    out.remark = remark->get<std::string>();
  }
  if (const auto fields = json.find("extFields"); fields != json.end() && fields->is_object()) {
    for (const auto& [name, value] : fields->items()) {
      out.fields[name] = value.is_string() ? value.get<std::string>() : value.dump();
    }
  }
  if ((json.value("flag", 0) & kAnswerFlag) == 0) {
    out.opaque = -1;  // a request of the broker's own; nothing that is asked here
  }
  return out;
}

}  // namespace

int32_t RocketConnection::request(RocketCode code, const RocketFields& fields,
                                  std::string_view body) {
  const int32_t opaque = next_opaque_++;
  const nlohmann::json json = {{"code", static_cast<int>(code)},
                               {"language", "CPP"},
                               {"version", kClientVersion},
                               {"opaque", opaque},
                               {"flag", 0},
                               {"serializeTypeCurrentRPC", "JSON"},
                               {"extFields", fields}};
  const std::string header = json.dump();
  std::string lengths;
  append_u32(lengths, static_cast<uint32_t>(4 + header.size() + body.size()));
  append_u32(lengths, static_cast<uint32_t>(header.size()));
  socket_.put(lengths);
  socket_.put(header);
  socket_.put(body);
  return opaque;
}

bool RocketConnection::take(const std::function<void(const RocketAnswer&)>& sink) {
  bool any = false;
  for (;;) {
    const std::string_view bytes = socket_.received();
    if (bytes.size() < 8 || bytes.size() < 4 + size_t{u32_at(bytes, 0)}) {
      return any;
    }
    const std::string_view frame = bytes.substr(4, u32_at(bytes, 0));
    const size_t header_bytes = u32_at(frame, 0) & 0xffffff;
    if (4 + header_bytes > frame.size()) {
      socket_.fail("a frame that is shorter than its header");
    }
    RocketAnswer answer = parse(frame.substr(4, header_bytes));
    answer.body = frame.substr(4 + header_bytes);
    socket_.consume(4 + frame.size());
    if (answer.opaque >= 0) {
      any = true;
      sink(answer);
    }
  }
}

RocketFields RocketConnection::ask(RocketCode code, const RocketFields& fields) {
  const int32_t opaque = request(code, fields);
  const int64_t deadline_ns = system_clock().monotonic().ns + kAnswerNs;
  RocketFields out;
  bool answered = false;
  while (!answered) {
    if (system_clock().monotonic().ns > deadline_ns) {
      fail("no answer within 15 s");
    }
    exchange(100'000);
    take([&](const RocketAnswer& answer) {
      if (answer.opaque == opaque) {
        require(answer);
        out = answer.fields;
        answered = true;
      }
    });
  }
  return out;
}

void RocketConnection::require(const RocketAnswer& answer) const {
  if (answer.code != kRocketSuccess) {
    fail(fmt::format("answer {}: {}", answer.code, answer.remark));
  }
}

std::string rocket_properties(const RocketFields& properties) {
  std::string out;
  for (const auto& [name, value] : properties) {
    out += name;
    out += '\1';
    out += value;
    out += '\2';
  }
  return out;
}

// Total length, magic, checksum and flag (0: the broker fills them in), body, properties (none).
void append_batched(std::string& batch, std::string_view value) {
  append_u32(batch, static_cast<uint32_t>(4 + 4 + 4 + 4 + 4 + value.size() + 2));
  append_u32(batch, 0);
  append_u32(batch, 0);
  append_u32(batch, 0);
  append_u32(batch, static_cast<uint32_t>(value.size()));
  batch += value;
  batch.append(2, '\0');
}

// Each begins with its total length. Before the body: magic, checksum, queue and flag (4 bytes
// each), two offsets (8 each), system flag (4), time and host of birth, time and host of storing (8
// each: addresses are IPv4), times consumed (4), offset of the prepared message (8), length of the
// body (4).
void for_each_pulled(std::string_view block, const std::function<void(std::string_view)>& sink) {
  constexpr size_t kLengthAt = 4 + 4 * 4 + 2 * 8 + 4 + 4 * 8 + 4 + 8;
  while (block.size() > kLengthAt + 4) {
    const size_t total = u32_at(block, 0);
    const size_t bytes = u32_at(block, kLengthAt);
    if (total > block.size() || kLengthAt + 4 + bytes > total) {
      throw PeerError("rocketmq: a pulled message that is cut short");
    }
    sink(block.substr(kLengthAt + 4, bytes));
    block.remove_prefix(total);
  }
}

}  // namespace tidemark::bench
