# C++ tests live beside their sources as *_test.cpp. Two programs: one that needs no llama.cpp and
# one with the rest. Neither is part of the default build.
find_package(GTest QUIET)
if(NOT GTest_FOUND)
  # scripts/lib/ctest.mjs looks for this line.
  message(STATUS "POLYMIND_GTEST missing: polymind_unit_tests and polymind_engine_tests left out")
  return()
endif()
message(STATUS "POLYMIND_GTEST found")
enable_testing()
include(GoogleTest)
add_custom_target(polymind_tests)

function(polymind_add_tests target library)
  if(NOT ARGN)
    return()
  endif()
  add_executable(${target} EXCLUDE_FROM_ALL ${ARGN})
  target_link_libraries(${target} PRIVATE ${library} GTest::gtest GTest::gtest_main)
  target_compile_definitions(${target} PRIVATE
    POLYMIND_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
  add_dependencies(polymind_tests ${target})
  # Not at build time: a crash while listing tests is then a failed test run, not a failed build.
  gtest_discover_tests(${target} DISCOVERY_MODE PRE_TEST DISCOVERY_TIMEOUT 120
    WORKING_DIRECTORY "${PROJECT_SOURCE_DIR}" PROPERTIES TIMEOUT 600)
endfunction()

file(GLOB_RECURSE unit_tests CONFIGURE_DEPENDS cpp/core/*_test.cpp cpp/kv/*_test.cpp
  cpp/kernels/*_test.cpp cpp/scheduler/*_test.cpp cpp/engines/gguf/*_test.cpp)
file(GLOB_RECURSE engine_tests CONFIGURE_DEPENDS cpp/*_test.cpp)
list(FILTER engine_tests EXCLUDE REGEX "/cpp/(addon|core|kv|kernels|scheduler|engines/gguf)/")
# Models made in memory serve both programs.
list(APPEND engine_tests "${PROJECT_SOURCE_DIR}/cpp/engines/gguf/testing_models_test.cpp")
polymind_add_tests(polymind_unit_tests polymind_base ${unit_tests})
polymind_add_tests(polymind_engine_tests polymind_core ${engine_tests})
