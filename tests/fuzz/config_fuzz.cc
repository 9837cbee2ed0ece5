// Configuration files, addresses and the identity file of a data directory. What is accepted says
// the same when it is printed and read again; what is refused has a reason.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "broker/config.h"
#include "broker/data_directory.h"
#include "broker/net/address.h"
#include "broker/net/http_server.h"
#include "log/base/bytes.h"
#include "log/base/check.h"

namespace tidemark::broker {
namespace {

void try_config(std::string_view text) {
  Config config;
  const Status status = apply_config_text(config, text, "fuzz");
  if (!status.ok()) {
    TIDEMARK_CHECK(!status.context().empty());
    return;
  }
  Config again;
  const Status printed = apply_config_text(again, to_toml(config), "printed");
  TIDEMARK_CHECK(printed.ok(), printed.to_string());
  for (const ConfigKey& key : config_keys()) {
    TIDEMARK_CHECK(key.get(again) == key.get(config), std::string(key.name));
  }
}

void try_identity(std::string_view text) {
  const auto identity = identity_from_text(text, "fuzz");
  if (identity.ok()) {
    const auto again = identity_from_text(identity_to_text(*identity), "printed");
    TIDEMARK_CHECK(again.ok() && *again == *identity);
  }
}

void try_address(std::string_view text) {
  const auto address = net::parse_host_port(text);
  if (address.ok()) {
    const auto again = net::parse_host_port(address->to_string());
    TIDEMARK_CHECK(again.ok() && *again == *address, address->to_string());
  }
}

}  // namespace
}  // namespace tidemark::broker

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text = tidemark::as_text({data, size});
  tidemark::broker::try_config(text);
  tidemark::broker::try_identity(text);
  tidemark::broker::try_address(text);
  static_cast<void>(tidemark::net::parse_http_request(text));
  return 0;
}
