#!/usr/bin/env bash
# Cairn from nothing to files recovered, on a fresh Debian with Rust.
#
#   tools/quickstart.sh             makes a disk (GPT, ext4, NTFS) from files of this machine, backs it up on two days,
#                                   mounts the store, and compares everything with the originals; leaves nothing behind
#   tools/quickstart.sh IMAGE...    backs up your own images (raw, VHD, VHDX) and shows what is in them; the store stays
#
# Tools that are missing are installed as root or through sudo; what is there is left as it is.
#
#   STORE                    where your images go (default ./cairn-store)
#   CAIRN_QUICKSTART_WORK    folder for the work, about 4 GB (default a new one below ${TMPDIR:-/var/tmp})
#   CAIRN_QUICKSTART_INSTALL `no` installs nothing
set -euo pipefail
exec </dev/null
source_folder="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"

# Debian keeps mkfs and its like where only root looks; rustup's folder is missing in plain shells.
PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin:${CARGO_HOME:-${HOME:-/root}/.cargo}/bin"
export PATH LC_ALL=C.UTF-8

work=
mount_pid=  # cairn mount
ntfs_pid=   # ntfs-3g, while the NTFS partition is being filled

heading() { printf '\n== %s\n' "$*"; }
fail() {
    echo "quickstart: $*" >&2
    exit 1
}

is_mounted() { grep -qF " $1 " /proc/self/mountinfo; }

# detach FOLDER: unmounts it, whoever is allowed to.
detach() { umount "$1" 2>/dev/null || fusermount3 -u "$1" 2>/dev/null || fusermount -u "$1" 2>/dev/null; }

# discard FOLDER: the guests' folders may be without the right to write.
discard() {
    chmod -R u+rwX "$1" 2>/dev/null || true
    rm -rf "$1"
}

# Whatever happens: nothing stays mounted, no process stays, no file stays.
clean_up() {
    local status="$?" folder
    trap - EXIT INT TERM HUP
    set +e
    [ "$status" -eq 0 ] || echo "quickstart: it did not work (exit code $status)" >&2
    if [ -n "$mount_pid" ] && kill -INT "$mount_pid" 2>/dev/null; then
        wait "$mount_pid" 2>/dev/null
    fi
    if [ -n "$work" ]; then
        for folder in "$work/mnt" "$work/ntfs"; do
            ! is_mounted "$folder" || detach "$folder" || umount -l "$folder" 2>/dev/null
        done
        [ -z "$ntfs_pid" ] || wait "$ntfs_pid" 2>/dev/null
        if is_mounted "$work/mnt" || is_mounted "$work/ntfs"; then
            echo "quickstart: something is still mounted below $work" >&2
            [ "$status" -ne 0 ] || status=1
        else
            discard "$work"
        fi
    fi
    exit "$status"
}

install_tools() {
    local needed=("cc build-essential" "qemu-img qemu-utils" "mke2fs e2fsprogs" "debugfs e2fsprogs" "mkntfs ntfs-3g"
        "ntfs-3g ntfs-3g" "sgdisk gdisk" "fusermount3 fuse3" "diff diffutils")
    local missing=() as_root=() pair
    # Your own images need none of the tools that make the demonstration's disk.
    [ "$1" = demonstration ] || needed=("cc build-essential" "fusermount3 fuse3")
    for pair in "${needed[@]}"; do
        command -v "${pair% *}" >/dev/null || missing+=("${pair#* }")
    done
    [ "${#missing[@]}" -gt 0 ] || return 0
    heading "installing ${missing[*]}"
    if [ "${CAIRN_QUICKSTART_INSTALL:-yes}" = no ] || ! command -v apt-get >/dev/null; then
        fail "please install them first"
    fi
    if [ "$(id -u)" -ne 0 ]; then
        sudo -n true 2>/dev/null || fail "neither root nor sudo without a password: please install them first"
        as_root=(sudo -n)
    fi
    local apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y
        -o Acquire::Retries=2 -o DPkg::Lock::Timeout=120)
    "${apt[@]}" update >/dev/null || echo "the list of packages could not be refreshed"
    "${apt[@]}" install --no-install-recommends "${missing[@]}" >/dev/null
}

build() {
    heading "building cairn"
    command -v cargo >/dev/null || fail "cargo is missing: Rust is needed (https://rustup.rs)"
    local target
    (cd "$source_folder" && cargo build --release --locked -p cairn-cli)
    target="$(cd "$source_folder" && cargo metadata --format-version 1 --no-deps --offline |
        sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')"
    PATH="$target/release:$PATH"
    hash -r
    cairn --version
}

