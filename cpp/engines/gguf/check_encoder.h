// Shapes of a vision encoder's tensors. llama.cpp loads them as they come and asserts while it
// builds the graph, or dereferences a tensor that is not there.
#pragma once

#include <string_view>

#include "engines/gguf/check.h"

namespace pm::gguf {

// `type` is the projector type. Types whose encoder is a plain ViT (lightonocr, pixtral, mlp,
// gemma3, internvl, nemotron_v2_vl, idefics3, janus_pro) are checked tensor by tensor; of others
// only what all have in common. Precondition: the clip.vision keys passed their checks.
Status check_vision_encoder(const GgufFile& file, std::string_view type);

}  // namespace pm::gguf
