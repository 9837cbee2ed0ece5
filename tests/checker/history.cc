#include "tests/checker/history.h"

#include <algorithm>
#include <array>
#include <bit>

#include <nlohmann/json.hpp>

namespace tidemark::checker {

namespace {

using enum Field;

const std::unordered_map<std::string_view, Field>& fields_by_name() {
  static const auto* const fields = [] {
    auto* map = new std::unordered_map<std::string_view, Field>();
    for (size_t i = 0; i < kFieldCount; ++i) {
      map->emplace(name_of(static_cast<Field>(i)), static_cast<Field>(i));
    }
    return map;
  }();
  return *fields;
}

const std::unordered_map<std::string_view, Op>& ops_by_name() {
  static const auto* const ops = [] {
    auto* map = new std::unordered_map<std::string_view, Op>();
    for (size_t i = 0; i < kOpCount; ++i) {
      map->emplace(name_of(static_cast<Op>(i)), static_cast<Op>(i));
    }
    return map;
  }();
  return *ops;
}

std::optional<Phase> phase_by_name(std::string_view name) {
  for (const Phase phase : {Phase::kInvoke, Phase::kOk, Phase::kFail, Phase::kInfo}) {
    if (name_of(phase) == name) {
      return phase;
    }
  }
  return std::nullopt;
}

// Words that a field may have.
bool is_known_word(Op op, Field field, std::string_view word) {
  const auto one_of = [&](std::initializer_list<std::string_view> words) {
    return std::find(words.begin(), words.end(), word) != words.end();
  };
  if (field == kState) {
    return one_of({"none", "open", "parked", "committed", "rolled_back"});
  }
  if (field != kHow) {
    return true;
  }
  if (op == Op::kSettle) {
    return one_of({"ack", "nack", "release", "dead"});
  }
  return op == Op::kTxnCheck ? one_of({"commit", "rollback", "unknown"})
                             : one_of({"producer", "operator"});
}

constexpr FieldSet kAlways = set_of({kTimeNs, kProcess});
constexpr FieldSet kAnywhere = set_of({kTimeNs, kWallMs, kProcess, kId, kError});

std::string names_of(FieldSet set) {
  std::string names;
  for (; set != 0; set &= set - 1) {
    names += names.empty() ? "" : ", ";
    names += name_of(static_cast<Field>(std::countr_zero(set)));
  }
  return names;
}

}  // namespace

// Takes the parts of one flat object as the parser finds them.
class History::LineReader : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit LineReader(History& history) : history_(history) {}

  // What is wrong with the line, "" if nothing is.
  std::string read(std::string_view line) {
    present_ = 0;
    op_.reset();
    phase_.reset();
    depth_ = 0;
    error_.clear();
    nlohmann::json::sax_parse(line, this);
    return error_.empty() ? judge() : error_;
  }

  [[nodiscard]] Op op() const { return *op_; }

  [[nodiscard]] Phase phase() const { return phase_.value_or(Phase::kOk); }

  [[nodiscard]] FieldSet present() const { return present_; }

  [[nodiscard]] int64_t value(Field field) const { return values_[static_cast<size_t>(field)]; }

  bool null() override { return refuse("null is no value"); }

  bool boolean(bool /*value*/) override { return refuse("a boolean is no value"); }

  bool number_integer(number_integer_t value) override {
    return value >= 0 || field_ == kRetentionMs || field_ == kRetentionBytes
               ? take_number(value)
               : refuse("is negative");
  }

  bool number_unsigned(number_unsigned_t value) override {
    return value <= uint64_t{INT64_MAX} || field_ == kCrc ? take_number(static_cast<int64_t>(value))
                                                          : refuse("is above 2^63 - 1");
  }

  bool number_float(number_float_t /*value*/, const string_t& /*text*/) override {
    return refuse("is no whole number");
  }

  bool string(string_t& value) override;

  bool binary(binary_t& /*value*/) override { return refuse("bytes are no value"); }

  bool start_object(size_t /*size*/) override {
    return depth_++ == 0 || refuse("an object is no value");
  }

  bool end_object() override { return true; }

  bool start_array(size_t /*size*/) override { return refuse("an array is no value"); }

  bool end_array() override { return true; }

  bool key(string_t& name) override;

  bool parse_error(size_t /*position*/, const std::string& /*token*/,
                   const nlohmann::json::exception& /*error*/) override {
    error_ = "is no JSON object";
    return false;
  }

 private:
  enum class At { kOp, kPhase, kField };

