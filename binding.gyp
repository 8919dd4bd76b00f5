{
  "includes": ["native/sources.gypi"],
  "target_defaults": {
    # Without -fno-tree-slp-vectorize GCC joins two counters that stand side by side into one 16-byte load; behind
    # two 8-byte stores that load waits until the processor's store buffer has drained, some 100 cycles a packet.
    "cflags!": ["-O2", "-fno-exceptions"],
    "cflags_cc!": ["-std=gnu++17", "-std=gnu++20", "-fno-rtti", "-fno-exceptions"],
    "cflags_cc": [
      "-std=c++20", "-O2", "-fno-tree-slp-vectorize", "-Wall", "-Wextra", "-Wpedantic", "-fvisibility=hidden"
    ]
  },
  "targets": [
    {
      "target_name": "core",
      "type": "static_library",
      "sources": ["<@(core_source_files)"],
      "cflags": ["-fPIC"]
    },
    {
      "target_name": "flannel_udp",
      "sources": ["<@(addon_source_files)"],
      "include_dirs": ["native"],
      "dependencies": [
        "core",
        "<!(node -p \"require('node-addon-api').targets\"):node_addon_api_except"
      ],
      # The second: a call that worker.terminate() cuts short has nowhere to throw to, which is no reason to abort.
      "defines": ["NAPI_VERSION=9", "NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS"]
    },
    {
      "target_name": "flannel-standby",
      "type": "executable",
      "sources": ["<@(standby_source_files)"],
      "dependencies": ["core"],
      "libraries": ["-pthread"]
    }
  ]
}
