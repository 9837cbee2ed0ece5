#include "broker/server.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <utility>

#include "broker/metrics.h"
#include "log/base/check.h"
#include "log/base/logging.h"

namespace tidemark::broker {

namespace {

// A loop that does not report within this time is named in the answer.
constexpr int64_t kGatherMsMax = 3'000;
// Tools that signal a process and its group bring every signal twice; an impatient operator is
// slower than that.
constexpr int64_t kSameSignalMs = 200;
// While stopping, what is still open is logged so often.
constexpr int64_t kStopReportMs = 5'000;
// Files and sockets of the broker besides its connections.
constexpr rlim_t kDescriptorsBesideConnections = 4096;

uint32_t cores() { return std::max(1u, uv_available_parallelism()); }

// Many systems allow 1024 descriptors until asked; the limit of connections needs more.
void raise_descriptor_limit() {
  rlimit limit = {};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) {
    return;
  }
  const rlim_t wanted = limits::kConnectionsMax + kDescriptorsBesideConnections;
  if (limit.rlim_cur < wanted) {
    limit.rlim_cur = std::min(wanted, limit.rlim_max);
    static_cast<void>(::setrlimit(RLIMIT_NOFILE, &limit));
  }
  if (limit.rlim_cur < wanted) {
    log_line(LogLevel::kWarning, "few_file_descriptors limit=" + std::to_string(limit.rlim_cur) +
                                     " wanted=" + std::to_string(wanted));
  }
}

Result<net::HostPort> advertised_address(const Config& config, const net::HostPort& listening) {
  if (!config.advertise.empty()) {
    return net::parse_host_port(config.advertise);
  }
  net::HostPort out = listening;
  if (out.is_wildcard()) {
    // Nobody can connect to "any address": the name of this machine is the best guess.
    char name[UV_MAXHOSTNAMESIZE];
    size_t size = sizeof name;
    RETURN_IF_ERROR(net::uv_status(uv_os_gethostname(name, &size), "name of this host"));
    out.host = name;
  }
  return out;
}

Status in_key(std::string_view key, const Status& status) {
  return status.ok()
             ? status
             : Status(status.code(), std::string(key) + ": " + std::string(status.context()));
}

}  // namespace

Result<std::unique_ptr<Server>> Server::create(Config config, FileSystem& fs, Clock& clock,
                                               uint64_t seed) {
  std::unique_ptr<Server> server(new Server(fs, clock));
  server->started_ = clock.wall();
  server->started_monotonic_ = clock.monotonic();
  server->world_.config = std::move(config);
  server->world_.file_system = &fs;
  server->world_.clock = &clock;
  raise_descriptor_limit();
  Random random(seed);
  RETURN_IF_ERROR(server->open_data(random));
  RETURN_IF_ERROR(server->create_loops());
  RETURN_IF_ERROR(server->bind_sockets());
  RETURN_IF_ERROR(server->watch_signals());
  return server;
}

Server::~Server() {
  // All of them stand on loop 0.
  http_.reset();
  http_listener_.reset();
  listener_.reset();
  second_timer_.reset();
  signals_.clear();
}

Status Server::open_data(Random& random) {
  const uint32_t usual = std::min<uint32_t>(kShardsPerCoreDefault * cores(), limits::kShardsMax);
  ASSIGN_OR_RETURN(data_, DataDirectory::open(fs_, random, world_.config.data_dir,
                                              static_cast<uint16_t>(world_.config.shards),
                                              static_cast<uint16_t>(usual)));
  world_.data = data_.get();
  for (uint16_t shard = 0; shard < world_.shards(); ++shard) {
    world_.shard_seeds.push_back(random.next());
  }
  return {};
}

Status Server::create_loops() {
  const uint32_t wanted =
      world_.config.loops != 0 ? world_.config.loops : std::min(cores(), kLoopsMax);
  // A loop without a shard would have nothing to do.
  world_.loops = std::min<uint32_t>(wanted, world_.shards());
  loops_stopped_.resize(world_.loops);
  for (uint32_t pair = 0; pair < world_.loops * world_.loops; ++pair) {
    const bool to_itself = pair / world_.loops == pair % world_.loops;
    world_.mailboxes.push_back(to_itself ? nullptr : std::make_unique<LoopMailbox>());
  }
  for (uint32_t loop = 0; loop < world_.loops; ++loop) {
    ASSIGN_OR_RETURN(std::unique_ptr<Reactor> reactor,
                     Reactor::create(world_, loop, loop == 0 ? this : nullptr));
    world_.reactors.push_back(std::move(reactor));
  }
  return {};
}

