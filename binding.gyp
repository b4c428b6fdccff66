{
  "#": "The addon is built by CMake (CMakeLists.txt through cmake-js); this file lets node-gyp and tools that look for it call the same build.",
  "targets": [
    {
      "target_name": "a_infonce_cmake",
      "type": "none",
      "actions": [
        {
          "action_name": "cmake_js_build",
          "inputs": ["CMakeLists.txt"],
          "outputs": ["build/Release/a_infonce.node"],
          "action": ["node", "scripts/build-native.mjs"]
        }
      ]
    }
  ]
}
