// Shell completion scripts, made from the command tree: a new command or flag needs no line here.
//
// Thread: one.
#pragma once

#include <string>

namespace CLI {
class App;
}  // namespace CLI

namespace tidemark::tools {

// Scripts for the root of a command tree. Topic names are completed by asking the broker, shortly.
std::string bash_completion(const CLI::App& root);
std::string zsh_completion(const CLI::App& root);
std::string fish_completion(const CLI::App& root);

}  // namespace tidemark::tools