Status Server::bind_sockets() {
  const Config& config = world_.config;
  ASSIGN_OR_RETURN(const net::HostPort address, net::parse_host_port(config.listen));
  Result<std::unique_ptr<net::Listener>> listener =
      net::Listener::bind(main_loop().event_loop(), address);
  RETURN_IF_ERROR(in_key("listen", listener.status()));
  listener_ = std::move(*listener);
  Result<net::HostPort> advertised = advertised_address(config, listener_->address());
  RETURN_IF_ERROR(in_key("advertise", advertised.status()));
  world_.advertised = *advertised;
  if (config.http_listen.empty()) {
    return {};
  }
  ASSIGN_OR_RETURN(const net::HostPort http, net::parse_host_port(config.http_listen));
  Result<std::unique_ptr<net::Listener>> http_listener =
      net::Listener::bind(main_loop().event_loop(), http);
  RETURN_IF_ERROR(in_key("http-listen", http_listener.status()));
  http_listener_ = std::move(*http_listener);
  return {};
}

Status Server::watch_signals() {
  // Clients that go away and files over a size limit are errors of the calls that meet them.
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGXFSZ, SIG_IGN);
  std::signal(SIGHUP, SIG_IGN);
  for (const int signal : {SIGTERM, SIGINT}) {
    ASSIGN_OR_RETURN(std::unique_ptr<net::SignalWatcher> watcher,
                     net::SignalWatcher::create(main_loop().event_loop(), signal,
                                                [this, signal] { signalled(signal); }));
    signals_.push_back(std::move(watcher));
  }
  return {};
}

void Server::signalled(int signal) {
  log_line(LogLevel::kInfo, "signal number=" + std::to_string(signal));
  const MonotonicTime now = clock_.monotonic();
  if (stop_requested_) {
    if ((now.ns - first_signal_.ns) / 1'000'000 < kSameSignalMs) {
      return;
    }
    // What is not on disk now was not acknowledged.
    std::_Exit(1);
  }
  stop_requested_ = true;
  first_signal_ = now;
  if (state_ == State::kServing) {
    stop();
  }
}

Status Server::run() {
  second_timer_ =
      std::make_unique<net::Timer>(main_loop().event_loop(), [this] { every_second(); });
  second_timer_->start(1'000, 1'000);
  std::vector<std::thread> threads;
  for (uint32_t loop = 1; loop < world_.loops; ++loop) {
    threads.emplace_back([this, loop] { world_.reactors[loop]->run(); });
  }
  main_loop().run();
  for (std::thread& thread : threads) {
    thread.join();
  }
  log_line(LogLevel::kInfo, "stopped status=\"" + failure_.to_string() + "\"");
  return failure_;
}

void Server::loop_opened(OpenedMessage message) {
  ++loops_opened_;
  if (!message.status.ok()) {
    fail(message.status);
  }
  if (loops_opened_ < world_.loops) {
    return;
  }
  if (failure_.ok() && !stop_requested_) {
    serve();
  } else {
    stop();
  }
}

void Server::fail(const Status& status) {
  log_line(LogLevel::kError, "failed status=\"" + status.to_string() + "\"");
  if (failure_.ok()) {
    failure_ = status;
  }
}

void Server::serve() {
  Status status = in_key("listen", listener_->start([this](net::UvHandle<uv_tcp_t> socket) {
    main_loop().accept(std::move(socket));
  }));
  if (status.ok() && http_listener_ != nullptr) {
    http_address_ = http_listener_->address().to_string();
    http_ = std::make_unique<net::HttpServer>(clock_, *this, std::move(http_listener_));
    status = in_key("http-listen", http_->start());
  }
  if (!status.ok()) {
    fail(status);
    stop();
    return;
  }
  state_ = State::kServing;
  const int64_t ms = (clock_.monotonic().ns - started_monotonic_.ns) / 1'000'000;
  log_line(LogLevel::kInfo,
           "serving version=" TIDEMARK_VERSION " loops=" + std::to_string(world_.loops) +
               " advertised=" + world_.advertised.to_string() + " start_ms=" + std::to_string(ms));
  // The one line on stdout; who waits for it may have closed the pipe.
  std::printf("ready listen=%s http=%s shards=%u data=%s fsync=%s pid=%d\n",
              listener_->address().to_string().c_str(), http_address_.c_str(),
              unsigned{world_.shards()}, data_->path().c_str(),
              world_.config.fsync.to_string().c_str(), static_cast<int>(::getpid()));
  std::fflush(stdout);
}

// --- stopping ---

void Server::stop() {
  state_ = State::kStopping;
  stopping_since_ = clock_.monotonic();
  listener_.reset();
  for (uint32_t loop = 0; loop < world_.loops; ++loop) {
    main_loop().send(loop, StopShardsMessage{});
  }
}

void Server::shards_stopped(ShardsStoppedMessage message) {
  loops_stopped_[message.loop] = true;
  if (!message.status.ok()) {
    fail(message.status);
  }
  if (std::find(loops_stopped_.begin(), loops_stopped_.end(), false) == loops_stopped_.end()) {
    close();
  }
}

