#!/usr/bin/env bash
# Nine programs at once for some minutes, on a mount and on one that can be written to, each compared with the kernel's own mount of the same disk: find, tar, rsync, grep and comparisons
# of the disk, of the disks of many points, readers that are killed, fio that writes and verifies, mounts that come and go. Then nothing may be left. Needs root, loop devices, FUSE, fio and rsync.
#
#   usage: IMAGE=disk.raw tests/crowd.sh
#
# IMAGE      raw disk image; PARTITION of it is ext4 (default 2), TREE a folder in that (default usr/share)
# MINUTES    how long (default 10)
# WORK       folder for the store (default: a new folder below TMPDIR)
# CAIRN      the binary (default: target/release/cairn of this checkout)
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
IMAGE=${IMAGE:?"say which disk image: IMAGE=disk.raw"}
PARTITION=${PARTITION:-2} TREE=${TREE:-usr/share} MINUTES=${MINUTES:-10}
WORK=${WORK:-$(mktemp -d "${TMPDIR:-/var/tmp}/cairn-crowd.XXXXXX")}
CAIRN=$(realpath "${CAIRN:-$HERE/../target/release/cairn}")
STORE=$WORK/store MNT=$WORK/mnt TRUTH=$WORK/truth SCRATCH=$WORK/scratch WRITTEN=$WORK/written
PID= SECOND= LOOP=

