// Values of messages that name themselves.
//
// Thread: any.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace tidemark::testing {

// The number and then, up to `bytes`, letters that follow from it.
std::string numbered_value(uint64_t number, size_t bytes);
// The number in a value; UINT64_MAX if it is not what numbered_value() gave.
uint64_t number_of(std::string_view value);

}  // namespace tidemark::testing
