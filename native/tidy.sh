#!/bin/sh
# clang-tidy over the core. The addon, which is not built by cmake, and the tests are held to the compiler's warnings.
set -eu
cd "$(dirname "$0")/.."
cmake -S native -B build-cmake --log-level=WARNING
# Two at a time: one file takes long enough to keep a processor busy.
printf '%s\n' native/*.cc | xargs -P 2 -n 3 clang-tidy --quiet -p build-cmake 2>/dev/null
