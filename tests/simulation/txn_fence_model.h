// TxnFenceModel: producers of transactions and their epochs, as clients know them.
//
//   I19  once a producer was told its epoch, nothing that comes later from an older one is taken
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>

namespace tidemark::sim {

class TxnFenceModel {
 public:
  // A request for the next epoch of `name` (not empty) reached the broker.
  void init_arrived(const std::string& name) { ++arrivals_[name]; }

  // Its answer left at `left_ns`. Empty name: of a producer of its own.
  void init_answered(const std::string& name, uint64_t producer, uint16_t epoch, int64_t left_ns);

  // Something of this producer that arrived at `arrived_ns` was taken.
  void check_taken(uint64_t producer, uint16_t epoch, int64_t arrived_ns,
                   const std::string& what) const;
  // It was refused as fenced.
  void check_fenced(uint64_t producer, uint16_t epoch, const std::string& what) const;

 private:
  std::map<std::string, uint64_t> arrivals_;
  std::map<std::string, uint64_t> producers_;  // by name
  std::map<uint64_t, std::string> names_;      // by producer
  // By producer: epochs and when they were given.
  std::map<uint64_t, std::map<uint16_t, int64_t>> epochs_;
};

}  // namespace tidemark::sim
