// Records what clients of a real broker ask and are told, for the history checker. The format is
// tests/checker/HISTORY.md.
//
// Times are of system_clock(), taken when a member is called: invoke() before the call that it
// speaks of, end() and observe() when the answer is there.
// Thread: any. One lock around everything; a line is written in one piece.
#pragma once

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

namespace tidemark::testing {

class History {
 public:
  // A field of a line: a number or a text.
  struct Field {
    Field(const char* field, std::string_view value) : name(field), text(value), is_text(true) {}

    Field(const char* field, const char* value) : Field(field, std::string_view(value)) {}

    Field(const char* field, const std::string& value) : Field(field, std::string_view(value)) {}

    Field(const char* field, int64_t value)
        : name(field), number(std::to_string(value)), is_text(false) {}

    Field(const char* field, uint64_t value)
        : name(field), number(std::to_string(value)), is_text(false) {}

    Field(const char* field, int value) : Field(field, int64_t{value}) {}

    Field(const char* field, uint32_t value) : Field(field, uint64_t{value}) {}

    const char* name;
    std::string_view text = {};
    std::string number = {};
    bool is_text;
  };

  using Fields = std::vector<Field>;

  // Creates the file; CHECKs that it could.
  explicit History(const std::string& path);
  // close().
  ~History();
  History(const History&) = delete;
  History& operator=(const History&) = delete;

  // Ids of operations, from 1 on; a process may as well have its own.
  uint64_t next_id() { return next_id_.fetch_add(1) + 1; }

  void invoke(std::string_view process, std::string_view op, uint64_t id, const Fields& fields);
  // `phase`: "ok", "fail", "info".
  void end(std::string_view process, std::string_view op, uint64_t id, std::string_view phase,
           const Fields& fields = {});
  void observe(std::string_view process, std::string_view op, const Fields& fields);

  // What was written so far is in the file.
  void flush();
  // Everything is in the file when it returns; CHECKs that it could be written. Idempotent.
  void close();

 private:
  void write(std::string_view process, std::string_view op, std::string_view phase, uint64_t id,
             const Fields& fields);

  std::atomic<uint64_t> next_id_{0};
  std::mutex mutex_;
  std::FILE* file_ = nullptr;
};

}  // namespace tidemark::testing
