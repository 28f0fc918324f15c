# polymind_options: what every target of ours is compiled with.
add_library(polymind_options INTERFACE)
target_include_directories(polymind_options INTERFACE "${PROJECT_SOURCE_DIR}/cpp")

if(POLYMIND_PORTABLE)
  set(POLYMIND_CPU_BUILD portable)
else()
  set(POLYMIND_CPU_BUILD native)
endif()
target_compile_definitions(polymind_options INTERFACE
  POLYMIND_VERSION="${PROJECT_VERSION}"
  POLYMIND_CPU_BUILD="${POLYMIND_CPU_BUILD}"
  POLYMIND_SANITIZER="${POLYMIND_SANITIZE}")

find_package(Threads REQUIRED)
target_link_libraries(polymind_options INTERFACE Threads::Threads)

if(MSVC)
  target_compile_options(polymind_options INTERFACE /W3 /utf-8 /bigobj /EHsc)
  target_compile_definitions(polymind_options INTERFACE NOMINMAX _CRT_SECURE_NO_WARNINGS)
else()
  target_compile_options(polymind_options INTERFACE
    -Wall -Wextra -Wpedantic -Wno-unused-parameter -ffunction-sections -fdata-sections)
endif()
if(POLYMIND_WERROR)
  target_compile_options(polymind_options INTERFACE $<IF:$<CXX_COMPILER_ID:MSVC>,/WX,-Werror>)
endif()
# No -march=native for our own code: GCC 12 miscompiled a constant vector with it on a CPU newer than
# the compiler. The few hot loops choose their instructions at run time (target_clones); ggml, which
# gains from it, is built with its own flags.

if(POLYMIND_SANITIZE STREQUAL "address")
  set(sanitize_flags -fsanitize=address,undefined -fno-sanitize-recover=undefined
    -fno-omit-frame-pointer)
elseif(POLYMIND_SANITIZE STREQUAL "thread")
  set(sanitize_flags -fsanitize=thread)
elseif(NOT POLYMIND_SANITIZE STREQUAL "none")
  message(FATAL_ERROR "POLYMIND_SANITIZE: expected none, address or thread, got '${POLYMIND_SANITIZE}'")
endif()
if(sanitize_flags)
  target_compile_options(polymind_options INTERFACE ${sanitize_flags} -g)
  target_link_options(polymind_options INTERFACE ${sanitize_flags})
endif()
