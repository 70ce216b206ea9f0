#!/usr/bin/env bash
# Eight backups at once into one store, beside the same eight one after the other: time, memory, and that every point is right.
#
#   usage: many.sh [--record FILE]     prints a table; with --record also writes it as a page
#
# ROOT   folder with the disk images vmA-day0..3.raw, vmB-day0.raw, winC-day0.raw, winC-day1.raw (needed); vmA-day0 is the eighth too
# WORK   folder for stores, about 13 GB: processes at once each store what they share (default: a new folder below TMPDIR); emptied before
#        and removed after
# CAIRN  the binary (default: target/release/cairn beside this checkout)
# ROUNDS how often everything is repeated; the middle one counts (default 3). Points are compared with their images in the first round
#
# Every image is a machine of its own. A third row is one process with a list of jobs, where the command takes one.
# The images are in the page cache where they fit in half of the memory; otherwise their pages are dropped before each run, and the disk counts.
set -euo pipefail

. "$(dirname "${BASH_SOURCE[0]}")/measured.sh"
begin "$@"
STORE=$WORK/store
# MACHINES[n] is stored from FILES[n].
MACHINES=(vmA0 vmA1 vmA2 vmA3 vmB winC0 winC1 vmA0twin)
FILES=("$ROOT"/{vmA-day0,vmA-day1,vmA-day2,vmA-day3,vmB-day0,winC-day0,winC-day1,vmA-day0}.raw)
needed "$CAIRN" "${FILES[@]}"

WAYS=(alone crowd)
declare -A SAID=([alone]="one after the other" [crowd]="eight processes at once" [jobs]="one process, a list of jobs")
ALONE=()
for at in "${!MACHINES[@]}"; do
  ALONE+=("$(printf '%q ' "$CAIRN" backup "$STORE" --machine "${MACHINES[at]}" "${FILES[at]}" --exact)")
done
JOBS="$(printf '%q ' "$CAIRN" backup "$STORE" --jobs "$WORK/jobs.json" --exact)"
if "$CAIRN" backup --help | grep -q -- --jobs; then
  WAYS+=(jobs)
  for at in "${!MACHINES[@]}"; do
    jq -n --arg machine "${MACHINES[at]}" --arg image "${FILES[at]}" '{machine: $machine, disks: [$image]}'
  done | jq -s . > "$WORK/jobs.json"
fi

# ready: the images where every run of all ways finds them
ready() {
  if [ "$WARM" = yes ]; then cached "${FILES[@]}"; else python3 "$HERE/measure.py" forget "${FILES[@]}"; fi
}
# crowd KEY WIDTH COMMAND...: commands, WIDTH at a time
crowd() {
  local key=$1 figures; shift
  figures=$(python3 "$HERE/measure.py" crowd "$@") || fail "failed: $key"
  noted "$key" <<< "$figures"
}
# right: every point of the store is checked and is what its image is
right() {
  local at
  "$CAIRN" verify "$STORE" > /dev/null || fail "verify: exit code $?"
  for at in "${!MACHINES[@]}"; do
    "$CAIRN" restore "$STORE" "${MACHINES[at]}@latest" --to - --disk disk0 | cmp - "${FILES[at]}" || fail "${MACHINES[at]} is not its image"
  done
}

take all < <(python3 "$HERE/measure.py" used "${FILES[@]}")
SIZE=$(stat -c %s "${FILES[@]:0:7}" | awk '{ all += $1 } END { print all }')
# Holes take pages too.
WARM=$(awk -v size="$SIZE" '/MemTotal/ { print (size < $2 * 1024 / 2) ? "yes" : "no" }' /proc/meminfo)
FACTS=$(facts)
log "$FACTS"
for round in $(seq "$ROUNDS"); do
  for way in "${WAYS[@]}"; do
    log "round $round: ${SAID[$way]}"
    rm -rf "$STORE"
    "$CAIRN" init --parity 0 "$STORE" > /dev/null
    ready
    sync
    case $way in
      alone) crowd alone 1 "${ALONE[@]}" ;;
      crowd) crowd crowd 8 "${ALONE[@]}" ;;
      jobs) crowd jobs 1 "$JOBS" ;;
    esac
    note "$way.stored" "$(du -sb "$STORE" | cut -f1)"
    if [ "$round" = 1 ]; then log "verify and compare"; right; fi
  done
done
FACTS="$FACTS
load after: $(load)"

table() {
  local way v
  row "eight backups" seconds "of all used bytes" "beside one after the other" "processors, s" "most private memory, all together" "largest resident" stored
  ruled 8
  for way in "${WAYS[@]}"; do
    v=${V[$way.seconds]}
    row "${SAID[$way]}" "$v" "$(gbs "${V[all.used_bytes]}" "$v")" "$(calc %.2f "${V[alone.seconds]} / $v") x" \
      "$(calc %.2f "${V[$way.user]} + ${V[$way.system]}")" "$(mib "$(most "${ALL[$way.private]}")")" "$(mib "$(most "${ALL[$way.resident]}")")" "$(mib "${V[$way.stored]}")"
  done
}
if [ "$WARM" = yes ]; then where="in the page cache"; else where="not in the page cache"; fi
finish "eight machines, $(mib "${V[all.used_bytes]}") used, $where; every point verified and compared with its image; the middle one of $ROUNDS rounds." "$FACTS" "$(table)"
