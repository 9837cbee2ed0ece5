#include "tests/simulation/nemesis.h"

#include <memory>

namespace tidemark::sim {

namespace {

constexpr int64_t kMs = 1'000;  // in microseconds
constexpr int64_t kSlowness = 100;

}  // namespace

Nemesis::Nemesis(Scheduler& scheduler, SimNetwork& network, SimBroker& broker,
                 const Options& options)
    : scheduler_(scheduler),
      network_(network),
      broker_(broker),
      options_(options),
      random_(options.seed + 4) {}

void Nemesis::start() {
  broker_.set_mail_loss(options_.mail_loss_percent);
  every(options_.power_cut_ms, [this] { cut_power(); });
  every(options_.kill_ms, [this] { die(SimBroker::Death::kKill); });
  every(options_.clean_stop_ms, [this] { stop(); });
  every(options_.disk_full_ms, [this] { fill_disk(); });
  every(options_.sync_error_ms, [this] { fail(SimCall::kSync); });
  every(options_.write_error_ms, [this] { fail(SimCall::kWrite); });
  every(options_.checkpoint_error_ms, [this] {
    broker_.store(random_.below(options_.shards))
        .fail_next_commit(random_.chance(1, 2) ? Status(ErrorCode::kDiskFull, "injected")
                                               : Status(ErrorCode::kIoError, "injected"));
  });
  every(options_.checkpoint_loss_ms, [this] { die(SimBroker::Death::kKill, true); });
  every(options_.clock_step_ms, [this] {
    scheduler_.clock().step_wall_ms(static_cast<int64_t>(random_.below(200'000)) - 100'000);
  });
  every(options_.clock_jump_ms, [this] { jump_clock(); });
  every(options_.slow_disk_ms, [this] { slow_disk(); });
  every(options_.read_error_ms, [this] { fail(SimCall::kRead); });
  every(options_.read_flip_ms, [this] { flip_reads(); });
  every(options_.connection_reset_ms, [this] { network_.break_one(); });
}

void Nemesis::every(int64_t mean_ms, MoveOnlyFunction<void()> fault) {
  if (mean_ms == 0) {
    return;
  }

  struct Repeat {
    Nemesis& nemesis;
    int64_t mean_ms;
    std::shared_ptr<MoveOnlyFunction<void()>> fault;

    void again() const {
      nemesis.scheduler_.after_us(
          static_cast<int64_t>(nemesis.random_.below(static_cast<uint64_t>(2 * mean_ms))) * kMs,
          Repeat(*this));
    }

    void operator()() const {
      if (!nemesis.healed_) {
        ++nemesis.faults_;
        (*fault)();
        again();
      }
    }
  };

  Repeat{*this, mean_ms, std::make_shared<MoveOnlyFunction<void()>>(std::move(fault))}.again();
}

void Nemesis::die(SimBroker::Death how, bool lose_checkpoints) {
  if (healed_) {
    return;  // prepared before that
  }
  broker_.die(how);
  if (lose_checkpoints) {
    broker_.lose_checkpoints();
  }
  scheduler_.after_us(static_cast<int64_t>(random_.below(1'000)) * kMs, [this] {
    if (!healed_ && broker_.state() == SimBroker::State::kDown) {
      broker_.start();
    }
  });
}

// At once, or in the middle of one of the next jobs.
void Nemesis::cut_power() {
  if (random_.chance(1, 2) && broker_.state() == SimBroker::State::kRunning) {
    broker_.distrust_disk();
    broker_.disk().cut_power_at(random_.between(1, 12));
    scheduler_.after_us(static_cast<int64_t>(random_.below(100)) * kMs,
                        [this] { die(SimBroker::Death::kPowerCut); });
    return;
  }
  die(SimBroker::Death::kPowerCut);
}

void Nemesis::stop() {
  if (broker_.state() != SimBroker::State::kRunning) {
    return;
  }
  broker_.stop();

  struct Waiter {
    Nemesis& nemesis;

    void operator()() const {
      if (nemesis.healed_) {
        return;
      }
      if (nemesis.broker_.state() == SimBroker::State::kDown) {
        nemesis.broker_.start();
      } else if (nemesis.broker_.state() == SimBroker::State::kStopping) {
        nemesis.scheduler_.after_us(100 * kMs, Waiter(*this));
      }
    }
  };

  scheduler_.after_us(200 * kMs, Waiter{*this});
}

void Nemesis::fill_disk() {
  broker_.disk().set_capacity(broker_.disk().used_bytes() + random_.below(20'000));
  scheduler_.after_us(static_cast<int64_t>(random_.below(4'000)) * kMs,
                      [this] { broker_.disk().set_capacity(UINT64_MAX); });
}

// The shard concerned is read-only from then on, until the machine is restarted.
void Nemesis::fail(SimCall call) {
  if (broker_.state() != SimBroker::State::kRunning) {
    return;
  }
  broker_.distrust_disk();
  broker_.disk().fail_at(call, random_.between(1, 10), random_.chance(1, 3));
  scheduler_.after_us(static_cast<int64_t>(random_.below(3'000)) * kMs,
                      [this] { die(SimBroker::Death::kPowerCut); });
}

// Half a minute back, a day forward, or to and fro for a while.
void Nemesis::jump_clock() {
  switch (random_.below(3)) {
    case 0:
      return scheduler_.clock().step_wall_ms(-30'000);
    case 1:
      return scheduler_.clock().step_wall_ms(86'400'000);
    default:
      break;
  }
  const auto far_ms = static_cast<int64_t>(random_.between(1, 100'000));
  for (int64_t i = 0; i < 10; ++i) {
    scheduler_.after_us(i * 100 * kMs, [this, far_ms, back = i % 2 == 1] {
      scheduler_.clock().step_wall_ms(back ? -far_ms : far_ms);
    });
  }
}

void Nemesis::slow_disk() {
  broker_.set_disk_slowness(kSlowness);
  scheduler_.after_us(static_cast<int64_t>(random_.below(2'000)) * kMs,
                      [this] { broker_.set_disk_slowness(1); });
}

// What a broker that starts reads is spared: alone with its log it cannot tell a bit that a cable
// flipped at the tail from a write that the power cut tore.
void Nemesis::flip_reads() {
  if (broker_.state() != SimBroker::State::kRunning) {
    return;
  }
  broker_.disk().flip_reads(random_.between(1, 20));
  scheduler_.after_us(static_cast<int64_t>(random_.below(2'000)) * kMs,
                      [this] { broker_.disk().flip_reads(0); });
}

void Nemesis::heal() {
  healed_ = true;
  broker_.set_disk_slowness(1);
  broker_.set_mail_loss(0);
  broker_.disk().set_capacity(UINT64_MAX);
  broker_.die(SimBroker::Death::kPowerCut);
  broker_.start();
}

}  // namespace tidemark::sim
