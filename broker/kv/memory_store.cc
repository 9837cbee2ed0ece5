#include "broker/kv/memory_store.h"

#include <utility>

#include "log/base/check.h"

namespace tidemark::kv {

class MemoryStore::View final : public ReadView {
 public:
  explicit View(std::shared_ptr<const Contents> contents)
      : contents_(std::move(contents)), at_(contents_->end()) {}

  Result<std::optional<std::string>> get(std::string_view key) override {
    RETURN_IF_ERROR(check_bound(key));
    const auto found = contents_->find(key);
    if (found == contents_->end()) {
      return std::optional<std::string>();
    }
    return std::optional<std::string>(found->second);
  }

  Result<std::optional<Pair>> seek(std::string_view key) override {
    RETURN_IF_ERROR(check_bound(key));
    at_ = contents_->lower_bound(key);
    return current();
  }

  Result<std::optional<Pair>> seek_back(std::string_view key) override {
    RETURN_IF_ERROR(check_bound(key));
    at_ = contents_->upper_bound(key);
    at_ = at_ == contents_->begin() ? contents_->end() : std::prev(at_);
    return current();
  }

  Result<std::optional<Pair>> next() override {
    if (at_ != contents_->end()) {
      ++at_;
    }
    return current();
  }

 private:
  [[nodiscard]] std::optional<Pair> current() const {
    if (at_ == contents_->end()) {
      return std::nullopt;
    }
    return Pair{at_->first, at_->second};
  }

  std::shared_ptr<const Contents> contents_;
  Contents::const_iterator at_;
};

Status MemoryStore::commit(const WriteBatch& batch) {
  if (!commit_failure_.ok()) {
    return commit_failure_;
  }
  RETURN_IF_ERROR(check_batch(batch));
  if (!next_failure_.ok()) {
    Status failure = std::exchange(next_failure_, Status());
    if (failure.code() == ErrorCode::kIoError) {
      commit_failure_ = failure;
    }
    return failure;
  }
  if (contents_.use_count() > 1) {
    contents_ = std::make_shared<Contents>(*contents_);
  }
  for (const WriteBatch::Operation& operation : batch.operations()) {
    switch (operation.kind) {
      case WriteBatch::Kind::kPut:
        contents_->insert_or_assign(operation.key, operation.value);
        break;
      case WriteBatch::Kind::kRemove:
        contents_->erase(operation.key);
        break;
      case WriteBatch::Kind::kRemoveRange:
        if (operation.key < operation.value) {
          contents_->erase(contents_->lower_bound(operation.key),
                           contents_->lower_bound(operation.value));
        }
        break;
    }
  }
  ++commits_;
  return {};
}

Result<std::unique_ptr<ReadView>> MemoryStore::read() {
  return std::unique_ptr<ReadView>(std::make_unique<View>(contents_));
}

uint64_t MemoryStore::size_bytes() {
  uint64_t bytes = 0;
  for (const auto& [key, value] : *contents_) {
    bytes += key.size() + value.size();
  }
  return bytes;
}

void MemoryStore::fail_next_commit(Status status) {
  TIDEMARK_CHECK(!status.ok(), "a failure to inject must be an error");
  next_failure_ = std::move(status);
}

void MemoryStore::crash() {
  next_failure_ = Status();
  commit_failure_ = Status();
}

void MemoryStore::erase() { contents_ = std::make_shared<Contents>(); }

}  // namespace tidemark::kv
