#!/usr/bin/env bash
# Whole commands beside what the machine can do, in one run: first backup, unchanged backup, the next day, restore, verify, mount.
#
#   usage: commands.sh [--record FILE]     prints a table; with --record also writes it as a page
#
# ROOT   folder with the disk images vmA-day0.raw, vmA-day0.vhdx, vmA-day1.raw (needed)
# WORK   folder for stores and copies, about 15 GB (default: a new folder below TMPDIR); emptied before and removed after
# CAIRN  the binary (default: target/release/cairn beside this checkout)
# FLOOR  the program read_and_hash of the benches (default: beside the binary; built when it is not there)
# ROUNDS how often what can be repeated is repeated; the middle one counts (default 3)
# CATALOG_STORE  where `CATALOG_STORE=... cargo bench -p cairn-benches -- catalog` left its stores of 100,000 points (default: they are not measured)
set -euo pipefail

. "$(dirname "${BASH_SOURCE[0]}")/measured.sh"
begin "$@"
DISK=$ROOT/vmA-day0.raw
NEXT=$ROOT/vmA-day1.raw
OTHER=$ROOT/vmA-day0.vhdx
needed "$DISK" "$NEXT" "$OTHER" "$CAIRN"
FLOOR=${FLOOR:-$(dirname "$CAIRN")/examples/read_and_hash}
[ -x "$FLOOR" ] || (cd "$HERE" && cargo build -q --release -p cairn-benches --example read_and_hash)
needed "$FLOOR"
mkdir "$MNT"

FACTS=$(facts)
log "$FACTS"
log "the used bytes of $(basename "$DISK")"
take used < <(python3 "$HERE/measure.py" pack "$DISK" "$WORK/used")
USED=${V[used.used_bytes]}

for round in $(seq "$ROUNDS"); do
  log "round $round: zstd, first backup"
  cached "$WORK/used"
  measured zstd /dev/null zstd -q -3 -T2 -c "$WORK/used"
  measured zstdfile "$WORK/used.zst" zstd -q -3 -T2 -c "$WORK/used"
  synced zstdsync "$WORK/used.zst"
  V[zstd.bytes]=$(stat -c %s "$WORK/used.zst")
  rm -f "$WORK/used.zst"
  rm -rf "$WORK/store"; sync
  cached "$DISK"
  measured init /dev/null "$CAIRN" init --parity 0 "$WORK/store"
  measured first "$WORK/first.json" "$CAIRN" backup "$WORK/store" --machine vmA "$DISK" --exact --json
done
rm -f "$WORK/used"
V[first.stored]=$(du -sb "$WORK/store" | cut -f1)

CHUNK=$("$CAIRN" stats "$WORK/store" --json | jq "($USED / .chunks) | round")
for round in $(seq "$ROUNDS"); do
  log "round $round: reading and hashing, unchanged backup"
  cached "$DISK"
  measured floor /dev/null "$FLOOR" "$DISK" "$CHUNK"
  measured again /dev/null "$CAIRN" backup "$WORK/store" --machine vmA "$DISK" --exact --json
done

for round in $(seq "$ROUNDS"); do
  log "round $round: cp, restore"
  cached "$DISK"; sync
  measured cp /dev/null cp --sparse=always "$DISK" "$WORK/copy"
  synced cpsync "$WORK/copy"
  rm -f "$WORK/copy"; sync
  store_cached "$WORK/store"
  measured restore "$WORK/restore.json" "$CAIRN" restore "$WORK/store" vmA@latest --to "$WORK/out" --json
  for name in seconds sync_seconds; do
    note "restore.$name.of" "$(jq ".[0].$name" "$WORK/restore.json")"
  done
  [ "$round" != 1 ] || cmp "$DISK" "$WORK/out/disk0.raw"
  rm -rf "$WORK/out"
done

log "verify"
store_cached "$WORK/store"
measured verify /dev/null "$CAIRN" verify "$WORK/store"
measured quick /dev/null "$CAIRN" verify "$WORK/store" --quick

log "mount"
store_cached "$WORK/store"
take mount < <(python3 "$HERE/measure.py" mount "$CAIRN" "$WORK/store" "$MNT" vmA/latest/files/disk0/p2/etc)
take reads < <(python3 "$HERE/measure.py" reads "$CAIRN" "$WORK/store" "$MNT" vmA/latest/disks/disk0.raw "$DISK")

[ -z "${CATALOG_STORE:-}" ] || {
  log "100,000 points of 1,000 machines"
  needed "$CATALOG_STORE/many/header.0"
  measured points /dev/null "$CAIRN" points "$CATALOG_STORE/many"
  take catalog < <(python3 "$HERE/measure.py" mount "$CAIRN" "$CATALOG_STORE/many" "$MNT" "Server 0500/latest")
}

log "the next day, and the same bytes from another image as another machine"
cached "$NEXT"
measured next "$WORK/next.json" "$CAIRN" backup "$WORK/store" --machine vmA "$NEXT" --exact --json
cached "$OTHER"
measured other "$WORK/other.json" "$CAIRN" backup "$WORK/store" --machine vmX "$OTHER" --exact --json
V[stats.chunks]=$("$CAIRN" stats "$WORK/store" --json | jq .chunks)
V[stats.index]=$(du -sb "$WORK/store/index" | cut -f1)
FACTS="$FACTS
load after: $(load)"

