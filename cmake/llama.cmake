# polymind_llama: llama.cpp with mtmd and common, as static libraries out of the cache.
#   POLYMIND_LLAMA_DIR   the provisioned source tree
#   POLYMIND_LLAMA_LIBS  the folder with its built libraries
# Both come from scripts/build-native.mjs. A bare `cmake-js build` gets them from the same code here.
if(NOT POLYMIND_LLAMA_DIR OR NOT POLYMIND_LLAMA_LIBS)
  find_program(POLYMIND_NODE NAMES node REQUIRED)
  set(third_party_config native)
  if(POLYMIND_PORTABLE)
    set(third_party_config portable)
  elseif(NOT POLYMIND_SANITIZE STREQUAL "none")
    set(third_party_config ${POLYMIND_SANITIZE})
  endif()
  execute_process(
    COMMAND "${POLYMIND_NODE}" scripts/build-third-party.mjs --json ${third_party_config}
    WORKING_DIRECTORY "${PROJECT_SOURCE_DIR}"
    OUTPUT_VARIABLE third_party_json
    RESULT_VARIABLE third_party_status)
  if(NOT third_party_status EQUAL 0)
    message(FATAL_ERROR "llama.cpp could not be built: see above")
  endif()
  string(JSON POLYMIND_LLAMA_DIR GET "${third_party_json}" source)
  string(JSON POLYMIND_LLAMA_LIBS GET "${third_party_json}" libs)
endif()
set(POLYMIND_LLAMA_DIR "${POLYMIND_LLAMA_DIR}" CACHE PATH "Provisioned llama.cpp sources" FORCE)
set(POLYMIND_LLAMA_LIBS "${POLYMIND_LLAMA_LIBS}" CACHE PATH "Built llama.cpp libraries" FORCE)

add_library(polymind_llama INTERFACE)
# SYSTEM: warnings in headers that are not ours are not ours to fix.
target_include_directories(polymind_llama SYSTEM INTERFACE
  "${POLYMIND_LLAMA_DIR}/include"
  "${POLYMIND_LLAMA_DIR}/ggml/include"
  "${POLYMIND_LLAMA_DIR}/tools/mtmd"
  "${POLYMIND_LLAMA_DIR}/common"
  "${POLYMIND_LLAMA_DIR}/vendor")

# Users before what they use; the portable build adds its kernel variants to the same folder.
set(llama_order llama-common llama-common-base mtmd llama ggml ggml-cpu ggml-base vendor-hash
  cpp-httplib)
set(llama_libraries)
foreach(name IN LISTS llama_order)
  # No cache variable: the folder may change between two configurations.
  unset(found_library CACHE)
  find_library(found_library NAMES ${name} PATHS "${POLYMIND_LLAMA_LIBS}" NO_DEFAULT_PATH)
  if(NOT found_library)
    message(FATAL_ERROR "expected the library ${name} in ${POLYMIND_LLAMA_LIBS}; "
      "remove that folder and build again")
  endif()
  list(APPEND llama_libraries "${found_library}")
endforeach()
unset(found_library CACHE)

if(CMAKE_SYSTEM_NAME STREQUAL "Linux")
  target_link_libraries(polymind_llama INTERFACE
    -Wl,--start-group ${llama_libraries} -Wl,--end-group ${CMAKE_DL_LIBS} m)
else()
  target_link_libraries(polymind_llama INTERFACE ${llama_libraries})
endif()
if(APPLE)
  target_link_libraries(polymind_llama INTERFACE "-framework Accelerate" "-framework Foundation")
endif()
if(WIN32)
  target_link_libraries(polymind_llama INTERFACE ws2_32 advapi32)
endif()
find_package(Threads REQUIRED)
target_link_libraries(polymind_llama INTERFACE Threads::Threads)
