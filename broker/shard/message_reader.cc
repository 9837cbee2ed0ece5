#include "broker/shard/message_reader.h"

#include <algorithm>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "log/format/reference_batch.h"

namespace tidemark::shard {

namespace {

// The batch that a reference stands for; the source is not told how many messages it has.
partition::BatchRef body_ref(const format::BatchReference& reference) {
  return {.base = Offset{0},
          .count = 0,
          .bytes = reference.bytes,
          .position = reference.position,
          .received_ms = 0};
}

Status unread_body(const format::BatchReference& reference, const Status& why) {
  return Status(why.code(),
                "message " + std::to_string(reference.record) + " of the batch at log position " +
                    std::to_string(reference.position.value()) + ": " + std::string(why.context()));
}

}  // namespace

struct MessageReader::Reading {
  std::vector<partition::BatchRef> refs;
  size_t bytes_max = 0;
  Done done;
  std::vector<std::optional<Result<SharedBytes>>> batches;  // as stored
  std::vector<Result<SharedBytes>> results;                 // the first ones, as readers get them
  size_t bytes = 0;                                         // of the results

  // The references that are being resolved: those of the batches from results.size() on.
  std::vector<std::optional<format::BatchReference>> references;  // none: the batch itself
  std::map<LogPosition, std::optional<Result<SharedBytes>>> bodies;

  void add(Result<SharedBytes> result) {
    bytes += result.ok() ? result->size() : 0;
    results.push_back(std::move(result));
  }

  [[nodiscard]] bool complete() const {
    return results.size() == refs.size() || (!results.empty() && bytes >= bytes_max);
  }
};

void MessageReader::read(std::vector<partition::BatchRef> refs, Done done) {
  read(std::move(refs), std::numeric_limits<size_t>::max(), std::move(done));
}

void MessageReader::read(std::vector<partition::BatchRef> refs, size_t bytes_max, Done done) {
  auto reading = std::make_unique<Reading>();
  reading->refs = std::move(refs);
  reading->bytes_max = bytes_max;
  reading->done = std::move(done);
  std::vector<partition::BatchRef> missing;
  for (const partition::BatchRef& ref : reading->refs) {
    std::optional<SharedBytes> cached = source_.cached(ref);
    if (cached.has_value()) {
      reading->batches.emplace_back(std::move(*cached));
    } else {
      reading->batches.emplace_back();
      missing.push_back(ref);
    }
  }
  if (missing.empty()) {
    return resolve(std::move(reading));
  }
  ++cold_reads_;
  source_.read(std::move(missing),
               [this, reading = std::move(reading)](std::vector<Result<SharedBytes>> read) mutable {
                 size_t next = 0;
                 for (std::optional<Result<SharedBytes>>& batch : reading->batches) {
                   if (!batch.has_value()) {
                     batch = std::move(read[next++]);
                   }
                 }
                 resolve(std::move(reading));
               });
}

// What is no reference goes straight to the results; from the first reference on, as many of them
// as one step's bodies allow.
void MessageReader::resolve(std::unique_ptr<Reading> reading) {
  while (!reading->complete()) {
    const Result<SharedBytes>& batch = *reading->batches[reading->results.size()];
    if (batch.ok() && format::is_reference(batch->view())) {
      return read_bodies(std::move(reading));
    }
    reading->add(batch);
  }
  reading->done(std::move(reading->results));
}

void MessageReader::read_bodies(std::unique_ptr<Reading> reading) {
  size_t body_bytes = 0;
  std::vector<partition::BatchRef> missing;
  reading->references.clear();
  reading->bodies.clear();
  for (size_t i = reading->results.size(); i < reading->refs.size(); ++i) {
    Result<SharedBytes>& batch = *reading->batches[i];
    std::optional<format::BatchReference>& reference = reading->references.emplace_back();
    if (!batch.ok() || !format::is_reference(batch->view())) {
      continue;
    }
    Result<format::BatchReference> read = format::read_reference(batch->view());
    if (!read.ok()) {
      batch = Status(ErrorCode::kCorrupted, "reference batch at log position " +
                                                std::to_string(reading->refs[i].position.value()) +
                                                ": " + std::string(read.error().context()));
      continue;
    }
    reference = std::move(*read);
    const auto [body, added] = reading->bodies.try_emplace(reference->position);
    if (!added) {
      continue;
    }
    if (body_bytes > 0 && body_bytes + reference->bytes > kBodyBytesPerStep) {
      reading->bodies.erase(body);
      reading->references.pop_back();  // its turn comes with the next step
      break;
    }
    body_bytes += reference->bytes;
    const partition::BatchRef ref = body_ref(*reference);
    if (std::optional<SharedBytes> cached = source_.cached(ref); cached.has_value()) {
      body->second = std::move(*cached);
    } else {
      missing.push_back(ref);
    }
  }
  if (missing.empty()) {
    return take_messages(std::move(reading));
  }
  ++cold_reads_;
  std::sort(missing.begin(), missing.end(),
            [](const auto& a, const auto& b) { return a.position < b.position; });
  std::vector<partition::BatchRef> asked = missing;
  source_.read(std::move(missing), [this, asked = std::move(asked), reading = std::move(reading)](
                                       std::vector<Result<SharedBytes>> read) mutable {
    for (size_t i = 0; i < asked.size(); ++i) {
      reading->bodies[asked[i].position] = std::move(read[i]);
    }
    take_messages(std::move(reading));
  });
}

void MessageReader::take_messages(std::unique_ptr<Reading> reading) {
  Reading& on_worker = *reading;
  source_.run(
      [&on_worker] {
        for (const auto& reference : on_worker.references) {
          const size_t i = on_worker.results.size();
          if (on_worker.complete()) {
            return;
          }
          if (!reference.has_value()) {
            on_worker.add(*on_worker.batches[i]);
            continue;
          }
          const Result<SharedBytes>& body = *on_worker.bodies[reference->position];
          if (!body.ok()) {
            on_worker.add(unread_body(*reference, body.error()));
            continue;
          }
          Result<Buffer> message = format::resolve_reference(*reference, body->view());
          on_worker.add(message.ok() ? Result<SharedBytes>(SharedBytes(std::move(*message)))
                                     : message.error());
        }
      },
      [this, reading = std::move(reading)]() mutable { resolve(std::move(reading)); });
}

}  // namespace tidemark::shard
