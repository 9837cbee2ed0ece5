#include "tools/completion.h"

#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "tools/cli.h"
#include "tools/errors.h"
#include "tools/output.h"

namespace tidemark::tools {
namespace {

// How an option's value or a positional is completed.
enum class ValueKind {
  kNone,
  kTopic,
  kGroup,
  kFile,
  kDirectory,
  kFormat,
  kCodec,
  kPolicy,
  kState,
  kShell,
  kOther
};

struct Flag {
  std::vector<std::string> names;  // with dashes
  std::string help;
  ValueKind value = ValueKind::kNone;
};

// One command of the tree, with what may follow it.
struct Node {
  std::string path;                                           // "topic create"; empty for the root
  std::vector<std::pair<std::string, std::string>> commands;  // name, help
  std::vector<Flag> flags;
  std::vector<ValueKind> positionals;
};

ValueKind value_kind(const CLI::Option& option) {
  if (option.get_items_expected_max() == 0) {
    return ValueKind::kNone;
  }
  const std::string type = option.get_type_name();
  const auto is = [&type](std::string_view name) { return type.substr(0, type.find(':')) == name; };
  if (is("TOPIC")) {
    return ValueKind::kTopic;
  }
  if (is("GROUP")) {
    return ValueKind::kGroup;
  }
  if (is("FILE")) {
    return ValueKind::kFile;
  }
  if (is("DIR")) {
    return ValueKind::kDirectory;
  }
  if (is("FORMAT")) {
    return ValueKind::kFormat;
  }
  if (is("CODEC")) {
    return ValueKind::kCodec;
  }
  if (is("POLICY")) {
    return ValueKind::kPolicy;
  }
  if (is("STATE")) {
    return ValueKind::kState;
  }
  if (is("SHELL")) {
    return ValueKind::kShell;
  }
  return ValueKind::kOther;
}

std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

void add_flags(const CLI::App& app, Node& node) {
  for (const CLI::Option* option : app.get_options()) {
    if (option->get_positional()) {
      node.positionals.push_back(value_kind(*option));
      continue;
    }
    Flag flag;
    for (const std::string& name : option->get_snames()) {
      flag.names.push_back("-" + name);
    }
    for (const std::string& name : option->get_lnames()) {
      flag.names.push_back("--" + name);
    }
    flag.help = first_line(option->get_description());
    flag.value = value_kind(*option);
    node.flags.push_back(std::move(flag));
  }
}

void collect(const CLI::App& app, const std::string& path, const CLI::App& root,
             std::vector<Node>& out) {
  Node node;
  node.path = path;
  add_flags(app, node);
  if (&app != &root) {
    // Global options may stand behind any command; help is there already.
    Node global;
    add_flags(root, global);
    for (Flag& flag : global.flags) {
      if (flag.names.back() != "--help" && flag.names.back() != "--version") {
        node.flags.push_back(std::move(flag));
      }
    }
  }
  const auto commands = app.get_subcommands([](const CLI::App*) { return true; });
  for (const CLI::App* command : commands) {
    node.commands.emplace_back(command->get_name(), first_line(command->get_description()));
  }
  out.push_back(std::move(node));
  for (const CLI::App* command : commands) {
    collect(*command, path.empty() ? command->get_name() : path + " " + command->get_name(), root,
            out);
  }
}

std::vector<Node> nodes_of(const CLI::App& root) {
  std::vector<Node> out;
  collect(root, "", root, out);
  return out;
}

std::string_view words_of(ValueKind kind) {
  switch (kind) {
    case ValueKind::kFormat:
      return "table json";
    case ValueKind::kCodec:
      return "none zstd";
    case ValueKind::kPolicy:
      return "deliver skip dead-letter";
    case ValueKind::kState:
      return "open parked";
    case ValueKind::kShell:
      return "bash zsh fish";
    case ValueKind::kTopic:
      return "$(_tidemark_topics)";
    case ValueKind::kGroup:
      return "$(_tidemark_groups)";
    case ValueKind::kNone:
    case ValueKind::kFile:
    case ValueKind::kDirectory:
    case ValueKind::kOther:
      return "";
  }
  return "";
}

std::string bash_values(ValueKind kind) {
  if (kind == ValueKind::kFile) {
    return "COMPREPLY=($(compgen -f -- \"$cur\"))";
  }
  if (kind == ValueKind::kDirectory) {
    return "COMPREPLY=($(compgen -d -- \"$cur\"))";
  }
  return fmt::format("COMPREPLY=($(compgen -W \"{}\" -- \"$cur\"))", words_of(kind));
}

constexpr std::string_view kNameFunctions =
    "_tidemark_topics() {\n"
    "  tidemark topic list --quiet --timeout 500ms 2>/dev/null | awk 'NR > 1 { print $1 }'\n"
    "}\n\n"
    "_tidemark_groups() {\n"
    "  tidemark group list --quiet --timeout 500ms 2>/dev/null | awk 'NR > 1 { print $1 }'\n"
    "}\n\n";

std::string quote_single(std::string_view text, std::string_view also_escaped = "") {
  std::string out;
  for (const char c : text) {
    if (c == '\'') {
      out += "'\\''";
    } else {
      out += also_escaped.find(c) != std::string_view::npos ? std::string("\\") + c
                                                            : std::string(1, c);
    }
  }
  return out;
}

std::string zsh_action(ValueKind kind) {
  switch (kind) {
    case ValueKind::kNone:
      return "";
    case ValueKind::kFile:
      return ":file:_files";
    case ValueKind::kDirectory:
      return ":directory:_files -/";
    case ValueKind::kTopic:
      return ":topic:_tidemark_topic_names";
    case ValueKind::kGroup:
      return ":group:_tidemark_group_names";
    case ValueKind::kFormat:
    case ValueKind::kCodec:
    case ValueKind::kPolicy:
    case ValueKind::kState:
    case ValueKind::kShell:
      return fmt::format(":value:({})", words_of(kind));
    case ValueKind::kOther:
      return ":value: ";
  }
  return "";
}

std::string zsh_node(const Node& node) {
  std::string out = fmt::format("    '{}')\n", node.path);
  if (!node.commands.empty()) {
    out += "      local -a commands=(";
    for (const auto& [name, help] : node.commands) {
      out += fmt::format("\n        '{}:{}'", name, quote_single(help, ":"));
    }
    std::string takes_value;
    for (const Flag& flag : node.flags) {
      for (const std::string& name : flag.names) {
        takes_value +=
            flag.value == ValueKind::kNone ? "" : (takes_value.empty() ? "" : "|") + name;
      }
    }
    out += fmt::format(
        "\n      )\n      if [[ $words[CURRENT] != -* && $words[CURRENT-1] != ({}) ]]; then\n"
        "        _describe command commands\n        return\n      fi\n",
        takes_value);
  }
  out += "      _arguments -s";
  for (const Flag& flag : node.flags) {
    for (const std::string& name : flag.names) {
      // With a "=", a value may follow after one or after a space.
      const bool equals = name.starts_with("--") && flag.value != ValueKind::kNone;
      out += fmt::format(" \\\n        '{}{}[{}]{}'", name, equals ? "=" : "",
                         quote_single(flag.help, "[]:"), zsh_action(flag.value));
    }
  }
  for (size_t i = 0; i < node.positionals.size(); ++i) {
    out += fmt::format(" \\\n        '{}{}'", i + 1, zsh_action(node.positionals[i]));
  }
  return out + "\n      ;;\n";
}

std::string fish_values(ValueKind kind) {
  switch (kind) {
    case ValueKind::kNone:
      return "";
    case ValueKind::kFile:
    case ValueKind::kDirectory:
      return " -r -F";
    case ValueKind::kTopic:
      return " -x -a '(__tidemark_topics)'";
    case ValueKind::kGroup:
      return " -x -a '(__tidemark_groups)'";
    case ValueKind::kFormat:
    case ValueKind::kCodec:
    case ValueKind::kPolicy:
    case ValueKind::kState:
    case ValueKind::kShell:
      return fmt::format(" -x -a '{}'", words_of(kind));
    case ValueKind::kOther:
      return " -x";
  }
  return "";
}

std::string fish_quote(std::string_view text) {
  std::string out;
  for (const char c : text) {
    out += c == '\'' || c == '\\' ? std::string("\\") + c : std::string(1, c);
  }
  return out;
}

int print_completion(const CLI::App& root, const std::string& shell) {
  if (shell == "bash") {
    print(bash_completion(root));
  } else if (shell == "zsh") {
    print(zsh_completion(root));
  } else {
    print(fish_completion(root));
  }
  return 0;
}

}  // namespace

std::string bash_completion(const CLI::App& root) {
  std::string cases;
  std::string known;
  for (const Node& node : nodes_of(root)) {
    known += node.path.empty() ? "" : fmt::format("{}'{}'", known.empty() ? "" : "|", node.path);
    std::string words;
    std::string values;
    for (const auto& [name, help] : node.commands) {
      words += name + " ";
    }
    for (const Flag& flag : node.flags) {
      std::string pattern;
      for (const std::string& name : flag.names) {
        words += name + " ";
        pattern += (pattern.empty() ? "" : "|") + name;
      }
      if (flag.value != ValueKind::kNone) {
        values += fmt::format("        {}) {}; return ;;\n", pattern, bash_values(flag.value));
      }
    }
    cases += fmt::format("    '{}')\n      case \"$prev\" in\n{}      esac\n", node.path, values);
    if (!node.positionals.empty()) {
      cases += fmt::format("      if [[ $cur != -* ]]; then {}; return; fi\n",
                           bash_values(node.positionals.front()));
    }
    cases += fmt::format("      COMPREPLY=($(compgen -W \"{}\" -- \"$cur\")) ;;\n", words);
  }
  return fmt::format(
      "# bash completion for tidemark; generated by `tidemark completion bash`\n"
      "{}"
      "_tidemark() {{\n"
      "  local cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD - 1]}} path= word i\n"
      "  for ((i = 1; i < COMP_CWORD; i++)); do\n"
      "    word=${{path:+$path }}${{COMP_WORDS[i]}}\n"
      "    case \"$word\" in {}) path=$word ;; esac\n"
      "  done\n"
      "  COMPREPLY=()\n"
      "  case \"$path\" in\n{}  esac\n"
      "}}\n"
      "complete -F _tidemark tidemark\n",
      kNameFunctions, known, cases);
}

std::string zsh_completion(const CLI::App& root) {
  std::string cases;
  std::string known;
  for (const Node& node : nodes_of(root)) {
    known += node.path.empty() ? "" : fmt::format("{}'{}'", known.empty() ? "" : "|", node.path);
    cases += zsh_node(node);
  }
  return fmt::format(
      "#compdef tidemark\n"
      "# zsh completion for tidemark; generated by `tidemark completion zsh`\n"
      "{}"
      "_tidemark_topic_names() {{ compadd -- $(_tidemark_topics) }}\n"
      "_tidemark_group_names() {{ compadd -- $(_tidemark_groups) }}\n\n"
      "_tidemark() {{\n"
      "  local path_ word i first=1\n"
      "  for ((i = 2; i < CURRENT; i++)); do\n"
      "    word=\"${{path_:+$path_ }}${{words[i]}}\"\n"
      "    case \"$word\" in {}) path_=$word; first=$i ;; esac\n"
      "  done\n"
      "  # _arguments counts from the command on.\n"
      "  words=(tidemark \"${{(@)words[first+1,-1]}}\")\n"
      "  (( CURRENT -= first - 1 ))\n"
      "  case \"$path_\" in\n{}  esac\n"
      "}}\n"
      "if [[ $funcstack[1] == _tidemark ]]; then _tidemark \"$@\"; else compdef _tidemark "
      "tidemark; fi\n",
      kNameFunctions, known, cases);
}

std::string fish_completion(const CLI::App& root) {
  std::string out =
      "# fish completion for tidemark; generated by `tidemark completion fish`\n"
      "function __tidemark_topics\n"
      "  tidemark topic list --quiet --timeout 500ms 2>/dev/null | awk 'NR > 1 { print $1 }'\n"
      "end\n"
      "function __tidemark_groups\n"
      "  tidemark group list --quiet --timeout 500ms 2>/dev/null | awk 'NR > 1 { print $1 }'\n"
      "end\n"
      "# True when the command line has these words, in order, as its first words without a dash.\n"
      "function __tidemark_at\n"
      "  set -l words (string match -v -- '-*' (commandline -opc))[2..-1]\n"
      "  test (count $argv) -eq 0; or test (count $words) -ge (count $argv); or return 1\n"
      "  for i in (seq (count $argv))\n"
      "    test \"$words[$i]\" = \"$argv[$i]\"; or return 1\n"
      "  end\n"
      "end\n"
      "# The same, and no further word.\n"
      "function __tidemark_exactly\n"
      "  set -l words (string match -v -- '-*' (commandline -opc))[2..-1]\n"
      "  test (count $words) -eq (count $argv); and __tidemark_at $argv\n"
      "end\n"
      "complete -c tidemark -f\n";
  for (const Node& node : nodes_of(root)) {
    for (const auto& [name, help] : node.commands) {
      out += fmt::format("complete -c tidemark -n '__tidemark_exactly {}' -a {} -d '{}'\n",
                         node.path, name, fish_quote(help));
    }
    for (const Flag& flag : node.flags) {
      std::string names;
      for (const std::string& name : flag.names) {
        names += name.starts_with("--") ? " -l " + name.substr(2) : " -s " + name.substr(1);
      }
      out += fmt::format("complete -c tidemark -n '__tidemark_at {}'{}{} -d '{}'\n", node.path,
                         names, fish_values(flag.value), fish_quote(flag.help));
    }
    if (!node.positionals.empty() && !node.path.empty()) {
      const std::string values = fish_values(node.positionals.front());
      out += fmt::format("complete -c tidemark -n '__tidemark_exactly {}'{}\n", node.path, values);
    }
  }
  return out;
}

void add_completion_command(CLI::App& app, Globals& globals) {
  const auto shell = std::make_shared<std::string>();
  CLI::App* command = app.add_subcommand("completion", "Print a completion script for a shell");
  command->add_option("shell", *shell, "bash, zsh or fish")
      ->required()
      ->check(CLI::IsMember({"bash", "zsh", "fish"}))
      ->type_name("SHELL");
  command->footer(
      "Examples:\n"
      "  source <(tidemark completion bash)\n"
      "  tidemark completion fish > ~/.config/fish/completions/tidemark.fish");
  command->callback([&app, &globals, shell] {
    globals.action = [&app, shell] { return print_completion(app, *shell); };
  });
}

}  // namespace tidemark::tools
