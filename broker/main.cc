// tidemarkd: reads its flags, starts the server, turns the outcome into an exit code.
#include <cstdio>

#include "broker/flags.h"
#include "broker/logging.h"
#include "broker/server.h"
#include "log/base/clock.h"
#include "log/base/posix_file_system.h"
#include "log/base/random.h"

int main(int argc, char** argv) {
  using tidemark::broker::Invocation;
  tidemark::PosixFileSystem file_system;
  Invocation invocation = tidemark::broker::read_command_line(file_system, argc, argv);
  if (invocation.action == Invocation::Action::kExit) {
    std::fputs(invocation.out.c_str(), stdout);
    std::fputs(invocation.error.c_str(), stderr);
    return invocation.exit_code;
  }
  tidemark::broker::start_logging(invocation.config.log_level);
  auto server =
      tidemark::broker::Server::create(std::move(invocation.config), file_system,
                                       tidemark::system_clock(), tidemark::seed_from_system());
  if (!server.ok()) {
    std::fprintf(stderr, "tidemarkd: %s\n", server.error().to_string().c_str());
    return 1;
  }
  const tidemark::Status status = (*server)->run();
  if (!status.ok()) {
    std::fprintf(stderr, "tidemarkd: %s\n", status.to_string().c_str());
    return 1;
  }
  return 0;
}
