#include "clients/cpp/src/runtime.h"

#include <signal.h>

#include <algorithm>
#include <utility>

#include "log/base/check.h"
#include "log/base/clock.h"
#include "log/base/random.h"

namespace tidemark::client_core {

namespace {

Status loop_error(int code, std::string_view what) {
  return {ErrorCode::kInternal, std::string(what) + ": " + uv_strerror(code)};
}

// Blocks every signal for the thread that is started meanwhile.
class SignalsBlocked {
 public:
  SignalsBlocked() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
  }

  ~SignalsBlocked() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

  SignalsBlocked(const SignalsBlocked&) = delete;
  SignalsBlocked& operator=(const SignalsBlocked&) = delete;

 private:
  sigset_t before_{};
};

}  // namespace

Result<std::shared_ptr<Runtime>> Runtime::start(ClusterOptions options) {
  std::shared_ptr<Runtime> runtime(new Runtime);
  RETURN_IF_ERROR(runtime->initialise(std::move(options)));
  const SignalsBlocked blocked;
  // The thread keeps the runtime alive: the last handle may be dropped in a callback, on this very
  // thread.
  runtime->thread_ = std::thread([runtime] { runtime->run_thread(); });
  return runtime;
}

Status Runtime::initialise(ClusterOptions options) {
  ASSIGN_OR_RETURN(wake_, WakeFd::create());
  if (const int code = uv_loop_init(&loop_); code != 0) {
    stopping_ = true;
    return loop_error(code, "event loop");
  }
  auto* const poll = new uv_poll_t;
  if (const int code = uv_poll_init(&loop_, poll, wake_->fd()); code != 0) {
    delete poll;
    uv_loop_close(&loop_);
    return loop_error(code, "wake-up of the event loop");
  }
  wake_poll_ = UvHandle<uv_poll_t>(poll);
  wake_poll_->data = this;
  // The turn that follows does the work.
  uv_poll_start(wake_poll_.get(), UV_READABLE, [](uv_poll_t* handle, int, int) {
    if (handle->data != nullptr) {
      static_cast<Runtime*>(handle->data)->wake_->accept();
    }
  });
  auto* const timer = new uv_timer_t;
  uv_timer_init(&loop_, timer);
  timer_ = UvHandle<uv_timer_t>(timer);
  auto* const prepare = new uv_prepare_t;
  uv_prepare_init(&loop_, prepare);
  prepare_ = UvHandle<uv_prepare_t>(prepare);
  prepare_->data = this;
  // Runs before every wait, that is after everything that woke the loop.
  uv_prepare_start(prepare_.get(), [](uv_prepare_t* handle) {
    if (handle->data != nullptr) {
      static_cast<Runtime*>(handle->data)->turn();
    }
  });
  factory_ =
      std::make_unique<UvChannelFactory>(loop_, [this](Task task) { post(std::move(task)); });
  cluster_ =
      std::make_unique<Cluster>(std::move(options), *factory_, system_clock(), seed_from_system());
  return {};
}

Runtime::~Runtime() {
  if (thread_.joinable()) {
    thread_.detach();  // the thread itself drops the last reference
  }
}

void Runtime::run_thread() {
  thread_id_ = std::this_thread::get_id();
  uv_run(&loop_, UV_RUN_DEFAULT);
  const int closed = uv_loop_close(&loop_);
  TIDEMARK_CHECK(closed == 0, "every handle was closed");
}

void Runtime::post(Task task) {
  {
    const std::lock_guard lock(mutex_);
    tasks_.push_back(std::move(task));
  }
  wake();
}

void Runtime::wake() { wake_->notify(); }

void Runtime::stop() {
  post([this] { stopping_ = true; });
  if (thread_.joinable() && !on_thread()) {
    thread_.join();
  }
}

void Runtime::remove(const Component* component) {
  std::erase_if(components_, [component](const auto& each) { return each.get() == component; });
}

void Runtime::run_tasks() {
  std::vector<Task> tasks;
  {
    const std::lock_guard lock(mutex_);
    tasks.swap(tasks_);
  }
  for (Task& task : tasks) {
    task();
  }
}

void Runtime::turn() {
  run_tasks();
  if (stopping_) {
    shut_down();
    return;
  }
  const MonotonicTime now = system_clock().monotonic();
  MonotonicTime next = cluster_->run(now);
  for (size_t i = 0; i < components_.size(); ++i) {
    next = std::min(next, components_[i]->run(now));
  }
  // Components asked for metadata and sent requests.
  next = std::min(next, cluster_->run(now));
  if (next == kNever) {
    uv_timer_stop(timer_.get());
    return;
  }
  const int64_t wait_ns = std::max<int64_t>(0, next.ns - now.ns);
  uv_update_time(&loop_);
  uv_timer_start(
      timer_.get(), [](uv_timer_t* /*handle*/) {},
      static_cast<uint64_t>((wait_ns + kNsPerMs - 1) / kNsPerMs), 0);
}

void Runtime::shut_down() {
  components_.clear();
  cluster_.reset();
  factory_.reset();
  timer_.reset();
  prepare_.reset();
  wake_poll_.reset();
  std::vector<Task> dropped;
  {
    const std::lock_guard lock(mutex_);
    dropped.swap(tasks_);
  }
}

}  // namespace tidemark::client_core