  bool refuse(const std::string& why) {
    error_ = depth_ == 0 ? "is no JSON object" : "\"" + name_ + "\" " + why;
    return false;
  }

  bool take_number(int64_t value) {
    if (depth_ == 0 || at_ != At::kField || is_text(field_)) {
      return refuse("is no text");
    }
    values_[static_cast<size_t>(field_)] = value;
    present_ |= set_of(field_);
    return true;
  }

  [[nodiscard]] std::string judge() const;

  History& history_;
  std::array<int64_t, kFieldCount> values_{};
  FieldSet present_ = 0;
  std::optional<Op> op_;
  std::optional<Phase> phase_;
  std::string name_;
  At at_ = At::kOp;
  Field field_ = kTimeNs;
  int depth_ = 0;
  std::string error_;
};

bool History::LineReader::key(string_t& name) {
  name_ = name;
  if (name == "op" || name == "phase") {
    at_ = name == "op" ? At::kOp : At::kPhase;
    return (at_ == At::kOp ? !op_.has_value() : !phase_.has_value()) || refuse("comes twice");
  }
  const auto found = fields_by_name().find(name);
  if (found == fields_by_name().end()) {
    return refuse("is no field");
  }
  at_ = At::kField;
  field_ = found->second;
  return (present_ & set_of(field_)) == 0 || refuse("comes twice");
}

bool History::LineReader::string(string_t& value) {
  if (depth_ == 0) {
    return refuse("");
  }
  if (at_ == At::kOp) {
    const auto found = ops_by_name().find(value);
    if (found == ops_by_name().end()) {
      return refuse("is unknown: " + value);
    }
    op_ = found->second;
    return true;
  }
  if (at_ == At::kPhase) {
    phase_ = phase_by_name(value);
    return phase_.has_value() || refuse("is unknown: " + value);
  }
  if (!is_text(field_)) {
    return refuse("is no number");
  }
  values_[static_cast<size_t>(field_)] = history_.intern(value);
  present_ |= set_of(field_);
  return true;
}

std::string History::LineReader::judge() const {
  if (!op_.has_value()) {
    return "has no op";
  }
  const OpRule& rule = rule_of(*op_);
  const std::string name(rule.name);
  const FieldSet allowed = kAnywhere | rule.required | rule.allowed;
  if (const FieldSet more = present_ & ~allowed; more != 0) {
    return name + " has no " + names_of(more);
  }
  FieldSet required = kAlways;
  if (rule.operation) {
    if (!phase_.has_value()) {
      return name + " needs a phase";
    }
    required |= set_of(kId) | (*phase_ == Phase::kInvoke ? rule.required : 0);
  } else {
    if (phase() != Phase::kOk) {
      return name + " is only observed, it has no phase " + std::string(name_of(phase()));
    }
    required |= rule.required;
  }
  if (const FieldSet missing = required & ~present_; missing != 0) {
    return name + " needs " + names_of(missing);
  }
  for (const Field field : {kHow, kState}) {
    if ((present_ & set_of(field)) != 0 &&
        !is_known_word(*op_, field, history_.text_of(static_cast<TextId>(value(field))))) {
      return "\"" + std::string(name_of(field)) + "\" of " + name + " is unknown";
    }
  }
  return "";
}

TextId History::intern(std::string_view text) {
  const auto found = text_ids_.find(text);
  if (found != text_ids_.end()) {
    return found->second;
  }
  const auto id = static_cast<TextId>(texts_.size());
  texts_.emplace_back(text);
  text_ids_.emplace(texts_.back(), id);
  return id;
}

void History::read(std::istream& in, const std::string& name) {
  files_.push_back(name);
  const auto file = static_cast<uint16_t>(files_.size() - 1);
  LineReader reader(*this);
  std::string text;
  for (uint32_t line = 1; std::getline(in, text); ++line) {
    if (const std::string wrong = reader.read(text); !wrong.empty()) {
      add_error(file, line, wrong);
      continue;
    }
    Event event{.op = reader.op(),
                .phase = reader.phase(),
                .file = file,
                .line = line,
                .fields = reader.present(),
                .values = values_.size(),
                .t_ns = reader.value(kTimeNs)};
    for (FieldSet rest = event.fields; rest != 0; rest &= rest - 1) {
      values_.push_back(reader.value(static_cast<Field>(std::countr_zero(rest))));
    }
    events_.push_back(event);
  }
  if (in.bad()) {
    add_error(file, 0, "cannot be read");
  }
}

