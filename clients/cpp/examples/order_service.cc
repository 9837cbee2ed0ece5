// An order service whose local database is SQLite: an order and the messages about it come to be
// together or not at all, whatever crashes when.
//
//   order_service --db FILE --topic TOPIC --count N
//     [--brokers HOST:PORT,...]  default: $TIDEMARK_BROKERS
//     [--mail-topic TOPIC]       a second message of each order, in another topic
//     [--instance NAME]          a second service of this name takes over from the first
//     [--rollback-percent P]     so many orders are refused by the shop
//     [--value-bytes N]          the value of a message is filled up to so many bytes
//     [--work-ms MS]             the shop thinks up to this long between prepare and database
//     [--timeout-ms MS]          before the broker asks about an order for the first time
//     [--settle]                 at the end stays until the broker has no more questions
//     [--die-after-local-commit N]  crashes at its Nth order, at the worst moment
//     [--seed S]
//
// The topics must exist. One line on standard output for each order. Exit code: 0 all N orders were
// dealt with, 1 failed, 2 wrong usage, 3 a newer service of the same name took over.
//
// How it stays right:
//
//   prepare      the broker has the messages, nobody sees them
//   database     ONE local transaction: the order, and "done" under the transaction's id
//   commit       the messages become visible
//
// A crash after the database and before the commit leaves the broker without the outcome. It asks
// any service of the group, now or after a restart, and check() answers from the database: "done"
// is there, so commit.
//
// If it is not there, "roll back" is the right answer only when it will never be there. But the
// service that works on the order may be slow, not dead, and write "done" a moment after we looked.
// So check() leaves a tombstone: it inserts "not done" under the same primary key. Whichever of the
// two comes first wins, and the other fails: the slow service finds its id taken, its whole local
// transaction fails with it, the order included, and it rolls back.
#include <sqlite3.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <utility>

#include "tidemark/tidemark.h"

namespace mq = tidemark::client;

namespace {

constexpr int kTakenOver = 3;

struct Options {
  std::string brokers = {};
  std::string database = {};
  std::string topic = {};
  std::string mail_topic = {};
  std::string group = "order-service";
  std::string instance = {};
  int64_t count = 0;
  int64_t seed = 1;
  int64_t rollback_percent = 0;
  int64_t value_bytes = 0;
  int64_t work_ms = 0;
  int64_t timeout_ms = 6'000;
  int64_t die_after_local_commit = 0;
  bool settle = false;
};

// What cannot go on. Nothing is cleaned up: the destructor of a Transaction would roll it back, and
// whether its order is in the database may just be what is not known. Check-backs find out.
[[noreturn]] void die(const std::string& why) {
  std::cerr << why << std::endl;
  std::_Exit(1);
}

// A prepared statement with its values bound, run once.
class Statement {
 public:
  Statement(sqlite3* db, const char* sql) : db_(db) {
    if (sqlite3_prepare_v2(db, sql, -1, &statement_, nullptr) != SQLITE_OK) {
      die(std::string(sql) + ": " + sqlite3_errmsg(db));
    }
  }

  ~Statement() { sqlite3_finalize(statement_); }

  Statement(const Statement&) = delete;
  Statement& operator=(const Statement&) = delete;

  Statement& bind(int64_t value) {
    sqlite3_bind_int64(statement_, ++bound_, value);
    return *this;
  }

  Statement& bind(const std::string& value) {
    sqlite3_bind_text(statement_, ++bound_, value.data(), static_cast<int>(value.size()),
                      SQLITE_TRANSIENT);
    return *this;
  }

  // False: a key is there already. Any other error ends the program.
  bool run() {
    const int result = sqlite3_step(statement_);
    if (result != SQLITE_DONE && result != SQLITE_ROW && (result & 0xff) != SQLITE_CONSTRAINT) {
      die(std::string(sqlite3_sql(statement_)) + ": " + sqlite3_errmsg(db_));
    }
    return (result & 0xff) != SQLITE_CONSTRAINT;
  }

  // Of the first column, after run().
  [[nodiscard]] int64_t number() const { return sqlite3_column_int64(statement_, 0); }

