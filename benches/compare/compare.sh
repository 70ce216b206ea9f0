#!/usr/bin/env bash
# Cairn beside restic, borg, rustic and bupstash, whichever are installed: the same disk images, the same machine, one run.
#
#   usage: compare.sh [--record FILE]     prints the tables; with --record also writes them as a page
#          compare.sh --install           puts the others into TOOLS (half an hour on two cores); then use it with the same TOOLS
#
# ROOT   folder with the disk images vmA-day0..3.raw, vmB-day0.raw, winC-day0.raw, winC-day1.raw (needed)
# WORK   folder for stores and copies, about 15 GB (default: a new folder below TMPDIR); emptied before and removed after
# CAIRN  the binary (default: target/release/cairn beside this checkout)
# ROUNDS how often everything is repeated; the middle one counts (default 3). The seven images' size is taken in the first round only
# TOOLS  folder with bin/rustic, bin/bupstash, bin/restic, borg/bin/borg (default /var/tmp/tools); what is not there is looked for in PATH
# ONLY   which of them take part (default: cairn cairn-auto restic borg borg-fixed rustic rustic-fixed bupstash)
#
# Where the others come from, which is what --install does:
#   restic    Debian:    apt-get install restic
#   borg      PyPI:      python3 -m venv TOOLS/borg && TOOLS/borg/bin/pip install borgbackup; Debian's borgbackup when that is not there
#   rustic    crates.io: cargo install --locked rustic-rs --root TOOLS
#   bupstash  crates.io: apt-get install libsodium-dev pkg-config; cargo install --locked bupstash --root TOOLS
#
# How each is run (`command_of` below has the words): every tool as its manual says for a file, with its defaults.
#   cairn         --exact, so that it too stores everything: swap files and free blocks
#   cairn-auto    the same with --level auto
#   restic        always encrypted; compression auto. `backup FILE`, `restore --target` (with --sparse where it has it), `check --read-data`
#   borg          init -e repokey-blake2, its lz4. `create REPO::NAME FILE`, `extract --sparse`, `check --verify-data`
#   borg-fixed    init -e none, and create --chunker-params fixed,4194304 --sparse, what borg's manual has for disk images
#   rustic        always encrypted; `backup FILE`, `restore` (with --sparse where it has it), `check --read-data`
#   rustic-fixed  the same with --set-chunker fixed_size --set-chunk-size 1MiB
#   bupstash      always encrypted; `put FILE`, `get` to a file. It has no check of all data
# The unchanged disk is read again by all: restic and rustic with --force, borg with --files-cache=disabled, bupstash with --no-stat-caching.
# The others could skip a file of the same name, size and times; the image of a running machine never has the same times.
#
# Sources and stores are in the page cache before each run; stores are on one disk, one at a time; a tool begins each round without
# caches. All tools take a turn within a round, and each round begins with another one. Times are those until the bytes are on stable
# storage: a `sync` of the file system follows each backup and restore, and is counted for everybody.
set -euo pipefail

. "$(dirname "${BASH_SOURCE[0]}")/measured.sh"
TOOLS=$(realpath -m "${TOOLS:-/var/tmp/tools}")
ONLY=${ONLY:-cairn cairn-auto restic borg borg-fixed rustic rustic-fixed bupstash}

install() {
  local root=
  [ "$(id -u)" = 0 ] || root=sudo
  $root apt-get install -y --no-install-recommends restic python3-venv build-essential pkg-config \
    libsodium-dev libssl-dev libacl1-dev libxxhash-dev liblz4-dev libzstd-dev
  [ -x "$TOOLS/borg/bin/borg" ] || { python3 -m venv "$TOOLS/borg" && nice -n 19 "$TOOLS/borg/bin/pip" install borgbackup; }
  [ -x "$TOOLS/bin/rustic" ] || nice -n 19 cargo install --locked rustic-rs --root "$TOOLS"
  [ -x "$TOOLS/bin/bupstash" ] || nice -n 19 cargo install --locked bupstash --root "$TOOLS"
}
[ "${1:-}" != --install ] || { install; exit; }

begin "$@"
IMAGES=(vmA-day0 vmA-day1 vmA-day2 vmA-day3 vmB-day0 winC-day0 winC-day1)
for image in "${IMAGES[@]}"; do needed "$ROOT/$image.raw"; done
needed "$CAIRN"
STORE=$WORK/store CACHE=$WORK/cache OUT=$WORK/out

