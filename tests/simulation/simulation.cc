#include "tests/simulation/simulation.h"

#include <algorithm>

namespace tidemark::sim {

namespace {

constexpr int64_t kFinishMsMax = 120'000;  // of simulated time, once everything is healed
constexpr int64_t kDrainMsMax = 600'000;
constexpr int64_t kWatchMs = 2'000;
constexpr int64_t kSilenceMs = 3'000;
constexpr int64_t kPollGapMs = 2'000;  // until a producer waits, once it has got an answer
constexpr int64_t kSettleMsMax = 900'000;
constexpr int64_t kLookMs = 300;
constexpr int64_t kCatchUpMsMax = 60'000;
constexpr int64_t kLeapMs = int64_t{100} * 86'400'000;

}  // namespace

Simulation::Simulation(const Options& options)
    : options_(options),
      model_(options.seed, {options.txn_pending_age_ms, options.txn_outcome_age_ms},
             options.queue_max_deliveries, options.reads_fail()),
      network_(scheduler_, options.seed + 1, options.network_delay_us_max),
      broker_(scheduler_, network_, model_, options_),
      nemesis_(scheduler_, network_, broker_, options_),
      admin_(scheduler_, network_, model_, directory_, options_, options.seed + 5),
      fleet_(scheduler_, network_, model_, directory_, options_, options.seed + 400),
      operator_(scheduler_, network_, model_, directory_, options_, options.seed + 9),
      txn_auditor_(scheduler_, network_, model_, directory_, options_, options.seed + 10),
      group_fleet_(scheduler_, network_, model_, directory_, options_, options.seed + 500),
      group_operator_(scheduler_, network_, model_, directory_, options_, options.seed + 12),
      group_auditor_(scheduler_, network_, model_, directory_, options_, options.seed + 13),
      queue_fleet_(scheduler_, network_, model_, directory_, options_, options.seed + 600),
      queue_auditor_(scheduler_, network_, model_, directory_, options_, options.seed + 14),
      dead_letter_reader_(scheduler_, network_, model_, directory_, options_, options.seed + 15),
      watcher_(scheduler_, network_, model_, directory_, options_, options.seed + 7),
      auditor_(scheduler_, network_, model_, directory_, options_, options.seed + 8),
      drainer_(scheduler_, network_, model_, directory_, options_, options.seed + 6),
      features_(scheduler_, network_, model_, options_) {
  network_.attach(broker_);
  for (uint32_t i = 0; i < options.producers; ++i) {
    producers_.push_back(std::make_unique<Producer>(scheduler_, network_, model_, directory_,
                                                    options_, options.seed + 100 + i));
  }
  for (uint32_t i = 0; i < options.consumers; ++i) {
    consumers_.push_back(std::make_unique<Consumer>(scheduler_, network_, model_, directory_,
                                                    options_, options.seed + 200 + i));
  }
  for (uint32_t i = 0; i < options.delay_clients; ++i) {
    delay_clients_.push_back(std::make_unique<DelayClient>(scheduler_, network_, model_, directory_,
                                                           options_, options.seed + 300 + i));
  }
}

void Simulation::run() {
  start_clients();
  run_until_ms(started_ms_ + options_.chaos_ms);
  nemesis_.heal();
  group_operator_.finish();
  group_fleet_.finish();
  queue_fleet_.finish();
  if (options_.has_delays()) {
    for (const auto& client : delay_clients_) {
      client->be_gentle();
    }
    operator_.finish();
    fleet_.finish();
    run_until_ms(scheduler_.now_ms() + options_.lateness_ms_max());
    watcher_.start();
    run_until_ms(scheduler_.now_ms() + kWatchMs);
  }
  finish_clients();
  catch_up();
  if (options_.txn_clients > 0) {
    settle_transactions();
  }
  if (options_.has_delays()) {
    audit();
    watcher_.finish();
    restart();
    audit();
    leap();
    audit();
  } else {
    restart();
  }
  if (options_.txn_clients > 0) {
    look_at_transactions();
    check_left(txn_auditor_.sight(), parked_);
  }
  catch_up();
  group_fleet_.stop();
  queue_fleet_.stop();
  check_delivered();
  check_queues();
  verify_features();
  drain();
  model_.txns().check_end(parked_);
}

void Simulation::start_clients() {
  started_ms_ = scheduler_.now_ms();
  broker_.start();
  admin_.start();
  features_.start();
  for (const auto& consumer : consumers_) {
    consumer->start();
  }
  if (options_.has_others()) {
    start_senders();
  }
  if (options_.txn_clients > 0 && options_.txn_operator) {
    operator_.start();
  }
  group_fleet_.start();
  queue_fleet_.start();
  if (options_.groups > 0 && options_.group_operator) {
    group_operator_.start();
  }
  nemesis_.start();
}

void Simulation::start_senders() {
  for (const auto& producer : producers_) {
    producer->start();
  }
  for (const auto& client : delay_clients_) {
    client->start();
  }
  fleet_.start();
}

void Simulation::look_at_transactions() {
  txn_auditor_.look();
  run_until("the look at transactions", kDrainMsMax, [this] { return txn_auditor_.idle(); });
}

void Simulation::until_settled() {
  const int64_t end_ms = scheduler_.now_ms() + kSettleMsMax;
  TxnDeadlines deadlines(kPollGapMs + options_.lateness_ms_max());
  look_at_transactions();
  while (!txn_auditor_.sight().settled(model_.txns())) {
    deadlines.check(txn_auditor_.sight());
    run_until_ms(scheduler_.now_ms() + kLookMs);
    look_at_transactions();
    if (scheduler_.now_ms() >= end_ms) {
      throw NoProgress("transactions do not end; " + txn_auditor_.describe());
    }
  }
}

void Simulation::settle_transactions() {
  fleet_.set_silent(true);
  run_until_ms(scheduler_.now_ms() + TxnClient::kPollMsMax + options_.lateness_ms_max());
  look_at_transactions();
  const TxnSight silent = txn_auditor_.sight();
  run_until_ms(scheduler_.now_ms() + kSilenceMs);
  look_at_transactions();
  check_nothing_counted(silent, txn_auditor_.sight());
  fleet_.set_silent(false);
  until_settled();
  txn_auditor_.treat_parked();
  run_until("the operator", kDrainMsMax, [this] { return txn_auditor_.idle(); });
  until_settled();
  txn_auditor_.ask_unknown();
  run_until("the last questions", kDrainMsMax, [this] { return txn_auditor_.idle(); });
  check_conserved(silent, txn_auditor_.sight(), model_.txns(), scheduler_.now_ns());
  parked_ = txn_auditor_.sight().parked();
  fleet_.set_silent(true);
}

void Simulation::restart() {
  broker_.die(SimBroker::Death::kPowerCut);
  broker_.start();
}

void Simulation::audit() {
  run_until_ms(scheduler_.now_ms() + options_.lateness_ms_max());
  auditor_.start();
  run_until("the audit", kDrainMsMax, [this] { return auditor_.idle(); });
}

void Simulation::leap() {
  scheduler_.clock().step_wall_ms(kLeapMs);
  restart();
}

void Simulation::run_until_ms(int64_t ms) {
  while (scheduler_.now_ms() < ms && scheduler_.run_one()) {
  }
}

template <typename Done>
void Simulation::run_until(const char* what, int64_t ms_max, Done done) {
  const int64_t end_ms = scheduler_.now_ms() + ms_max;
  while (!done()) {
    if (scheduler_.now_ms() < end_ms && scheduler_.run_one()) {
      continue;
    }
    std::string waiting = std::string(what) + " is not over after " + std::to_string(ms_max) +
                          " ms; " + admin_.describe() + "; " + drainer_.describe() + ";" +
                          broker_.describe();
    for (const auto& producer : producers_) {
      waiting += producer->idle() ? "" : "; " + producer->describe();
    }
    for (const auto& client : delay_clients_) {
      waiting += client->idle() ? "" : "; " + client->describe();
    }
    waiting += features_.describe() + fleet_.describe() + "; " + txn_auditor_.describe();
    throw NoProgress(waiting);
  }
}

void Simulation::finish_clients() {
  admin_.finish();
  features_.finish();
  for (const auto& producer : producers_) {
    producer->finish();
  }
  for (const auto& client : delay_clients_) {
    client->finish();
  }
  const auto idle = [](const auto& client) { return client->idle(); };
  run_until("the work", kFinishMsMax, [&] {
    return broker_.healthy() && admin_.idle() && features_.idle() && fleet_.idle() &&
           operator_.idle() && std::all_of(producers_.begin(), producers_.end(), idle) &&
           std::all_of(delay_clients_.begin(), delay_clients_.end(), idle);
  });
  for (const auto& consumer : consumers_) {
    consumer->finish();
  }
}

void Simulation::catch_up() {
  if (options_.groups > 0) {
    catch_up_groups();
  }
  if (options_.queue_groups > 0) {
    catch_up_queues();
  }
}

void Simulation::catch_up_groups() {
  const int64_t began_ms = scheduler_.now_ms();
  group_auditor_.begin();
  const auto look = [this] {
    group_auditor_.look();
    run_until("the look at groups", kDrainMsMax, [this] { return group_auditor_.idle(); });
  };
  for (look(); group_auditor_.lag() > 0 || !group_fleet_.not_shared().empty(); look()) {
    if (scheduler_.now_ms() - began_ms > kCatchUpMsMax) {
      throw NoProgress("I10: groups do not catch up: " + group_fleet_.not_shared() + "; " +
                       group_auditor_.describe() + group_fleet_.describe());
    }
    run_until_ms(scheduler_.now_ms() + kLookMs);
  }
  caught_up_ms_max_ = std::max(caught_up_ms_max_, scheduler_.now_ms() - began_ms);
}

void Simulation::catch_up_queues() {
  const int64_t began_ms = scheduler_.now_ms();
  queue_auditor_.begin();
  const auto look = [this] {
    queue_auditor_.look();
    run_until("the look at queues", kDrainMsMax, [this] { return queue_auditor_.idle(); });
  };
  for (look(); queue_auditor_.unsettled() > 0; look()) {
    if (scheduler_.now_ms() - began_ms > kCatchUpMsMax) {
      throw NoProgress("I20: queues are not settled: " + queue_auditor_.describe() +
                       queue_fleet_.describe());
    }
    run_until_ms(scheduler_.now_ms() + kLookMs);
  }
}

void Simulation::check_queues() {
  if (options_.queue_groups == 0) {
    return;
  }
  dead_letter_reader_.start();
  run_until("the dead letters", kDrainMsMax, [this] { return dead_letter_reader_.idle(); });
  model_.queues().check();
  for (const auto& [name, floor] : queue_auditor_.floors()) {
    model_.queues().check_settled(name, floor, directory_.find(name.partition.topic)->retention);
  }
}

void Simulation::check_delivered() {
  GroupModel& groups = model_.groups();
  groups.check();
  for (const auto& [name, range] : group_auditor_.ranges()) {
    groups.check_delivered(name, range.start, range.end);
  }
}

void Simulation::verify_features() {
  features_.verify();
  run_until("the last look at features", kDrainMsMax, [this] { return features_.verified(); });
  features_.check();
}

void Simulation::drain() {
  drainer_.start();
  run_until("the drain", kDrainMsMax, [this] { return drainer_.idle(); });
}

std::string Simulation::delay_summary() const {
  const DelayModel::Counters& delays = model_.delays().counters();
  return " delays=" + std::to_string(delays.sent) + "/" + std::to_string(delays.accepted) +
         " key_taken=" + std::to_string(delays.key_taken) + " seen=" + std::to_string(delays.seen) +
         " cancelled=" + std::to_string(delays.cancelled) +
         " rescheduled=" + std::to_string(delays.rescheduled) +
         " already=" + std::to_string(delays.already_delivered) +
         " not_found=" + std::to_string(delays.not_found) +
         " fired=" + std::to_string(broker_.counters().delays_fired) +
         " lateness=" + std::to_string(watcher_.lateness_ms_max()) + "/" +
         std::to_string(watcher_.judged()) + " pending=" + std::to_string(auditor_.pending());
}

std::string Simulation::txn_summary() const {
  const TxnModel::Counters& txns = model_.txns().counters();
  return " txns=" + std::to_string(model_.txns().count()) + "/" +
         std::to_string(fleet_.processes()) + " parts=" + std::to_string(txns.parts_stored) +
         " committed=" + std::to_string(txns.committed) +
         " rolled_back=" + std::to_string(txns.rolled_back) +
         " by_check=" + std::to_string(txns.by_check) +
         " by_operator=" + std::to_string(txns.by_operator) +
         " conflicts=" + std::to_string(txns.conflicts) + " fenced=" + std::to_string(txns.fenced) +
         " checks=" + std::to_string(txns.checks) + " rechecks=" + std::to_string(txns.rechecks) +
         " forgotten=" + std::to_string(txns.forgotten) +
         " parked=" + std::to_string(parked_.size());
}

std::string Simulation::group_summary() {
  const GroupModel::Counters& groups = model_.groups().counters();
  const MemberModel::Counters& members = model_.groups().members().counters();
  return " members=" + std::to_string(group_fleet_.processes()) +
         " beats=" + std::to_string(members.beats) + " leases=" + std::to_string(members.leases) +
         " replaced=" + std::to_string(members.fenced) +
         " commits=" + std::to_string(groups.commits) +
         " rewinds=" + std::to_string(groups.rewinds) + " resets=" + std::to_string(groups.resets) +
         " commits_fenced=" + std::to_string(groups.fenced) +
         " looks=" + std::to_string(groups.looks) +
         " delivered=" + std::to_string(groups.delivered) +
         " caught_up_ms=" + std::to_string(caught_up_ms_max_);
}

std::string Simulation::queue_summary() const {
  const QueueModel::Counters& queues = model_.queues().counters();
  return " workers=" + std::to_string(queue_fleet_.processes()) +
         " queue_leases=" + std::to_string(queues.leases) + "/" + std::to_string(queues.again) +
         " acks=" + std::to_string(queues.acks) + " nacks=" + std::to_string(queues.nacks) +
         " released=" + std::to_string(queues.released) +
         " extended=" + std::to_string(queues.extended) +
         " settles_fenced=" + std::to_string(queues.fenced) +
         " leases_over=" + std::to_string(queues.not_found) +
         " dead_letters=" + std::to_string(queues.dead_letters);
}

std::string Simulation::summary() {
  const SimBroker::Counters& counters = broker_.counters();
  return "simulated_ms=" + std::to_string(scheduler_.now_ms() - started_ms_) +
         " events=" + std::to_string(scheduler_.events_run()) +
         " faults=" + std::to_string(nemesis_.faults()) +
         " sent=" + std::to_string(model_.messages_sent()) +
         " acknowledged=" + std::to_string(model_.messages_acknowledged()) +
         " read=" + std::to_string(model_.messages_read()) +
         " drained=" + std::to_string(drainer_.drained()) +
         " topics=" + std::to_string(directory_.topics.size()) +
         " starts=" + std::to_string(counters.starts) +
         " failed_starts=" + std::to_string(counters.failed_starts) +
         " replays=" + std::to_string(counters.replays_checked) +
         " hashes=" + std::to_string(counters.hashes_compared) + delay_summary() + txn_summary() +
         group_summary() + queue_summary() + features_.summary() +
         " compactions=" + std::to_string(counters.compactions) +
         " freed=" + std::to_string(counters.compaction_freed_bytes) +
         " torn_bytes=" + std::to_string(counters.torn_bytes) +
         " checkpoints=" + std::to_string(counters.checkpoints) +
         " cold_reads=" + std::to_string(counters.cold_reads) +
         " duplicates=" + std::to_string(counters.duplicates) +
         " prefix_dropped=" + std::to_string(counters.dropped_prefixes);
}

}  // namespace tidemark::sim
