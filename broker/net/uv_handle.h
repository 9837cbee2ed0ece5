// libuv handles owned by std::unique_ptr: letting go of one closes it; its memory is freed in the
// close callback.
//
// The deleter clears `data` first. Every callback begins with owner_of<T>() and does nothing when
// that gives nullptr, so a callback may destroy the object it belongs to.
#pragma once

#include <memory>

#include <uv.h>

#include "log/base/result.h"

namespace tidemark::net {

struct UvClose {
  template <typename Handle>
  void operator()(Handle* handle) const {
    handle->data = nullptr;
    uv_close(reinterpret_cast<uv_handle_t*>(handle),
             [](uv_handle_t* closed) { delete reinterpret_cast<Handle*>(closed); });
  }
};

// Initialised handles only: uv_close() on another would be undefined.
template <typename Handle>
using UvHandle = std::unique_ptr<Handle, UvClose>;

// The object that `data` of a handle was set to, or nullptr once the handle is closing.
template <typename Owner, typename Handle>
Owner* owner_of(Handle* handle) {
  return static_cast<Owner*>(handle->data);
}

// What libuv says about a call on `subject`: "listen 127.0.0.1:9470: address already in use".
// UV_EADDRINUSE -> kConflict; UV_EACCES, UV_EPERM -> kNotAllowed; UV_ENOENT, UV_EAI_NONAME ->
// kNotFound; else kUnavailable.
Status uv_status(int error, std::string_view subject);

}  // namespace tidemark::net
