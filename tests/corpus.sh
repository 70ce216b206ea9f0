#!/usr/bin/env bash
# Real disks of several GB, compared with what the kernel and ntfs-3g make of them. Needs root, loop devices, ntfs-3g and FUSE.
#
#   usage: ROOT=folder tests/corpus.sh
#
# ROOT   folder with vmA-day0.vhdx, vmA-day0.vhd, vmA-day0.raw, vmA-day1.raw (GPT; partition 2 is ext4) and winC-day0.vhdx,
#        winC-day0.raw (MBR; partition 1 is NTFS at sector 2048)
# WORK   folder for the store and restored disks, about 15 GB (default: a new folder below TMPDIR)
# CAIRN  the binary (default: target/release/cairn of this checkout)
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=${ROOT:?"say where the disk images are: ROOT=folder"}
WORK=${WORK:-$(mktemp -d "${TMPDIR:-/var/tmp}/cairn-corpus.XXXXXX")}
CAIRN=${CAIRN:-$HERE/../target/release/cairn}
STORE=$WORK/store MNT=$WORK/mnt TRUTH=$WORK/truth BACK=$WORK/back
EXT4_SECTOR=206848 NTFS_SECTOR=2048
PID= LOOP=

clean() {
  umount "$TRUTH" 2> /dev/null || true
  [ -z "$LOOP" ] || losetup -d "$LOOP" 2> /dev/null || true
  [ -z "$PID" ] || { kill -INT "$PID" 2> /dev/null && wait "$PID" || true; }
  rm -rf --one-file-system "$WORK"
}
trap clean EXIT

mkdir -p "$MNT" "$TRUTH" "$BACK"
measured() { /usr/bin/time -f "   %e s, %M KiB resident at most" "$@"; }

echo "== backups"
"$CAIRN" init "$STORE"
measured "$CAIRN" backup "$STORE" --machine vmA "$ROOT/vmA-day0.vhdx"
measured "$CAIRN" backup "$STORE" --machine vmA "$ROOT/vmA-day1.raw"
measured "$CAIRN" backup "$STORE" --machine again "$ROOT/vmA-day1.raw"
measured "$CAIRN" backup "$STORE" --machine vhd "$ROOT/vmA-day0.vhd"

echo "== a backup is killed, the next one works"
"$CAIRN" backup "$STORE" --machine winC "$ROOT/winC-day0.vhdx" > /dev/null &
PID=$!
sleep 2
kill -9 "$PID"
wait "$PID" 2> /dev/null || true
PID=
[ -z "$("$CAIRN" points "$STORE" --machine winC)" ]
measured "$CAIRN" verify "$STORE"
measured "$CAIRN" backup "$STORE" --machine winC "$ROOT/winC-day0.vhdx"
[ -z "$(ls "$STORE/sessions")" ]

echo "== whole disks come back"
back() {
  measured "$CAIRN" restore "$STORE" "$1" --to "$BACK"
  cmp "$BACK/disk0.raw" "$ROOT/$2"
  echo "   equal: $1 and $2"
  rm "$BACK/disk0.raw"
}
back vmA@latest vmA-day1.raw
back vhd@latest vmA-day0.raw
back winC@latest winC-day0.raw

echo "== files, compared with the kernel and ntfs-3g"
"$CAIRN" mount "$STORE" "$MNT" &
PID=$!
for _ in $(seq 100); do mountpoint -q "$MNT" && break; sleep 0.1; done
mount -o "ro,noload,loop,offset=$((EXT4_SECTOR * 512))" "$ROOT/vmA-day1.raw" "$TRUTH"
python3 "$HERE/compare_trees.py" "$TRUTH" "$MNT/vmA/latest/files/disk0/p2" unix
umount "$TRUTH"
LOOP=$(losetup --find --show --read-only --offset $((NTFS_SECTOR * 512)) "$ROOT/winC-day0.raw")
ntfs-3g -o ro,noatime,streams_interface=none "$LOOP" "$TRUTH"
python3 "$HERE/compare_trees.py" "$TRUTH" "$MNT/winC/latest/files/disk0/p1" windows
umount "$TRUTH"
grep RssAnon "/proc/$PID/status"
kill -INT "$PID"
wait "$PID"
PID=
if mountpoint -q "$MNT"; then echo "still mounted" >&2; exit 1; fi
measured "$CAIRN" verify "$STORE"
measured "$CAIRN" stats "$STORE"
echo "== everything agrees"
