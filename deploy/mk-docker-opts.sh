#!/bin/sh
# Turns flanneld's subnet.env into options of the Docker daemon: one variable an option, all in one, or both.

usage() {
  cat >&2 <<END
$0 [-f FLANNEL-ENV-FILE] [-d DOCKER-ENV-FILE] [-i] [-c] [-m] [-k COMBINED-KEY]

Writes options for the Docker daemon out of what flanneld has leased.
    -f  file that flanneld writes; default /run/flannel/subnet.env
    -d  file to write; default /run/docker_opts.env
    -i  only the options one by one, as DOCKER_OPT_...
    -c  only the options in one variable
    -k  name of that variable; default DOCKER_OPTS
    -m  without --ip-masq
END
  exit 1
}

flannel_env=/run/flannel/subnet.env
docker_env=/run/docker_opts.env
combined_name=DOCKER_OPTS
one_by_one=
combined=
ipmasq=yes

while getopts "f:d:ick:m?h" option; do
  case $option in
    f) flannel_env=$OPTARG ;;
    d) docker_env=$OPTARG ;;
    i) one_by_one=yes ;;
    c) combined=yes ;;
    k) combined_name=$OPTARG ;;
    m) ipmasq= ;;
    *) usage ;;
  esac
done
if [ -z "$one_by_one$combined" ]; then
  one_by_one=yes
  combined=yes
fi
case $combined_name in
  "" | [0-9]* | *[!A-Za-z0-9_]*)
    echo "-k $combined_name is no name of a variable; use letters, digits and _" >&2
    exit 1
    ;;
esac

# Looked for under this very name: a file without a slash is not meant to be searched in PATH.
case $flannel_env in
  */*) ;;
  *) flannel_env=./$flannel_env ;;
esac
# shellcheck source=/dev/null
[ ! -f "$flannel_env" ] || . "$flannel_env"

[ -z "$FLANNEL_SUBNET" ] || DOCKER_OPT_BIP="--bip=$FLANNEL_SUBNET"
[ -z "$FLANNEL_MTU" ] || DOCKER_OPT_MTU="--mtu=$FLANNEL_MTU"
# Exactly one of the two masquerades.
if [ -n "$FLANNEL_IPMASQ" ] && [ -n "$ipmasq" ]; then
  case $FLANNEL_IPMASQ in
    true) DOCKER_OPT_IPMASQ="--ip-masq=false" ;;
    false) DOCKER_OPT_IPMASQ="--ip-masq=true" ;;
    *)
      echo "Invalid value of FLANNEL_IPMASQ: $FLANNEL_IPMASQ" >&2
      exit 1
      ;;
  esac
fi

eval "all=\$$combined_name"
[ -z "$all" ] || all="$all "

: >"$docker_env" || exit 1
for name in $(set | sed -n 's/^\(DOCKER_OPT_[A-Za-z0-9_]*\)=.*/\1/p' | LC_ALL=C sort -u); do
  eval "value=\$$name"
  [ -z "$one_by_one" ] || echo "$name=\"$value\"" >>"$docker_env"
  all="$all $value"
done
[ -z "$combined" ] || echo "$combined_name=\"$all\"" >>"$docker_env"

# A subnet that is reached through another host is not this host's to give out.
if [ -n "$FLANNEL_SUBNET" ] && command -v ip >/dev/null; then
  address=${FLANNEL_SUBNET%/*}
  subnet=${address%.*}.$((${address##*.} - 1))/${FLANNEL_SUBNET#*/}
  if route=$(ip route 2>/dev/null | grep -F "$subnet via "); then
    echo "Your routing table already contains the subnet: $route" >&2
    exit 1
  fi
fi
