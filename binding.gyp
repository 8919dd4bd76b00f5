{
  "includes": ["native/sources.gypi"],
  "targets": [
    {
      "target_name": "flannel_udp",
      "sources": ["<@(core_source_files)", "<@(addon_source_files)"],
      "dependencies": [
        "<!(node -p \"require('node-addon-api').targets\"):node_addon_api_except"
      ],
      "defines": ["NAPI_VERSION=9"],
      "cflags!": ["-O2"],
      "cflags_cc!": ["-std=gnu++17", "-std=gnu++20", "-fno-rtti"],
      "cflags_cc": ["-std=c++20", "-O2", "-Wall", "-Wextra", "-Wpedantic", "-fvisibility=hidden"]
    }
  ]
}
