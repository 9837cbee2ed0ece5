// The request of the metrics server from anybody, as it grows in the buffer: no answer is taken
// back when more arrives, bounds hold, and what is accepted is the path of a GET or HEAD.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "broker/net/http_server.h"
#include "log/base/bytes.h"
#include "log/base/check.h"

namespace tidemark::net {
namespace {

using Kind = HttpRequest::Kind;

void check_form(std::string_view received, const HttpRequest& request) {
  constexpr int kRefusals[] = {400, 405, 431, 505};
  switch (request.kind) {
    case Kind::kIncomplete:
      TIDEMARK_CHECK(received.size() < HttpServer::kRequestBytesMax);
      TIDEMARK_CHECK(received.find("\r\n\r\n") == std::string_view::npos);
      return;
    case Kind::kRefused:
      TIDEMARK_CHECK(std::ranges::find(kRefusals, request.refusal) != std::end(kRefusals));
      return;
    case Kind::kGet:
    case Kind::kHead:
      break;
  }
  TIDEMARK_CHECK(request.path.starts_with('/') && request.path.find('?') == std::string::npos);
  TIDEMARK_CHECK(std::ranges::all_of(request.path, [](char c) { return c > ' ' && c <= '~'; }));
  const std::string method = request.kind == Kind::kGet ? "GET " : "HEAD ";
  TIDEMARK_CHECK(received.starts_with(method + request.path));
  // Written plainly it is the same request.
  const HttpRequest again = parse_http_request(method + request.path + " HTTP/1.1\r\n\r\n");
  TIDEMARK_CHECK(again.kind == request.kind && again.path == request.path);
}

void try_request(std::string_view text) {
  // As the server asks: after each read, until there is an answer. At most some reads, so that a
  // long input takes no long time.
  const size_t step = std::max<size_t>(1, text.size() / 16);
  for (size_t size = 0; size < text.size(); size += step) {
    const HttpRequest early = parse_http_request(text.substr(0, size));
    check_form(text.substr(0, size), early);
    if (early.kind != Kind::kIncomplete) {
      // Of a request that is too long there is no other answer later.
      const HttpRequest late = parse_http_request(text);
      TIDEMARK_CHECK(early.refusal == 431 || (late.kind == early.kind && late.path == early.path &&
                                              late.refusal == early.refusal));
      return;
    }
  }
  check_form(text, parse_http_request(text));
}

}  // namespace
}  // namespace tidemark::net

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  tidemark::net::try_request(tidemark::as_text({data, size}));
  return 0;
}
