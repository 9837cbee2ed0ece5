#include "tests/simulation/features.h"

#include <algorithm>

namespace tidemark::sim {

namespace {

constexpr uint32_t kKeyedReaders = 2;

TopicWish keyed_wish(const Options& options) {
  TopicWish wish;
  wish.name = "keyed";
  wish.partitions = options.partitions_max;
  wish.compact_after_ms = options.compact_after_ms;
  wish.tombstone_ms = options.tombstone_ms;
  return wish;
}

TopicWish unique_wish(const Options& options) {
  TopicWish wish;
  wish.name = "unique";
  wish.partitions = options.partitions_max;
  wish.dedupe_window_ms = options.dedupe_window_ms;
  return wish;
}

TopicWish label_wish(const Options& options) {
  TopicWish wish;
  wish.name = "labels";
  wish.partitions = options.partitions_max;
  wish.ttl_ms = options.label_ttl_ms;
  return wish;
}

constexpr auto kIsIdle = [](const auto& client) { return client->idle(); };

}  // namespace

Features::Features(Scheduler& scheduler, SimNetwork& network, Model& model, const Options& options)
    : options_(options),
      keyed_model_(options.seed + 700, {options.keyed_keys, options.compact_after_ms,
                                        options.tombstone_ms, options.reads_fail()}),
      keyed_maker_(scheduler, network, model, keyed_topics_, options, options.seed + 701,
                   keyed_wish(options)),
      unique_model_(options.dedupe_window_ms),
      unique_maker_(scheduler, network, model, unique_topics_, options, options.seed + 730,
                    unique_wish(options)),
      unique_reader_(scheduler, network, model, unique_topics_, options, options.seed + 731,
                     unique_model_),
      label_model_(options.seed + 750, options.label_ttl_ms),
      label_maker_(scheduler, network, model, label_topics_, options, options.seed + 751,
                   label_wish(options)),
      label_auditor_(scheduler, network, model, label_topics_, options, options.seed + 752,
                     label_model_) {
  const World world{scheduler, network, model};
  make_keyed(world);
  make_unique_ids(world);
  make_labels(world);
}

void Features::make_keyed(const World& world) {
  for (uint32_t i = 0; i < options_.keyed_producers; ++i) {
    keyed_producers_.push_back(
        std::make_unique<KeyedProducer>(world.scheduler, world.network, world.model, keyed_topics_,
                                        options_, options_.seed + 710 + i, keyed_model_));
  }
  for (uint32_t i = 0; i < (options_.keyed_producers > 0 ? kKeyedReaders : 0); ++i) {
    keyed_readers_.push_back(std::make_unique<KeyedReader>(world.scheduler, world.network,
                                                           world.model, keyed_topics_, options_,
                                                           options_.seed + 720 + i, keyed_model_));
  }
}

void Features::make_unique_ids(const World& world) {
  for (uint32_t i = 0; i < options_.unique_clients; ++i) {
    unique_clients_.push_back(
        std::make_unique<UniqueClient>(world.scheduler, world.network, world.model, unique_topics_,
                                       options_, options_.seed + 740 + i, unique_model_));
  }
}

void Features::make_labels(const World& world) {
  for (uint32_t i = 0; i < options_.label_producers; ++i) {
    label_producers_.push_back(
        std::make_unique<LabelProducer>(world.scheduler, world.network, world.model, label_topics_,
                                        options_, options_.seed + 760 + i, label_model_));
  }
  for (uint32_t i = 0; i < (options_.label_producers > 0 ? options_.label_readers : 0); ++i) {
    label_readers_.push_back(std::make_unique<LabelReader>(world.scheduler, world.network,
                                                           world.model, label_topics_, options_,
                                                           options_.seed + 770 + i, label_model_));
  }
  Random random(options_.seed + 753);
  for (uint32_t i = 0; i < (options_.label_producers > 0 ? options_.label_groups : 0); ++i) {
    const LabelModel::Group group{random.below(LabelModel::filters().size()), random.chance(1, 2)};
    label_model_.open(label_group_name(i), group);
    for (uint32_t j = 0; j < options_.label_workers; ++j) {
      label_workers_.push_back(std::make_unique<LabelWorker>(
          world.scheduler, world.network, world.model, label_topics_, options_, random.next(),
          label_model_, label_group_name(i), group));
    }
  }
}

void Features::start() {
  const auto start_all = [](bool wanted, TopicMaker& maker, auto&... clients) {
    if (wanted) {
      maker.start();
    }
    const auto start_each = [](auto& some) {
      for (const auto& client : some) {
        client->start();
      }
    };
    (start_each(clients), ...);
  };
  start_all(options_.keyed_producers > 0, keyed_maker_, keyed_producers_, keyed_readers_);
  start_all(options_.unique_clients > 0, unique_maker_, unique_clients_);
  start_all(options_.label_producers > 0, label_maker_, label_producers_, label_readers_,
            label_workers_);
}

void Features::finish() {
  const auto finish_each = [](auto&... some) {
    (std::for_each(some.begin(), some.end(), [](const auto& client) { client->finish(); }), ...);
  };
  finish_each(keyed_producers_, unique_clients_, label_producers_, label_workers_);
}

bool Features::idle() const {
  return (options_.keyed_producers == 0 || keyed_maker_.idle()) &&
         (options_.unique_clients == 0 || unique_maker_.idle()) &&
         (options_.label_producers == 0 || label_maker_.idle()) &&
         std::all_of(keyed_producers_.begin(), keyed_producers_.end(), kIsIdle) &&
         std::all_of(unique_clients_.begin(), unique_clients_.end(), kIsIdle) &&
         std::all_of(label_producers_.begin(), label_producers_.end(), kIsIdle);
}

void Features::verify() {
  for (const auto& reader : keyed_readers_) {
    reader->read_all();
  }
  if (options_.unique_clients > 0) {
    unique_reader_.read_all();
  }
  for (const auto& reader : label_readers_) {
    reader->read_all();
  }
  if (!label_workers_.empty()) {
    label_auditor_.start();
  }
}

bool Features::verified() const {
  return std::all_of(keyed_readers_.begin(), keyed_readers_.end(), kIsIdle) &&
         unique_reader_.idle() && label_auditor_.idle() &&
         std::all_of(label_readers_.begin(), label_readers_.end(), kIsIdle);
}

void Features::check() {
  for (const auto& worker : label_workers_) {
    worker->stop();
  }
  label_model_.check();
}

std::string Features::describe() const {
  std::string text;
  if (options_.keyed_producers > 0) {
    text += "; " + keyed_maker_.describe();
  }
  for (const auto& producer : keyed_producers_) {
    text += producer->idle() ? "" : "; keyed: " + producer->describe();
  }
  for (const auto& reader : keyed_readers_) {
    text += reader->idle() ? "" : "; " + reader->describe();
  }
  for (const auto& client : unique_clients_) {
    text += client->idle() ? "" : "; " + client->describe();
  }
  for (const auto& producer : label_producers_) {
    text += producer->idle() ? "" : "; labels: " + producer->describe();
  }
  for (const auto& reader : label_readers_) {
    text += reader->idle() ? "" : "; " + reader->describe();
  }
  for (const auto& worker : label_workers_) {
    text += "; " + worker->describe();
  }
  text += label_auditor_.idle() ? "" : "; " + label_auditor_.describe();
  text += unique_reader_.idle() ? "" : "; " + unique_reader_.describe();
  return text;
}

std::string Features::summary() const {
  const KeyedModel::Counters& keyed = keyed_model_.counters();
  const UniqueModel::Counters& unique = unique_model_.counters();
  const LabelModel::Counters& labels = label_model_.counters();
  return " key_passes=" + std::to_string(keyed.passes) +
         " compacted=" + std::to_string(keyed.gone) +
         " keys_gone=" + std::to_string(keyed.gone_keys) + " ids=" + std::to_string(unique.sent) +
         "/" + std::to_string(unique.answered) + " ids_known=" + std::to_string(unique.repeated) +
         " ids_again=" + std::to_string(unique.again) +
         " labels_read=" + std::to_string(labels.read) +
         " left_out=" + std::to_string(labels.left_out) +
         " labels_leased=" + std::to_string(labels.leased);
}

}  // namespace tidemark::sim
