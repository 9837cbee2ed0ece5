#include "log/base/wake_fd.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <string>

#include "log/base/check.h"

namespace tidemark {

Result<std::unique_ptr<WakeFd>> WakeFd::create() {
  const int fd = ::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  if (fd < 0) {
    return Status(ErrorCode::kUnavailable,
                  std::string(Status::from_errno(errno, "eventfd").context()));
  }
  return std::unique_ptr<WakeFd>(new WakeFd(fd));
}

WakeFd::~WakeFd() { ::close(fd_); }

void WakeFd::notify() {
  if (notified_.exchange(true)) {
    return;  // it has not looked yet, and will see what we did
  }
  const uint64_t one = 1;
  const ssize_t written = ::write(fd_, &one, sizeof one);
  TIDEMARK_CHECK(written == sizeof one, "the counter of an eventfd has room for one more");
}

void WakeFd::accept() {
  uint64_t count = 0;
  const ssize_t bytes = ::read(fd_, &count, sizeof count);
  TIDEMARK_CHECK(bytes == sizeof count || errno == EAGAIN, "an eventfd can be read");
  // Last, and an exchange: it reads what the notify() wrote that found the flag set.
  notified_.exchange(false);
}

}  // namespace tidemark