make_work_folder() {
    local base="${CAIRN_QUICKSTART_WORK:-${TMPDIR:-/var/tmp}}"
    mkdir -p "$base"
    work="$(mktemp -d "$(realpath "$base")/cairn-quickstart.XXXXXX")"
    trap clean_up EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    mkdir "$work/mnt" "$work/ntfs"
}

have_fuse=yes
look_for_fuse() {
    if [ ! -c /dev/fuse ] || ! { : <>/dev/fuse; } 2>/dev/null; then
        have_fuse=no
        echo "/dev/fuse is missing or not for us: nothing can be mounted here, \`cairn ls\` and \`cairn copy\` are used instead"
    fi
}

# quietly COMMAND...: its output is only of interest when it fails.
quietly() {
    "$@" >"$work/log" 2>&1 || fail "$1: $(cat "$work/log")"
}

# field NAME: a number of the JSON document on standard input.
field() { sed -n "s/^ *\"$1\": \"\{0,1\}\([^\",]*\).*/\1/p" | head -n 1; }

megabytes() { awk -v bytes="$1" 'BEGIN { printf "%.1f MB", bytes / 1e6 }'; }
# tell JSON: what a backup read and stored, and how fast.
tell() {
    echo "point $(field point <<<"$1" | cut -c 1-16)  $(field time <<<"$1")"
    awk -v r="$(field read_bytes <<<"$1")" -v n="$(field new_bytes <<<"$1")" \
        -v s="$(field stored_bytes <<<"$1")" -v t="$(field seconds <<<"$1")" 'BEGIN {
        printf "read %.1f MB, of which %.1f MB were new, stored %.1f MB, in %.2f s (%.0f MB/s)\n",
            r / 1e6, n / 1e6, s / 1e6, t, r / 1e6 / (t > 0.001 ? t : 0.001) }'
}

# back_up MACHINE IMAGE OPTION...: done with warnings is done.
back_up() {
    local json status=0
    json="$(cairn backup "$store" --machine "$@" --json)" || status="$?"
    [ "$status" -eq 0 ] || [ "$status" -eq 3 ] || fail "$2: cairn backup ended with exit code $status"
    tell "$json"
}

# wait_for_mount FOLDER PID: until it is mounted by that process.
wait_for_mount() {
    local i
    for ((i = 0; i < 200; i++)); do
        ! is_mounted "$1" || return 0
        kill -0 "$2" 2>/dev/null || return 1
        sleep 0.05
    done
    return 1
}

mount_store() {
    cairn mount "$1" "$work/mnt" &
    mount_pid="$!"
    wait_for_mount "$work/mnt" "$mount_pid" || fail "the store could not be mounted"
}

# Ctrl-C, as a user would end it.
unmount_store() {
    local status=0
    kill -INT "$mount_pid"
    wait "$mount_pid" || status="$?"
    mount_pid=
    [ "$status" -eq 0 ] || fail "the mount ended with exit code $status"
    ! is_mounted "$work/mnt" || fail "it is still mounted"
    echo "unmounted"
}

# gather TREE LIMIT FIND...: copies files that everybody may read into TREE until LIMIT bytes are there.
gather() {
    local tree="$1" limit="$2" sum=0 size name
    shift 2
    mkdir -p "$tree"
    # Folders that are not for us make find fail; what else it finds is enough.
    { find "$@" 2>/dev/null || true; } | tr '\n' '\a' | tr '\0' '\n' | grep -v "$(printf '\a')" | LC_ALL=C sort -k 2 |
        while IFS=$'\t' read -r size name; do
            [ "$((sum + size))" -le "$limit" ] || continue
            sum=$((sum + size))
            printf '%s\0' "${name#/}"
        done | (cd / && xargs -0 -r cp -a --parents -t "$tree" --)
}

libraries() { find /usr/lib -maxdepth 1 -type d -name '*-linux-gnu'; }

# The NTFS partition is mounted by ntfs-3g, in a process of our own, so that its end means that all is written.
ntfs_mount() {
    ntfs-3g -o no_detach "$work/ntfs.img" "$work/ntfs" 2>/dev/null &
    ntfs_pid="$!"
    wait_for_mount "$work/ntfs" "$ntfs_pid" && return
    ntfs_pid=
    return 1
}

ntfs_unmount() {
    detach "$work/ntfs"
    wait "$ntfs_pid"
    ntfs_pid=
}

ext4_mb=700 ntfs_mb=420

