#include "tools/message_format.h"

#include <charconv>
#include <iterator>

#include <nlohmann/json.hpp>

#include "tools/parse.h"

namespace tidemark::tools {
namespace {

constexpr std::string_view kLetters = "vkoptThsnd%";

template <typename Number>
void append_number(Number number, std::string& out) {
  char digits[24];
  const auto end = std::to_chars(std::begin(digits), std::end(digits), number).ptr;
  out.append(std::begin(digits), end);
}

void append_headers(const PrintedMessage& message, std::string& out) {
  bool first = true;
  for (const PrintedHeader& header : message.headers) {
    if (!first) {
      out += ',';
    }
    first = false;
    out += header.key;
    out += '=';
    out += header.value;
  }
}

using Json = nlohmann::ordered_json;

void set_bytes(Json& object, const char* name, bool present, std::string_view bytes) {
  if (!present) {
    object[name] = nullptr;
  } else if (is_utf8(bytes)) {
    object[name] = bytes;
  } else {
    object[std::string(name) + "_base64"] = base64(bytes);
  }
}

Json header_value(std::string_view bytes) {
  if (is_utf8(bytes)) {
    return Json(bytes);
  }
  Json wrapped = Json::object();
  wrapped["base64"] = base64(bytes);
  return wrapped;
}

}  // namespace

Result<MessageFormat> MessageFormat::parse(std::string_view text) {
  MessageFormat format;
  std::string literal;
  const auto end_literal = [&format, &literal] {
    if (!literal.empty()) {
      format.steps_.push_back({.what = 0, .literal = std::move(literal)});
      literal.clear();
    }
  };
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\') {
      const size_t length = i + 1 < text.size() && text[i + 1] == 'x' ? 4 : 2;
      ASSIGN_OR_RETURN(const std::string unescaped, unescape(text.substr(i, length)));
      literal += unescaped;
      i += length - 1;
      continue;
    }
    if (text[i] != '%') {
      literal += text[i];
      continue;
    }
    const char letter = ++i < text.size() ? text[i] : '\0';
    if (letter == '%') {
      literal += '%';
      continue;
    }
    if (letter == '\0' || kLetters.find(letter) == std::string_view::npos) {
      return Status(ErrorCode::kInvalidArgument,
                    "unknown field '%" + std::string(1, letter) +
                        "' in the format; known are %v value, %k key, %o offset, " +
                        "%p partition, %t time in ms, %T time, %h headers, %s size, %n topic, " +
                        "%d deliveries, %%");
    }
    end_literal();
    format.steps_.push_back({.what = letter, .literal = {}});
    format.needs_headers_ = format.needs_headers_ || letter == 'h';
  }
  end_literal();
  return format;
}

void MessageFormat::append(const PrintedMessage& message, std::string& out) const {
  for (const Step& step : steps_) {
    switch (step.what) {
      case 'v':
        out += message.value;
        break;
      case 'k':
        out += message.key;
        break;
      case 'o':
        append_number(message.offset, out);
        break;
      case 'p':
        append_number(message.partition, out);
        break;
      case 't':
        append_number(message.timestamp_ms, out);
        break;
      case 'T':
        out += format_time(message.timestamp_ms);
        break;
      case 'h':
        append_headers(message, out);
        break;
      case 's':
        append_number(message.value.size(), out);
        break;
      case 'n':
        out += message.topic;
        break;
      case 'd':
        append_number(message.deliveries, out);
        break;
      default:
        out += step.literal;
    }
  }
}

void append_json(const PrintedMessage& message, std::string& out) {
  Json object = Json::object();
  if (!message.topic.empty()) {
    object["topic"] = message.topic;
  }
  object["partition"] = message.partition;
  object["offset"] = message.offset;
  object["timestamp_ms"] = message.timestamp_ms;
  set_bytes(object, "key", message.has_key, message.key);
  set_bytes(object, "value", message.has_value, message.value);
  Json headers = Json::object();
  for (const PrintedHeader& header : message.headers) {
    const std::string key = is_utf8(header.key) ? std::string(header.key) : base64(header.key);
    Json value = header_value(header.value);
    if (!headers.contains(key)) {
      headers[key] = std::move(value);
    } else if (headers[key].is_array()) {
      headers[key].push_back(std::move(value));
    } else {
      headers[key] = Json::array({headers[key], std::move(value)});
    }
  }
  object["headers"] = std::move(headers);
  if (message.deliveries > 0) {
    object["deliveries"] = message.deliveries;
  }
  out += object.dump();
  out += '\n';
}

bool is_utf8(std::string_view text) {
  size_t i = 0;
  const auto byte = [&text](size_t at) { return static_cast<unsigned char>(text[at]); };
  while (i < text.size()) {
    const unsigned first = byte(i);
    if (first < 0x80) {
      ++i;
      continue;
    }
    const size_t length = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
    if (first < 0xC2 || first > 0xF4 || i + length > text.size()) {
      return false;
    }
    // The first byte narrows what may follow: no overlong forms, no surrogates, nothing above
    // U+10FFFF.
    const unsigned second = byte(i + 1);
    const unsigned low = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;
    const unsigned high = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
    if (second < low || second > high) {
      return false;
    }
    for (size_t k = 2; k < length; ++k) {
      if ((byte(i + k) & 0xC0) != 0x80) {
        return false;
      }
    }
    i += length;
  }
  return true;
}

std::string base64(std::string_view bytes) {
  constexpr std::string_view kAlphabet =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  out.reserve((bytes.size() + 2) / 3 * 4);
  for (size_t i = 0; i < bytes.size(); i += 3) {
    uint32_t group = 0;
    for (size_t k = 0; k < 3; ++k) {
      group = group << 8 | (i + k < bytes.size() ? static_cast<unsigned char>(bytes[i + k]) : 0u);
    }
    for (size_t k = 0; k < 4; ++k) {
      out += i + k <= bytes.size() ? kAlphabet[group >> (18 - 6 * k) & 63] : '=';
    }
  }
  return out;
}

}  // namespace tidemark::tools