 private:
  sqlite3* db_;
  sqlite3_stmt* statement_ = nullptr;
  int bound_ = 0;
};

// A connection to the database; each thread has its own.
class Database {
 public:
  explicit Database(const std::string& file) {
    if (sqlite3_open(file.c_str(), &db_) != SQLITE_OK) {
      die(file + ": " + sqlite3_errmsg(db_));
    }
    // Another service may be writing: wait for it.
    sqlite3_busy_timeout(db_, 30'000);
    // A commit is on disk when it returns; the message is committed only after that.
    execute("PRAGMA journal_mode = WAL");
    execute("PRAGMA synchronous = FULL");
    execute("CREATE TABLE IF NOT EXISTS orders (id INTEGER PRIMARY KEY, amount INTEGER NOT NULL)");
    execute(
        "CREATE TABLE IF NOT EXISTS outcomes "
        "(transaction_id TEXT PRIMARY KEY, done INTEGER NOT NULL)");
  }

  ~Database() { sqlite3_close(db_); }

  Database(const Database&) = delete;
  Database& operator=(const Database&) = delete;

  int64_t largest_order() {
    Statement query(db_, "SELECT ifnull(max(id), 0) FROM orders");
    query.run();
    return query.number();
  }

  // The local transaction: the order and "done", both or neither. False: neither, because a check
  // has said no meanwhile, or another service has taken the number of the order.
  bool insert_order(int64_t order, int64_t amount, const std::string& transaction) {
    execute("BEGIN IMMEDIATE");
    const bool done =
        Statement(db_, "INSERT INTO outcomes VALUES (?, 1)").bind(transaction).run() &&
        Statement(db_, "INSERT INTO orders VALUES (?, ?)").bind(order).bind(amount).run();
    execute(done ? "COMMIT" : "ROLLBACK");
    return done;
  }

  // Whether it was done. If not, it never will be: see the top.
  mq::CheckAnswer check(const std::string& transaction) {
    execute("BEGIN IMMEDIATE");
    Statement(db_, "INSERT OR IGNORE INTO outcomes VALUES (?, 0)").bind(transaction).run();
    int64_t done = 0;
    {
      Statement query(db_, "SELECT done FROM outcomes WHERE transaction_id = ?");
      query.bind(transaction).run();
      done = query.number();
    }
    execute("COMMIT");
    return done != 0 ? mq::CheckAnswer::kCommitted : mq::CheckAnswer::kNotCommitted;
  }

 private:
  void execute(const char* sql) { Statement(db_, sql).run(); }

  sqlite3* db_ = nullptr;
};

class OrderService {
 public:
  OrderService(const Options& options, mq::TransactionProducer& producer)
      : options_(options),
        producer_(producer),
        database_(options.database),
        random_(static_cast<uint64_t>(options.seed)) {}

  // The exit code.
  int run() {
    int64_t order = database_.largest_order();
    for (int64_t i = 1; i <= options_.count; ++i) {
      // Another service may have come further.
      order = std::max(order, database_.largest_order()) + 1;
      const mq::Status status = place(order, i);
      if (status.code() == mq::ErrorCode::kFenced) {
        std::cout << "a newer service has taken over" << std::endl;
        return kTakenOver;
      }
    }
    return 0;
  }

