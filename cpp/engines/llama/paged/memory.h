// llama.cpp's memory interface on top of the paged cache, and how a context gets it.
#pragma once

#include <memory>

#include "engines/llama/paged/attention.h"
#include "engines/llama/paged/cache.h"

struct llama_context;
struct llama_context_params;
struct llama_model;

namespace pm::llama {

// A context whose attention memory is `cache`. Null if llama.cpp refuses.
llama_context* new_paged_context(llama_model* model, const llama_context_params& params,
                                 std::shared_ptr<PagedCache> cache,
                                 std::shared_ptr<PagedAttention> attention);

}  // namespace pm::llama
