// torture: the real broker and its clients under everything that may happen to it, by chance.
//
//   torture --minutes 10 --seed 1         torture --minutes 0 --kills 300
//
// Ends with the time or after so many kills, whichever comes first; 0: does not end it. After each
// epoch all is well for a while, everything is read, and the checker judges what the clients were
// told. Exit code 0: it accepted everything, or this cannot be done here ("[skipped]"); 1: it did
// not; 2: wrong call; 130: interrupted.
#include <cstdio>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include <fmt/format.h>

#include "log/base/clock.h"
#include "log/base/random.h"
#include "tests/blackbox/nemesis.h"
#include "tests/blackbox/program.h"
#include "tests/support/loop_disk.h"
#include "tests/support/run_command.h"
#include "tests/support/skip.h"
#include "tests/support/temp_directory.h"

namespace tidemark::testing {

namespace {

constexpr uint64_t kDiskBytes = uint64_t{256} << 20;
constexpr int64_t kProgressMs = 60'000;  // for acknowledgements after each fault
constexpr int64_t kMsPerMinute = 60'000;

struct Limits {
  int64_t ms = 0;
  uint64_t kills = 0;
  int64_t epoch_ms = 0;
  int64_t pause_ms = 0;
};

class Torture {
 public:
  Torture(std::unique_ptr<LoopDisk> disk, std::string folder, Limits limits, uint64_t seed)
      : folder_(std::move(folder)),
        disk_(std::move(disk)),
        limits_(limits),
        seed_(seed),
        random_(seed),
        nemesis_(*disk_, folder_, clock_, limits.pause_ms, random_.next()),
        begun_ns_(system_clock().monotonic().ns) {}

  // "", or what went wrong.
  std::string run();

  [[nodiscard]] const std::string& group() const { return nemesis_.group(); }

  [[nodiscard]] std::string report() const {
    return fmt::format(
        "torture: seed {}: {} kills ({}), {} messages acknowledged, {} unknown outcomes; {}", seed_,
        nemesis_.kills(), nemesis_.counts(), acknowledged_, unknown_, nemesis_.remarks());
  }

 private:
  void strike_for_an_epoch();
  std::string verify();

  [[nodiscard]] int64_t gone_ms() const {
    return (system_clock().monotonic().ns - begun_ns_) / 1'000'000;
  }

  [[nodiscard]] bool over() const {
    return !trouble_.text().empty() || (limits_.ms > 0 && gone_ms() >= limits_.ms) ||
           (limits_.kills > 0 && nemesis_.kills() >= limits_.kills);
  }

  const std::string folder_;
  std::unique_ptr<LoopDisk> disk_;
  const Limits limits_;
  const uint64_t seed_;
  Random random_;
  BrokerClock clock_;
  Nemesis nemesis_;
  const int64_t begun_ns_;
  std::unique_ptr<Epoch> epoch_;
  Trouble trouble_;
  uint64_t acknowledged_ = 0;
  uint64_t unknown_ = 0;
};

void Torture::strike_for_an_epoch() {
  const int64_t until_ms = gone_ms() + limits_.epoch_ms;
  while (!over() && gone_ms() < until_ms) {
    const uint64_t acknowledged = epoch_->workload().acknowledged();
    if (!trouble_.check(epoch_->workload().wait_for_acknowledged(
                            acknowledged + random_.between(1, 600), kProgressMs),
                        "nothing was acknowledged for a minute")) {
      return;
    }
    wait_ms(static_cast<int64_t>(random_.below(30)));
    trouble_.check(nemesis_.strike(epoch_->history()));
  }
}

std::string Torture::run() {
  if (!trouble_.check(nemesis_.start())) {
    return trouble_.text();
  }
  const client::Client client = eager_client(nemesis_.daemon().address());
  uint64_t next_uid = 1;
  for (uint64_t number = 1; !over(); ++number) {
    WorkloadOptions options;
    options.seed = random_.next();
    options.first_uid = next_uid;
    epoch_ = std::make_unique<Epoch>(client, clock_, folder_, number, options);
    trouble_.check(epoch_->workload().start());
    strike_for_an_epoch();
    trouble_.check(trouble_.text().empty() ? epoch_->judge() : "");
    acknowledged_ += epoch_->workload().acknowledged();
    unknown_ += epoch_->workload().unknown();
    if (!trouble_.text().empty()) {
      return trouble_.text() + "\nkept in " +
             epoch_->keep(fmt::format("torture-seed{}", seed_), nemesis_.daemon().data_dir(),
                          trouble_.text());
    }
    next_uid = epoch_->workload().next_uid();
    fmt::print("torture: {:.0f} s, {} kills, {} acknowledged; the checker: {}\n",
               static_cast<double>(gone_ms()) / 1e3, nemesis_.kills(), acknowledged_,
               epoch_->summary());
    (void)std::fflush(stdout);
  }
  epoch_.reset();
  return verify();
}

std::string Torture::verify() {
  if (std::string wrong = nemesis_.stop(); !wrong.empty()) {
    return wrong;
  }
  const CommandResult verify = run_command(
      {required_environment("TIDEMARK_CLI"), "log", "verify", nemesis_.daemon().data_dir()});
  return verify.exit_code == 0 ? "" : verify.output + verify.errors;
}

int run(const Limits& limits, uint64_t seed) {
  const TempDirectory folder;
  std::string why = "mounts of its own need root";
  auto disk = enter_private_mounts() ? LoopDisk::create(folder / "disk", kDiskBytes, why) : nullptr;
  if (disk == nullptr) {
    skip_test("torture: " + why);
    return 0;
  }
  Leavings leavings = {disk->path(), folder.path(), ""};
  auto torture = std::make_unique<Torture>(std::move(disk), folder.path(), limits, seed);
  leavings.group = torture->group();
  give_up_when_interrupted(leavings);
  const std::string wrong = torture->run();
  fmt::print("{}\n", torture->report());
  if (!wrong.empty()) {
    fmt::print("torture: FAILED: {}\n", wrong);
    (void)torture.release();
    give_up(1, leavings);
  }
  fmt::print("torture: accepted\n");
  return 0;
}

}  // namespace

}  // namespace tidemark::testing

int main(int argc, char** argv) {
  std::map<std::string_view, uint64_t> numbers = {
      {"minutes", 1}, {"kills", 0}, {"seed", 1}, {"epoch-s", 60}, {"pause-ms", 10'000}};
  if (!tidemark::testing::parse_numbers(argc, argv, numbers)) {
    return 2;
  }
  tidemark::testing::Limits limits;
  limits.ms = static_cast<int64_t>(numbers["minutes"]) * tidemark::testing::kMsPerMinute;
  limits.kills = numbers["kills"];
  limits.epoch_ms = static_cast<int64_t>(numbers["epoch-s"]) * 1'000;
  limits.pause_ms = static_cast<int64_t>(numbers["pause-ms"]);
  return tidemark::testing::run(limits, numbers["seed"]);
}
