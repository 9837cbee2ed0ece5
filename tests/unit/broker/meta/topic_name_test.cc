#include "broker/meta/topic_name.h"

#include <string>

#include <doctest/doctest.h>

namespace tidemark::meta {
namespace {

TEST_CASE("names of 1 to 200 letters, digits, dots, underscores and dashes are allowed") {
  for (const std::string& name :
       {std::string("a"), std::string("orders.eu-1_B"), std::string("..."), std::string(".a"),
        std::string("-"), std::string(200, 'x')}) {
    CAPTURE(name);
    CHECK(check_topic_name(name).ok());
  }
}

TEST_CASE("anything else is refused, with what is allowed in the text") {
  for (const std::string& name :
       {std::string(), std::string("."), std::string(".."), std::string(201, 'x'),
        std::string("a/b"), std::string("a b"), std::string("\xC3\xA9"), std::string("a\0b", 3),
        std::string("a\n")}) {
    CAPTURE(name);
    const Status status = check_topic_name(name);
    CHECK(status.code() == ErrorCode::kInvalidArgument);
    CHECK(status.context().find("1 to 200") != std::string_view::npos);
  }
  CHECK(check_topic_name("ab/c").context().find("position 3") != std::string_view::npos);
}

}  // namespace
}  // namespace tidemark::meta