table() {
  local z=${V[zstd.seconds]} f=${V[first.seconds]} a=${V[again.seconds]} ratio copy back
  row what measured compared budget met
  ruled 5
  row "zstd -3 -T2 of the used bytes, to nowhere" "$z s, $(gbs "$USED" "$z")" "stores $(mib "${V[zstd.bytes]}")" "" ""
  row "the same to a file; sync" "${V[zstdfile.seconds]} s; ${V[zstdsync.seconds]} s" "" "" ""
  row "init" "${V[init.seconds]} s" "" "" ""
  ratio=$(calc %.2f "$z / $f")
  row "first backup, durable" "$f s, $(gbs "$USED" "$f"), processors $(calc %.2f "${V[first.user]} + ${V[first.system]}") s" "$ratio x zstd to nowhere; $(calc %.2f "(${V[zstdfile.seconds]} + ${V[zstdsync.seconds]}) / $f") x zstd to a file and sync; stores $(mib "${V[first.stored]}")" ">= 1.0 x" "$(atleast "$ratio" 1.0)"
  row "reading and hashing pieces of $CHUNK bytes, nothing else" "${V[floor.seconds]} s, $(gbs "$USED" "${V[floor.seconds]}")" "" "" ""
  ratio=$(calc %.2f "${V[floor.seconds]} / $a")
  row "unchanged backup" "$a s, $(gbs "$USED" "$a")" "$ratio x reading and hashing" ">= 0.8 x" "$(atleast "$ratio" 0.8)"
  row "next day, no change information" "${V[next.seconds]} s" "new $(mib "$(jq .new_bytes "$WORK/next.json")"), stored $(mib "$(jq .stored_bytes "$WORK/next.json")")" "" ""
  row "the same bytes as VHDX, another machine" "${V[other.seconds]} s, $(gbs "$USED" "${V[other.seconds]}")" "new $(mib "$(jq .new_bytes "$WORK/other.json")")" "" ""
  copy=${V[cp.seconds]}
  back=$(calc %.3f "${V[restore.seconds]} - ${V[restore.sync_seconds.of]}")
  ratio=$(calc %.2f "$copy / $back")
  row "cp --sparse=always; sync" "$copy s, $(gbs "$USED" "$copy"); ${V[cpsync.seconds]} s" "" "" ""
  row "restore; sync" "$back s, $(gbs "$USED" "$back"); $(calc %.3f "${V[restore.sync_seconds.of]}") s" "$ratio x cp" ">= 0.6 x" "$(atleast "$ratio" 0.6)"
  row "verify" "${V[verify.seconds]} s" "" "" ""
  row "verify --quick" "${V[quick.seconds]} s" "" "" ""
  row "mount, then first ls of a guest's folder" "${V[mount.mount_ms]} ms, worst of 7 ${V[mount.mount_worst_ms]} ms" "" "< 50 ms" "$(atmost "${V[mount.mount_ms]}" 50)"
  [ -z "${CATALOG_STORE:-}" ] || {
    row "100,000 points of 1,000 machines: mount, then first ls of a machine's latest" "${V[catalog.mount_ms]} ms, worst of 7 ${V[catalog.mount_worst_ms]} ms" "" "< 50 ms" "$(atmost "${V[catalog.mount_ms]}" 50)"
    row "the same: points" "${V[points.seconds]} s, private $(mib "${V[points.private]}")" "" "" ""
  }
  row "sequential read through the mount, cold" "${V[reads.sequential_gbs]} GB/s" "" ">= 1.2 GB/s" "$(atleast "${V[reads.sequential_gbs]}" 1.2)"
  row "random 4 KiB through the mount, cold" "${V[reads.random_cold]} /s" "" ">= 12,000 /s" "$(atleast "${V[reads.random_cold]}" 12000)"
  row "random 4 KiB, warm in cairn, not in the kernel" "${V[reads.random_warm]} /s" "" ">= 60,000 /s" "$(atleast "${V[reads.random_warm]}" 60000)"
  row "random 4 KiB, warm in the kernel" "${V[reads.random_kernel]} /s" "" "" ""
  ratio=$(calc %.1f "${V[stats.index]} / ${V[stats.chunks]}")
  row "index on disk" "$ratio bytes a chunk, ${V[stats.chunks]} chunks" "" "<= 34" "$(atmost "$ratio" 34)"
  local what
  for what in first again restore verify quick; do
    row "memory: $what" "private $(mib "${V[$what.private]}"), resident $(mib "${V[$what.resident]}")" "" "<= 300 MiB" "$(atmost "${V[$what.private]} / 1048576" 300)"
  done
  row "memory: mount" "private $(mib "${V[reads.private]}")" "" "<= 300 MiB" "$(atmost "${V[reads.private]} / 1048576" 300)"
}

finish "$(basename "$DISK"), $(mib "$USED") used, in the page cache; the middle one of $ROUNDS rounds." "$FACTS" "$(table)"
