// Bytes of strangers in JSON and in tables.
//
// Thread: pure functions.
#pragma once

#include <optional>
#include <string>

#include <nlohmann/json.hpp>

namespace tidemark::tools {

// One line; bytes that are not UTF-8 are replaced.
std::string dump_json(const nlohmann::ordered_json& object);
// As in the JSON of consume: bytes that are not UTF-8 are base64, under another name; null if there
// are none.
void add_bytes_field(nlohmann::ordered_json& object, const std::string& name,
                     const std::optional<std::string>& bytes);
// The bytes, or "base64:" and what they are in it; "" if there are none.
std::string printable(const std::optional<std::string>& bytes);

}  // namespace tidemark::tools
