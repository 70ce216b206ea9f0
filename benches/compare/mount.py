#!/usr/bin/env python3
"""Mounts for real: reads through them, beside the kernel's own loop mount of the same image. By root.

    benches/compare/mount.py IMAGE [--cairn BINARY]... [--bare BINARY] [--partition 2] [--folder usr/share] [--rounds 3] [--files 100000] [--read 8] [--points 1000] [--reads-only] [--work /var/tmp/cairn-mount]

IMAGE is a raw disk image, PARTITION one of its ext4 file systems, FOLDER one of its folders. Several binaries take turns within one run, which is what their ratio can be
believed from. In each round, the store's packs (or the image) in the page cache, and nothing else: from the start of the command to the first listing of a guest's folder, in a store of POINTS points;
`tar` of the folder through `files/`; the same from the loop mount; the disk from its start to its end, what was read dropped behind, because who fills memory
that a virtual machine gave back to its host pays for that; 10,000 reads of 4 KiB anywhere in its data, cold; and as many in 32 MiB that cairn has in its cache and the kernel has not.
With --bare (`cargo build --release -p cairn-benches --example bare_mount`), the same reads of a mount that answers from memory.
Beside the reads of the whole disk stands what they cannot do without: `cairn verify --deep` of the store, which decodes and authenticates the same data on all processors, and, with --bare, the bare mount's read, one
after the other; and beside the cold reads of 4 KiB those anywhere on the disk, as programs that ask at random find it, holes too.
With --reads-only no more than these reads. Once for each binary: FILES files in one folder, listed with and without attributes, beside the loop mount; and READ GiB of the disk, over and over, and the private memory after it.
Prints one line for each result: the median, and all of them.
"""
import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import time

from measure import MIB, Mount, at_random, extents


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image")
    parser.add_argument("--cairn", action="append")
    parser.add_argument("--bare")
    parser.add_argument("--partition", type=int, default=2)
    parser.add_argument("--folder", default="usr/share")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--read", type=float, default=8)
    parser.add_argument("--points", type=int, default=1000)
    parser.add_argument("--reads-only", action="store_true")
    parser.add_argument("--work", default="/var/tmp/cairn-mount")
    return parser.parse_args()


ASKED = arguments()
BINARIES = ASKED.cairn or ["target/release/cairn"]
STORE = os.path.join(ASKED.work, "store")
MNT = os.path.join(ASKED.work, "mnt")
LOOP = os.path.join(ASKED.work, "loop")
RESULTS = {}
FLOORS = {}


def run(*command, **more):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **more)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}: exit {done.returncode}\n{done.stderr.decode()}")
    return done.stdout.decode()


def note(who, what, value, unit):
    RESULTS.setdefault((what, unit), {}).setdefault(who, []).append(value)


def warm(paths):
    for path in paths:
        with open(path, "rb", buffering=0) as file:
            buffer = bytearray(MIB)
            while file.readinto(buffer):
                pass


def warm_image(path):
    fd = os.open(path, os.O_RDONLY)
    for start, end in extents(path):
        while start < end:
            start += len(os.pread(fd, min(8 * MIB, end - start), start))
    os.close(fd)


def packs():
    return [os.path.join(at, name) for at, _, names in os.walk(os.path.join(STORE, "packs")) for name in names]


def offset_of(image, partition):
    table = json.loads(run("sfdisk", "-J", image))["partitiontable"]
    found = [part for part in table["partitions"] if part["node"].endswith(str(partition))]
    return found[0]["start"] * table.get("sectorsize", 512)


class LoopMount:
    """The kernel's own driver on the image, read-only, its journal left alone."""

    def __init__(self, image, offset):
        self.device = run("losetup", "--find", "--show", "--read-only", "--offset", str(offset), image).strip()
        run("mount", "-o", "ro,noload", self.device, LOOP)

    def end(self):
        run("umount", LOOP)
        run("losetup", "--detach", self.device)


