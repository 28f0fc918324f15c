// Chooses between several builds of ggml's CPU backend, all inside one library.
//
// ggml can do this with shared libraries that it loads at run time; an addon of one file cannot.
// scripts/lib/portable.mjs compiles the backend once per variant, makes every symbol of it local and
// gives its entry point the name of the variant. Nothing outside of the backend refers to any other
// of its symbols, so this file is all that stands between them.
#include <cpuid.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct ggml_backend_reg* ggml_backend_reg_t;

ggml_backend_reg_t ggml_backend_cpu_reg(void);
ggml_backend_reg_t ggml_backend_cpu_reg_zen4(void);
ggml_backend_reg_t ggml_backend_cpu_reg_icelake(void);
ggml_backend_reg_t ggml_backend_cpu_reg_skylakex(void);
ggml_backend_reg_t ggml_backend_cpu_reg_haswell(void);
ggml_backend_reg_t ggml_backend_cpu_reg_baseline(void);

// __builtin_cpu_supports also asks whether the operating system saves the wide registers. It does
// not know F16C in every compiler; that bit is read directly, AVX having been checked before.
static int has_f16c(void) {
  unsigned eax, ebx, ecx, edx;
  return __get_cpuid(1, &eax, &ebx, &ecx, &edx) && (ecx & bit_F16C);
}

static int runs_baseline(void) { return __builtin_cpu_supports("sse4.2"); }

static int runs_haswell(void) {
  return runs_baseline() && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
         __builtin_cpu_supports("bmi2") && has_f16c();
}

static int runs_skylakex(void) {
  return runs_haswell() && __builtin_cpu_supports("avx512f") &&
         __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw");
}

static int runs_icelake(void) {
  return runs_skylakex() && __builtin_cpu_supports("avx512vbmi") &&
         __builtin_cpu_supports("avx512vnni");
}

static int runs_zen4(void) { return runs_icelake() && __builtin_cpu_supports("avx512bf16"); }

// Best first.
static const struct {
  const char* name;
  int (*runs)(void);
  ggml_backend_reg_t (*reg)(void);
} variants[] = {
    {"zen4", runs_zen4, ggml_backend_cpu_reg_zen4},
    {"icelake", runs_icelake, ggml_backend_cpu_reg_icelake},
    {"skylakex", runs_skylakex, ggml_backend_cpu_reg_skylakex},
    {"haswell", runs_haswell, ggml_backend_cpu_reg_haswell},
    {"baseline", runs_baseline, ggml_backend_cpu_reg_baseline},
};

// POLYMIND_CPU_VARIANT forces one variant, for tests and measurements. A name that is unknown or
// that this CPU cannot run gives no backend at all, never silently another one.
ggml_backend_reg_t ggml_backend_cpu_reg(void) {
  const char* forced = getenv("POLYMIND_CPU_VARIANT");
  if (forced && !*forced) forced = NULL;
  __builtin_cpu_init();
  for (size_t i = 0; i < sizeof(variants) / sizeof(variants[0]); ++i) {
    if (forced && strcmp(forced, variants[i].name) != 0) continue;
    if (variants[i].runs()) return variants[i].reg();
  }
  if (forced) {
    fprintf(stderr, "polymind-native: this CPU cannot run POLYMIND_CPU_VARIANT=%s\n", forced);
  } else {
    fprintf(stderr, "polymind-native: expected a CPU with SSE4.2, found an older one\n");
  }
  return NULL;
}
