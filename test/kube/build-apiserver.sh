#!/bin/sh
# Builds a real kube-apiserver out of Debian's source package, once, into a cache outside the tree, and prints where it
# is. No package ships the program; the source package holds everything it is made of, so that only Debian's mirror is
# needed. About ten minutes on two processors, 2 GB of disk while it builds.
#
#   test/kube/build-apiserver.sh          builds where there is none yet; needs root on Debian for the packages
set -eu

cache=${FLANNEL_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/flannel-udp}
program=$cache/kube-apiserver
if [ -x "$program" ]; then
  echo "$program"
  exit 0
fi
if ! command -v apt-get >/dev/null || [ "$(id -u)" != 0 ]; then
  echo "there is no kube-apiserver: put one at $program, or run this as root on Debian, which builds it" >&2
  exit 1
fi

mkdir -p "$cache"
work=$(mktemp -d "$cache/build.XXXXXX")
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
trap 'exit 1' INT TERM
cd "$work"

# A list of sources of its own: what the machine is set up with stays as it is.
release=$(. /etc/os-release && echo "$VERSION_CODENAME")
mkdir lists
printf 'deb-src http://deb.debian.org/debian %s main\n' "$release" >sources.list
source_apt() {
  apt-get -o Dir::Etc::SourceList="$work/sources.list" -o Dir::Etc::SourceParts=/dev/null \
    -o Dir::State::Lists="$work/lists" -o APT::Sandbox::User=root "$@" >&2
}
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq >&2
apt-get install -y -qq --no-install-recommends golang-go rsync make dpkg-dev >/dev/null
source_apt update -qq
source_apt source -qq kubernetes

# The build wants to stand where Go looked for packages before there were modules.
tree=$work/go/src/k8s.io/kubernetes
mkdir -p "$(dirname "$tree")"
mv "$work"/kubernetes-*/ "$tree"
cd "$tree"
export GOPATH="$work/go" GO111MODULE=off CGO_ENABLED=0 GOCACHE="$work/cache"
nice make WHAT=cmd/kube-apiserver KUBE_BUILD_PLATFORMS="linux/$(go env GOARCH)" GOFLAGS= >&2
built=$(find "$tree/_output" -type f -name kube-apiserver | head -n 1)
[ -n "$built" ] || { echo 'the build left no kube-apiserver' >&2; exit 1; }
mv "$built" "$program.new"
mv "$program.new" "$program" # at once: another run may look for it
echo "$program"
