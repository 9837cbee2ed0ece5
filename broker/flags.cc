#include "broker/flags.h"

#include <map>
#include <vector>

#include <CLI/CLI.hpp>

namespace tidemark::broker {

namespace {

constexpr int kExitFailed = 1;
constexpr int kExitUsage = 2;

Invocation exit_with(int code, std::string out, std::string error) {
  Invocation invocation;
  invocation.exit_code = code;
  invocation.out = std::move(out);
  invocation.error = std::move(error);
  return invocation;
}

Invocation usage_error(const std::string& what) {
  return exit_with(kExitUsage, "", "tidemarkd: " + what + "\nTry 'tidemarkd --help'.\n");
}

// The first argument that no option took.
std::string unexpected(const std::string& argument) {
  if (!argument.starts_with("--")) {
    return "unexpected argument '" + argument.substr(0, 64) + "'";
  }
  std::vector<std::string> known = {"config", "check-config", "print-config", "help", "version"};
  for (const ConfigKey& key : config_keys()) {
    known.emplace_back(key.name);
  }
  const std::string name = argument.substr(2, argument.find('=') - 2);
  const std::string hint = suggestion(name, known);
  return "unknown flag '--" + name.substr(0, 64) + "'" + (hint.empty() ? "" : "; " + hint);
}

}  // namespace

Invocation read_command_line(FileSystem& fs, int argc, const char* const* argv) {
  CLI::App app("Tidemark, a persistent message queue: the broker.", "tidemarkd");
  app.footer("Exit codes: 0 stopped in order, 1 failed, 2 usage.");
  app.allow_extras();
  app.set_version_flag("--version", "tidemarkd " TIDEMARK_VERSION);
  std::string file;
  bool check = false;
  bool print = false;
  app.add_option("--config", file, "TOML file; flags beat it")->type_name("FILE");
  app.add_flag("--check-config", check, "check the configuration and exit");
  app.add_flag("--print-config", print, "print the configuration as TOML and exit");
  std::map<std::string, std::string> flags;
  std::vector<std::pair<std::string, CLI::Option*>> options;
  for (const ConfigKey& key : config_keys()) {
    const std::string name(key.name);
    const std::string value = key.get(Config());
    CLI::Option* option = app.add_option("--" + name, flags[name], std::string(key.help));
    option->type_name(std::string(key.value))->default_str(value);
    options.emplace_back(name, option);
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    return exit_with(0, app.help(), "");
  } catch (const CLI::CallForVersion&) {
    return exit_with(0, app.version() + "\n", "");
  } catch (const CLI::ParseError& error) {
    return usage_error(error.what());
  }
  if (const std::vector<std::string> extras = app.remaining(); !extras.empty()) {
    return usage_error(unexpected(extras.front()));
  }
  Invocation invocation;
  if (!file.empty()) {
    if (const Status status = apply_config_file(invocation.config, fs, file); !status.ok()) {
      return exit_with(kExitFailed, "", "tidemarkd: " + status.to_string() + "\n");
    }
  }
  for (const auto& [name, option] : options) {
    if (option->count() == 0) {
      continue;
    }
    if (const Status status = set_config_key(invocation.config, name, flags[name], "flag");
        !status.ok()) {
      return usage_error(std::string(status.context()));
    }
  }
  if (print) {
    return exit_with(0, to_toml(invocation.config), "");
  }
  if (check) {
    return exit_with(0, "configuration ok\n", "");
  }
  invocation.action = Invocation::Action::kRun;
  return invocation;
}

}  // namespace tidemark::broker
