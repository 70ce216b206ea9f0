#!/usr/bin/env bash
# Makes a small Linux machine for the tests to start: a disk with Debian's boot loader, kernel and busybox, which asks on its serial
# line who logs in. Packages are downloaded and unpacked, not installed: nothing of this system changes, and no root is needed.
# Where qemu-system-x86_64 is not installed it comes the same way, because its package goes only with a qemu-utils of the same release.
#
#   usage: tests/machine.sh        makes it once, in machine/ of the build folder; again when this script has changed
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
target="${CARGO_TARGET_DIR:-$(dirname "$here")/target}"
made="$target/machine"
PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"

is_complete() {
    cmp -s "$here/machine.sh" "$made/made-by" || return 1
    command -v qemu-system-x86_64 >/dev/null || "$made/bin/qemu-system-x86_64" --version >/dev/null
}

if is_complete; then
    echo "it is there"
    exit
fi
if [ "$(uname -m)" != x86_64 ]; then
    echo "it is made on x86_64 only"
    exit 1
fi
for needed in apt-get dpkg-deb bsdtar sfdisk mke2fs xz; do
    if ! command -v "$needed" >/dev/null; then
        echo "$needed is missing"
        exit 1
    fi
done

mkdir -p "$target"
work="$(mktemp -d "$target/machine.XXXXXX")"
trap 'rm -rf "$work"' EXIT
new="$work/machine" tools="$work/tools" kernel="$work/kernel" early="$work/early" root="$work/root"
mkdir -p "$new" "$work/lists/partial" "$work/cache/archives/partial" "$work/packages"

# Lists of packages of its own: those of the system may be old or not there.
apt=(-qq -o Dir::State::Lists="$work/lists" -o Dir::Cache="$work/cache" -o APT::Sandbox::User=root -o Acquire::Languages=none
    -o Acquire::Retries=2 -o Acquire::http::Timeout=20)

# unpack FOLDER PACKAGE...
unpack() {
    local into="$1" package
    shift
    rm -rf "$work/packages"
    mkdir "$work/packages"
    (cd "$work/packages" && apt-get "${apt[@]}" download "$@")
    mkdir -p "$into"
    for package in "$work/packages"/*; do
        dpkg-deb -x "$package" "$into"
    done
}

# unpack_whole FOLDER PACKAGE...: with what they need that is not installed here.
unpack_whole() {
    local into="$1" plan whole
    shift
    plan="$(apt-get "${apt[@]}" -s install --no-install-recommends "$@")"
    mapfile -t whole < <({ printf '%s\n' "$@" && sed -n 's/^Inst \([^ ]*\) .*/\1/p' <<<"$plan"; } | sort -u)
    unpack "$into" "${whole[@]}"
}

libraries() {
    printf '%s' "$1/usr/lib/x86_64-linux-gnu:$1/lib/x86_64-linux-gnu"
}

# module NAME: puts a module of the kernel, and before it those it needs, where the machine loads them from. What has no file is built in.
module() {
    local pattern="${1//_/[-_]}" file needed
    file="$(find "$kernel" -path '*/modules/*' \( -name "$pattern.ko" -o -name "$pattern.ko.xz" \) -print -quit)"
    if [ -z "$file" ] || grep -qx "$1" "$early/modules/order"; then
        return
    fi
    case "$file" in
    *.xz) xz -dc "$file" >"$early/modules/$1" ;;
    *) cp "$file" "$early/modules/$1" ;;
    esac
    needed="$(tr '\0' '\n' <"$early/modules/$1" | sed -n 's/^depends=//p')"
    for needed in ${needed//,/ }; do
        module "$needed"
    done
    echo "$1" >>"$early/modules/order"
}

echo "fetching packages"
apt-get "${apt[@]}" update
unpack_whole "$tools" busybox-static grub-pc-bin
unpack "$kernel" "$(apt-cache "${apt[@]}" depends linux-image-cloud-amd64 | sed -n 's/^ *Depends: \(linux-image-.*\)/\1/p')"
if ! command -v qemu-system-x86_64 >/dev/null; then
    unpack_whole "$new" qemu-system-x86
    rm -rf "$new"/usr/share/{doc,man,locale}
    mkdir -p "$new/bin"
    cat >"$new/bin/qemu-system-x86_64" <<END
