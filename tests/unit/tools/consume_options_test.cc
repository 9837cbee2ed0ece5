#include <algorithm>

#include <doctest/doctest.h>

#include "tools/consume.h"
#include "tools/errors.h"

namespace tidemark::tools {
namespace {

ConsumeOptions queue(uint64_t count, bool ack) {
  ConsumeOptions options;
  options.topics = {"t"};
  options.group = "g";
  options.queue = true;
  options.count = count;
  options.ack = ack;
  return options;
}

TEST_CASE("no more messages are leased than will be printed") {
  CHECK(queue_in_flight(queue(0, true)) == 256);
  CHECK(queue_in_flight(queue(1, true)) == 1);
  CHECK(queue_in_flight(queue(2, true)) == 1);
  CHECK(queue_in_flight(queue(10, true)) == 5);
  CHECK(queue_in_flight(queue(100'000, true)) == 256);
  // Nothing is acked that would make room.
  CHECK(queue_in_flight(queue(1, false)) == 1);
  CHECK(queue_in_flight(queue(10, false)) == 10);
  CHECK(queue_in_flight(queue(1'000, false)) == 256);

  ConsumeOptions few = queue(100, true);
  few.in_flight = 3;
  CHECK(queue_in_flight(few) == 3);
  few.count = 0;
  CHECK(queue_in_flight(few) == 3);
  few.ack = false;
  few.count = 2;
  CHECK(queue_in_flight(few) == 2);
}

TEST_CASE("in order the next message of a key waits for the ack of the one before") {
  ConsumeOptions ordered = queue(10, true);
  ordered.ordered = true;
  CHECK(queue_in_flight(ordered) == 1);
  ordered.count = 0;
  CHECK(queue_in_flight(ordered) == 256);
}

TEST_CASE("a group begins at the start or the end, in all partitions") {
  ConsumeOptions options = queue(0, true);
  check_group_start(options);
  options.from = "end";
  check_group_start(options);
  options.from = "5";
  CHECK_THROWS_AS(check_group_start(options), CommandError);
  options.from = "start";
  options.partitions = {1};
  CHECK_THROWS_AS(check_group_start(options), CommandError);
}

}  // namespace
}  // namespace tidemark::tools
