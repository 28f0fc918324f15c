// All GPU kernels as CUDA: `npm run cuda:compile`.
#include "kernels/gpu/kernels.h"
