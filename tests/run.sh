#!/usr/bin/env bash
# Everything that must hold before a change is taken: formatting, lints, and every test, documentation included.
#
# On a fresh Debian with Rust it first installs the tools that the tests compare with, as root or through sudo; what
# is installed already is left as it is. Without them the tests that need them say so, and are counted as skipped.
# A small machine for the tests to start is made once (tests/machine.sh).
# The last line is `N passed, M failed, K skipped`; the exit code is 0 only if nothing failed.
#
#   CAIRN_TEST_MINUTES   when to give up (default 60)
#   CAIRN_TEST_INSTALL   `no` installs nothing
#   CAIRN_BOOT_IMAGE     a raw image of a Linux machine, its root on the second partition with its kernel in /boot: it is started from
#                        a recovery point beside the small one of tests/machine.sh, which takes some minutes
set -euo pipefail
exec </dev/null
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Debian keeps mkfs and its like where only root looks; rustup's folder is missing in plain shells.
PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin:${CARGO_HOME:-${HOME:-/root}/.cargo}/bin"
export PATH CARGO_TERM_COLOR=never RUST_BACKTRACE="${RUST_BACKTRACE:-0}"
# What builds keep for the next one takes as much room as they do, and there is no next one here.
export CARGO_INCREMENTAL="${CARGO_INCREMENTAL:-0}"

scratch="$(mktemp -d)"
running=
trap 'rm -rf "$scratch"' EXIT
trap '[ -z "$running" ] || kill "$running" 2>/dev/null || true; exit 130' INT TERM
touch "$scratch"/{times,skipped,failures,counted}
mkfifo "$scratch/pipe"
deadline=$((${CAIRN_TEST_MINUTES:-60} * 60))

# A command that shows whether the package is there, and the package.
needed=(
    "cc build-essential" "git git" "mke2fs e2fsprogs" "debugfs e2fsprogs" "mkntfs ntfs-3g" "ntfs-3g ntfs-3g"
    "qemu-img qemu-utils" "qemu-io qemu-utils" "fusermount3 fuse3" "zstd zstd" "mcopy mtools" "mkfs.vfat dosfstools"
    "mkfs.exfat exfatprogs" "mount.exfat-fuse exfat-fuse"
    "sgdisk gdisk" "sfdisk fdisk" "setfattr attr" "setfacl acl" "losetup mount" "umount mount" "openssl openssl"
    "fls sleuthkit" "icat sleuthkit" "ldmtool ldmtool" "wimlib-imagex wimtools" "python3 python3" "vhdiinfo libvhdi-utils" "vhdimount libvhdi-utils" "bsdtar libarchive-tools" "unzip unzip" "nbdcopy libnbd-bin"
    "findmnt util-linux" "perl perl-base" "bdemount libbde-utils" "dislocker-file dislocker" "hivexget libhivex-bin" "regfexport libregf-utils"
)
# These packages start file servers for everybody, unless services are kept from starting, as they are in images of containers.
[ ! -x /usr/sbin/policy-rc.d ] || needed+=("smbd samba" "smbclient smbclient" "ganesha.nfsd nfs-ganesha-vfs" "nfs-ls libnfs-utils")

missing_packages() {
    local pair
    for pair in "${needed[@]}"; do
        command -v "${pair% *}" >/dev/null || echo "${pair#* }"
    done | sort -u
}

install_tools() {
    local missing as_root=()
    mapfile -t missing < <(missing_packages)
    if [ "${#missing[@]}" -eq 0 ]; then
        echo "nothing is missing"
        return
    fi
    echo "missing: ${missing[*]}"
    if [ "${CAIRN_TEST_INSTALL:-yes}" = no ] || ! command -v apt-get >/dev/null; then
        echo "they are not installed here"
        return
    fi
    if [ "$(id -u)" -ne 0 ]; then
        if ! sudo -n true 2>/dev/null; then
            echo "neither root nor sudo: going on without them"
            return
        fi
        as_root=(sudo -n)
    fi
    local apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y
        -o Acquire::Retries=2 -o Acquire::http::Timeout=20 -o DPkg::Lock::Timeout=120)
    "${apt[@]}" update || echo "the list of packages could not be refreshed"
    # One by one only if all at once fails, so that one package that is gone does not cost the others.
    if ! "${apt[@]}" install --no-install-recommends "${missing[@]}"; then
        local package
        for package in "${missing[@]}"; do
            "${apt[@]}" install --no-install-recommends "$package" || echo "could not install $package"
        done
    fi
    mapfile -t missing < <(missing_packages)
    [ "${#missing[@]}" -eq 0 ] || echo "still missing: ${missing[*]}"
}

# step NAME COMMAND...: runs it within the time that is left, notes how long it took, and whether it failed.
step() {
    local name="$1" begun="$SECONDS" left=$((deadline - SECONDS)) status=0 copy
    shift
    printf '\n== %s\n' "$name"
    [ "$left" -gt 0 ] || left=1
    tee "$scratch/output" <"$scratch/pipe" &
    copy="$!"
    # In the background, so that an interrupt reaches the trap above at once.
    timeout -k 10 "$left" "$@" >"$scratch/pipe" 2>&1 &
    running="$!"
    wait "$running" || status="$?"
    running=
    wait "$copy"
    printf '%5d s  %s\n' "$((SECONDS - begun))" "$name" >>"$scratch/times"
    case "$status" in
    0) return 0 ;;
    124 | 137) echo "$name: not done after $left s" >>"$scratch/failures" ;;
    *) echo "$name: exit code $status" >>"$scratch/failures" ;;
    esac
    return 1
}

