// Test support: tiny models with random weights, of every architecture that the paged KV cache
// serves, made in memory by llama.cpp itself (it names the tensors and their shapes).
#pragma once

#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "llama.h"

namespace pm::llama::testing {

struct RandomModelSpec {
  std::string name;  // of the test case: [a-zA-Z0-9_]
  std::string architecture;
  int layers = 2;
  int query_heads = 2;
  int kv_heads = 1;
  int head_size = 64;
  // Width of the residual stream; 0: query_heads * head_size, as some architectures demand.
  int width = 0;
  // Layers that slide see so many positions; 0: the architecture's metadata names no window.
  int window = 0;
  int window_pattern = 2;  // every so many-th layer sees everything
  float softcap = 0;
  bool experts = false;
  bool two_dimensional = false;  // M-RoPE
  // Standard deviation of matrices; 0: 1/sqrt(inputs). That keeps activations at unit size, so that
  // attention is neither uniform nor sharp.
  float deviation = 0;

  bool slides() const { return window > 0 && architecture != "phi3"; }
  int embedding_width() const { return width > 0 ? width : query_heads * head_size; }
};

// What GoogleTest prints.
inline std::ostream& operator<<(std::ostream& out, const RandomModelSpec& spec) {
  return out << spec.name;
}

inline constexpr int kRandomVocabulary = 128;

struct FreeModel {
  void operator()(llama_model* model) const { llama_model_free(model); }
};
using ModelPtr = std::unique_ptr<llama_model, FreeModel>;

// Null if llama.cpp refuses. The same spec always gives the same weights.
ModelPtr make_random_model(const RandomModelSpec& spec);

// One spec at least for each supported architecture; head sizes 64 … 256 and GQA groups 1 … 7 are
// spread over them.
const std::vector<RandomModelSpec>& random_models();
// The spec of that name; ends the program if there is none.
const RandomModelSpec& random_model(const std::string& name);

}  // namespace pm::llama::testing