# binary NAME: where it is, or nothing
binary() {
  local at
  for at in "$TOOLS/bin/$1" "$TOOLS/$1/bin/$1"; do [ ! -x "$at" ] || { echo "$at"; return; }; done
  command -v "$1" || true
}
RESTIC=$(binary restic) BORG=$(binary borg) RUSTIC=$(binary rustic) BUPSTASH=$(binary bupstash)
declare -A BINARY=([cairn]=$CAIRN [cairn-auto]=$CAIRN [restic]=$RESTIC [borg]=$BORG [borg-fixed]=$BORG [rustic]=$RUSTIC [rustic-fixed]=$RUSTIC [bupstash]=$BUPSTASH)
declare -A HOW=(
  [cairn]="not encrypted; zstd 3; cut by content, about 32 KiB"
  [cairn-auto]="not encrypted; zstd 1 to 9, as the source allows; cut by content, about 32 KiB"
  [restic]="encrypted; zstd; cut by content, about 1 MiB"
  [borg]="encrypted (repokey-blake2); lz4; cut by content, about 2 MiB"
  [borg-fixed]="not encrypted (none); lz4; every 4 MiB"
  [rustic]="encrypted; zstd 3; cut by content, about 1 MiB"
  [rustic-fixed]="encrypted; zstd 3; every 1 MiB"
  [bupstash]="encrypted; zstd 3; cut by content, about 1 MiB"
)
# An option that newer versions have: holes stay holes.
RESTIC_SPARSE=() RUSTIC_SPARSE=()
[ -z "$RESTIC" ] || ! "$RESTIC" help restore | grep -q -- --sparse || RESTIC_SPARSE=(--sparse)
[ -z "$RUSTIC" ] || ! "$RUSTIC" restore --help | grep -q -- --sparse || RUSTIC_SPARSE=(--sparse by-content)

# Nothing of the caller's own configuration or caches takes part.
export XDG_CONFIG_HOME=$CACHE/config XDG_CACHE_HOME=$CACHE/cache TMPDIR=$WORK/tmp
mkdir -p "$TMPDIR"
export RESTIC_REPOSITORY=$STORE RESTIC_PASSWORD=compare RESTIC_CACHE_DIR=$CACHE/restic
export RUSTIC_REPOSITORY=$STORE RUSTIC_PASSWORD=compare RUSTIC_CACHE_DIR=$CACHE/rustic RUSTIC_NO_PROGRESS=true
export BORG_REPO=$STORE BORG_PASSPHRASE=compare BORG_BASE_DIR=$CACHE/borg BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK=yes
export BUPSTASH_REPOSITORY=$STORE BUPSTASH_KEY=$CACHE/bupstash.key BUPSTASH_SEND_LOG=$CACHE/bupstash.send BUPSTASH_QUERY_CACHE=$CACHE/bupstash.query

# command_of WHO STEP [FILE NAME]: the words in CMD, where its output goes in TO. Backups get a new NAME each, `restore` the last one.
command_of() {
  local file=${3:-} name=${4:-}
  TO=/dev/null
  case $1.$2 in
    cairn*.init) CMD=("$CAIRN" init --parity 0 "$STORE") ;;
    cairn.backup | cairn.again) CMD=("$CAIRN" backup "$STORE" --machine "$(basename "${file%%-day*}")" "$file" --exact) ;;
    cairn-auto.backup | cairn-auto.again) CMD=("$CAIRN" backup "$STORE" --machine "$(basename "${file%%-day*}")" "$file" --exact --level auto) ;;
    cairn*.restore) CMD=("$CAIRN" restore "$STORE" vmA@latest --to "$OUT") ;;
    cairn*.check) CMD=("$CAIRN" verify "$STORE") ;;
    restic.init) CMD=("$RESTIC" init) ;;
    restic.backup) CMD=("$RESTIC" backup "$file") ;;
    restic.again) CMD=("$RESTIC" backup --force "$file") ;;
    restic.restore) CMD=("$RESTIC" restore latest "${RESTIC_SPARSE[@]}" --target "$OUT") ;;
    restic.check) CMD=("$RESTIC" check --read-data) ;;
    borg.init) CMD=("$BORG" init -e repokey-blake2) ;;
    borg-fixed.init) CMD=("$BORG" init -e none) ;;
    borg.backup) CMD=("$BORG" create "::$name" "$file") ;;
    borg.again) CMD=("$BORG" create --files-cache=disabled "::$name" "$file") ;;
    borg-fixed.backup) CMD=("$BORG" create --chunker-params fixed,4194304 --sparse "::$name" "$file") ;;
    borg-fixed.again) CMD=("$BORG" create --chunker-params fixed,4194304 --sparse --files-cache=disabled "::$name" "$file") ;;
    borg*.restore) CMD=("$BORG" extract --sparse "::$name") ;;
    borg*.check) CMD=("$BORG" check --verify-data) ;;
    rustic.init) CMD=("$RUSTIC" init) ;;
    rustic-fixed.init) CMD=("$RUSTIC" init --set-chunker fixed_size --set-chunk-size 1MiB) ;;
    rustic*.backup) CMD=("$RUSTIC" backup "$file") ;;
    rustic*.again) CMD=("$RUSTIC" backup --force "$file") ;;
    rustic*.restore) CMD=("$RUSTIC" restore "${RUSTIC_SPARSE[@]}" latest "$OUT") ;;
    rustic*.check) CMD=("$RUSTIC" check --read-data) ;;
    bupstash.init) CMD=(sh -c '"$1" new-key -o "$BUPSTASH_KEY" && "$1" init' sh "$BUPSTASH") ;;
    bupstash.backup) CMD=("$BUPSTASH" put -q "point=$name" "$file") ;;
    bupstash.again) CMD=("$BUPSTASH" put -q --no-stat-caching "point=$name" "$file") ;;
    bupstash.restore) CMD=("$BUPSTASH" get -q "point=$name") TO=$OUT/disk ;;
    *) return 1 ;;
  esac
}

