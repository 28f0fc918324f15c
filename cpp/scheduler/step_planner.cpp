#include "scheduler/step_planner.h"

#include <algorithm>

namespace pm {

std::vector<size_t> plan_prefill(std::span<const size_t> remaining, size_t decoding,
                                 const StepLimits& limits) {
  std::vector<size_t> share(remaining.size(), 0);
  size_t budget = limits.tokens_per_step > decoding ? limits.tokens_per_step - decoding : 0;
  if (decoding > 0) budget = std::min(budget, limits.prefill_while_decoding);

  size_t hungry = static_cast<size_t>(
      std::count_if(remaining.begin(), remaining.end(), [](size_t n) { return n > 0; }));
  while (budget > 0 && hungry > 0) {
    const size_t each = std::max<size_t>(1, budget / hungry);
    for (size_t i = 0; i < remaining.size() && budget > 0; ++i) {
      const size_t wanted = remaining[i] - share[i];
      if (wanted == 0) continue;
      const size_t given = std::min({wanted, each, budget});
      share[i] += given;
      budget -= given;
      if (given == wanted) --hungry;
    }
  }
  return share;
}

}  // namespace pm
