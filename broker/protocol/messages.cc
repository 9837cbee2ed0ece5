#include "broker/protocol/messages.h"

#include <string>

namespace tidemark::protocol {

Status to_status(const fbs::Error* error) {
  if (error == nullptr || error->code() == 0) {
    return {};
  }
  return {error_from_wire(error->code()), std::string(view(error->message()))};
}

uint32_t retry_after_ms(const fbs::Error* error) {
  return error != nullptr ? error->retry_after_ms() : 0;
}

flatbuffers::Offset<fbs::Error> build_error(flatbuffers::FlatBufferBuilder& builder,
                                            const Status& status, uint32_t retry_after_ms) {
  if (status.ok()) {
    return 0;
  }
  const auto text = builder.CreateString(status.context().data(), status.context().size());
  return fbs::CreateError(builder, static_cast<uint16_t>(status.code()), text, retry_after_ms);
}

OutFrame make_error_frame(uint64_t correlation, const Status& status, uint32_t retry_after_ms) {
  flatbuffers::FlatBufferBuilder builder(256);
  const auto error = build_error(builder, status, retry_after_ms);
  builder.Finish(fbs::CreateErrorReply(builder, error));
  return make_frame(FrameType::kError, /*reply=*/true, kNoShard, correlation, finished(builder));
}

}  // namespace tidemark::protocol
