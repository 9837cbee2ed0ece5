#include "tools/delivery_log.h"

#include <algorithm>
#include <utility>

namespace tidemark::tools {

void DeliveryLog::on_delivery(const client::DeliveryBatch& batch) {
  const std::lock_guard<std::mutex> guard(mutex_);
  const uint64_t count = batch.opaques.size();
  if (!batch.status.ok()) {
    add_failure(batch.status, batch.opaques.front(), count, batch.outcome_unknown);
    for (size_t i = 0; i < count; ++i) {
      keep(batch, i, {.status = batch.status, .due_ms = 0, .handle = {}});
    }
    any_failed_ = true;
    return;
  }
  uint64_t stored = count;
  for (size_t i = 0; i < batch.receipts.size(); ++i) {
    const client::DelayReceipt& receipt = batch.receipts[i];
    if (!receipt.status.ok()) {
      add_failure(receipt.status, batch.opaques[i], 1, false);
      --stored;
    }
    keep(batch, i, receipt);
  }
  if (stored == 0) {
    return;
  }
  acked_ += stored;
  PartitionResult& partition = partitions_[batch.partition];
  partition.messages += stored;
  if (batch.receipts.empty()) {
    const uint64_t last = batch.offsets.empty()
                              ? batch.base_offset + count - 1
                              : *std::max_element(batch.offsets.begin(), batch.offsets.end());
    partition.last_offset = std::max(partition.last_offset, last);
  }
}

std::vector<DelayedDelivery> DeliveryLog::take_each() {
  const std::lock_guard<std::mutex> guard(mutex_);
  return std::exchange(each_, {});
}

void DeliveryLog::add_failure(const client::Status& status, uint64_t line, uint64_t count,
                              bool unknown) {
  const bool first_other = first_error_.code() == client::ErrorCode::kAlreadyExists &&
                           status.code() != client::ErrorCode::kAlreadyExists;
  if (failed_ == 0 || first_other) {
    first_error_ = status;
    first_failed_message_ = line;
  }
  failed_ += count;
  unknown_ += unknown ? count : 0;
}

void DeliveryLog::keep(const client::DeliveryBatch& batch, size_t index,
                       const client::DelayReceipt& receipt) {
  if (keeps_each_) {
    each_.push_back(
        {.line = batch.opaques[index], .partition = batch.partition, .receipt = receipt});
  }
}

}  // namespace tidemark::tools
