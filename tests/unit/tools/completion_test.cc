#include "tools/completion.h"

#include <string>

#include <CLI/CLI.hpp>
#include <doctest/doctest.h>

namespace tidemark::tools {
namespace {

// A small tree of the same shape as the real one.
struct Tree {
  CLI::App root{"A tool", "tidemark"};
  std::string text;
  bool force = false;

  Tree() {
    root.add_option("-o,--output", text, "How results are printed")->type_name("FORMAT");
    CLI::App* topic = root.add_subcommand("topic", "Topics");
    CLI::App* create = topic->add_subcommand("create", "Create a topic: it's new");
    create->add_option("topic", text, "Name")->type_name("TOPIC");
    create->add_option("--file", text, "A file")->type_name("FILE");
    create->add_option("--group", text, "A group")->type_name("GROUP");
    create->add_flag("--force", force, "Do it");
  }
};

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST_CASE("bash") {
  const Tree tree;
  const std::string script = bash_completion(tree.root);
  CHECK(contains(script, "complete -F _tidemark tidemark"));
  CHECK(contains(script, "case \"$word\" in 'topic'|'topic create') path=$word ;;"));
  CHECK(contains(script, "--file) COMPREPLY=($(compgen -f -- \"$cur\")); return ;;"));
  CHECK(contains(script,
                 "-o|--output) COMPREPLY=($(compgen -W \"table json\" -- \"$cur\")); return ;;"));
  CHECK(contains(script, "$(_tidemark_topics)"));
  CHECK(contains(script, "--group) COMPREPLY=($(compgen -W \"$(_tidemark_groups)\""));
  CHECK(contains(script, "--force"));
}

TEST_CASE("zsh quotes what it must") {
  const Tree tree;
  const std::string script = zsh_completion(tree.root);
  CHECK(contains(script, "#compdef tidemark"));
  CHECK(contains(script, "'create:Create a topic\\: it'\\''s new'"));
  CHECK(contains(script, "'--file=[A file]:file:_files'"));
  CHECK(contains(script, "'--group=[A group]:group:_tidemark_group_names'"));
}

TEST_CASE("fish quotes what it must") {
  const Tree tree;
  const std::string script = fish_completion(tree.root);
  CHECK(contains(script,
                 "complete -c tidemark -n '__tidemark_exactly topic' -a create -d 'Create a topic: "
                 "it\\'s new'"));
  CHECK(contains(script,
                 "complete -c tidemark -n '__tidemark_at topic create' -l file -r -F -d 'A file'"));
  CHECK(
      contains(script, "complete -c tidemark -n '__tidemark_at topic create' -l force -d 'Do it'"));
}

}  // namespace
}  // namespace tidemark::tools
