#include "tools/json_text.h"

#include "tools/message_format.h"

namespace tidemark::tools {

std::string dump_json(const nlohmann::ordered_json& object) {
  return object.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

void add_bytes_field(nlohmann::ordered_json& object, const std::string& name,
                     const std::optional<std::string>& bytes) {
  if (!bytes) {
    object[name] = nullptr;
  } else if (is_utf8(*bytes)) {
    object[name] = *bytes;
  } else {
    object[name + "_base64"] = base64(*bytes);
  }
}

std::string printable(const std::optional<std::string>& bytes) {
  if (!bytes) {
    return "";
  }
  return is_utf8(*bytes) ? *bytes : "base64:" + base64(*bytes);
}

}  // namespace tidemark::tools