void Server::close() {
  state_ = State::kClosing;
  http_.reset();
  http_listener_.reset();
  second_timer_.reset();
  for (uint32_t loop = 0; loop < world_.loops; ++loop) {
    main_loop().send(loop, CloseMessage{});
  }
}

void Server::every_second() {
  const MonotonicTime now = clock_.monotonic();
  if (http_ != nullptr) {
    http_->check_deadlines();
  }
  for (auto at = gathers_.begin(); at != gathers_.end();) {
    if ((now.ns - at->second.started.ns) / 1'000'000 < kGatherMsMax) {
      ++at;
      continue;
    }
    std::string text = "no report from loop";
    for (size_t loop = 0; loop < at->second.reports.size(); ++loop) {
      text += at->second.reports[loop] ? "" : " " + std::to_string(loop);
    }
    http_->respond(at->second.request, {.status = 503, .body = text + "\n"});
    at = gathers_.erase(at);
  }
  const int64_t stopping_ms = (now.ns - stopping_since_.ns) / 1'000'000;
  if (state_ == State::kStopping && stopping_ms > 0 && stopping_ms % kStopReportMs < 1'000 &&
      stopping_ms > 1'000) {
    std::string open;
    for (size_t loop = 0; loop < loops_stopped_.size(); ++loop) {
      open += loops_stopped_[loop] ? "" : (open.empty() ? "" : ",") + std::to_string(loop);
    }
    log_line(LogLevel::kWarning,
             "still_stopping ms=" + std::to_string(stopping_ms) + " loops=" + open);
  }
}

// --- pages ---

void Server::http_get(net::HttpRequestId request, std::string_view path) {
  if (path == "/metrics") {
    begin_gather(request, Page::kMetrics);
  } else if (path == "/readyz") {
    begin_gather(request, Page::kReady);
  } else if (path == "/healthz") {
    http_->respond(request, {.body = "ok\n"});
  } else {
    http_->respond(
        request, {.status = 404, .body = "not found; there are /metrics, /healthz and /readyz\n"});
  }
}

void Server::begin_gather(net::HttpRequestId request, Page page) {
  const uint64_t id = next_gather_++;
  Gather& gather = gathers_[id];
  gather.request = request;
  gather.page = page;
  gather.started = clock_.monotonic();
  gather.reports.resize(world_.loops);
  gather.missing = world_.loops;
  for (uint32_t loop = 0; loop < world_.loops; ++loop) {
    main_loop().send(loop, ReportRequestMessage{id});
  }
}

void Server::loop_report(ReportMessage message) {
  const auto found = gathers_.find(message.gather);
  if (found == gathers_.end()) {
    return;
  }
  Gather& gather = found->second;
  gather.reports[message.report.loop] = std::move(message.report);
  if (--gather.missing > 0) {
    return;
  }
  const net::HttpRequestId request = gather.request;
  const Page page = gather.page;
  const net::HttpResponse response =
      page == Page::kReady ? ready_page(gather) : metrics_page(std::move(gather));
  gathers_.erase(found);
  if (http_ != nullptr) {
    http_->respond(request, response);
  }
}

net::HttpResponse Server::metrics_page(Gather gather) const {
  BrokerReport report;
  report.version = TIDEMARK_VERSION;
  report.fsync = world_.config.fsync.to_string();
  report.cluster_id = data_->identity().cluster_id;
  report.node_id = data_->identity().node.value();
  report.started_ms = started_.ms;
  report.uptime_seconds = static_cast<double>(clock_.monotonic().ns - started_monotonic_.ns) / 1e9;
  size_t resident = 0;
  if (uv_resident_set_memory(&resident) == 0) {
    report.resident_bytes = resident;
  }
  for (std::optional<LoopReport>& loop : gather.reports) {
    report.loops.push_back(std::move(*loop));
  }
  return {.content_type = "text/plain; version=0.0.4; charset=utf-8",
          .body = to_prometheus(report)};
}

net::HttpResponse Server::ready_page(const Gather& gather) const {
  std::string reasons;
  std::string notes;
  if (state_ != State::kServing) {
    reasons += "the broker is stopping\n";
  }
  for (const std::optional<LoopReport>& loop : gather.reports) {
    for (const ShardReport& shard : loop->shards) {
      const std::string name = "shard " + std::to_string(shard.stats.shard);
      if (!shard.ready) {
        reasons += name + " is not ready\n";
      }
      if (shard.stats.read_only) {
        reasons += name + " is read-only after a storage failure\n";
      }
      if (shard.stats.disk_full) {
        notes += name + " finds no disk space; it serves reads\n";
      }
    }
  }
  if (!reasons.empty()) {
    return {.status = 503, .body = reasons + notes};
  }
  return {.body = "ready\n" + notes};
}

}  // namespace tidemark::broker
