// What the files of the noun `dlq` share: its commands, and reading of dead letters.
//
// Thread: one.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "tidemark/consumer.h"
#include "tidemark/queue.h"
#include "tools/dead_letters.h"
#include "tools/session.h"

namespace tidemark::tools {

struct DlqCommand {
  std::string topic;  // list: empty: all dead-letter topics
  std::string filter;
  std::vector<std::string> tags;
  std::vector<uint32_t> partitions;  // empty: all
  // peek
  std::string from = "start";
  uint64_t count = 10;
  // redrive, purge
  double rate = 0;           // of redrive; 0: as fast as possible
  uint64_t letters_max = 0;  // 0: all
  bool dry_run = false;
  bool yes = false;
};

int list_dead_letters(const Globals& globals, const DlqCommand& command);
int peek_dead_letters(const Globals& globals, const DlqCommand& command);
int redrive_dead_letters(const Globals& globals, const DlqCommand& command);
int purge_dead_letters(const Globals& globals, const DlqCommand& command);

client::Queues queues_of(const Session& session);

// False: enough. `letter` views `message`, which is valid during the call.
using LetterSeen = std::function<bool(uint32_t partition, const client::ReceivedMessage& message,
                                      const DeadLetter& letter)>;

// Reads a dead-letter topic up to its present end, and gives what is neither redriven nor purged
// and fits the command: ascending in each partition. False: interrupted. Throws (kNotFound) if
// there is no such topic.
bool read_dead_letters(const Globals& globals, Session& session, const std::string& topic,
                       const DlqCommand& command, const LetterSeen& seen);

struct TopicLetters {
  std::string topic;
  uint64_t letters = 0;
};

// How many messages of a dead-letter topic are neither redriven nor purged, without reading them.
// nullopt: there is no such topic.
std::optional<uint64_t> count_dead_letters(Session& session, const std::string& topic);
// The same of every topic that another one has as its dead-letter topic, by name.
client::Result<std::vector<TopicLetters>> count_all_dead_letters(Session& session);
// Names of those topics.
client::Result<std::vector<std::string>> dead_letter_topics(Session& session);

}  // namespace tidemark::tools
