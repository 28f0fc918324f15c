// Decides how many tokens of which sequence the next step evaluates. Pure: planning changes
// nothing, the engine applies the plan.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

namespace pm {

struct StepLimits {
  // Tokens of one step, decode and prefill together.
  size_t tokens_per_step = 512;
  // Prefill tokens of a step in which others decode: bounds how long a long prompt delays
  // everybody else's next token.
  size_t prefill_while_decoding = 128;
};

// Prompt tokens each prefilling sequence still has to evaluate → how many it gets this step.
// Every sequence gets an equal share; what short prompts leave over goes to the longer ones, in
// order. The shares never add up to more than the step allows after `decoding` tokens.
std::vector<size_t> plan_prefill(std::span<const size_t> remaining, size_t decoding,
                                 const StepLimits& limits);

}  // namespace pm
