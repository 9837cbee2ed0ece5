// A client of the broker under test.
//
// Thread: the test's.
#pragma once

#include <string>

#include "tidemark/client.h"

namespace tidemark::testing {

// With default options. REQUIREs that it could be made; waits for no broker.
client::Client connect(const std::string& address);

}  // namespace tidemark::testing
