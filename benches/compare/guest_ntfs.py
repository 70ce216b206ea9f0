#!/usr/bin/env python3
"""Listing and stat of every file of an NTFS volume, through ntfs-3g and through cairn, cold. By root.

    benches/compare/guest_ntfs.py [--image IMAGE] [--files 100000] [--folders 500] [--cairn BINARY] [--walk EXAMPLE]... [--rounds 5] [--store] [--work /var/tmp/cairn-ntfs]

IMAGE is a bare NTFS volume; without it one is made through ntfs-3g, FILES files of 0 to 8 KiB in FOLDERS folders, and with FOLDERS 0 all in one. In each round, turn by turn and each after the
pages of the image were dropped (and the mount is a new one, so that the kernel knows no name):
`find -printf '%s %T@'` through ntfs-3g, mounted read-only; the same through `cairn mount IMAGE`; and the library's own walk, `cargo build --release -p cairn-benches --example walk_volume`,
from opening the image on; several of these take turns. With --store the image is backed up first, and the same is measured through a mount of the store and the library on the point, the pages of
its packs dropped. Mounting is not counted. Prints one line for each: the median, and all.
"""
import argparse
import os
import shutil
import subprocess
import sys
import time

from measure import Mount, forget


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image")
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--folders", type=int, default=500)
    parser.add_argument("--cairn", default="target/release/cairn")
    parser.add_argument("--walk", action="append")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--store", action="store_true")
    parser.add_argument("--work", default="/var/tmp/cairn-ntfs")
    return parser.parse_args()


ASKED = arguments()
WALKS = ASKED.walk or ["target/release/examples/walk_volume"]
MNT = os.path.join(ASKED.work, "mnt")
STORE = os.path.join(ASKED.work, "store")
RESULTS = {}


def run(*command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}: exit {done.returncode}\n{done.stderr.decode()}")
    return done.stdout.decode()


def note(who, seconds, entries, more=""):
    RESULTS.setdefault(who, []).append((seconds, entries, more))


def make(image):
    """Names are made in an order that is not theirs in the folder."""
    folders = [f"folder {number}" for number in range(ASKED.folders)] or ["many"]
    run("truncate", "-s", str((256 << 20) + ASKED.files * 8192), image)
    run("mkntfs", "-q", "-F", "-Q", image)
    run("ntfs-3g", "-o", "noatime", image, MNT)
    for folder in folders:
        os.mkdir(os.path.join(MNT, folder))
    for number in range(ASKED.files):
        folder = folders[number * len(folders) // ASKED.files]
        with open(os.path.join(MNT, folder, f"{number * 7919 % 10007:05} report of branch {number}.txt"), "wb") as file:
            file.write(os.urandom(number * 977 % 8192))
    run("umount", MNT)


def find(folder):
    """All names below a folder with size and time: how long that takes, and how many there are."""
    started = time.perf_counter()
    found = subprocess.run(["find", folder, "-mindepth", "1", "-printf", "%s %T@\n"], stdout=subprocess.PIPE, check=True).stdout
    return time.perf_counter() - started, found.count(b"\n")


def through_ntfs_3g(image):
    forget(image)
    run("ntfs-3g", "-o", "ro,streams_interface=none", image, MNT)
    # The system files of ntfs-3g are none.
    note("ntfs-3g", *find(MNT))
    run("umount", MNT)


def through_mount(who, source, inside, dropped):
    forget(*dropped)
    mounted = Mount(ASKED.cairn, source, MNT, inside)
    # What the mount read to be ready is dropped as well; what it keeps in its own memory of that is a few records.
    forget(*dropped)
    note(who, *find(os.path.join(MNT, inside)))
    mounted.end()


def through_library(who, walk, of, dropped):
    forget(*dropped)
    lines = dict(line.split() for line in run(walk, *of).splitlines())
    note(who, float(lines["seconds"]), int(lines["entries"]), f", {lines.get('peak_mib', '?')} MiB at most")


def packs():
    return [os.path.join(at, name) for at, _, names in os.walk(os.path.join(STORE, "packs")) for name in names]


def one_round(image):
    through_ntfs_3g(image)
    for walk in WALKS:
        through_library(f"the library, {walk}", walk, [image], [image])
    through_mount("cairn mount IMAGE", image, "files/disk0/p0", [image])
    if ASKED.store:
        for walk in WALKS:
            through_library(f"the library on a point, {walk}", walk, [STORE, "m@latest"], packs())
        through_mount("cairn mount STORE", STORE, "m/latest/files/disk0/p0", packs())


def main():
    if os.geteuid() != 0:
        sys.exit("ntfs-3g needs root")
    if os.path.exists(ASKED.work):
        sys.exit(f"{ASKED.work} is there already")
    os.makedirs(MNT)
    try:
        image = ASKED.image
        if image is None:
            image = os.path.join(ASKED.work, "volume.raw")
            make(image)
        if ASKED.store:
            run(ASKED.cairn, "init", STORE)
            run(ASKED.cairn, "backup", STORE, "--machine", "m", image)
        for _ in range(ASKED.rounds):
            one_round(image)
        counts = {entries for of in RESULTS.values() for _, entries, _ in of}
        if len(counts) != 1:
            print(f"not all found the same number of entries: {RESULTS}")
        for who, of in RESULTS.items():
            ordered = sorted(seconds for seconds, _, _ in of)
            all_of = " ".join(f"{seconds:.3g}" for seconds, _, _ in of)
            print(f"{who}: {of[0][1]} entries in {ordered[len(ordered) // 2]:.3g} s ({all_of}){of[0][2]}")
        for who, of in RESULTS.items():
            ratios = sorted(theirs / ours for (theirs, _, _), (ours, _, _) in zip(RESULTS["ntfs-3g"], of))
            print(f"{who}: {ratios[len(ratios) // 2]:.2f} x as fast as ntfs-3g")
    finally:
        if os.path.ismount(MNT):
            subprocess.run(["umount", "--lazy", MNT], check=False)
        shutil.rmtree(ASKED.work)


main()
