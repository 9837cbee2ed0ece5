// Runs a fuzz target over stored inputs, without a fuzzer: `replay FILE-OR-FOLDER...`.
//
// The empty input always comes first; a folder stands for the files in it, by name. Each input lies
// in a heap block of exactly its size, so that a sanitizer build sees a read past the end. The last
// name printed is the input that failed. Exits with 1 when an argument cannot be read or names no
// input at all.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <system_error>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

namespace fs = std::filesystem;

// The regular files that `path` stands for, sorted; empty if there are none.
std::vector<fs::path> inputs_of(const fs::path& path) {
  std::vector<fs::path> inputs;
  std::error_code error;
  if (fs::is_directory(path, error)) {
    for (const auto& entry : fs::directory_iterator(path, error)) {
      if (entry.is_regular_file(error)) {
        inputs.push_back(entry.path());
      }
    }
  } else if (fs::is_regular_file(path, error)) {
    inputs.push_back(path);
  }
  std::sort(inputs.begin(), inputs.end());
  return inputs;
}

bool replay(const fs::path& path) {
  std::fprintf(stderr, "%s\n", path.c_str());
  std::ifstream file(path, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  if (!file.is_open() || file.bad()) {
    std::fprintf(stderr, "cannot read it\n");
    return false;
  }
  const auto exact = std::make_unique<uint8_t[]>(text.size());
  std::copy(text.begin(), text.end(), exact.get());
  LLVMFuzzerTestOneInput(exact.get(), text.size());
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  const auto nothing = std::make_unique<uint8_t[]>(0);
  LLVMFuzzerTestOneInput(nothing.get(), 0);
  size_t count = 1;
  bool ok = true;
  for (int i = 1; i < argc; ++i) {
    const std::vector<fs::path> inputs = inputs_of(argv[i]);
    if (inputs.empty()) {
      std::fprintf(stderr, "no inputs in %s\n", argv[i]);
      ok = false;
    }
    for (const fs::path& input : inputs) {
      ok = replay(input) && ok;
      ++count;
    }
  }
  std::printf("%zu inputs replayed\n", count);
  return ok ? 0 : 1;
}
