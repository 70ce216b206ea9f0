#!/usr/bin/env python3
"""A year of a store: machines that are backed up every day, forgetting by rules and pruning every week.

    CAIRN=target/release/cairn WORK=/var/tmp/year benches/compare/year.py [--machines 10] [--days 365] [--size 32] [--change 2] [--block 64] [--hot 0]
        [--keep gfs|all] [--prune -- OPTION...] [--speed] [--cold] [--leave]

Disks have SIZE MiB, half of their pieces of 64 KiB noise, half hexadecimal digits. CHANGE percent of them get new content each day, in blocks of BLOCK KiB: HOT percent of
these in a part of the disk that is twice as large as what changes there in a day, the others anywhere. Backups are told what changed. Rules: 7 days, 4 weeks, 12 months,
in UTC; with `--keep all` nothing is forgotten, and prunes find nothing to delete.

At the end every kept point is restored and compared, and the store's size is compared with a new store into which only the kept points are backed up, in their order
(with `--keep all`: not). Then the newest points are read from the store, and from one that was made of nothing but them, by turns, ROUNDS times: restored, and
read through the mount. `--cold`: the page cache is emptied before each (by root). `--speed` leaves out everything but that. LOCK=FILE: it is locked while something is timed.
With `--leave` the folder stays. Ends with 1 if the store has more than 10 % too much, or if anything differs.
Needs about 12 times SIZE times machines of disk, and SIZE in /dev/shm.
"""
import argparse
import contextlib
import fcntl
import hashlib
import json
import mmap
import os
import random
import shutil
import subprocess
import sys
import time

CAIRN = os.environ.get("CAIRN", "target/release/cairn")
WORK = os.environ.get("WORK", "/var/tmp/cairn-year")
OUT = os.path.join(os.environ.get("TARGET", "/dev/shm"), f"cairn-year-{os.getpid()}")
ROUNDS = int(os.environ.get("ROUNDS", "5"))
PIECE = 64 << 10
BEGIN = 1735689600 + 3600  # 2025-01-01T01:00:00Z
DAY = 86400


