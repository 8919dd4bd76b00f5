#!/bin/sh
# clang-tidy over the core and the addon. The tests are held to the compiler's warnings.
set -eu
cd "$(dirname "$0")/.."
# With headers of Node-API, cmake knows the addon as well.
cmake -S native -B build-cmake -DCMAKE_JS_INC="$PWD/node_modules/node-api-headers/include" --log-level=WARNING
# Two at a time: one file takes long enough to keep a processor busy.
printf '%s\n' native/*.cc native/addon/*.cc | xargs -P 2 -n 3 clang-tidy --quiet -p build-cmake 2>/dev/null
