// The same workload on Tidemark and on the systems it is compared with; see bench/README.md.
#include <sys/statfs.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "bench/peers/report.h"
#include "bench/peers/server.h"
#include "log/base/clock.h"
#include "tools/interrupt.h"

namespace tidemark::bench {
namespace {

struct Peer {
  const char* name;
  std::unique_ptr<Adapter> (*adapter)(const Endpoint&);
};

constexpr Peer kPeers[] = {
    {"tidemark", tidemark_adapter},     {"kafka", kafka_adapter},
    {"rocketmq", rocketmq_adapter},     {"nats", nats_adapter},
    {"rabbitmq", rabbitmq_adapter},     {"redis", redis_adapter},
    {"beanstalkd", beanstalkd_adapter},
};

// Ports below those that the kernel gives to clients; systems may use the next few as well.
constexpr uint16_t kFirstPort = 19'470;
constexpr uint16_t kPortsEach = 10;

struct MainOptions {
  WorkloadOptions workload;
  std::vector<std::string> peers;
  std::vector<std::string> modes;
  uint32_t runs = 1;
  std::string scripts = "bench/peers";
  std::string data = "build/peers/data";
  std::string commit = "unknown";
  std::string json_file;
  std::string markdown_file;
};

void parse(CLI::App& app, MainOptions& options) {
  std::vector<std::string> names;
  std::ranges::transform(kPeers, std::back_inserter(names),
                         [](const Peer& peer) { return std::string(peer.name); });
  options.peers = names;
  WorkloadOptions& workload = options.workload;
  app.add_option("--peers", options.peers, "systems to run, in this order")
      ->check(CLI::IsMember(names));
  app.add_option("--modes", options.modes, "only these: durable, default, relaxed");
  app.add_option("--runs", options.runs, "times that each system is run, in turns")
      ->check(CLI::Range(1, 20));
  app.add_option("--seconds", workload.seconds, "for each row")->check(CLI::Range(0.1, 600.0));
  app.add_option("--warm-up", workload.warm_up_seconds, "seconds before the first row, not counted")
      ->check(CLI::Range(0.0, 600.0));
  app.add_option("--count", workload.count_max, "messages of a row, at most")
      ->check(CLI::Range(uint64_t{1}, uint64_t{10'000'000}));
  app.add_option("--in-flight", workload.in_flight, "messages sent and not acknowledged")
      ->check(CLI::Range(1, 100'000));
  app.add_option("--rates", workload.rates, "end to end, messages a second; a row each")
      ->check(CLI::Range(1.0, 1e6));
  app.add_option("--delayed", workload.delayed_count, "delayed messages")
      ->check(CLI::Range(uint64_t{1}, uint64_t{1'000'000}));
  app.add_option("--delay-window-ms", workload.delay_window_ms, "their delays: 1 s and up to this")
      ->check(CLI::Range(1'000, 600'000));
  app.add_option("--scripts", options.scripts, "folder of the systems' scripts");
  app.add_option("--data", options.data, "folder for data; on the disk to be measured");
  app.add_option("--commit", options.commit, "for the report");
  app.add_option("--json", options.json_file, "file for all results");
  app.add_option("--markdown", options.markdown_file, "file for the tables, beside stdout");
}

std::string first_match(const char* path, std::string_view key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with(key)) {
      const size_t colon = line.find(':');
      const size_t start = line.find_first_not_of(" \t", colon + 1);
      return start == std::string::npos ? "" : line.substr(start);
    }
  }
  return "";
}

std::string machine(const std::string& data) {
  utsname names = {};
  (void)uname(&names);
  struct statfs disk = {};
  (void)statfs(data.c_str(), &disk);
  const double memory_gib = static_cast<double>(sysconf(_SC_PHYS_PAGES)) *
                            static_cast<double>(sysconf(_SC_PAGESIZE)) / (1 << 30);
  return fmt::format("{} x {}, {:.0f} GiB, {} {}, file system {:#x}", sysconf(_SC_NPROCESSORS_ONLN),
                     first_match("/proc/cpuinfo", "model name"), memory_gib, names.sysname,
                     names.release, disk.f_type);
}

std::string today() {
  const std::time_t seconds = system_clock().wall().ms / 1'000;
  std::tm parts = {};
  (void)gmtime_r(&seconds, &parts);
  char text[32];
  (void)std::strftime(text, sizeof(text), "%Y-%m-%d %H:%M UTC", &parts);
  return text;
}

void show(const SystemResult& system, const std::vector<Row>& rows) {
  for (const Row& row : rows) {
    std::string text = row.why_not;
    if (row.measured()) {
      text = row.latency_ns.count() > 0
                 ? fmt::format("p50 {:.2f} ms, p99 {:.2f} ms, {} messages",
                               static_cast<double>(row.latency_ns.percentile(0.5)) / 1e6,
                               static_cast<double>(row.latency_ns.percentile(0.99)) / 1e6,
                               row.messages)
                 : fmt::format("{:.0f}/s, {} messages", row.per_s(), row.messages);
      text += fmt::format(", {} lost, {} twice, {} early", row.lost, row.duplicates, row.early);
    }
    std::fprintf(stderr, "%s %s %s: %s\n", system.peer.c_str(), system.mode.c_str(),
                 row.name.c_str(), text.c_str());
  }
}

// One run of one system: server up, rows, server down.
void run_once(const MainOptions& options, const PeerScript& script, size_t index,
              tools::RawWriter& baseline, SystemResult& system) {
  const auto port = static_cast<uint16_t>(kFirstPort + index * kPortsEach);
  const RunningServer server(
      script, fmt::format("{}/{}-{}", options.data, system.peer, system.mode), port, system.mode);
  const std::unique_ptr<Adapter> adapter =
      kPeers[index].adapter({.port = port, .durable = system.mode == "durable"});
  system.notes = adapter->notes();
  system.runs.push_back(run_rows(*adapter, options.workload, baseline));
  show(system, system.runs.back());
}

// The systems and modes asked for, each with its version; those that cannot be had say why.
std::vector<SystemResult> list_systems(const MainOptions& options) {
  std::vector<SystemResult> out;
  for (const std::string& name : options.peers) {
    const PeerScript script(options.scripts, name);
    SystemResult system;
    system.peer = name;
    try {
      script.fetch();
      system.version = script.version();
      for (const std::string& mode : script.modes()) {
        if (options.modes.empty() || std::ranges::count(options.modes, mode) > 0) {
          system.mode = mode;
          system.settings = script.settings(mode);
          out.push_back(system);
        }
      }
    } catch (const PeerError& error) {
      system.mode = "all modes";
      system.failure = error.what();
      out.push_back(system);
    }
  }
  return out;
}

void run_all(const MainOptions& options, Comparison& comparison) {
  tools::RawWriter baseline(options.data);
  for (uint32_t run = 0; run < options.runs; ++run) {
    for (SystemResult& system : comparison.systems) {
      if (tools::interrupted()) {
        return;
      }
      if (!system.failure.empty()) {
        continue;
      }
      const PeerScript script(options.scripts, system.peer);
      const auto peer = std::ranges::find_if(
          kPeers, [&system](const Peer& one) { return one.name == system.peer; });
      try {
        run_once(options, script, static_cast<size_t>(peer - kPeers), baseline, system);
      } catch (const PeerError& error) {
        system.failure = error.what();
        std::fprintf(stderr, "%s %s: %s\n", system.peer.c_str(), system.mode.c_str(), error.what());
      }
    }
  }
}

bool write_file(const std::string& path, const std::string& text) {
  if (path.empty()) {
    return true;
  }
  std::ofstream file(path, std::ios::trunc);
  file << text;
  file.close();
  if (!file) {
    std::fprintf(stderr, "peers_bench: %s could not be written\n", path.c_str());
  }
  return static_cast<bool>(file);
}

int run(const MainOptions& asked) {
  MainOptions options = asked;
  std::error_code failed;
  std::filesystem::create_directories(options.data, failed);
  options.data = std::filesystem::absolute(options.data).string();
  options.scripts = std::filesystem::absolute(options.scripts).string();
  tools::catch_interrupts();
  Comparison comparison;
  comparison.options = options.workload;
  comparison.commit = options.commit;
  comparison.date = today();
  comparison.machine = machine(options.data);
  try {
    comparison.loopback = measure_loopback();
  } catch (const PeerError& error) {
    std::fprintf(stderr, "peers_bench: %s\n", error.what());
    return 1;
  }
  comparison.systems = list_systems(options);
  run_all(options, comparison);
  const std::string markdown = comparison_markdown(comparison);
  std::fputs(markdown.c_str(), stdout);
  const bool written = write_file(options.json_file, comparison_json(comparison)) &&
                       write_file(options.markdown_file, markdown);
  return written && !tools::interrupted() ? 0 : 1;
}

}  // namespace
}  // namespace tidemark::bench

int main(int argc, char** argv) {
  CLI::App app("Compares Tidemark with other messaging systems.");
  tidemark::bench::MainOptions options;
  tidemark::bench::parse(app, options);
  CLI11_PARSE(app, argc, argv);
  return tidemark::bench::run(options);
}
