// Partitions of a consumer group as text.
//
// Thread: pure functions.
#pragma once

#include <string>
#include <vector>

#include "tidemark/group.h"

namespace tidemark::tools {

// "orders 0-3,7; mails 1". Any order.
std::string partitions_text(std::vector<client::TopicPartition> partitions);

}  // namespace tidemark::tools
