// Which names a topic may have: 1 to 200 of [A-Za-z0-9._-], not "." or "..". A name is never a path
// on disk.
#pragma once

#include <string_view>

#include "log/base/status.h"

namespace tidemark::meta {

// Ok, or kInvalidArgument saying what is wrong and what is allowed.
Status check_topic_name(std::string_view name);

}  // namespace tidemark::meta
