#!/usr/bin/env python3
"""A year of a store: machines that are backed up every day, forgetting by rules and pruning every week.

    CAIRN=target/release/cairn WORK=/var/tmp/year benches/compare/year.py [--machines 10] [--days 365] [--size 32] [--change 2]

Disks have SIZE MiB, half of it text-like, half noise; CHANGE percent of their blocks of 64 KiB get new content each day. Rules: 7 days, 4 weeks, 12 months, in UTC.
At the end: every kept point is restored and compared; the store's size is compared with a new store into which only the kept points are backed up, in
their order; the newest points are restored from both, by turns. Ends with 1 if the store has more than 10 % too much, or if anything differs. Needs about 12 times
SIZE times machines of disk.
"""
import argparse
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import time

CAIRN = os.environ.get("CAIRN", "target/release/cairn")
WORK = os.environ.get("WORK", "/var/tmp/cairn-year")
BLOCK = 64 << 10
BEGIN = 1735689600 + 3600  # 2025-01-01T01:00:00Z
DAY = 86400


def cairn(*arguments, json_out=False):
    done = subprocess.run([CAIRN, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if done.returncode != 0:
        sys.exit(f"cairn {' '.join(arguments)}: exit {done.returncode}\n{done.stderr.decode()}")
    return json.loads(done.stdout) if json_out else done.stdout


def block(dice):
    if dice.random() < 0.5:
        return dice.randbytes(BLOCK)
    words = [dice.randbytes(8).hex() for _ in range(64)]
    return " ".join(dice.choice(words) for _ in range(BLOCK // 17 + 1)).encode()[:BLOCK]


def stamp(seconds):
    return time.strftime("%Y-%m-%dT%H-%M-%SZ", time.gmtime(seconds))


def size_of(store):
    packs = os.path.join(store, "packs")
    return sum(os.path.getsize(os.path.join(home, name)) for home, _, names in os.walk(packs) for name in names)


def digest(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()


def restored(store, point, target):
    shutil.rmtree(target, ignore_errors=True)
    begun = time.monotonic()
    cairn("restore", store, point, "--to", target)
    return time.monotonic() - begun


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--machines", type=int, default=10)
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--change", type=float, default=2)
    asked = parser.parse_args()
    shutil.rmtree(WORK, ignore_errors=True)
    os.makedirs(WORK)
    store, fresh = os.path.join(WORK, "store"), os.path.join(WORK, "fresh")
    cairn("init", "--parity", "0", store)
    dice = random.Random(1)
    blocks = asked.size * (1 << 20) // BLOCK
    names = [f"m{number:02}" for number in range(asked.machines)]
    images = {name: os.path.join(WORK, name + ".raw") for name in names}
    for image in images.values():
        with open(image, "wb") as file:
            for _ in range(blocks):
                file.write(block(dice))
    was, times = {}, {"backup": 0.0, "forget": 0.0, "prune": 0.0}
    highest = 0
    for day in range(asked.days):
        for name, image in images.items():
            with open(image, "r+b") as file:
                for number in dice.sample(range(blocks), max(1, round(blocks * asked.change / 100))):
                    file.seek(number * BLOCK)
                    file.write(block(dice))
            at = stamp(BEGIN + day * DAY)
            was[name, at] = digest(image)
            begun = time.monotonic()
            cairn("backup", store, "--machine", name, "--time", at, image)
            times["backup"] += time.monotonic() - begun
        if day % 7 == 6 or day == asked.days - 1:
            highest = max(highest, size_of(store))
            begun = time.monotonic()
            cairn("forget", store, "--all", "--keep-daily", "7", "--keep-weekly", "4", "--keep-monthly", "12", "--timezone", "UTC")
            times["forget"] += time.monotonic() - begun
            begun = time.monotonic()
            cairn("prune", store)
            times["prune"] += time.monotonic() - begun
    cairn("verify", store)
    kept = cairn("points", store, "--json", json_out=True)
    kept.sort(key=lambda point: (point["machine"], point["sequence"]))
    cairn("init", "--parity", "0", fresh)
    out = os.path.join(WORK, "out")
    wrong = 0
    for point in sorted(kept, key=lambda point: point["time"]):
        at = point["time"].replace(":", "-")
        restored(store, point["point"], out)
        image = os.path.join(out, "disk0.raw")
        if digest(image) != was[point["machine"], at]:
            print(f"WRONG: {point['machine']}@{at}")
            wrong += 1
        cairn("backup", fresh, "--machine", point["machine"], "--time", at, "disk0=" + image)
    ours, least = size_of(store), size_of(fresh)
    speeds = {"store": [], "fresh": []}
    for _ in range(5):
        for name, where in (("store", store), ("fresh", fresh)):
            speeds[name].append(sum(restored(where, machine + "@latest", out) for machine in names))
    newest = {name: sorted(values)[2] for name, values in speeds.items()}
    per = {what: seconds / (len(was) if what == "backup" else -(-asked.days // 7)) for what, seconds in times.items()}
    print(f"{asked.machines} machines, {asked.days} days, {asked.size} MiB each, {asked.change} % a day: {len(was)} points, {len(kept)} kept")
    print(f"store {ours / 1e6:.1f} MB (at most {highest / 1e6:.1f} before a prune); only the kept points {least / 1e6:.1f} MB: {100 * ours / least - 100:+.1f} %")
    print(f"every kept point restored and compared: {len(kept) - wrong} equal, {wrong} wrong")
    print(f"newest points of all machines restored: {newest['store']:.2f} s, from the fresh store {newest['fresh']:.2f} s: {newest['fresh'] / newest['store']:.2f} x its speed")
    print(f"seconds each: backup {per['backup']:.3f}, forget {per['forget']:.3f}, prune {per['prune']:.3f}")
    shutil.rmtree(WORK)
    sys.exit(1 if wrong or ours > 1.1 * least else 0)


main()