# rust_tool NAME COMPONENT: whether `cargo NAME` is there, added by rustup if need be.
rust_tool() {
    cargo "$1" --version >/dev/null 2>&1 && return
    if command -v rustup >/dev/null && rustup component add "$2" && cargo "$1" --version >/dev/null 2>&1; then
        return
    fi
    printf '%s\t%s\n' "cargo $1" "$2 is not installed" >>"$scratch/skipped"
    return 1
}

free_room() { df -h --output=avail . | tail -n 1 | tr -d ' '; }
echo "== room: $(free_room) free (the build takes 4 GB, the tests up to 3 GB more)"

echo "== tools"
install_tools
printf '%5d s  %s\n' "$SECONDS" tools >>"$scratch/times"
if ! command -v cargo >/dev/null; then
    echo "cargo is missing: Rust is needed (https://rustup.rs)"
    echo "0 passed, 1 failed, 0 skipped"
    exit 1
fi

# What cannot be had is no failure: the tests that start the machine say that it is not there.
make_machine() {
    if [ "${CAIRN_TEST_INSTALL:-yes}" = no ]; then
        echo "nothing is fetched"
    else
        timeout -k 10 600 tests/machine.sh || echo "the tests go on without"
    fi
}
export -f make_machine

failed=0
step machine bash -c make_machine || failed=$((failed + 1))
if rust_tool fmt rustfmt; then
    step format cargo fmt --all --check || failed=$((failed + 1))
fi
if rust_tool clippy clippy; then
    step lints cargo clippy --locked --workspace --all-targets -- -D warnings || failed=$((failed + 1))
fi
# Captured output is shown test by test, so that each reason for skipping stands under the name of its test.
tests_failed=0
step tests cargo test --locked --workspace --no-fail-fast -- --show-output || tests_failed=1

# Reads the tests' output: sums of the lines `test result: ok. 3 passed; 0 failed; 1 ignored; ...`, the names of failed
# tests, and the tests that passed but said `SKIPPED: why`; those count as skipped. What they say as `COUNTED: NUMBER WHAT` is added up.
read -r passed bad < <(awk -v failures="$scratch/failures" -v skipped="$scratch/skipped" -v tally="$scratch/counted" '
    function skip(name, why) {
        if (!seen[binary, name, why]++) printf "%s: %s\t%s\n", binary, name, why >> skipped
        if (!counted[binary, name]++) return 1
        return 0
    }
    /^ +Running / { binary = $NF; gsub(/.*\/|-[0-9a-f]+\)$/, "", binary) }
    /^ +Doc-tests / { binary = "documentation of " $NF }
    /^test .* \.\.\. FAILED/ { name = $0; gsub(/^test | \.\.\. FAILED.*/, "", name); print binary ": " name >> failures }
    /^test .* \.\.\. ignored/ {
        name = why = $0
        gsub(/^test | \.\.\. ignored.*/, "", name); sub(/.* \.\.\. ignored(, )?/, "", why)
        skip(name, why == "" ? "marked as ignored" : why)
    }
    /^successes:$/ { passing = 1 }
    /^(failures:|test result:)/ { passing = 0 }
    /^---- .* stdout ----$/ { test = $0; gsub(/^---- | stdout ----$/, "", test) }
    passing && sub(/^SKIPPED: /, "") { said += skip(test, $0) }
    passing && sub(/^COUNTED: /, "") { number = $1; sub(/^[0-9]+ /, ""); sums[$0] += number }
    /^test result: / { for (i = 3; i <= NF; i++) { if ($i ~ /^passed/) passed += $(i - 1); if ($i ~ /^failed/) bad += $(i - 1) } }
    END { for (what in sums) print sums[what], what >> tally; print passed - said, bad + 0 }
' "$scratch/output")
# The tests may also end because they do not compile, or because one of them takes the whole program down.
[ "$tests_failed" -eq 0 ] || [ "$bad" -gt 0 ] || bad=1
failed=$((failed + bad))

printf '\n== time\n'
cat "$scratch/times"
printf '%5d s  all\n' "$SECONDS"
printf '\n== room: %s free\n' "$(free_room)"
if [ -s "$scratch/counted" ]; then
    printf '\n== counted\n'
    sort -k 2 "$scratch/counted"
fi
if [ -s "$scratch/skipped" ]; then
    printf '\n== skipped, and why\n'
    # One line for each test, its reasons after it.
    awk -F '\t' '{ if ($1 in why) why[$1] = why[$1] "; " $2; else why[$1] = $2 } END { for (name in why) print name ": " why[name] }' \
        "$scratch/skipped" | sort
fi
if [ -s "$scratch/failures" ]; then
    printf '\n== failed\n'
    cat "$scratch/failures"
fi
skipped="$(cut -f 1 "$scratch/skipped" | sort -u | wc -l)"
printf '\n%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
[ "$failed" -eq 0 ]
