// What lives on the client's I/O thread: the libuv loop, the cluster, and the components of
// producers and consumers.
//
// Thread: post(), wake() and on_thread() from any thread; everything else on the I/O thread.
// A turn: network events and posted tasks, then every component runs once; the earliest time one of
// them asked for ends the next wait. All signals are blocked on the I/O thread (a broken connection
// must not raise SIGPIPE in the program).
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include <uv.h>

#include "clients/cpp/src/cluster.h"
#include "clients/cpp/src/connection.h"
#include "clients/cpp/src/uv_handle.h"
#include "log/base/function.h"
#include "log/base/wake_fd.h"

namespace tidemark::client_core {

class Runtime final : public std::enable_shared_from_this<Runtime> {
 public:
  using Task = MoveOnlyFunction<void()>;

  // Starts the thread.
  static Result<std::shared_ptr<Runtime>> start(ClusterOptions options);
  ~Runtime();
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;

  // Runs the task on the I/O thread, in the order of the calls, never inside this call. Dropped
  // after stop().
  void post(Task task);
  // Makes a turn happen. Cheap when one is already due. Harmless after stop().
  void wake();

  [[nodiscard]] bool on_thread() const { return std::this_thread::get_id() == thread_id_.load(); }

  // Ends the thread after what was posted before; sessions are closed, components dropped. Waits
  // for it unless called on it.
  void stop();

  [[nodiscard]] Cluster& cluster() { return *cluster_; }

  void add(std::shared_ptr<Component> component) { components_.push_back(std::move(component)); }

  void remove(const Component* component);

 private:
  Runtime() = default;
  Status initialise(ClusterOptions options);
  void run_thread();
  void turn();
  void run_tasks();
  void shut_down();

  uv_loop_t loop_{};
  UvHandle<uv_timer_t> timer_;
  UvHandle<uv_prepare_t> prepare_;
  std::unique_ptr<UvChannelFactory> factory_;
  std::unique_ptr<Cluster> cluster_;
  std::vector<std::shared_ptr<Component>> components_;
  bool stopping_ = false;

  std::thread thread_;
  std::atomic<std::thread::id> thread_id_{};

  std::unique_ptr<WakeFd> wake_;
  UvHandle<uv_poll_t> wake_poll_;
  std::mutex mutex_;  // tasks_
  std::vector<Task> tasks_;
};

}  // namespace tidemark::client_core