make_partitions() {
    local anything=(\( -type l -o -type f -perm -o=r -size -64M \) -printf '%s\t%p\0')
    gather "$work/day1/ext4" 100000000 /etc /usr/share/doc -xdev "${anything[@]}"
    gather "$work/day1/ext4" 200000000 $(libraries) -xdev "${anything[@]}"
    quietly mke2fs -q -t ext4 -L linux -d "$work/day1/ext4" "$work/ext4.img" "${ext4_mb}m"

    truncate -s "${ntfs_mb}M" "$work/ntfs.img"
    quietly mkntfs -q -F -Q -L windows -s 512 -p 0 -H 255 -S 63 "$work/ntfs.img"
    mkdir "$work/day1/ntfs"
    if [ "$have_fuse" = yes ] && ntfs_mount; then
        gather "$work/day1/ntfs" 150000000 /usr/bin $(libraries) /usr/share/doc -xdev \
            -type f -perm -o=r -size -64M -not -name '*[:\\<>|"?*]*' -printf '%s\t%p\0'
        cp -r --preserve=timestamps "$work/day1/ntfs/." "$work/ntfs/"
        ntfs_unmount
    else
        # Without a mount: ntfscp writes single files into the root folder.
        local name
        find /usr/bin -maxdepth 1 -type f -perm -o=r -size +16k -size -2M | sort | head -n 60 |
            xargs cp -p -t "$work/day1/ntfs" --
        for name in "$work/day1/ntfs"/*; do
            ntfscp -q "$work/ntfs.img" "$name" "${name##*/}" >/dev/null
        done
    fi
}

# change_ext4: the second day of the ext4 partition, with debugfs and, alike, in the copy of the files.
change_ext4() {
    local tree="$work/day2/ext4" script="$work/debugfs" edited gone name i=0
    mapfile -t edited < <(cd "$tree" && find etc usr/share/doc -type f -size +1k -not -name '*[ "]*' | sort | head -n 40)
    mapfile -t gone < <(cd "$tree" && find usr -type f -size +4k -not -name '*[ "]*' | sort | tail -n 40)
    gone_today="${gone[0]}"
    : >"$script"
    for name in "${edited[@]}"; do
        # A new file, not the old one changed: that one is shared with the first day's copy.
        { cat "$tree/$name" && echo "a line of the second day"; } >"$work/new"
        echo "rm \"/$name\"" >>"$script"
        put "$name"
    done
    for name in "${gone[@]}"; do
        rm -f "$tree/$name"
        echo "rm \"/$name\"" >>"$script"
    done
    mkdir "$tree/srv"
    echo "mkdir /srv" >>"$script"
    for ((i = 0; i < 8; i++)); do
        head -c 1000000 /dev/urandom >"$work/new"
        put "srv/report-$i.bin"
    done
    ln -s ../srv/report-0.bin "$tree/srv/newest"
    echo "symlink /srv/newest ../srv/report-0.bin" >>"$script"
    echo "set_inode_field /srv/newest mtime @$(stat -c %Y "$tree/srv/newest")" >>"$script"
    debugfs -w -f "$script" "$work/ext4.img" >"$work/debugfs.log" 2>&1
    # debugfs tells what it failed at, but ends with 0.
    if grep -v -E '^(debugfs|Allocated inode|$)' "$work/debugfs.log"; then
        fail "debugfs could not change the file system"
    fi
    quietly e2fsck -f -n "$work/ext4.img"
}

# put NAME: the file $work/new becomes NAME on the second day.
put() {
    chmod 640 "$work/new"
    touch -d "@$(date +%s)" "$work/new"
    rm -f "$work/day2/ext4/$1"
    cp -p "$work/new" "$work/day2/ext4/$1"
    {
        echo "write \"$work/day2/ext4/$1\" \"/$1\""
        echo "set_inode_field \"/$1\" mode 0100640"
        echo "set_inode_field \"/$1\" mtime @$(stat -c %Y "$work/new")"
    } >>"$script"
}

