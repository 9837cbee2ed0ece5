#include "tests/simulation/txn_fleet.h"

#include <algorithm>

namespace tidemark::sim {

TxnFleet::TxnFleet(Scheduler& scheduler, SimNetwork& network, Model& model, Directory& directory,
                   const Options& options, uint64_t seed)
    : scheduler_(scheduler),
      network_(network),
      model_(model),
      directory_(directory),
      options_(options),
      random_(seed) {
  for (uint32_t i = 0; i < options.txn_clients; ++i) {
    Seat seat;
    seat.identity.group = "group-" + std::to_string(i % options.txn_groups);
    // One in four has no name: nobody fences it.
    seat.identity.instance = random_.chance(1, 4) ? "" : "instance-" + std::to_string(i);
    seats_.push_back(std::move(seat));
  }
}

void TxnFleet::start() {
  for (Seat& seat : seats_) {
    spawn(seat);
  }
  if (!seats_.empty()) {
    schedule();
  }
}

void TxnFleet::spawn(Seat& seat) {
  processes_.push_back(std::make_unique<TxnClient>(scheduler_, network_, model_, directory_,
                                                   options_, random_.next(), seat.identity));
  seat.current = processes_.back().get();
  seat.current->start();
}

void TxnFleet::schedule() {
  const auto mean_us = static_cast<uint64_t>(options_.txn_process_ms) * 1'000;
  const auto wait_us = random_.below(2 * mean_us / options_.txn_clients) + 1;
  scheduler_.after_us(static_cast<int64_t>(wait_us), [this] {
    if (!finishing_) {
      change(seats_[random_.below(seats_.size())]);
      schedule();
    }
  });
}

void TxnFleet::change(Seat& seat) {
  if (seat.zombie != nullptr) {
    seat.zombie->die();
    seat.zombie = nullptr;
    return;
  }
  if (seat.current == nullptr) {
    return spawn(seat);
  }
  switch (random_.below(3)) {
    case 0:  // nobody for a while
      seat.current->die();
      seat.current = nullptr;
      return;
    case 1:
      seat.current->die();
      return spawn(seat);
    default:
      seat.zombie = seat.current;
      return spawn(seat);
  }
}

void TxnFleet::finish() {
  finishing_ = true;
  for (Seat& seat : seats_) {
    if (seat.zombie != nullptr) {
      seat.zombie->die();
      seat.zombie = nullptr;
    }
    if (seat.current == nullptr) {
      spawn(seat);
    }
    seat.current->finish();
  }
}

void TxnFleet::set_silent(bool silent) {
  for (const Seat& seat : seats_) {
    seat.current->set_silent(silent);
  }
}

bool TxnFleet::idle() const {
  return std::all_of(processes_.begin(), processes_.end(),
                     [](const auto& process) { return process->idle(); });
}

std::string TxnFleet::describe() const {
  std::string text;
  for (const auto& process : processes_) {
    text += process->idle() ? "" : "; " + process->describe();
  }
  return text;
}

}  // namespace tidemark::sim