void History::finish() {
  if (events_.empty() && errors_.empty()) {
    errors_.push_back("there is no event");
  }
  if (events_.size() >= kNoEvent) {
    errors_.push_back("there are too many events");
    events_.clear();
  }
  std::stable_sort(events_.begin(), events_.end(),
                   [](const Event& a, const Event& b) { return a.t_ns < b.t_ns; });
  join();
  if (error_count_ > kErrorsMax) {
    errors_.push_back("and " + std::to_string(error_count_ - kErrorsMax) + " more");
  }
}

void History::join() {
  struct Name {
    int64_t process;
    int64_t id;

    bool operator==(const Name&) const = default;
  };

  struct Hash {
    size_t operator()(const Name& name) const {
      return std::hash<uint64_t>()(static_cast<uint64_t>(name.id) * 0x9E3779B97F4A7C15U ^
                                   static_cast<uint64_t>(name.process));
    }
  };

  std::unordered_map<Name, EventIndex, Hash> invoked;
  for (EventIndex i = 0; i < events_.size(); ++i) {
    if (!rule_of(events_[i].op).operation) {
      continue;
    }
    const Name name{number(i, kProcess), number(i, kId)};
    if (events_[i].phase == Phase::kInvoke) {
      if (!invoked.emplace(name, i).second) {
        add_error(i, "id " + std::to_string(name.id) + " was invoked before");
      }
      continue;
    }
    const auto found = invoked.find(name);
    if (found == invoked.end()) {
      add_error(i, "id " + std::to_string(name.id) + " was not invoked before");
    } else {
      join_end(i, found->second);
    }
  }
}

void History::join_end(EventIndex end, EventIndex invoke) {
  if (events_[invoke].op != events_[end].op) {
    add_error(end, "was invoked as " + std::string(name_of(events_[invoke].op)));
    return;
  }
  if (events_[invoke].partner != kNoEvent) {
    add_error(end, "ended before, at " + place_of(events_[invoke].partner));
    return;
  }
  events_[invoke].partner = end;
  events_[end].partner = invoke;
  const FieldSet may_differ = set_of({kTimeNs, kWallMs, kError, kDueMs, kHandle, kText});
  FieldSet common = events_[invoke].fields & events_[end].fields & ~may_differ;
  for (; common != 0; common &= common - 1) {
    const auto field = static_cast<Field>(std::countr_zero(common));
    if (number(invoke, field) != number(end, field)) {
      add_error(end, "has another " + std::string(name_of(field)) + " than at " + place_of(invoke));
    }
  }
}

void History::add_error(uint16_t file, uint32_t line, const std::string& what) {
  if (++error_count_ <= kErrorsMax) {
    errors_.push_back(files_[file] + ":" + std::to_string(line) + ": " + what);
  }
}

void History::add_error(EventIndex event, const std::string& what) {
  add_error(events_[event].file, events_[event].line,
            std::string(name_of(events_[event].op)) + ": " + what);
}

int64_t History::number(EventIndex event, Field field) const {
  const Event& one = events_[event];
  const FieldSet before = one.fields & (set_of(field) - 1);
  return values_[one.values + static_cast<uint64_t>(std::popcount(before))];
}

std::optional<int64_t> History::find(EventIndex event, Field field) const {
  return has(event, field) ? std::optional(number(event, field)) : std::nullopt;
}

TextId History::text_id(EventIndex event, Field field) const {
  return has(event, field) ? static_cast<TextId>(number(event, field)) : kNoText;
}

std::string_view History::text(EventIndex event, Field field) const {
  return has(event, field) ? text_of(text_id(event, field)) : std::string_view();
}

std::optional<int64_t> History::find_in_operation(EventIndex invoke, Field field) const {
  const EventIndex end = events_[invoke].partner;
  const std::optional<int64_t> told = end == kNoEvent ? std::nullopt : find(end, field);
  return told.has_value() ? told : find(invoke, field);
}

Phase History::outcome(EventIndex invoke) const {
  const EventIndex end = events_[invoke].partner;
  return end == kNoEvent ? Phase::kInfo : events_[end].phase;
}

int64_t History::ended_ns(EventIndex invoke) const {
  const Phase how = outcome(invoke);
  return how == Phase::kOk || how == Phase::kFail ? events_[events_[invoke].partner].t_ns
                                                  : INT64_MAX;
}

std::string History::place_of(EventIndex event) const {
  return files_[events_[event].file] + ":" + std::to_string(events_[event].line);
}

}  // namespace tidemark::checker
