#include "tests/simulation/queue_fleet.h"

namespace tidemark::sim {

namespace {

constexpr uint64_t kChangeUsMax = 3'000'000;

}  // namespace

QueueFleet::QueueFleet(Scheduler& scheduler, SimNetwork& network, Model& model,
                       Directory& directory, const Options& options, uint64_t seed)
    : scheduler_(scheduler),
      network_(network),
      model_(model),
      directory_(directory),
      options_(options),
      random_(seed) {
  for (uint32_t i = 0; i < options.queue_groups * options.queue_consumers; ++i) {
    seats_.push_back({queue_group_name(i / options.queue_consumers), nullptr});
  }
}

void QueueFleet::start() {
  for (Seat& seat : seats_) {
    spawn(seat);
  }
  if (!seats_.empty()) {
    schedule();
  }
}

void QueueFleet::spawn(Seat& seat) {
  processes_.push_back(std::make_unique<QueueWorker>(scheduler_, network_, model_, directory_,
                                                     options_, random_.next(), seat.group));
  seat.current = processes_.back().get();
  seat.current->start();
  if (finishing_) {
    seat.current->finish();
  }
}

void QueueFleet::schedule() {
  scheduler_.after_us(static_cast<int64_t>(random_.below(kChangeUsMax)), [this] {
    if (finishing_) {
      return;
    }
    Seat& seat = seats_[random_.below(seats_.size())];
    if (seat.current == nullptr) {
      spawn(seat);
    } else {
      seat.current->die();
      seat.current = nullptr;
      if (random_.chance(2, 3)) {
        spawn(seat);
      }
    }
    schedule();
  });
}

void QueueFleet::finish() {
  finishing_ = true;
  for (Seat& seat : seats_) {
    if (seat.current == nullptr) {
      spawn(seat);
    }
    seat.current->finish();
  }
}

void QueueFleet::stop() {
  for (const auto& process : processes_) {
    process->die();
  }
}

std::string QueueFleet::describe() const {
  std::string text;
  for (const auto& process : processes_) {
    text += process->dead() ? "" : "; " + process->describe();
  }
  return text;
}

}  // namespace tidemark::sim
