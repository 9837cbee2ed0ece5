// Standard output and error of a command: data on one, everything else on the other.
//
// Thread: one, except note() and warn(), which may be called from any.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace tidemark::tools {

// Bytes for standard output, gathered into large writes. Throws OutputClosed when the reader has
// gone and CommandError on any other failure. The destructor does not write: call flush() at the
// end.
class OutputBuffer {
 public:
  explicit OutputBuffer(int descriptor = 1);

  // Where to append; call commit() after each piece.
  std::string& text() { return text_; }

  // Writes if enough has gathered.
  void commit() {
    if (text_.size() >= kWriteBytes) {
      flush();
    }
  }

  void flush();

  [[nodiscard]] bool empty() const { return text_.empty(); }

  [[nodiscard]] uint64_t bytes_written() const { return bytes_written_; }

 private:
  static constexpr size_t kWriteBytes = size_t{256} * 1024;

  int descriptor_;
  std::string text_;
  uint64_t bytes_written_ = 0;
};

// Writes all of `text` to standard output now.
void print(std::string_view text);
// One line on standard error: for people, never data. Nothing when --quiet.
void note(std::string_view line);
void set_quiet(bool quiet);
// True if `descriptor` is a terminal on which text can be drawn over.
bool can_redraw(int descriptor);

// A table for people: a heading, then rows; numbers to the right.
class Table {
 public:
  enum class Align { kLeft, kRight };

  struct Column {
    std::string name;
    Align align = Align::kLeft;
  };

  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}

  // As many cells as columns.
  void add(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }

  [[nodiscard]] std::string to_string() const;

 private:
  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace tidemark::tools
