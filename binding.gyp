# A bridge only: prebuildify and node-gyp-build expect node-gyp to leave the addon in build/Release.
# The one target compiles nothing itself; it runs the CMake build, which puts the addon there.
{
  "targets": [
    {
      "target_name": "polymind_native",
      "type": "none",
      "actions": [
        {
          "action_name": "cmake",
          "inputs": ["scripts/build-native.mjs", "CMakeLists.txt"],
          "outputs": ["<(module_root_dir)/build/Release/polymind_native.node"],
          "action": ["node", "scripts/build-native.mjs", "--portable"]
        }
      ]
    }
  ]
}