# change_ntfs: the same for the NTFS partition.
change_ntfs() {
    local tree="$work/day2/ntfs" edited gone name
    mapfile -t edited < <(cd "$tree" && find . -type f -size +1k | sort | head -n 30)
    mapfile -t gone < <(cd "$tree" && find . -type f -size +4k | sort | tail -n 30)
    for name in "${edited[@]}"; do
        { cat "$tree/$name" && echo "a line of the second day"; } >"$work/new"
        rm -f "$tree/$name"
        cp "$work/new" "$tree/$name"
    done
    head -c 5000000 /dev/urandom >"$tree/added.bin"
    if [ "$have_fuse" = yes ] && ntfs_mount; then
        for name in "${gone[@]}"; do
            rm -f "$tree/$name" "$work/ntfs/$name"
        done
        mkdir -p "$tree/new folder/Ünïcode ☂"
        cp "$tree/added.bin" "$tree/new folder/Ünïcode ☂/copy of added.bin"
        cp -r --preserve=timestamps "$tree/new folder" "$work/ntfs/"
        for name in "${edited[@]}" added.bin; do
            cp --preserve=timestamps "$tree/$name" "$work/ntfs/$name"
        done
        ntfs_unmount
    else
        for name in "${edited[@]}" added.bin; do
            ntfscp -q "$work/ntfs.img" "$tree/$name" "${name##*/}" >/dev/null
        done
    fi
}

# make_image FILE: both partitions in a GPT disk, as a dynamic VHDX. The raw disk is kept for the comparison.
make_image() {
    local raw="$work/disk.raw"
    rm -f "$raw"
    truncate -s "$((ext4_mb + ntfs_mb + 8))M" "$raw"
    sgdisk -o -n "1:2048:+${ext4_mb}M" -t 1:8300 -c 1:linux \
        -n "2:$((2048 + ext4_mb * 2048)):+${ntfs_mb}M" -t 2:0700 -c 2:windows "$raw" >/dev/null
    dd if="$work/ext4.img" of="$raw" bs=1M seek=1 conv=sparse,notrunc status=none
    dd if="$work/ntfs.img" of="$raw" bs=1M seek="$((1 + ext4_mb))" conv=sparse,notrunc status=none
    qemu-img convert -f raw -O vhdx -o subformat=dynamic "$raw" "$1"
    echo "$1: $(megabytes "$(stat -c %s "$1")")"
}

# facts TREE: kind, mode, time and link target of every file, the mode of every folder.
facts() {
    (cd "$1" && find . -name lost+found -prune -o \( -type d -printf 'd %m %P\n' \
        -o -printf '%y %m %Ts %P -> %l\n' \) | grep -v '^d [0-7]* $' | LC_ALL=C sort)
}

# same DAY ROOT: the files in ROOT/p1 and ROOT/p2 are the originals of that day.
same() {
    diff -r --no-dereference -x lost+found "$work/$1/ext4" "$2/p1" || fail "$1: the ext4 files differ"
    diff <(facts "$work/$1/ext4") <(facts "$2/p1") || fail "$1: modes, times or links of the ext4 files differ"
    diff -r --no-dereference "$work/$1/ntfs" "$2/p2" || fail "$1: the NTFS files differ"
    echo "$1: $(find "$work/$1" -type f | wc -l) files, $(find "$work/$1" -type l | wc -l) links," \
        "$(megabytes "$(du -sbl "$work/$1" | cut -f 1)"): equal"
}

# same_by_copy DAY POINT: the same without a mount.
same_by_copy() {
    local part
    mkdir "$work/out"
    for part in p1 p2; do
        cairn copy "$store" "$2:/disk0/$part" "$work/out/$part"
    done
    same "$1" "$work/out"
    discard "$work/out"
}

# is_recovered: $work/recovered is yesterday's file.
is_recovered() {
    cmp "$work/recovered" "$work/day1/ext4/$gone_today"
    echo "recovered /$gone_today, $(stat -c %s "$work/recovered") bytes"
}

browse_by_mount() {
    local root="$work/mnt/demo"
    mount_store "$store"
    ls "$work/mnt" "$root"
    echo
    ls "$root/latest/files/disk0" "$root/latest/files/disk0/p1"
    heading "the files of both points, compared with the originals"
    same day1 "$root/$yesterday/files/disk0"
    same day2 "$root/latest/files/disk0"
    heading "a file of yesterday that is gone today"
    [ ! -e "$root/latest/files/disk0/p1/$gone_today" ] || fail "it should be gone: $gone_today"
    cp "$root/$yesterday/files/disk0/p1/$gone_today" "$work/recovered"
    is_recovered
    heading "unmounting"
    unmount_store
}

browse_by_copy() {
    cairn points "$store"
    cairn ls -l "$store" demo@latest:/disk0
    cairn ls "$store" demo@latest:/disk0/p1
    heading "the files of both points, compared with the originals"
    same_by_copy day1 "demo@$yesterday"
    same_by_copy day2 demo@latest
    heading "a file of yesterday that is gone today"
    ! cairn ls "$store" "demo@latest:/disk0/p1/$gone_today" 2>/dev/null || fail "it should be gone: $gone_today"
    cairn copy "$store" "demo@$yesterday:/disk0/p1/$gone_today" "$work/recovered"
    is_recovered
}

