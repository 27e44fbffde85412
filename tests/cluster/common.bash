# What the scripts of this directory share. Sourced, by bash.

set -euo pipefail
export PATH=$PATH:/usr/sbin:/sbin

# Where everything lives.
cluster=${TEST_CLUSTER:-$(realpath -m "$(dirname "${BASH_SOURCE[0]}")/../../target/cluster")}
export SLURM_CONF=$cluster/slurm.conf

fail() {
  echo "$*" >&2
  exit 1
}

# install COMMAND PACKAGE..: Debian's packages, where the command is missing.
install() {
  local command=$1
  shift
  if command -v "$command" >/dev/null; then return; fi
  [ "$(id -u)" = 0 ] || fail "\`$command\` is missing: install $*, or run this as root"
  command -v apt-get >/dev/null || fail "\`$command\` is missing, and there is no apt-get: install what Debian calls $*"
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq >&2
  apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

# first_free BASE COUNT: the first of so many ports in a row on which nobody listens, from BASE on.
first_free() {
  local base port
  for base in $(seq "$1" 20 $(($1 + 400))); do
    for port in $(seq "$base" $((base + $2 - 1))); do
      if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then continue 2; fi
    done
    echo "$base"
    return
  done
  fail "no $2 free ports from $1 on"
}

# runs PID NAME..: whether it is one of these, and not a zombie: where nobody reaps, a zombie still answers `kill -0`.
runs() {
  local pid=$1 name
  name=$(cat "/proc/$pid/comm" 2>/dev/null) || return
  [[ " ${*:2} " == *" $name "* ]] && ! grep -q '^State:.*Z' "/proc/$pid/status" 2>/dev/null
}

# alive FILE NAME..: whether the process whose number is in the file is one of these.
alive() {
  [ -s "$1" ] && runs "$(cat "$1")" "${@:2}"
}

# wait_for SECONDS COMMAND..: until it succeeds, or for so long.
wait_for() {
  local until=$((SECONDS + $1))
  shift
  until "$@"; do
    if [ "$SECONDS" -ge "$until" ]; then return 1; fi
    sleep 0.05
  done
}

# end FILE NAME: asks the process in a pid file to end, and sees that it does.
end() {
  local file=$1 name=$2 pid
  if alive "$file" "$name"; then
    pid=$(cat "$file")
    kill "$pid" 2>/dev/null || true
    is_gone() { ! runs "$pid" "$name"; }
    wait_for "${3:-8}" is_gone || kill -9 "$pid" 2>/dev/null || true
  fi
  rm -f "$file"
}