 private:
  // What the broker said last. Whatever it is, order and messages are right or will be: what is
  // undecided is asked about.
  mq::Status place(int64_t order, int64_t nth) {
    const std::string key = std::to_string(order);
    const auto amount = static_cast<int64_t>(random_() % 1'000'000'000);
    std::string value = key + " for " + std::to_string(amount);
    value.resize(std::max(value.size(), static_cast<size_t>(options_.value_bytes)), '.');

    mq::Transaction txn = producer_.begin({.reference = "order " + key});
    mq::Status status = txn.send(options_.topic, {.key = key, .value = value});
    if (status.ok() && !options_.mail_topic.empty()) {
      const std::string customer = "customer " + std::to_string(amount % 1'000);
      status = txn.send(options_.mail_topic, {.key = customer, .value = value});
    }
    if (status.ok()) {
      status = txn.prepare();
    }
    if (!status.ok()) {
      say(order, "not prepared", status);
      const mq::TransactionEnd end = txn.rollback();
      return end.status.ok() ? status : end.status;
    }

    const bool wanted = static_cast<int64_t>(random_() % 100) >= options_.rollback_percent;
    if (options_.work_ms > 0) {
      const auto work = random_() % static_cast<uint64_t>(options_.work_ms + 1);
      std::this_thread::sleep_for(std::chrono::milliseconds(work));
    }
    if (!wanted || !database_.insert_order(order, amount, txn.id().to_string())) {
      const mq::TransactionEnd end = txn.rollback();
      say(order,
          std::string(wanted ? "decided otherwise" : "refused") + ", rolled back " +
              end.id.to_string(),
          end.status);
      return end.status;
    }
    if (nth == options_.die_after_local_commit) {
      std::cout << "order " << order << " is in the database; crash before the commit of "
                << txn.id().to_string() << std::endl;
      std::_Exit(1);
    }
    const mq::TransactionEnd end = txn.commit();
    if (end.status.code() == mq::ErrorCode::kConflict) {
      die("order " + key + " is in the database, its messages are rolled back");
    }
    say(order, "committed " + end.id.to_string(), end.status);
    return end.status;
  }

  static void say(int64_t order, const std::string& what, const mq::Status& status) {
    std::cout << "order " << order << " " << what;
    if (!status.ok()) {
      std::cout << ", " << status.to_string();
    }
    std::cout << std::endl;
  }

  const Options& options_;
  mq::TransactionProducer& producer_;
  Database database_;
  std::mt19937_64 random_;  // tidy: allow(random): a program of a user
};

// Waits until the broker has nothing to ask the group any more.
mq::Status settle(const mq::Client& client, const std::string& group) {
  auto transactions = mq::Transactions::create(client);
  while (transactions.ok()) {
    const auto totals = transactions->stats();
    if (!totals.ok()) {
      return totals.status();
    }
    uint64_t open = 0;
    for (const mq::TransactionGroupStats& each : totals->groups) {
      open += each.group == group ? each.open : 0;
    }
    if (open == 0) {
      return {};
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  return transactions.status();
}

// True if the flag is known and its value could be taken.
bool take(const std::string& flag, const std::string& value, Options& options) {
  const std::pair<const char*, std::string*> texts[] = {
      {"--brokers", &options.brokers},   {"--db", &options.database},
      {"--topic", &options.topic},       {"--mail-topic", &options.mail_topic},
      {"--instance", &options.instance},
  };
  for (const auto& [name, target] : texts) {
    if (flag == name) {
      *target = value;
      return true;
    }
  }
  const std::pair<const char*, int64_t*> numbers[] = {
      {"--count", &options.count},
      {"--seed", &options.seed},
      {"--rollback-percent", &options.rollback_percent},
      {"--value-bytes", &options.value_bytes},
      {"--work-ms", &options.work_ms},
      {"--timeout-ms", &options.timeout_ms},
      {"--die-after-local-commit", &options.die_after_local_commit},
  };
  for (const auto& [name, target] : numbers) {
    if (flag == name) {
      char* end = nullptr;
      *target = std::strtoll(value.c_str(), &end, 10);
      return !value.empty() && *end == '\0' && *target >= 0;
    }
  }
  return false;
}

bool parse(int argc, char** argv, Options& options) {
  for (int i = 1; i < argc; ++i) {
    if (std::string(argv[i]) == "--settle") {
      options.settle = true;
    } else if (i + 1 >= argc || !take(argv[i], argv[i + 1], options)) {
      return false;
    } else {
      ++i;
    }
  }
  return !options.database.empty() && !options.topic.empty();
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  if (!parse(argc, argv, options)) {
    std::cerr
        << "usage: order_service --db FILE --topic TOPIC --count N [--brokers HOST:PORT,...] "
           "[--mail-topic TOPIC]\n  [--instance NAME] [--rollback-percent P] [--value-bytes N] "
           "[--work-ms MS] [--timeout-ms MS]\n  [--settle] [--die-after-local-commit N] "
           "[--seed S]\n";
    return 2;
  }
  const auto client =
      mq::Client::create({.brokers = options.brokers.empty() ? mq::brokers_from_environment()
                                                             : mq::split_brokers(options.brokers),
                          .client_name = "example-order-service"});
  if (!client.ok()) {
    std::cerr << client.status().to_string() << "\n";
    return 2;
  }
  // Only for answers: check() is called on a thread of the producer's own.
  Database answers(options.database);
  auto producer = mq::TransactionProducer::create(
      *client,
      {.group = options.group,
       .instance = options.instance,
       .check =
           [&answers](const mq::CheckRequest& request) {
             const mq::CheckAnswer answer = answers.check(request.id.to_string());
             std::cout << "asked about " << request.reference
                       << (answer == mq::CheckAnswer::kCommitted ? ": committed\n" : ": not done\n")
                       << std::flush;
             return answer;
           },
       .timeout_ms = options.timeout_ms},
      60'000);
  if (!producer.ok()) {
    std::cerr << producer.status().to_string() << "\n";
    return producer.status().code() == mq::ErrorCode::kFenced ? kTakenOver : 1;
  }

  const int exit_code = OrderService(options, *producer).run();
  if (exit_code == 0 && options.settle) {
    if (const mq::Status status = settle(*client, options.group); !status.ok()) {
      std::cerr << "settle: " << status.to_string() << "\n";
      return 1;
    }
  }
  return exit_code;
}
