#!/bin/sh
# Builds and runs the core's micro-benchmarks; arguments go to google-benchmark.
set -eu
cd "$(dirname "$0")/../.."
cmake -S native -B build-cmake --log-level=WARNING
cmake --build build-cmake --target native_bench >/dev/null
exec build-cmake/native_bench "$@"
