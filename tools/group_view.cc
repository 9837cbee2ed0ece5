#include "tools/group_view.h"

#include <algorithm>

#include <fmt/format.h>

namespace tidemark::tools {

std::string partitions_text(std::vector<client::TopicPartition> partitions) {
  std::ranges::sort(partitions);
  std::string out;
  for (size_t i = 0; i < partitions.size();) {
    const client::TopicPartition& first = partitions[i];
    size_t end = i + 1;
    while (end < partitions.size() && partitions[end].topic == first.topic &&
           partitions[end].partition == first.partition + (end - i)) {
      ++end;
    }
    if (i > 0 && partitions[i - 1].topic == first.topic) {
      out += ",";
    } else {
      out += fmt::format("{}{} ", out.empty() ? "" : "; ", first.topic);
    }
    out += end - i == 1 ? fmt::format("{}", first.partition)
                        : fmt::format("{}-{}", first.partition, partitions[end - 1].partition);
    i = end;
  }
  return out;
}

}  // namespace tidemark::tools
