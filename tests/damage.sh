#!/usr/bin/env bash
# Damage of a store of real disks: what parity restores, and what is named where it does not. Needs root, loop devices, FUSE and jq.
#
#   usage: ROOT=folder tests/damage.sh
#
# ROOT   folder with vmA-day0.raw, vmA-day1.raw (GPT; partition 2 is ext4) and winC-day0.raw
# WORK   folder for the store, about 5 GB (default: a new folder below TMPDIR)
# SEED   decides what is damaged (default 1)
# CAIRN  the binary (default: target/release/cairn of this checkout)
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=${ROOT:?"say where the disk images are: ROOT=folder"}
WORK=${WORK:-$(mktemp -d "${TMPDIR:-/var/tmp}/cairn-damage.XXXXXX")}
CAIRN=${CAIRN:-$HERE/../target/release/cairn}
SEED=${SEED:-1}
STORE=$WORK/store MNT=$WORK/mnt TRUTH=$WORK/truth
EXT4_SECTOR=206848
PID= LOOP=

clean() {
  [ -z "$PID" ] || { kill -INT "$PID" 2> /dev/null && wait "$PID" || true; }
  umount "$TRUTH" 2> /dev/null || true
  [ -z "$LOOP" ] || losetup -d "$LOOP" 2> /dev/null || true
  rm -rf --one-file-system "$WORK"
}
trap clean EXIT
mkdir -p "$MNT" "$TRUTH"

# expect CODE COMMAND...: runs cairn, which must end with this exit code
expect() {
  local wanted=$1 code=0; shift
  "$CAIRN" "$@" || code=$?
  [ "$code" = "$wanted" ] || { echo "cairn $*: exit code $code, not $wanted"; exit 1; }
}
back() {
  local code=0
  "$CAIRN" restore "$STORE" "$1@latest" --to - 2> "$WORK/said" | cmp - "$ROOT/$2" || code=$?
  [ "$code" = "$3" ] || { cat "$WORK/said"; echo "restore of $1: exit code $code, not $3"; exit 1; }
  echo "   equal: $1 and $2"
}

echo "== a store with parity of 3 %"
expect 0 init "$STORE" --parity 3
for machine in vmA-day0 vmA-day1 winC-day0; do expect 0 backup "$STORE" --machine "$machine" "$ROOT/$machine.raw" --exact; done

echo "== damage within the parity, seed $SEED"
python3 "$HERE/damage.py" within "$STORE" "$SEED"
expect 4 verify "$STORE" --json > "$WORK/report"
jq -e '(.damaged | length) == 0 and (.problems | length) > 0' "$WORK/report" > /dev/null
echo "   $(jq '.problems | length' "$WORK/report") problems named, nothing lost"
for machine in vmA-day0 vmA-day1 winC-day0; do back "$machine" "$machine.raw" 3; done

echo "== repaired"
expect 0 verify "$STORE" --repair --json > "$WORK/report"
echo "   $(jq '.repaired | length' "$WORK/report") repaired, $(jq '.left | length' "$WORK/report") left"
expect 0 verify "$STORE" --deep
for machine in vmA-day0 vmA-day1 winC-day0; do back "$machine" "$machine.raw" 0; done

echo "== damage beyond the parity"
python3 "$HERE/damage.py" beyond "$STORE" "$SEED" 6
expect 4 verify "$STORE" --json > "$WORK/report"
machine=vmA-day0
jq -j --arg machine "$machine" '.affected[] | select(.machine == $machine and (.path | startswith("/disk0/p2/")) and .kind == "file") | .path[10:] + "\u0000"' "$WORK/report" |
  sort -z > "$WORK/named"
LOOP=$(losetup --find --show --read-only --offset $((EXT4_SECTOR * 512)) "$ROOT/$machine.raw")
mount -o ro,noload "$LOOP" "$TRUTH"
"$CAIRN" mount "$STORE" "$MNT" 2> "$WORK/said" &
PID=$!
for _ in $(seq 100); do [ -e "$MNT/$machine" ] && break; sleep 0.1; done
python3 "$HERE/damage.py" unreadable "$TRUTH" "$MNT/$machine/latest/files/disk0/p2" | sort -z > "$WORK/true"
# Folders and links that are hit are named too, and are no files that can be read; a name that several links have is there several times.
python3 - "$WORK/named" "$WORK/true" "$TRUTH" << 'EOF'
import os, sys
named, true = ({name for name in open(path, "rb").read().split(b"\0") if name} for path in sys.argv[1:3])
root = os.fsencode(sys.argv[3])
def is_file(name):
    path = os.path.join(root, name)
    return os.path.isfile(path) and not os.path.islink(path)
named = {name for name in named if is_file(name)}
print(f"   {len(named)} files named, {len(true)} files unreadable")
if named != true:
    sys.exit(f"named only: {sorted(named - true)[:5]}, unreadable only: {sorted(true - named)[:5]}")
if not true:
    sys.exit("nothing was hit")
EOF

echo "== the next backups heal what they see"
kill -INT "$PID"; wait "$PID" || true; PID=
for machine in vmA-day0 vmA-day1 winC-day0; do "$CAIRN" backup "$STORE" --machine "$machine" "$ROOT/$machine.raw" --exact > /dev/null 2> "$WORK/said" || [ $? = 3 ]; done
expect 4 verify "$STORE" --json > "$WORK/report"
jq -e '(.damaged | length) == 0' "$WORK/report" > /dev/null
expect 0 verify "$STORE" --repair --json > "$WORK/report"
for machine in vmA-day0 vmA-day1 winC-day0; do back "$machine" "$machine.raw" 0; done
echo "== everything agrees"
