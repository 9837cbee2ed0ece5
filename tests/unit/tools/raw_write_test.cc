#include "tools/raw_write.h"

#include <filesystem>

#include <doctest/doctest.h>

#include "tests/support/temp_directory.h"

namespace tidemark::tools {
namespace {

TEST_CASE("slices go on in the same file and add up; the files are removed") {
  const testing::TempDirectory directory;
  {
    RawWriter writer(directory.path());
    CHECK(writer.result().mb_per_s() == doctest::Approx(0));
    // At least one write each, however short the time.
    REQUIRE(writer.write(1e-9, 4'096).ok());
    REQUIRE(writer.write(1e-9, 8'192).ok());
    CHECK(writer.result().bytes == 12'288);
    CHECK(writer.result().syncs == 2);
    CHECK(writer.result().seconds > 0);
    CHECK(std::distance(std::filesystem::directory_iterator(directory.path()), {}) == 1);
    REQUIRE(writer.remove_files().ok());
    CHECK(std::filesystem::is_empty(directory.path()));
    REQUIRE(writer.write(1e-9, 4'096).ok());
    CHECK_FALSE(std::filesystem::is_empty(directory.path()));
  }
  CHECK(std::filesystem::is_empty(directory.path()));
}

TEST_CASE("a folder that is not there is an error") {
  const testing::TempDirectory directory;
  RawWriter writer(directory / "absent");
  CHECK_FALSE(writer.write(1e-9, 4'096).ok());
}

}  // namespace
}  // namespace tidemark::tools
