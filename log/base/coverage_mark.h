// TIDEMARK_COVERAGE_MARK: names a branch that is rarely taken, so that a run of the simulator can
// say whether it has been there: `simulation --seeds 1 200 --marks`, and `make marks`, which fails
// for one that no seed hits.
//
//   if (torn_end > bad_offset) {
//     TIDEMARK_COVERAGE_MARK(recovery_torn_tail_cut);
//
// A mark stands where the branch is taken and changes nothing that the product can see. It is part
// of every build, so that what is tested is what runs: it costs a load, an addition and a store of
// one word that nobody else writes, and none of it happens where the branch is not taken. It has no
// place in a loop that is hot. Not in inline functions that are called so often either, and not in
// what is linked into the client library.
//
// The name is an identifier, <area>_<what happened>; marks of one name are one mark, wherever they
// stand. It is enlisted at start-up, before main(), wherever the branch is; so also one that is
// never hit is known. Any thread may hit a mark. Two that do at the same time may count as one.
//
// timerwheel/ depends on nothing and has marks of its own: timerwheel/coverage_mark.h.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace tidemark {

class CoverageMark {
 public:
  explicit constexpr CoverageMark(const char* name) : name_(name) {}

  CoverageMark(const CoverageMark&) = delete;
  CoverageMark& operator=(const CoverageMark&) = delete;

  // Not a read-modify-write, which would cost a locked bus: see above.
  void hit() { hits_.store(hits_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed); }

  [[nodiscard]] std::string_view name() const { return name_; }

  [[nodiscard]] uint64_t hits() const { return hits_.load(std::memory_order_relaxed); }

  // Before main(), or while a library is loaded: one at a time. True, for an initializer.
  bool enlist();

 private:
  friend std::vector<const CoverageMark*> coverage_marks();

  const char* const name_;
  std::atomic<uint64_t> hits_{0};
  const CoverageMark* next_ = nullptr;
};

// All marks that are linked into this program, by name.
std::vector<const CoverageMark*> coverage_marks();

namespace coverage_mark {

template <size_t n>
struct Name {
  char text[n];

  // NOLINTNEXTLINE(google-explicit-constructor): a literal is to become one.
  consteval Name(const char (&literal)[n]) { std::copy_n(literal, n, text); }
};

template <Name name>
class Named {
 public:
  static void hit() {
    static_cast<void>(&enlisted_);  // named, so it is there and initialized at start-up
    mark_.hit();
  }

 private:
  // NOLINTNEXTLINE(readability-identifier-naming): a private member, also here
  static inline constinit CoverageMark mark_{name.text};
  // NOLINTNEXTLINE(readability-identifier-naming): likewise
  static inline const bool enlisted_ = mark_.enlist();
};

}  // namespace coverage_mark

}  // namespace tidemark

#define TIDEMARK_COVERAGE_MARK(name) ::tidemark::coverage_mark::Named<#name>::hit()
