// Every handle that crosses the border carries one of these; every unwrap of an argument checks it.
#pragma once

#include <napi.h>

namespace pm::addon {

inline constexpr napi_type_tag kCancelTokenTag = {0x6d6d2d63616e6365, 0x9f1c2b7d4e8a4a01};

inline constexpr napi_type_tag kEngineCoreTag = {0x6d6d2d656e67696e, 0x3b8f60d1c2a94e02};

}  // namespace pm::addon
