// A history in memory: what was read from files of JSON lines, checked for form, and in the order
// of time. Whether what it tells is allowed is for the rules (checker.h).
//
// Memory: 48 bytes for an event and 8 for each of its fields, and each text once.
// Thread: one.
#pragma once

#include <cstdint>
#include <deque>
#include <istream>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "tests/checker/event.h"

namespace tidemark::checker {

// Number of an event in the order of time; of texts in the order of their first use.
using EventIndex = uint32_t;
using TextId = uint32_t;
inline constexpr EventIndex kNoEvent = UINT32_MAX;
inline constexpr TextId kNoText = UINT32_MAX;

struct Event {
  Op op = Op::kNote;
  Phase phase = Phase::kOk;
  uint16_t file = 0;
  uint32_t line = 0;
  FieldSet fields = 0;
  uint64_t values = 0;  // where its fields begin, in the order of Field
  int64_t t_ns = 0;
  EventIndex partner = kNoEvent;  // of an invocation its end, of an end its invocation
};

class History {
 public:
  static constexpr size_t kErrorsMax = 10;

  // Reads lines until the end of `in`; `name` is for messages. What is malformed is in errors().
  void read(std::istream& in, const std::string& name);
  // All files were read: sorts by time and joins invocations with their ends.
  void finish();

  // "file:line: what is wrong", at most kErrorsMax and then how many more.
  [[nodiscard]] const std::vector<std::string>& errors() const { return errors_; }

  // `event` tells what cannot be.
  void add_error(EventIndex event, const std::string& what);

  [[nodiscard]] size_t size() const { return events_.size(); }

  [[nodiscard]] const Event& at(EventIndex event) const { return events_[event]; }

  [[nodiscard]] bool has(EventIndex event, Field field) const {
    return (events_[event].fields & set_of(field)) != 0;
  }

  // Requires: it has the field.
  [[nodiscard]] int64_t number(EventIndex event, Field field) const;
  [[nodiscard]] std::optional<int64_t> find(EventIndex event, Field field) const;

  [[nodiscard]] uint64_t unsigned_of(EventIndex event, Field field) const {
    return static_cast<uint64_t>(number(event, field));
  }

  // kNoText if it does not have it.
  [[nodiscard]] TextId text_id(EventIndex event, Field field) const;
  // "" if it does not have it.
  [[nodiscard]] std::string_view text(EventIndex event, Field field) const;

  // A field of an operation, as its end tells it, else as its invocation does.
  [[nodiscard]] std::optional<int64_t> find_in_operation(EventIndex invoke, Field field) const;

  [[nodiscard]] std::string_view text_of(TextId id) const { return texts_[id]; }

  // How an invocation ended; kInfo if it did not.
  [[nodiscard]] Phase outcome(EventIndex invoke) const;
  // When; INT64_MAX unless it was ok or failed.
  [[nodiscard]] int64_t ended_ns(EventIndex invoke) const;

  // "file:line".
  [[nodiscard]] std::string place_of(EventIndex event) const;

  [[nodiscard]] const std::string& file_name(uint16_t file) const { return files_[file]; }

 private:
  class LineReader;

  void add_line(std::string_view text, uint32_t line);
  void add_error(uint16_t file, uint32_t line, const std::string& what);
  void join();
  void join_end(EventIndex end, EventIndex invoke);
  TextId intern(std::string_view text);

  std::vector<Event> events_;
  std::vector<int64_t> values_;
  std::deque<std::string> texts_;  // does not move what the index looks at
  std::unordered_map<std::string_view, TextId> text_ids_;
  std::vector<std::string> files_;
  std::vector<std::string> errors_;
  size_t error_count_ = 0;
};

}  // namespace tidemark::checker
