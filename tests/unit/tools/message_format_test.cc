#include "tools/message_format.h"

#include <array>
#include <string>

#include <doctest/doctest.h>

namespace tidemark::tools {
namespace {

using namespace std::string_view_literals;

std::string formatted(std::string_view format, const PrintedMessage& message) {
  std::string out;
  MessageFormat::parse(format).value().append(message, out);
  return out;
}

std::string json(const PrintedMessage& message) {
  std::string out;
  append_json(message, out);
  return out;
}

const std::array<PrintedHeader, 2> kHeaders = {{{"source", "shell"}, {"n", "1"}}};

PrintedMessage sample() {
  PrintedMessage message;
  message.partition = 3;
  message.offset = 42;
  message.timestamp_ms = 1'772'368'205'250;
  message.has_key = true;
  message.key = "k1";
  message.value = "v\0x\xFF"sv;
  message.headers = kHeaders;
  return message;
}

TEST_CASE("every field") {
  CHECK(formatted("%p/%o %k=%v", sample()) == "3/42 k1=v\0x\xFF"sv);
  CHECK(formatted("%t %T %s %h", sample()) ==
        "1772368205250 2026-03-01T12:30:05.250Z 4 source=shell,n=1");
  CHECK(formatted("100%% %o%o", sample()) == "100% 4242");
}

TEST_CASE("escapes and literals") {
  CHECK(formatted("%v\\n", sample()) == "v\0x\xFF\n"sv);
  CHECK(formatted("\\t\\0\\x2c\\\\%o", sample()) == "\t\0,\\42"sv);
  CHECK(formatted("", sample()).empty());
}

TEST_CASE("absent key and value print as nothing") {
  PrintedMessage message;
  message.has_value = false;
  CHECK(formatted("[%k][%v]%s", message) == "[][]0");
}

TEST_CASE("topic and deliveries are told where they mean something") {
  PrintedMessage message = sample();
  message.topic = "mails";
  message.deliveries = 3;
  message.value = "v";
  CHECK(formatted("%n#%d", message) == "mails#3");
  CHECK(json(message) ==
        R"({"topic":"mails","partition":3,"offset":42,"timestamp_ms":1772368205250,"key":"k1",)"
        R"("value":"v","headers":{"source":"shell","n":"1"},"deliveries":3})"
        "\n");
  CHECK(formatted("[%n]%d", sample()) == "[]0");
}

TEST_CASE("headers are decoded only when asked for") {
  CHECK(MessageFormat::parse("%h").value().needs_headers());
  CHECK_FALSE(MessageFormat::parse("%v%%h").value().needs_headers());
}

TEST_CASE("mistakes are named") {
  for (const char* wrong : {"%", "%q", "%v\\q", "\\", "%V", "\\x1"}) {
    CAPTURE(wrong);
    const Result<MessageFormat> parsed = MessageFormat::parse(wrong);
    REQUIRE_FALSE(parsed.ok());
    CHECK(parsed.error().code() == ErrorCode::kInvalidArgument);
  }
  CHECK(MessageFormat::parse("%q").error().context().find("%q") != std::string_view::npos);
}

TEST_CASE("json") {
  PrintedMessage message = sample();
  message.value = "gr\xC3\xBC\xC3\x9F\n";
  CHECK(json(message) ==
        R"({"partition":3,"offset":42,"timestamp_ms":1772368205250,"key":"k1","value":"grüß\n",)"
        R"("headers":{"source":"shell","n":"1"}})"
        "\n");
  PrintedMessage nothing;
  nothing.has_value = false;
  CHECK(json(nothing) ==
        R"({"partition":0,"offset":0,"timestamp_ms":0,"key":null,"value":null,"headers":{}})"
        "\n");
}

TEST_CASE("json of bytes that are no text") {
  const std::array<PrintedHeader, 3> headers = {{{"h", "\xFF"}, {"h", "b"}, {"h", "c"}}};
  PrintedMessage message = sample();
  message.headers = headers;
  CHECK(
      json(message) ==
      R"({"partition":3,"offset":42,"timestamp_ms":1772368205250,"key":"k1","value_base64":"dgB4/w==",)"
      R"("headers":{"h":[{"base64":"/w=="},"b","c"]}})"
      "\n");
}

TEST_CASE("utf-8") {
  for (const std::string_view good :
       {""sv, "abc"sv, "\xC2\x80"sv, "\xDF\xBF"sv, "\xE0\xA0\x80"sv, "\xED\x9F\xBF"sv,
        "\xEE\x80\x80"sv, "\xF0\x90\x80\x80"sv, "\xF4\x8F\xBF\xBF"sv, "a\0b"sv}) {
    CAPTURE(good);
    CHECK(is_utf8(good));
  }
  for (const std::string_view bad :
       {"\x80"sv, "\xC0\x80"sv, "\xC1\xBF"sv, "\xC2"sv, "\xE0\x9F\xBF"sv, "\xED\xA0\x80"sv,
        "\xE2\x82"sv, "\xE2\x28\xA1"sv, "\xF0\x8F\xBF\xBF"sv, "\xF4\x90\x80\x80"sv,
        "\xF5\x80\x80\x80"sv, "\xFF"sv, "abc\xF0\x90\x80"sv}) {
    CAPTURE(bad.size());
    CHECK_FALSE(is_utf8(bad));
  }
}

TEST_CASE("base64") {
  CHECK(base64("").empty());
  CHECK(base64("f") == "Zg==");
  CHECK(base64("fo") == "Zm8=");
  CHECK(base64("foo") == "Zm9v");
  CHECK(base64("foobar") == "Zm9vYmFy");
  CHECK(base64("\xFB\xFF\xBF") == "+/+/");
}

}  // namespace
}  // namespace tidemark::tools
