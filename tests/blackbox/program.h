// What the black-box programs have in common: their command line, their end, and one epoch: a
// history of its own, fresh topics, one verdict.
//
// Thread: of main(), where nothing else is said.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "tests/blackbox/workload.h"
#include "tests/support/history.h"

namespace tidemark::testing {

// "--name N" for each name, in any order. Values that are not given stay as they are.
// False: something else was written; says so.
bool parse_numbers(int argc, char** argv, std::map<std::string_view, uint64_t>& numbers);

// What a program would leave behind if it ended now; the disk itself and the daemon go with it.
struct Leavings {
  std::string mounted;  // on a folder below `folder`
  std::string folder;
  std::string group;  // of the daemon: a folder of control groups; "": none
};

// Removes them and ends the process at once, for a run that is given up: its load may wait for a
// broker that is gone and would be waited for. Thread: any.
[[noreturn]] void give_up(int exit_code, const Leavings& leavings);

// From now on Ctrl-C and SIGTERM are give_up(130). Call it once.
void give_up_when_interrupted(const Leavings& leavings);

// Programs that torture a broker have nothing else to wait for than time.
void wait_ms(int64_t ms);

// "", or the first of a program's troubles; later ones are not looked at.
class Trouble {
 public:
  // Returns whether all is well.
  bool check(bool good, std::string_view what) { return check(good ? "" : std::string(what)); }

  bool check(std::string wrong) {
    if (text_.empty()) {
      text_ = std::move(wrong);
    }
    return text_.empty();
  }

  [[nodiscard]] const std::string& text() const { return text_; }

 private:
  std::string text_;
};

class Epoch {
 public:
  // `options` as for the workload, but for the name. `folder` gets the history.
  Epoch(const client::Client& client, const BrokerClock& clock, const std::string& folder,
        uint64_t number, WorkloadOptions options);

  History& history() { return *history_; }

  Workload& workload() { return *workload_; }

  // Waits until all is quiet and asks the checker; "" if it accepted, and the history is removed.
  std::string judge();

  // Copies the history and what is below `data` to a folder, which it returns. `why`: what went
  // wrong.
  std::string keep(std::string_view program, const std::string& data, const std::string& why);

  // The checker's last line. After judge().
  [[nodiscard]] const std::string& summary() const { return summary_; }

 private:
  const uint64_t number_;
  const std::string path_;
  std::unique_ptr<History> history_;
  std::unique_ptr<Workload> workload_;
  std::string summary_;
};

// A client that finds the broker again soon.
client::Client eager_client(const std::string& address);

}  // namespace tidemark::testing
