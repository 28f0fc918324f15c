# llama.cpp's own llama-completion and llama-mtmd-cli, linked against the libraries that the addon
# uses: the tests compare our text with theirs. Two source files, so they cost seconds; the programs
# for benchmarks are stock builds instead (scripts/build-peers.mjs).
add_custom_target(polymind_peers)

function(polymind_add_peer name)
  add_executable(${name} EXCLUDE_FROM_ALL ${ARGN})
  target_link_libraries(${name} PRIVATE polymind_llama)
  target_compile_features(${name} PRIVATE cxx_std_17)
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${PROJECT_SOURCE_DIR}/build/peers")
  if(NOT MSVC)
    target_compile_options(${name} PRIVATE -w)
  endif()
  add_dependencies(polymind_peers ${name})
endfunction()

set(llama_tools "${POLYMIND_LLAMA_DIR}/tools")
polymind_add_peer(llama-completion
  "${llama_tools}/completion/completion.cpp" "${llama_tools}/completion/main.cpp")
polymind_add_peer(llama-mtmd-cli "${llama_tools}/mtmd/mtmd-cli.cpp")
