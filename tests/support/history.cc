#include "tests/support/history.h"

#include <nlohmann/json.hpp>

#include "log/base/check.h"
#include "log/base/clock.h"

namespace tidemark::testing {

namespace {

void append(std::string& line, const char* name, std::string_view text) {
  line += ",\"";
  line += name;
  line += "\":";
  line += nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace

History::History(const std::string& path) : file_(std::fopen(path.c_str(), "wex")) {
  TIDEMARK_CHECK(file_ != nullptr, path);
}

History::~History() { close(); }

void History::invoke(std::string_view process, std::string_view op, uint64_t id,
                     const Fields& fields) {
  write(process, op, "invoke", id, fields);
}

void History::end(std::string_view process, std::string_view op, uint64_t id,
                  std::string_view phase, const Fields& fields) {
  write(process, op, phase, id, fields);
}

void History::observe(std::string_view process, std::string_view op, const Fields& fields) {
  write(process, op, {}, 0, fields);
}

void History::write(std::string_view process, std::string_view op, std::string_view phase,
                    uint64_t id, const Fields& fields) {
  std::string line = "{\"t_ns\":" + std::to_string(system_clock().monotonic().ns);
  append(line, "proc", process);
  append(line, "op", op);
  if (!phase.empty()) {
    append(line, "phase", phase);
    line += ",\"id\":" + std::to_string(id);
  }
  for (const Field& field : fields) {
    if (field.is_text) {
      append(line, field.name, field.text);
    } else {
      line += ",\"" + std::string(field.name) + "\":" + field.number;
    }
  }
  line += "}\n";
  const std::lock_guard<std::mutex> lock(mutex_);
  TIDEMARK_CHECK(file_ != nullptr, "the history is closed");
  TIDEMARK_CHECK(std::fwrite(line.data(), 1, line.size(), file_) == line.size());
}

void History::flush() {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (file_ != nullptr) {
    TIDEMARK_CHECK(std::fflush(file_) == 0);
  }
}

void History::close() {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (file_ != nullptr) {
    TIDEMARK_CHECK(std::fclose(file_) == 0);
    file_ = nullptr;
  }
}

}  // namespace tidemark::testing
