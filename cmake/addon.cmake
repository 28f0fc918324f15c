# polymind_native.node: one file that carries everything and exports nothing but its entry points.
file(GLOB_RECURSE addon_sources CONFIGURE_DEPENDS cpp/addon/*.cpp)
list(FILTER addon_sources EXCLUDE REGEX "_test\\.cpp$")
add_library(polymind_native SHARED ${addon_sources} ${CMAKE_JS_SRC})
set_target_properties(polymind_native PROPERTIES PREFIX "" SUFFIX ".node")

# cmake-js names the Node-API headers and the C++ wrapper; both are packages in node_modules.
target_include_directories(polymind_native SYSTEM PRIVATE ${CMAKE_JS_INC}
  "${PROJECT_SOURCE_DIR}/node_modules/node-addon-api")
target_compile_definitions(polymind_native PRIVATE NAPI_VERSION=9 NODE_ADDON_API_CPP_EXCEPTIONS
  NODE_ADDON_API_DISABLE_DEPRECATED
  # A terminated worker refuses exceptions, too; without this node-addon-api ends the process then.
  NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS)
target_link_libraries(polymind_native PRIVATE polymind_core ${CMAKE_JS_LIB})

if(CMAKE_SYSTEM_NAME STREQUAL "Linux")
  # nodelete: a worker thread that ends makes Node unload the addon, while engine threads of other
  # workers may still run its code.
  set(exports "${PROJECT_SOURCE_DIR}/cmake/addon.exports")
  target_link_options(polymind_native PRIVATE
    -Wl,--version-script=${exports} -Wl,--exclude-libs,ALL -Wl,--gc-sections -Wl,-z,nodelete
    -Wl,-z,relro -Wl,-z,now -Wl,--no-undefined-version)
  if(POLYMIND_SANITIZE STREQUAL "none")
    target_link_options(polymind_native PRIVATE -static-libstdc++ -static-libgcc)
  endif()
  set_target_properties(polymind_native PROPERTIES LINK_DEPENDS "${exports}")
elseif(APPLE)
  set(exports "${PROJECT_SOURCE_DIR}/cmake/addon.exports.macos")
  target_link_options(polymind_native PRIVATE
    -Wl,-exported_symbols_list,${exports} -Wl,-dead_strip -undefined dynamic_lookup)
  set_target_properties(polymind_native PROPERTIES LINK_DEPENDS "${exports}")
elseif(MSVC AND CMAKE_JS_NODELIB_DEF AND CMAKE_JS_NODELIB_TARGET)
  # Makes node.lib from the definitions that node-api-headers ships: nothing is downloaded.
  execute_process(COMMAND ${CMAKE_AR} /def:${CMAKE_JS_NODELIB_DEF} /out:${CMAKE_JS_NODELIB_TARGET}
    ${CMAKE_STATIC_LINKER_FLAGS})
endif()
