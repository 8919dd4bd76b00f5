#!/bin/sh
# What the tests need beside Node.js and a C++ compiler. Installs it with apt where that is possible (as root, on
# Debian or Ubuntu), and elsewhere names what is missing.
set -eu

missing=
packages=

# need WHAT-IT-IS-SEEN-BY DEBIAN-PACKAGE: an executable, or a file with a slash in its name.
need() {
  case $1 in
    */*) [ -e "$1" ] && return ;;
    *) PATH="$PATH:/usr/sbin:/sbin" command -v "$1" >/dev/null && return ;;
  esac
  missing="$missing $1"
  packages="$packages $2"
}

need etcd etcd-server
need etcdctl etcd-client
need ip iproute2
need iperf3 iperf3
need iptables iptables
need nft nftables
need ethtool ethtool
need ping iputils-ping
need unshare util-linux
need nsenter util-linux
need setpriv util-linux
need dash dash
need /usr/lib/cni/bridge containernetworking-plugins
need cmake cmake
need aarch64-linux-gnu-g++ g++-aarch64-linux-gnu
need qemu-aarch64-static qemu-user-static
need chromium chromium
need curl curl
need script bsdutils
need openssl openssl
need python3 python3
need clang-format clang-format
need clang-tidy clang-tidy
need clang++-14 clang-14
need /usr/include/gtest/gtest.h libgtest-dev
need /usr/include/benchmark/benchmark.h libbenchmark-dev
# The runtimes of libFuzzer and the sanitizers; where they are on other systems, clang knows.
if command -v dpkg >/dev/null; then
  need /usr/share/doc/libclang-rt-14-dev libclang-rt-14-dev
fi
# Faults of the clock are left out where it is missing; elsewhere than on Debian nobody knows its name.
if command -v dpkg >/dev/null; then
  need "/usr/lib/$(uname -m)-linux-gnu/faketime/libfaketime.so.1" libfaketime
fi

[ -n "$missing" ] || exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  echo "installing:$packages" >&2
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq
  # shellcheck disable=SC2086 # a list of words
  apt-get install -y -qq --no-install-recommends $packages >/dev/null
else
  echo "missing:$missing" >&2
  echo "install them first; on Debian or Ubuntu: sudo apt-get install$packages" >&2
  exit 1
fi