def cairn(*arguments, json_out=False):
    done = subprocess.run([CAIRN, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if done.returncode != 0:
        sys.exit(f"cairn {' '.join(arguments)}: exit {done.returncode}\n{done.stderr.decode()}")
    return json.loads(done.stdout) if json_out else done.stdout


@contextlib.contextmanager
def alone():
    """What is timed has the machine for itself, as far as others ask for LOCK too."""
    if not os.environ.get("LOCK"):
        yield
        return
    with open(os.environ["LOCK"], "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def stamp(seconds):
    return time.strftime("%Y-%m-%dT%H-%M-%SZ", time.gmtime(seconds))


def size_of(store):
    packs = os.path.join(store, "packs")
    return sum(os.path.getsize(os.path.join(home, name)) for home, _, names in os.walk(packs) for name in names)


def digest_of(pieces):
    return hashlib.blake2b(b"".join(pieces)).hexdigest()


def pieces_of(path):
    with open(path, "rb") as file:
        return [hashlib.blake2b(piece, digest_size=16).digest() for piece in iter(lambda: file.read(PIECE), b"")]


class Disk:
    """The disk of a machine: an image, and the digests of its pieces."""

    def __init__(self, name, asked, dice):
        self.name, self.dice, self.block = name, dice, asked.block << 10
        self.path = os.path.join(WORK, name + ".raw")
        self.size = asked.size << 20
        with open(self.path, "wb") as file:
            for at in range(0, self.size, PIECE):
                file.write(self.content(at, PIECE))
        with open(self.path, "r+b") as file:
            self.bytes = mmap.mmap(file.fileno(), self.size)
        self.pieces = pieces_of(self.path)
        blocks = self.size // self.block
        changes = max(1, round(blocks * asked.change / 100))
        self.hot = round(changes * asked.hot / 100)
        self.cold = changes - self.hot
        # Where databases and logs lie: four places.
        each = max(1, 2 * self.hot // 4)
        self.hot_blocks = [at for part in range(4) for at in range(part * blocks // 4, part * blocks // 4 + each)]

    def content(self, at, length):
        """Every other piece is digits, which take half their length."""
        return self.dice.randbytes(length) if at // PIECE % 2 else self.dice.randbytes(length // 2).hex().encode()

    def day(self):
        """Changes blocks; writes a list of them and answers its path."""
        blocks = set(self.dice.sample(self.hot_blocks, self.hot))
        blocks.update(self.dice.sample(range(self.size // self.block), self.cold))
        touched = set()
        for block in blocks:
            at = block * self.block
            self.bytes[at : at + self.block] = self.content(at, self.block)
            touched.add(at // PIECE)
        for piece in touched:
            at = piece * PIECE
            self.pieces[piece] = hashlib.blake2b(self.bytes[at : at + PIECE], digest_size=16).digest()
        path = os.path.join(WORK, self.name + ".json")
        with open(path, "w") as file:
            json.dump([{"start": block * self.block, "length": self.block} for block in sorted(blocks)], file)
        return path


def restored(store, point):
    shutil.rmtree(OUT, ignore_errors=True)
    cairn("restore", store, point, "--to", OUT)
    return os.path.join(OUT, "disk0.raw")


class Year:
    """What happened, and how long it took."""

    def __init__(self):
        self.was, self.times = {}, {"backup": 0.0, "forget": 0.0, "prune": 0.0}
        self.prunes, self.highest, self.sizes = [], 0, []

    def timed(self, what, *arguments, **options):
        begun = time.monotonic()
        answer = cairn(*arguments, **options)
        self.times[what] += time.monotonic() - begun
        return answer

    def live(self, store, asked, disks):
        base = {}
        for day in range(asked.days):
            at = stamp(BEGIN + day * DAY)
            for disk in disks:
                told = disk.day()
                changed = ("--base", base[disk.name], "--changed", told) if disk.name in base else ()
                self.timed("backup", "backup", store, "--machine", disk.name, "--raw", "--time", at, *changed, disk.path)
                base[disk.name] = disk.name + "@latest"
                self.was[disk.name, at] = digest_of(disk.pieces)
            if day % 7 == 6 or day == asked.days - 1:
                self.highest = max(self.highest, size_of(store))
                if asked.keep == "gfs":
                    rules = ("--keep-daily", "7", "--keep-weekly", "4", "--keep-monthly", "12", "--timezone", "UTC")
                    self.timed("forget", "forget", store, "--all", *rules)
                self.prunes.append(self.timed("prune", "prune", store, "--json", *asked.prune, json_out=True))
                self.sizes.append((size_of(store), self.prunes[-1]["live_bytes"]))


def check(year, store, fresh, kept):
    """Restores and compares every point that is kept, and backs it up once more. Answers how many are wrong."""
    wrong = 0
    for point in sorted(kept, key=lambda point: point["time"]):
        at = point["time"].replace(":", "-")
        image = restored(store, point["point"])
        if digest_of(pieces_of(image)) != year.was[point["machine"], at]:
            print(f"WRONG: {point['machine']}@{at}")
            wrong += 1
        if fresh:
            cairn("backup", fresh, "--machine", point["machine"], "--raw", "--time", at, "disk0=" + image)
    return wrong


def empty_cache(asked):
    if asked.cold:
        os.sync()
        with open("/proc/sys/vm/drop_caches", "w") as file:
            file.write("3")


def restore_all(store, names, asked):
    seconds = 0.0
    for name in names:
        shutil.rmtree(OUT, ignore_errors=True)
        empty_cache(asked)
        begun = time.monotonic()
        cairn("restore", store, name + "@latest", "--to", OUT)
        seconds += time.monotonic() - begun
    return seconds


def mount_all(store, names, asked):
    """Reads the newest disks through the mount, one after the other."""
    where = os.path.join(WORK, "mnt")
    os.makedirs(where, exist_ok=True)
    empty_cache(asked)
    process = subprocess.Popen([CAIRN, "mount", store, where], stderr=subprocess.DEVNULL)
    try:
        while not os.path.ismount(where):
            time.sleep(0.005)
        begun = time.monotonic()
        for name in names:
            with open(os.path.join(where, name, "latest/disks/disk0.raw"), "rb", buffering=0) as file:
                while file.read(1 << 20):
                    pass
        return time.monotonic() - begun
    finally:
        subprocess.run(["umount", where], check=False)
        process.wait()


def compare(stores, names, asked):
    """By turns, so that what else happens on the machine happens to all."""
    for what, work in (("restored", restore_all), ("read through the mount", mount_all)):
        seconds = {name: [] for name in stores}
        for _ in range(ROUNDS):
            for name, store in stores.items():
                with alone():
                    seconds[name].append(work(store, names, asked))
        middle = {name: sorted(values)[ROUNDS // 2] for name, values in seconds.items()}
        told = ", ".join(f"{name} {value:.2f} s" for name, value in middle.items())
        print(f"newest points {what}: {told}: {middle['alone'] / middle['store']:.2f} x the speed")


def main():
    parser = argparse.ArgumentParser()
    for name, value in (("--machines", 10), ("--days", 365), ("--size", 32), ("--block", 64), ("--hot", 0)):
        parser.add_argument(name, type=int, default=value)
    parser.add_argument("--change", type=float, default=2)
    parser.add_argument("--keep", choices=["gfs", "all"], default="gfs")
    parser.add_argument("--prune", default="", type=lambda text: text.split())
    for name in ("--speed", "--cold", "--leave"):
        parser.add_argument(name, action="store_true")
    asked = parser.parse_args()
    shutil.rmtree(WORK, ignore_errors=True)
    os.makedirs(WORK)
    stores = {name: os.path.join(WORK, name) for name in ("store", "fresh", "alone")}
    store = stores["store"]
    for path in stores.values():
        cairn("init", "--parity", "0", path)
    dice, year = random.Random(1), Year()
    disks = [Disk(f"m{number:02}", asked, dice) for number in range(asked.machines)]
    names = [disk.name for disk in disks]
    year.live(store, asked, disks)
    kept = cairn("points", store, "--json", json_out=True)
    print(f"{asked.machines} machines, {asked.days} days, {asked.size} MiB each, {asked.change} % a day in blocks of {asked.block} KiB, {asked.hot} % of it hot: {len(year.was)} points, {len(kept)} kept")
    wrong = ours = least = 0
    if not asked.speed:
        cairn("verify", store)
        fresh = stores["fresh"] if asked.keep == "gfs" else None
        wrong = check(year, store, fresh, kept)
        print(f"every kept point restored and compared: {len(kept) - wrong} equal, {wrong} wrong")
        ours, least = size_of(store), size_of(fresh) if fresh else 0
        beside = f"; only the kept points {least / 1e6:.1f} MB: {100 * ours / least - 100:+.1f} %" if fresh else ""
        print(f"store {ours / 1e6:.1f} MB (at most {year.highest / 1e6:.1f} before a prune){beside}")
    over = [100 * size / live - 100 for size, live in year.sizes[len(year.sizes) // 2 :]]
    written = sum(prune["written_bytes"] for prune in year.prunes)
    print(f"prunes: {written / 1e6:.1f} MB written anew, {sum(p['rewritten_bytes'] for p in year.prunes) / 1e6:.1f} MB of packs; in the second half {sum(over) / len(over):.1f} % more than needed on average, {max(over):.1f} % at most")
    per = {what: seconds / (len(year.was) if what == "backup" else len(year.prunes)) for what, seconds in year.times.items()}
    print(f"seconds each: backup {per['backup']:.3f}, forget {per['forget']:.3f}, prune {per['prune']:.3f}; all prunes {year.times['prune']:.1f}", flush=True)
    for disk in disks:
        cairn("backup", stores["alone"], "--machine", disk.name, "--raw", "disk0=" + disk.path)
    if asked.speed or asked.keep == "all":
        del stores["fresh"]
    compare(stores, names, asked)
    shutil.rmtree(OUT, ignore_errors=True)
    if not asked.leave:
        shutil.rmtree(WORK)
    sys.exit(1 if wrong or (least and ours > 1.1 * least) else 0)


main()
