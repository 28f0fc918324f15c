// process.exit() does not run an environment's cleanup hooks: static objects of ggml are destroyed
// while engine threads still compute with them. So engines are stopped before that.
#pragma once

#include <memory>

#include "scheduler/engine.h"

namespace pm::addon {

// Call when the engine is ready to run: exit handlers run in reverse order, and what loading a model
// has initialised must still be there when this one runs.
void stop_at_exit(const std::shared_ptr<Engine>& engine);

}  // namespace pm::addon