def seconds(*command):
    started = time.perf_counter()
    run(*command)
    return time.perf_counter() - started


def tar(folder):
    # Through a pipe: tar itself reads nothing if it sees that nobody keeps it.
    return seconds("sh", "-c", 'tar cf - -C "$1" . | cat > /dev/null', "sh", folder)


def sequential(fd, ranges, most=None):
    """What was read is dropped behind: else each page of it is one that the virtual machine must ask its host for, which takes as long as all the rest, or half of it."""
    buffer, done, dropped, started = bytearray(MIB), 0, 0, time.perf_counter()
    for start, end in ranges:
        while start < end and (most is None or done < most):
            got = os.preadv(fd, [memoryview(buffer)[: min(MIB, end - start)]], start)
            if got == 0:
                sys.exit("the file is shorter than the disk")
            start, done = start + got, done + got
            if done - dropped >= 32 * MIB:
                os.posix_fadvise(fd, 0, max(start - 16 * MIB, 0), os.POSIX_FADV_DONTNEED)
                dropped = done
    return done, time.perf_counter() - started


def one_round(binary, ranges, blocks, number):
    inside = f"m/latest/files/disk0/p{ASKED.partition}"
    disk = os.path.join(MNT, "m/latest/disks/disk0.raw")
    warm(packs())
    if not ASKED.reads_only:
        mounted = Mount(binary, STORE, MNT, inside)
        note(binary, f"first ls of {ASKED.points} points", mounted.ready * 1000, "ms")
        note(binary, f"tar of {ASKED.folder}", tar(os.path.join(MNT, inside, ASKED.folder)), "s")
        mounted.end()

    mounted = Mount(binary, STORE, MNT, "m/latest/disks")
    done, took = of_file(disk, ranges)
    mounted.end()
    note(binary, "the disk from start to end", done / took / 1e9, "GB/s")
    FLOORS.setdefault(number, []).append((binary, done, seconds(binary, "verify", "--deep", STORE)))

    mounted = Mount(binary, STORE, MNT, "m/latest/disks")
    randomly(binary, disk, blocks, number)
    mounted.end()


def of_file(path, ranges):
    fd = os.open(path, os.O_RDONLY)
    done, took = sequential(fd, ranges)
    os.close(fd)
    return done, took