#!/bin/sh
# What was unpacked here, without what is installed.
set -eu
here="\$(dirname "\$0")/.."
export LD_LIBRARY_PATH="$(libraries '$here')" QEMU_MODULE_DIR="\$here/usr/lib/x86_64-linux-gnu/qemu"
exec "\$here/usr/bin/qemu-system-x86_64" -L "\$here/usr/share/seabios" -L "\$here/usr/share/qemu" "\$@"
END
    chmod +x "$new/bin/qemu-system-x86_64"
    "$new/bin/qemu-system-x86_64" --version
fi

echo "making the disk"
busybox="$tools/bin/busybox"
[ -e "$busybox" ] || busybox="$tools/usr/bin/busybox"
mkdir -p "$early"/{bin,dev,modules,root} "$root"/{bin,boot/grub,dev,etc/init.d,proc,root,sbin,sys,tmp,usr/bin,usr/sbin,var/lib,var/log}

# The initial file system: loads what the disk needs, and hands over to it.
: >"$early/modules/order"
for name in virtio_pci virtio_blk crc32c_generic ext4; do
    module "$name"
done
cp "$busybox" "$early/bin/busybox"
cat >"$early/init" <<'END'
#!/bin/busybox sh
/bin/busybox mount -t devtmpfs dev /dev
while read -r module; do
    /bin/busybox insmod "/modules/$module"
done </modules/order
until [ -b /dev/vda1 ]; do
    /bin/busybox sleep 0.1
done
/bin/busybox mount -t ext4 -o discard /dev/vda1 /root
/bin/busybox mount -o move /dev /root/dev
exec /bin/busybox switch_root /root /sbin/init
END
chmod +x "$early/init"
bsdtar -c --format newc --uid 0 --gid 0 -f - -C "$early" . | gzip -1 >"$root/boot/initrd.img"
cp "$kernel"/boot/vmlinuz-* "$root/boot/vmlinuz"
cat >"$root/boot/grub/grub.cfg" <<'END'
linux /boot/vmlinuz console=ttyS0 panic=-1
initrd /boot/initrd.img
boot
END

# The root: when it starts it looks whether what it wrote at earlier times is there, notes that, and writes something new.
cp "$busybox" "$root/bin/busybox"
while read -r applet; do
    ln -sf /bin/busybox "$root/$applet"
done < <("$busybox" --list-full | grep -vx bin/busybox)
echo web01 >"$root/etc/hostname"
echo 'root::0:0:root:/root:/bin/sh' >"$root/etc/passwd"
echo 'root:x:0:' >"$root/etc/group"
cat >"$root/etc/inittab" <<'END'
::sysinit:/etc/init.d/rcS
ttyS0::respawn:/sbin/getty -L ttyS0 115200 vt100
END
cat >"$root/etc/init.d/rcS" <<'END'
#!/bin/sh
mount -t proc proc /proc
mount -t sysfs sys /sys
hostname -F /etc/hostname
number=$(($(wc -l </var/log/starts) + 1))
if sha256sum -c /var/lib/sums; then found=whole; else found=damaged; fi
echo "start $number, files are $found" >>/var/log/starts
head -c 2000000 /dev/urandom >"/var/lib/file$number"
sha256sum "/var/lib/file$number" >>/var/lib/sums
rm -f /var/lib/once
sync
END
chmod +x "$root/etc/init.d/rcS"
: >"$root/var/log/starts"
head -c 2000000 /dev/urandom >"$root/var/lib/file0"
head -c 2000000 /dev/urandom >"$root/var/lib/once"
(cd "$root" && sha256sum var/lib/file0 | sed 's|var/lib|/var/lib|') >"$root/var/lib/sums"

# One partition at 1 MiB; before it the boot loader, whose two parts need no more than to lie one behind the other.
disk="$new/disk.raw"
truncate -s 64M "$disk"
echo 'start=2048, type=83, bootable' | sfdisk --quiet "$disk"
LD_LIBRARY_PATH="$(libraries "$tools")" "$tools/usr/bin/grub-mkimage" -d "$tools/usr/lib/grub/i386-pc" -O i386-pc \
    -p '(hd0,msdos1)/boot/grub' -o "$work/core.img" biosdisk part_msdos ext2 normal linux
dd if="$tools/usr/lib/grub/i386-pc/boot.img" of="$disk" bs=440 count=1 conv=notrunc status=none
dd if="$work/core.img" of="$disk" bs=512 seek=1 conv=notrunc status=none
mke2fs -q -t ext4 -O ^metadata_csum_seed -E offset=1048576,root_owner=0:0 -d "$root" "$disk" 63M

# Last, so that what has it is complete.
cp "$here/machine.sh" "$new/made-by"
rm -rf "$made"
mv "$new" "$made"
du -sh "$made"
echo "it is made"