demonstrate() {
    local yesterday free
    store="$work/store"
    yesterday="$(date -u -d yesterday +%Y-%m-%d)T02-00-00Z"
    free="$(df --output=avail -B 1000000 "$work" | tail -n 1)"
    [ "$free" -gt 4000 ] || fail "about 4 GB are needed in $work: set CAIRN_QUICKSTART_WORK to another folder"

    heading "a disk with an ext4 and an NTFS partition, from files of this machine"
    make_partitions
    make_image "$work/yesterday.vhdx"

    heading "cairn backup: yesterday"
    cairn init "$store"
    back_up demo "$work/yesterday.vhdx" --time "$yesterday"

    heading "the disk of today: files edited, added and deleted in both partitions"
    cp -al "$work/day1" "$work/day2"
    change_ext4
    change_ntfs
    make_image "$work/today.vhdx"

    heading "cairn backup: today"
    back_up demo "$work/today.vhdx"

    if [ "$have_fuse" = yes ]; then
        heading "cairn mount"
        browse_by_mount
    else
        heading "cairn ls"
        browse_by_copy
    fi

    heading "cairn restore: both points, compared by qemu-img"
    cairn restore "$store" demo@latest --to "$work/restored" --format vhdx
    qemu-img compare -f vhdx -F vhdx "$work/today.vhdx" "$work/restored/disk0.vhdx"
    cairn restore "$store" "demo@$yesterday" --to "$work/restored"
    qemu-img compare -f vhdx -F raw "$work/yesterday.vhdx" "$work/restored/disk0.raw"

    heading "cairn verify"
    cairn verify "$store"
    heading "cairn stats"
    cairn stats "$store"

    printf '\nIt worked: two days of a disk backed up, every file compared, one recovered, both disks restored.\n'
}

# machine_of IMAGE: its file name without the last extension, as a machine may be called.
machine_of() {
    local name="${1##*/}"
    name="${name%.*}"
    name="$(printf '%s' "${name:-${1##*/}}" | tr '/@:[:cntrl:]' '_')"
    printf '%s' "${name/#./_}" | cut -b 1-120
}

use_images() {
    local image machine machines=() folder list
    for image in "$@"; do
        [ -e "$image" ] || fail "there is no $image"
    done
    store="$(realpath -m "${STORE:-cairn-store}")"
    heading "the store: $store"
    if [ -e "$store" ] && [ -n "$(ls -A "$store")" ]; then
        cairn stats "$store"
    else
        cairn init "$store"
    fi
    for image in "$@"; do
        machine="$(machine_of "$image")"
        # Two images of one name are two machines.
        ! [[ " ${machines[*]} " == *" $machine "* ]] || machine="$machine-${image##*.}"
        machines+=("$machine")
        heading "cairn backup: $image as machine $machine, twice"
        # The whole path, so that no `=` in a name is taken for a disk's name.
        back_up "$machine" "$(realpath "$image")"
        back_up "$machine" "$(realpath "$image")"
    done
    heading "what is seen"
    if [ "$have_fuse" = yes ]; then
        mount_store "$store"
        ls "$work/mnt"
        for machine in "${machines[@]}"; do
            for folder in "$work/mnt/$machine"/latest/files/*/*; do
                [ -e "$folder" ] || continue
                echo "${folder#"$work/mnt/"}:"
                if [ -d "$folder" ]; then list="$(ls -C "$folder" | head -n 8)"; else list="$(cat "$folder")"; fi
                [ -z "$list" ] || sed 's/^/    /' <<<"$list"
            done
        done
        unmount_store
    else
        for machine in "${machines[@]}"; do
            cairn ls -l "$store" "$machine@latest"
        done
    fi
    heading "cairn stats"
    cairn stats "$store"
    cat <<END

It worked. The store is in $store; go on with:
    PATH="${PATH%%:*}:\$PATH"
    cairn points '$store'
    cairn mount '$store' MNT                # MNT is an empty folder; Ctrl-C ends it
    cairn ls '$store' '$machine@latest:/disk0'
    cairn restore '$store' '$machine@latest' --to DIR --format vhdx
    cairn verify '$store'
END
}

if [ "${1:-}" = --help ]; then
    sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"
    exit 0
fi
if [ "$#" -eq 0 ]; then install_tools demonstration; else install_tools images; fi
build
make_work_folder
look_for_fuse
if [ "$#" -eq 0 ]; then demonstrate; else use_images "$@"; fi
