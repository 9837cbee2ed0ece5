// Ownership of libuv handles: closing is asynchronous, so the deleter clears `data` (callbacks
// check it), asks libuv to close, and the close callback frees.
#pragma once

#include <memory>

#include <uv.h>

namespace tidemark::client_core {

struct UvClose {
  template <typename Handle>
  void operator()(Handle* handle) const {
    handle->data = nullptr;
    uv_close(reinterpret_cast<uv_handle_t*>(handle),
             [](uv_handle_t* closed) { delete reinterpret_cast<Handle*>(closed); });
  }
};

// An initialised handle. Make it with `new Handle`, call uv_*_init, then wrap it.
template <typename Handle>
using UvHandle = std::unique_ptr<Handle, UvClose>;

}  // namespace tidemark::client_core
