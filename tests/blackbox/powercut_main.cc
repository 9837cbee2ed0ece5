// powercut: the real broker on a disk that loses its power, again and again.
//
//   powercut --rounds 300 --seed 1
//   powercut --rounds 3 --fsync-late 1      the broker says "stored" 300 ms too early: this has to
//   be refused
//
// A round: some load, the cut of a loop-mounted ext4 at a random moment (the shutdown ioctl: what
// was not synced is gone), kill -9, a mount that recovers the journal, a start, and the same
// clients go on. After each epoch of rounds the checker judges all that they were told. Exit code
// 0: it accepted everything, or this cannot be done here ("[skipped]"); 1: it did not; 2: wrong
// call; 130: interrupted.
#include <signal.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>
#include <utility>

#include <fmt/format.h>

#include "log/base/clock.h"
#include "log/base/random.h"
#include "tests/blackbox/program.h"
#include "tests/support/daemon_process.h"
#include "tests/support/loop_disk.h"
#include "tests/support/run_command.h"
#include "tests/support/skip.h"
#include "tests/support/temp_directory.h"

namespace tidemark::testing {

namespace {

constexpr uint64_t kDiskBytes = uint64_t{512} << 20;
constexpr uint64_t kRoundsPerEpoch = 50;
// For acknowledgements after a start. A broker that lost what it had said keeps nobody for long.
constexpr int64_t kProgressMs = 60'000;
constexpr int64_t kLostProgressMs = 3'000;

// What is done besides cutting the power while clients work; each counted for the report.
struct Counts {
  uint64_t cuts = 0;
  uint64_t in_start = 0;  // while the broker started
  uint64_t in_stop = 0;   // while it stopped in order
  uint64_t in_flight = 0;
  uint64_t acknowledged = 0;
  uint64_t unknown = 0;
};

class PowerCuts {
 public:
  // `folder` gets the histories.
  PowerCuts(std::unique_ptr<LoopDisk> disk, std::string folder, uint64_t seed, bool fsync_late)
      : folder_(std::move(folder)),
        disk_(std::move(disk)),
        daemon_(disk_->path() + "/data",
                {"--shards", "2", "--segment-bytes", "4MiB", "--checkpoint-bytes", "1MiB",
                 "--fsync", fsync_late ? "interval:300" : "batch"}),
        random_(seed),
        seed_(seed),
        kept_(!fsync_late) {}

  // "", or what went wrong.
  std::string run(uint64_t rounds);

  [[nodiscard]] const Counts& counts() const { return counts_; }

 private:
  void round();
  void cut(uint64_t& how);
  std::string verify();