clean() {
  local code=$?
  touch "$WORK/stop" 2> /dev/null || true
  for job in $(jobs -p | grep -vx -e "${PID:-0}" -e "${SECOND:-0}"); do wait "$job" 2> /dev/null || true; done
  for mounted in $PID $SECOND; do kill -INT "$mounted" 2> /dev/null && wait "$mounted" || true; done
  umount "$TRUTH" 2> /dev/null || true
  [ -z "$LOOP" ] || losetup -d "$LOOP" 2> /dev/null || true
  [ "$code" = 0 ] || tail -n 20 "$WORK"/*.log 2> /dev/null || true
  rm -rf --one-file-system "$WORK"
  exit "$code"
}
trap clean EXIT
mkdir -p "$MNT" "$TRUTH" "$SCRATCH" "$WRITTEN" "$WORK/other"

"$CAIRN" init "$STORE"
"$CAIRN" backup "$STORE" --machine m "$IMAGE" --exact > /dev/null
start=$(sfdisk -J "$IMAGE" | jq ".partitiontable | (.sectorsize // 512) * .partitions[$((PARTITION - 1))].start")
LOOP=$(losetup --find --show --read-only --offset "$start" "$IMAGE")
mount -o ro,noload "$LOOP" "$TRUTH"
"$CAIRN" mount "$STORE" "$MNT" 2> "$WORK/mount.log" &
PID=$!
"$CAIRN" mount --writable --scratch "$SCRATCH" "$STORE" "$WRITTEN" 2> "$WORK/written.log" &
SECOND=$!
for place in "$MNT" "$WRITTEN"; do for _ in $(seq 100); do mountpoint -q "$place" && break; sleep 0.1; done; done
POINT=$(realpath "$MNT/m/latest")
OURS=$POINT/files/disk0/p$PARTITION DISK=$POINT/disks/disk0.raw
THEIRS=$TRUTH

names() { (cd "$1" && find . -printf '%p %y %m %U:%G %s %T@ %n %l\n' | LC_ALL=C sort | sha256sum); }
archive() { tar cf - --sort=name --numeric-owner --format=posix --pax-option=delete=atime,delete=ctime -C "$1" . | sha256sum; }
words() { (cd "$1" && grep -rc copyright . | LC_ALL=C sort | sha256sum); }
echo "== what the kernel's own mount tells"
NAMES=$(names "$THEIRS/$TREE") ARCHIVE=$(archive "$THEIRS/$TREE") WORDS=$(words "$THEIRS/$TREE")

same() { [ "$2" = "$3" ] || { echo "$1 differ: $2, not $3"; return 1; }; }
find_all() { same names "$(names "$OURS/$TREE")" "$NAMES"; }
tar_all() { same archives "$(archive "$OURS/$TREE")" "$ARCHIVE"; }
grep_all() { same words "$(words "$OURS/$TREE")" "$WORDS"; }
rsync_all() { local told; told=$(rsync -nac --itemize-changes "$THEIRS/$TREE/" "$OURS/$TREE/"); same lists "$told" ""; }
# The kernel's pages of the disk are dropped, so that it asks again.
pieces() {
  local block
  dd if="$DISK" iflag=nocache count=0 status=none
  for _ in $(seq 50); do
    block=$((RANDOM * 32768 + RANDOM)); block=$((block % ($(stat -c %s "$IMAGE") / 65536)))
    cmp <(dd if="$IMAGE" bs=64k skip=$block count=4 status=none) <(dd if="$BEFORE" bs=64k skip=$block count=4 status=none)
  done
}
# More points than the mount keeps open.
visits() {
  local of
  for of in $(shuf -i 1-24); do cmp "$WORK/many.$of" "$MNT/many/$(cat "$WORK/many.$of.time")/disks/disk0.raw"; done
}
killed() {
  local reader
  (exec tar cf - -C "$OURS/$TREE" .) > /dev/null 2>&1 &
  reader=$!
  sleep "0.$((RANDOM % 9 + 1))"
  kill -9 "$reader" 2> /dev/null || true; wait "$reader" 2> /dev/null || true
}
# At the end of the disk, which the others do not read.
writes() {
  fio --name=crowd --filename="$LAST" --size=64m --bsrange=4k-64k --blockalign=4k --rw=randwrite --do_verify=1 --ioengine=psync --verify=crc32c --verify_fatal=1 --verify_state_save=0 --end_fsync=1 --randrepeat=0 --output="$WORK/fio.out" \
    || { cat "$WORK/fio.out"; return 1; }
}
comes_and_goes() {
  local pid code=0
  "$CAIRN" mount "$IMAGE" "$WORK/other" 2> "$WORK/other.log" & pid=$!
  for _ in $(seq 100); do mountpoint -q "$WORK/other" && break; sleep 0.1; done
  cmp "$WORK/other/files/disk0/p$PARTITION/etc/passwd" "$THEIRS/etc/passwd"
  kill -INT "$pid"; wait "$pid" || code=$?
  same "ends of a mount" "$code" 0
}
# worker NAME: over and over until it is time
worker() {
  local rounds=0
  until [ -e "$WORK/stop" ]; do
    "$1" || { echo "$1 failed in round $rounds"; touch "$WORK/failed" "$WORK/stop"; return 1; }
    rounds=$((rounds + 1))
  done
  echo "   $1: $rounds rounds"
}

# The disk of the point is compared where nothing is written; what fio writes to is the disk of a second machine.
BEFORE=$DISK
head -c 268435456 /dev/urandom > "$WORK/scrap.raw"
"$CAIRN" backup "$STORE" --machine scrap "$WORK/scrap.raw" > /dev/null
for of in $(seq 24); do
  head -c 1048576 /dev/urandom > "$WORK/many.$of"
  printf '2026-01-%02dT00-00-00Z' "$of" > "$WORK/many.$of.time"
  "$CAIRN" backup "$STORE" --machine many "disk0=$WORK/many.$of" --time "$(printf '2026-01-%02dT00:00:00Z' "$of")" > /dev/null
done
for _ in $(seq 50); do [ -e "$WRITTEN/scrap/latest" ] && break; sleep 0.1; done
LAST=$(realpath "$WRITTEN/scrap/latest")/disks/disk0.raw

echo "== nine programs for $MINUTES minutes"
for name in find_all tar_all grep_all rsync_all pieces visits killed writes comes_and_goes; do worker "$name" > "$WORK/$name.log" 2>&1 & done
most=0 end=$((SECONDS + MINUTES * 60))
while [ "$SECONDS" -lt "$end" ] && [ ! -e "$WORK/stop" ]; do
  sleep 2
  now=$(awk '/^RssAnon/ {print $2}' "/proc/$PID/status")
  [ "$now" -le "$most" ] || most=$now
done
touch "$WORK/stop"
for job in $(jobs -p | grep -vx -e "$PID" -e "$SECOND"); do wait "$job" || true; done
cat "$WORK"/{find_all,tar_all,grep_all,rsync_all,pieces,visits,killed,writes,comes_and_goes}.log
[ ! -e "$WORK/failed" ] || exit 1
open=$(ls "/proc/$PID/fd" | wc -l)
echo "   private memory: at most $((most / 1024)) MiB; open files at the end: $open"
[ "$most" -le $((300 * 1024)) ]

echo "== the end"
for mounted in $PID $SECOND; do
  code=0; kill -INT "$mounted"; wait "$mounted" || code=$?
  same "ends of the mounts" "$code" 0
done
PID= SECOND=
! grep -F -e "$MNT " -e "$WRITTEN " /proc/mounts
[ -z "$(ls -A "$SCRATCH")" ] || { echo "left in the scratch folder: $(ls "$SCRATCH")"; exit 1; }
[ -z "$(ls "$STORE/sessions")" ] || { echo "sessions left: $(ls "$STORE/sessions")"; exit 1; }
"$CAIRN" verify "$STORE" > /dev/null
echo "== no wrong byte, nothing left"
