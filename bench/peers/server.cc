#include "bench/peers/server.h"

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <sstream>
#include <utility>

#include <fmt/format.h>

#include "bench/peers/adapter.h"

namespace tidemark::bench {
namespace {

// For the shell: one word, whatever is in it.
std::string shell_word(const std::string& text) {
  std::string out = "'";
  for (const char c : text) {
    out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  }
  return out + "'";
}

}  // namespace

PeerScript::PeerScript(const std::string& folder, std::string peer)
    : peer_(std::move(peer)), command_(shell_word(fmt::format("{}/{}.sh", folder, peer_))) {}

void PeerScript::run(const std::string& arguments) const {
  // The set-up of a server, in words that people can repeat in a shell.
  const int result = std::system((command_ + " " + arguments).c_str());
  if (result != 0) {
    throw PeerError(fmt::format("{}.sh {} failed", peer_, arguments));
  }
}

std::string PeerScript::ask(const std::string& arguments) const {
  std::FILE* pipe = popen((command_ + " " + arguments).c_str(), "r");
  if (pipe == nullptr) {
    throw PeerError(fmt::format("{}.sh {} could not be run", peer_, arguments));
  }
  std::string text;
  char part[256];
  while (std::fgets(part, sizeof(part), pipe) != nullptr) {
    text += part;
  }
  if (pclose(pipe) != 0) {
    throw PeerError(fmt::format("{}.sh {} failed", peer_, arguments));
  }
  while (!text.empty() && text.back() == '\n') {
    text.pop_back();
  }
  return text;
}

void PeerScript::fetch() const { run("fetch"); }

std::string PeerScript::version() const { return ask("version"); }

std::vector<std::string> PeerScript::modes() const {
  std::istringstream words(ask("modes"));
  std::vector<std::string> out;
  for (std::string word; words >> word;) {
    out.push_back(word);
  }
  return out;
}

std::string PeerScript::settings(const std::string& mode) const {
  return ask("settings " + shell_word(mode));
}

RunningServer::RunningServer(const PeerScript& script, std::string data, uint16_t port,
                             const std::string& mode)
    : script_(script), data_(std::move(data)) {
  script_.run(fmt::format("start {} {} {}", shell_word(data_), port, shell_word(mode)));
}

RunningServer::~RunningServer() {
  try {
    script_.run(fmt::format("stop {}", shell_word(data_)));
  } catch (const PeerError& error) {
    // The folder is left for whoever looks into it.
    std::fprintf(stderr, "peers_bench: %s\n", error.what());
    return;
  }
  std::error_code ignored;
  std::filesystem::remove_all(data_, ignored);
}

}  // namespace tidemark::bench