def randomly(who, path, blocks, number):
    fd = os.open(path, os.O_RDONLY)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
    chance = random.Random(number)
    note(who, "random 4 KiB, cold", at_random(fd, [chance.choice(blocks) for _ in range(10_000)]), "/s")
    size = os.fstat(fd).st_size
    anywhere = [chance.randrange(size // 4096) * 4096 for _ in range(10_000)]
    note(who, "random 4 KiB, cold, anywhere on the disk", at_random(fd, anywhere), "/s")
    near = blocks[len(blocks) // 2 : len(blocks) // 2 + 32 * 256]
    for at in near:
        os.pread(fd, 4096, at)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    chance.shuffle(near)
    note(who, "random 4 KiB, warm", at_random(fd, near), "/s")
    os.close(fd)


class BareMount:
    """A mount of one file that is answered from memory."""

    def __init__(self, size):
        self.process = subprocess.Popen([ASKED.bare, MNT, str(size)])
        self.file = os.path.join(MNT, "file")
        while not os.path.exists(self.file):
            if self.process.poll() is not None:
                sys.exit("the bare mount ended")
            time.sleep(0.01)

    def end(self):
        run("umount", MNT)
        self.process.wait()


def bare_round(ranges, blocks, number):
    size = os.stat(ASKED.image).st_size
    mounted = BareMount(size)
    done, took = of_file(mounted.file, ranges)
    mounted.end()
    note("bare mount", "the disk from start to end", done / took / 1e9, "GB/s")
    for binary, read, verified in FLOORS[number]:
        note(f"verify --deep of {binary}, then the bare mount", "the disk from start to end", read / (verified + read / done * took) / 1e9, "GB/s")
    mounted = BareMount(size)
    randomly("bare mount", mounted.file, blocks, number)
    mounted.end()


def loop_round(offset):
    warm_image(ASKED.image)
    mounted = LoopMount(ASKED.image, offset)
    note("loop mount", f"tar of {ASKED.folder}", tar(os.path.join(LOOP, ASKED.folder)), "s")
    mounted.end()


def many_files(image):
    """One folder of many files: made without mounting anything."""
    source = os.path.join(ASKED.work, "source")
    os.makedirs(os.path.join(source, "many"))
    for number in range(ASKED.files):
        with open(os.path.join(source, "many", f"report of branch {number}.txt"), "wb"):
            pass
    run("truncate", "-s", str(64 * MIB + ASKED.files * 2048), image)
    run("mke2fs", "-q", "-t", "ext4", "-N", str(ASKED.files + 1000), "-d", source, image)
    shutil.rmtree(source)


def listings(image):
    def both(who, folder):
        note(who, f"{ASKED.files} names", seconds("ls", "-U", folder), "s")

    def long(who, folder):
        note(who, f"{ASKED.files} names with attributes", seconds("ls", "-lU", folder), "s")

    for _ in range(ASKED.rounds):
        for binary in BINARIES:
            for measure in both, long:
                warm_image(image)
                mounted = Mount(binary, image, MNT, "files/disk0/p0")
                measure(binary, os.path.join(MNT, "files/disk0/p0/many"))
                mounted.end()
        for measure in both, long:
            mounted = LoopMount(image, 0)
            measure("loop mount", os.path.join(LOOP, "many"))
            mounted.end()


def memory(binary, ranges):
    mounted = Mount(binary, STORE, MNT, "m/latest/disks")
    fd = os.open(os.path.join(MNT, "m/latest/disks/disk0.raw"), os.O_RDONLY)
    left = int(ASKED.read * 1024 * MIB)
    while left > 0:
        done, _ = sequential(fd, ranges, left)
        left -= done
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)
    note(binary, f"private memory after reading {ASKED.read:g} GiB", mounted.end() / MIB, "MiB")


def main():
    if os.geteuid() != 0:
        sys.exit("the loop mounts need root")
    if os.path.exists(ASKED.work):
        sys.exit(f"{ASKED.work} is there already")
    for folder in ASKED.work, MNT, LOOP:
        os.makedirs(folder)
    try:
        run(BINARIES[0], "init", STORE)
        small = os.path.join(ASKED.work, "small.raw")
        run("truncate", "-s", "1M", small)
        for _ in range(0 if ASKED.reads_only else ASKED.points - 1):
            run(BINARIES[0], "backup", STORE, "--machine", "m", small)
        run(BINARIES[0], "backup", STORE, "--machine", "m", ASKED.image)
        ranges = extents(ASKED.image)
        blocks = [at for start, end in ranges for at in range(-(-start // 4096) * 4096, end - 4095, 4096)]
        offset = offset_of(ASKED.image, ASKED.partition)
        for number in range(ASKED.rounds):
            for binary in BINARIES:
                one_round(binary, ranges, blocks, number)
            if not ASKED.reads_only:
                loop_round(offset)
            if ASKED.bare:
                bare_round(ranges, blocks, number)
        if ASKED.files and not ASKED.reads_only:
            image = os.path.join(ASKED.work, "many.raw")
            many_files(image)
            listings(image)
        for binary in BINARIES if ASKED.read and not ASKED.reads_only else []:
            memory(binary, ranges)
        for (what, unit), of in RESULTS.items():
            for who, values in of.items():
                ordered = sorted(values)
                shown = " ".join(f"{value:.4g}" for value in values)
                print(f"{what}: {who}: {ordered[len(ordered) // 2]:.4g} {unit} ({shown})")
    finally:
        for folder in MNT, LOOP:
            if os.path.ismount(folder):
                subprocess.run(["umount", "--lazy", folder], check=False)
        shutil.rmtree(ASKED.work)


main()
