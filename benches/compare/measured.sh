#!/usr/bin/env bash
# What the scripts of this folder have in common: options, measured runs, facts of the machine, tables, the record. Sourced, not run.
#
# A script that sources it has set up nothing yet; afterwards it has ROOT, WORK (empty, removed at the end), CAIRN, ROUNDS and RECORD.
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
SELF=$(basename "$0")

# usage: the comment at the top of the script
usage() { awk 'NR > 1 && !/^#/ { exit } NR > 1 { sub(/^# ?/, ""); print }' "$0"; }
fail() { echo "$SELF: $*" >&2; exit 1; }

# begin ARGUMENT...: reads the options of a script and makes its folder
begin() {
  RECORD=
  case "${1:-}" in
    "") ;;
    --record) RECORD=$(realpath "${2:?"--record needs a file"}") ;;
    *) usage; exit 2 ;;
  esac
  ROOT=$(realpath "${ROOT:?"say where the disk images are: ROOT=folder"}")
  WORK=$(realpath -m "${WORK:-${TMPDIR:-/var/tmp}/cairn-${SELF%.sh}}")
  CAIRN=$(realpath -m "${CAIRN:-$HERE/../../target/release/cairn}")
  ROUNDS=${ROUNDS:-3}
  MNT=$WORK/mnt
  trap cleanup EXIT
  rm -rf "$WORK"
  mkdir -p "$WORK"
}
# needed FILE...: stops when one is missing
needed() {
  local need
  for need in "$@"; do [ -r "$need" ] || fail "$need is not there"; done
}
cleanup() {
  umount "$MNT" 2> /dev/null || true
  rm -rf "$WORK"
}

# V[KEY] is the middle one of all values noted of KEY, ALL[KEY] are all of them.
declare -A V=() ALL=()
log() { echo "[$(date +%T)] $*" >&2; }
cached() { cat "$@" > /dev/null; }
store_cached() { find "$1" -type f -exec cat {} + > /dev/null; }
calc() { awk "BEGIN { printf \"$1\", $2 }"; }
middle() { tr ' ' '\n' <<< "$1" | sed '/^$/d' | sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }
most() { tr ' ' '\n' <<< "$1" | sed '/^$/d' | sort -n | tail -1; }
note() { ALL[$1]="${ALL[$1]:-} $2"; V[$1]=$(middle "${ALL[$1]}"); }
take() { local name value; while read -r name value; do V[$1.$name]=$value; done; }

# attempt KEY OUT COMMAND...: output in the file OUT; notes KEY.seconds, KEY.private, ...; fails if the command does
attempt() {
  local key=$1 figures; shift
  figures=$(python3 "$HERE/measure.py" run "$@") || return 1
  noted "$key" <<< "$figures"
}
noted() { local name value; while read -r name value; do note "$1.$name" "$value"; done; }
# measured KEY OUT COMMAND...: the same, and the script ends if the command fails
measured() { attempt "$@" || fail "failed: ${*:3}"; }
# synced KEY FILE: seconds until FILE is on stable storage
synced() { measured "$1" /dev/null sync "$2"; }

facts() {
  echo "$(grep -m1 'model name' /proc/cpuinfo | cut -d: -f2 | xargs), $(nproc) processors, $(awk '/MemTotal/ { printf "%.0f GiB", $2 / 1048576 }' /proc/meminfo)"
  echo "Linux $(uname -r), $(stat -f -c %T "$WORK") on $(df --output=source "$WORK" | tail -1), $(zstd --version | grep -o 'v[0-9.]*' | head -1) of zstd"
  echo "$("$CAIRN" --version 2> /dev/null || echo cairn), commit $(git -C "$HERE" rev-parse --short HEAD 2> /dev/null || echo unknown)"
  echo "load before: $(load)"
}
load() { cut -d' ' -f1-3 /proc/loadavg; }

# row CELL...: one line of a table
row() { printf '|'; printf ' %s |' "$@"; printf '\n'; }
# ruled N: the line below the head of a table with N columns
ruled() { printf '|'; printf ' --- |%.0s' $(seq "$1"); printf '\n'; }
# atleast VALUE LIMIT, atmost VALUE LIMIT
atleast() { calc %s "($1 >= $2) ? \"yes\" : \"NO\""; }
atmost() { calc %s "($1 <= $2) ? \"yes\" : \"NO\""; }
gbs() { calc '%.2f GB/s' "$1 / $2 / 1e9"; }
mib() { calc '%.0f MiB' "$1 / 1048576"; }

# finish SENTENCE FACTS TABLE: prints what was found; with --record also writes it as a page
finish() {
  printf '%s\n\n%s\n' "$2" "$3"
  [ -z "$RECORD" ] || {
    echo "# $(date -u +%F), $(nproc) processors"
    echo
    echo "Made by \`benches/compare/$SELF\`: $1"
    echo
    sed 's/^/- /' <<< "$2"
    echo
    echo "$3"
  } > "$RECORD"
}
