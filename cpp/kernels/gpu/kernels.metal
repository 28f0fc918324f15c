// All GPU kernels as Metal. Nobody has compiled this yet:
//   xcrun metal -std=metal3.0 -fno-fast-math -I cpp -c cpp/kernels/gpu/kernels.metal
#include "kernels/gpu/kernels.h"
