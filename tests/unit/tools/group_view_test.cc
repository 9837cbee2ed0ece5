#include "tools/group_view.h"

#include <doctest/doctest.h>

namespace tidemark::tools {
namespace {

TEST_CASE("partitions are told as ranges, topic by topic") {
  CHECK(partitions_text({}).empty());
  CHECK(partitions_text({{"orders", 4}}) == "orders 4");
  CHECK(partitions_text({{"orders", 7}, {"orders", 0}, {"orders", 1}, {"orders", 2}}) ==
        "orders 0-2,7");
  CHECK(partitions_text({{"orders", 3}, {"mails", 3}, {"mails", 4}, {"mails", 9}}) ==
        "mails 3-4,9; orders 3");
}

}  // namespace
}  // namespace tidemark::tools
