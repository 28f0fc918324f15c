# Two libraries of our own code, in dependency order:
#   polymind_base  pure logic: neither llama.cpp nor Node can be included from here
#   polymind_core  everything that talks to an engine
file(GLOB_RECURSE base_sources CONFIGURE_DEPENDS
  cpp/core/*.cpp cpp/kv/*.cpp cpp/kernels/*.cpp cpp/scheduler/*.cpp cpp/engines/gguf/*.cpp)
list(FILTER base_sources EXCLUDE REGEX "_test\\.cpp$")
add_library(polymind_base STATIC ${base_sources})
target_link_libraries(polymind_base PUBLIC polymind_options)

file(GLOB_RECURSE core_sources CONFIGURE_DEPENDS cpp/*.cpp)
list(FILTER core_sources EXCLUDE REGEX "_test\\.cpp$")
list(FILTER core_sources EXCLUDE REGEX "/cpp/(addon|core|kv|kernels|scheduler|engines/gguf)/")
if(core_sources)
  add_library(polymind_core STATIC ${core_sources})
  target_link_libraries(polymind_core PUBLIC polymind_base polymind_llama)
  # engines/llama/paged implements llama.cpp's internal memory interface.
  target_include_directories(polymind_core SYSTEM PRIVATE "${POLYMIND_LLAMA_DIR}/src")
else()
  add_library(polymind_core INTERFACE)
  target_link_libraries(polymind_core INTERFACE polymind_base polymind_llama)
endif()
