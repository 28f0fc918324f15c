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
# The hot paths are ours too (sampling, preprocessing); a portable build stays at the baseline.
if(POLYMIND_NATIVE AND NOT POLYMIND_PORTABLE AND NOT MSVC)
  include(CheckCXXCompilerFlag)
  check_cxx_compiler_flag(-march=native POLYMIND_HAS_MARCH_NATIVE)
  if(POLYMIND_HAS_MARCH_NATIVE)
    target_compile_options(polymind_options INTERFACE -march=native)
  endif()
endif()

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
