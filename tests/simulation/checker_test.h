// A checker that never fails proves nothing: histories with one fault each, which the model must
// reject by the invariant they break.
#pragma once

#include <string>

namespace tidemark::sim {

// Empty, or the first history that was accepted, or rejected by another name.
std::string find_blind_checker();
// The same for topics of features; find_blind_checker() asks them, too.
std::string find_blind_keyed_checker();
std::string find_blind_unique_checker();
std::string find_blind_label_checker();
// The same for delayed messages.
std::string find_blind_delay_checker();
// The same for transactions.
std::string find_blind_txn_checker();
// The same for consumer groups.
std::string find_blind_group_checker();
// The same for queue mode.
std::string find_blind_queue_checker();

}  // namespace tidemark::sim