  const std::string folder_;
  std::unique_ptr<LoopDisk> disk_;
  DaemonProcess daemon_;
  Random random_;
  const uint64_t seed_;
  const bool kept_;  // what is refused, for somebody to look at
  BrokerClock clock_;
  std::unique_ptr<Epoch> epoch_;
  Trouble trouble_;
  Counts counts_;
};

// Power off, and nobody is left who uses the disk.
void PowerCuts::cut(uint64_t& how) {
  if (random_.chance(1, 3)) {
    disk_->write_back_some(daemon_.data_dir(), random_);
  }
  // Nobody runs any more when the disk is gone. A broker that goes on must not be believed: a sync
  // that is under way when ext4 is shut down may tell success, with its blocks still marked as
  // unwritten.
  if (daemon_.running()) {
    daemon_.send_signal(SIGSTOP);
  }
  const bool flushed = random_.chance(1, 4);
  trouble_.check(disk_->cut_power(flushed ? LoopDisk::Cut::kLogFlushed : LoopDisk::Cut::kLogLost),
                 "the file system cannot be shut down");
  daemon_.kill();
  trouble_.check(disk_->remount(), "the disk cannot be mounted again");
  ++counts_.cuts;
  ++how;
}

void PowerCuts::round() {
  const uint64_t acknowledged = epoch_->workload().acknowledged();
  if (!trouble_.check(
          epoch_->workload().wait_for_acknowledged(acknowledged + random_.between(1, 600),
                                                   kept_ ? kProgressMs : kLostProgressMs),
          "nothing is acknowledged any more")) {
    return;
  }
  wait_ms(static_cast<int64_t>(random_.below(30)));
  const uint64_t id = epoch_->history().next_id();
  epoch_->history().invoke("nemesis", "fault", id, {{"kind", "powercut"}});
  uint64_t while_serving = 0;
  if (random_.chance(1, 8)) {  // in the middle of an ordered stop
    daemon_.send_signal(SIGTERM);
    (void)daemon_.wait_exit(static_cast<int>(random_.below(60)));
    cut(counts_.in_stop);
  } else {
    counts_.in_flight += epoch_->workload().in_flight();
    cut(while_serving);
  }
  while (trouble_.text().empty() && random_.chance(1, 6)) {  // in the middle of the recovery
    daemon_.launch();
    if (daemon_.wait_exit(static_cast<int>(random_.below(60))).has_value()) {
      trouble_.check("the broker does not start: " + daemon_.errors());
    }
    cut(counts_.in_start);
  }
  if (trouble_.text().empty()) {
    trouble_.check(daemon_.start() ? "" : "the broker does not start: " + daemon_.errors());
  }
  epoch_->history().end("nemesis", "fault", id, "ok");
}

std::string PowerCuts::run(uint64_t rounds) {
  if (!trouble_.check(daemon_.start() ? "" : "the broker does not start: " + daemon_.errors())) {
    return trouble_.text();
  }
  const client::Client client = eager_client(daemon_.address());
  const int64_t begun_ns = system_clock().monotonic().ns;
  uint64_t next_uid = 1;
  for (uint64_t done = 0; done < rounds;) {
    WorkloadOptions options;
    options.seed = random_.next();
    options.first_uid = next_uid;
    epoch_ = std::make_unique<Epoch>(client, clock_, folder_, done / kRoundsPerEpoch + 1, options);
    trouble_.check(epoch_->workload().start());
    const uint64_t until = std::min(rounds, done + kRoundsPerEpoch);
    for (; done < until && trouble_.text().empty(); ++done) {
      round();
    }
    trouble_.check(trouble_.text().empty() ? epoch_->judge() : "");
    counts_.acknowledged += epoch_->workload().acknowledged();
    counts_.unknown += epoch_->workload().unknown();
    if (!trouble_.text().empty()) {
      return !kept_ ? trouble_.text()
                    : trouble_.text() + "\nkept in " +
                          epoch_->keep(fmt::format("powercut-seed{}", seed_), daemon_.data_dir(),
                                       trouble_.text());
    }
    next_uid = epoch_->workload().next_uid();
    fmt::print("powercut: {} rounds, {:.0f} s, {} acknowledged; the checker: {}\n", done,
               static_cast<double>(system_clock().monotonic().ns - begun_ns) / 1e9,
               counts_.acknowledged, epoch_->summary());
    (void)std::fflush(stdout);
  }
  epoch_.reset();
  return verify();
}

std::string PowerCuts::verify() {
  if (daemon_.terminate() != 0) {
    return "the broker did not stop in order: " + daemon_.errors();
  }
  const CommandResult verify =
      run_command({required_environment("TIDEMARK_CLI"), "log", "verify", daemon_.data_dir()});
  return verify.exit_code == 0 ? "" : verify.output + verify.errors;
}

int run(uint64_t rounds, uint64_t seed, bool fsync_late) {
  const TempDirectory folder;
  std::string why = "mounts of its own need root";
  auto disk = enter_private_mounts() ? LoopDisk::create(folder / "disk", kDiskBytes, why) : nullptr;
  if (disk == nullptr) {
    skip_test("power cuts: " + why);
    return 0;
  }
  const Leavings leavings = {disk->path(), folder.path(), ""};
  give_up_when_interrupted(leavings);
  auto cuts = std::make_unique<PowerCuts>(std::move(disk), folder.path(), seed, fsync_late);
  const std::string wrong = cuts->run(rounds);
  const Counts& counts = cuts->counts();
  fmt::print(
      "powercut: seed {}: {} cuts ({} while starting, {} while stopping), {} messages "
      "acknowledged, {} in flight when the power went, {} unknown outcomes\n",
      seed, counts.cuts, counts.in_start, counts.in_stop, counts.acknowledged, counts.in_flight,
      counts.unknown);
  if (!wrong.empty()) {
    fmt::print("powercut: FAILED: {}\n", wrong);
    (void)cuts.release();
    give_up(1, leavings);
  }
  fmt::print("powercut: accepted, nothing that was acknowledged is missing\n");
  return 0;
}

}  // namespace

}  // namespace tidemark::testing

int main(int argc, char** argv) {
  std::map<std::string_view, uint64_t> numbers = {{"rounds", 300}, {"seed", 1}, {"fsync-late", 0}};
  if (!tidemark::testing::parse_numbers(argc, argv, numbers)) {
    return 2;
  }
  return tidemark::testing::run(numbers["rounds"], numbers["seed"], numbers["fsync-late"] != 0);
}