# step KEY WHO STEP [FILE NAME]: one measured command in the folder OUT; what it says goes to a file, shown if it fails
step() {
  local key=$1; shift
  command_of "$@" || return 1
  sync
  (cd "$OUT" && exec python3 "$HERE/measure.py" run "$TO" "${CMD[@]}") > "$WORK/figures" 2> "$WORK/said" || {
    log "failed: ${CMD[*]}"; tail -5 "$WORK/said" >&2; return 1
  }
  noted "$key" < "$WORK/figures"
  note "$key.cpu" "$(calc %.3f "${ALL[$key.user]##* } + ${ALL[$key.system]##* }")"
}
# durable KEY ...: the same, then the file system is synced; KEY.durable is the time of both
durable() {
  step "$@" || return 1
  attempt "$1.sync" /dev/null sync -f "$STORE" || return 1
  note "$1.durable" "$(calc %.3f "${ALL[$1.seconds]##* } + ${ALL[$1.sync.seconds]##* }")"
}

# turn WHO ROUND: everything that is measured of one tool, in a new store
turn() {
  local who=$1 round=$2 first=$ROOT/vmA-day0.raw next=$ROOT/vmA-day1.raw restored image
  rm -rf "$STORE" "$CACHE" "$OUT" "$TMPDIR"/*
  mkdir -p "$CACHE" "$OUT"
  step "$who.init" "$who" init || return 1
  cached "$first"
  durable "$who.first" "$who" backup "$first" first || return 1
  cached "$next"
  durable "$who.next" "$who" backup "$next" next || return 1
  cached "$next"
  durable "$who.again" "$who" again "$next" again || return 1
  store_cached "$STORE"
  durable "$who.restore" "$who" restore "" again || return 1
  restored=$(find "$OUT" -type f)
  [ "$round" != 1 ] || cmp "$next" "$restored" || return 1
  rm -rf "$OUT"; mkdir "$OUT"
  if command_of "$who" check; then
    store_cached "$STORE"
    step "$who.check" "$who" check || return 1
  fi
  [ "$round" = 1 ] || return 0
  for image in "${IMAGES[@]:2}"; do
    cached "$ROOT/$image.raw"
    step "$who.rest" "$who" backup "$ROOT/$image.raw" "$image" || return 1
  done
  note "$who.stored" "$(calc %.0f "$(du -sb "$STORE" | cut -f1) / 1048576")"
}

PRESENT=() LATER=()
for who in $ONLY; do
  [ -n "${HOW[$who]:-}" ] || fail "$who is not known"
  if [ -n "${BINARY[$who]}" ]; then PRESENT+=("$who"); else LATER+=("$who"); fi
done
versions() {
  local who at said=
  for who in restic borg rustic bupstash; do
    at=${BINARY[$who]}
    case " ${PRESENT[*]} " in
      *" $who"*) said+=", $({ "$at" --version 2> /dev/null || "$at" version; } | head -1 | sed 's/^bupstash-/bupstash /' | cut -d' ' -f1,2)" ;;
    esac
  done
  echo "beside ${said#, }"
  [ ${#LATER[@]} = 0 ] || echo "not installed: ${LATER[*]}"
}
FACTS="$(facts)
$(versions)"
log "$FACTS"

declare -A BROKEN=()
for round in $(seq "$ROUNDS"); do
  for at in $(seq 0 $((${#PRESENT[@]} - 1))); do
    who=${PRESENT[(at + round - 1) % ${#PRESENT[@]}]}
    [ -z "${BROKEN[$who]:-}" ] || continue
    log "round $round: $who"
    turn "$who" "$round" || BROKEN[$who]=yes
    rm -rf "$STORE" "$CACHE" "$OUT" "$TMPDIR"/*
  done
done
FACTS="$FACTS
load after: $(load)"

# shown KEY FORMAT: the value, or a dash
shown() { if [ -n "${V[$1]:-}" ]; then calc "$2" "${V[$1]}"; else echo -; fi; }
# peak WHO KIND STEP...: most memory of any run of these steps, in MiB
peak() {
  local who=$1 kind=$2 all= step; shift 2
  for step in "$@"; do all+=" ${ALL[$who.$step.$kind]:-}"; done
  all=$(most "$all")
  if [ -n "$all" ]; then calc %.0f "$all / 1048576"; else echo -; fi
}
memory() { echo "$(peak "$1" "$2" first next again rest) / $(peak "$1" "$2" restore) / $(peak "$1" "$2" check)"; }

table() {
  local who
  row "" "first backup, s" "next day, s" "unchanged, s" "restore, s" "check of all data, s" "seven images, MiB" "most resident memory: backup / restore / check, MiB" how
  ruled 9
  for who in "${PRESENT[@]}"; do
    row "$who${BROKEN[$who]:+ (FAILED)}" "$(shown "$who.first.durable" %.2f)" "$(shown "$who.next.durable" %.2f)" "$(shown "$who.again.durable" %.2f)" \
      "$(shown "$who.restore.durable" %.2f)" "$(shown "$who.check.seconds" %.2f)" "$(shown "$who.stored" "%.0f")" \
      "$(memory "$who" resident)" "${HOW[$who]}"
  done
}

# The same runs, only the command: what was written may not be on the disk when it ends.
alone() {
  local who name cells
  row "the commands alone" "first backup, s" "next day, s" "unchanged, s" "restore, s" "processors, first backup, s" "most private memory: backup / restore / check, MiB"
  ruled 7
  for who in "${PRESENT[@]}"; do
    cells=()
    for name in first next again restore; do cells+=("$(shown "$who.$name.seconds" %.2f)"); done
    row "$who" "${cells[@]}" "$(shown "$who.first.cpu" %.2f)" "$(memory "$who" private)"
  done
}

# goal WHAT KEY TIMES: cairn against the fastest of the others
goal() {
  local who best= ratio
  for who in "${PRESENT[@]}"; do
    [[ $who != cairn* ]] && [ -n "${V[$who.$2]:-}" ] && [ -z "${BROKEN[$who]:-}" ] || continue
    [ -n "$best" ] && [ "$(atleast "${V[$who.$2]}" "${V[$best.$2]}")" = yes ] || best=$who
  done
  [ -n "$best" ] && [ -n "${V[cairn.$2]:-}" ] || { row "$1" - - - "$3 x" -; return; }
  ratio=$(calc %.2f "${V[$best.$2]} / ${V[cairn.$2]}")
  row "$1" "$(shown "cairn.$2" %.2f) s" "$best, $(shown "$best.$2" %.2f) s" "$ratio x" "$3 x" "$(atleast "$ratio" "$3")"
}
goals() {
  row goal cairn "fastest of the others" ratio wanted met
  ruled 6
  goal "first backup" first.durable 3
  goal "unchanged disk" again.durable 7
  goal "restore" restore.durable 4
  goal "full verify" check.seconds 5
}

finish "vmA-day0.raw, then vmA-day1.raw, then the same again, restored and checked; sources and stores in the page cache; until on stable storage; the middle one of $ROUNDS rounds." \
  "$FACTS" "$(table; echo; goals; echo; alone)"
[ ${#BROKEN[@]} = 0 ] || fail "failed: ${!BROKEN[*]}"
