#include "broker/kv/key_value_store.h"

namespace tidemark::kv {

namespace {

Status length_error(std::string_view what, size_t bytes, std::string_view allowed) {
  return {ErrorCode::kInvalidArgument, std::string(what) + " of " + std::to_string(bytes) +
                                           " bytes; allowed are " + std::string(allowed) + " to " +
                                           std::to_string(kKeyBytesMax)};
}

}  // namespace

Status check_bound(std::string_view key) {
  return key.size() <= kKeyBytesMax ? Status() : length_error("bound", key.size(), "0");
}

Status check_batch(const WriteBatch& batch) {
  for (const WriteBatch::Operation& operation : batch.operations()) {
    switch (operation.kind) {
      case WriteBatch::Kind::kPut:
      case WriteBatch::Kind::kRemove:
        if (operation.key.empty() || operation.key.size() > kKeyBytesMax) {
          return length_error("key", operation.key.size(), "1");
        }
        break;
      case WriteBatch::Kind::kRemoveRange:
        RETURN_IF_ERROR(check_bound(operation.key));
        RETURN_IF_ERROR(check_bound(operation.value));
        break;
    }
  }
  return {};
}

}  // namespace tidemark::kv
