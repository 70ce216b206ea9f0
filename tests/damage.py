#!/usr/bin/env python3
"""Damages packs of a store by a seed, and reads a tree of files through a damaged store beside the true one.

    damage.py within STORE SEED     zeroes sectors of 4 KiB all over each pack, fewer in each 4 MiB than parity of 3 % can restore
    damage.py beyond STORE SEED N   zeroes 1 MiB in the middle of each of the N largest packs
    damage.py unreadable TRUE SEEN  prints the files below SEEN that cannot be read, NUL behind each; any other difference is an error
"""
import os
import random
import sys

SECTOR = 4096
STRIPE = 4 << 20


def packs(store):
    found = []
    for folder, _, names in os.walk(os.path.join(store, "packs")):
        found += [os.path.join(folder, name) for name in names]
    return sorted(found, key=lambda path: (-os.path.getsize(path), path))


def zero(file, offset, length):
    file.seek(offset)
    file.write(bytes(length))


def within(store, seed):
    """Up to 12 single sectors and a run of up to 12 in each stripe: the last stripe may be short, and small packs have little parity."""
    chance = random.Random(seed)
    sectors = 0
    for path in packs(store):
        size = os.path.getsize(path)
        if size < 2 * STRIPE:
            continue
        with open(path, "r+b") as file:
            for start in range(0, size // STRIPE * STRIPE - STRIPE, STRIPE):
                run = chance.randint(0, 12)
                at = start + chance.randrange(STRIPE // SECTOR - run) * SECTOR
                zero(file, at, run * SECTOR)
                single = chance.sample(range(STRIPE // SECTOR), chance.randint(0, 12))
                for number in single:
                    zero(file, start + number * SECTOR, SECTOR)
                sectors += run + len(single)
    print(f"{sectors} sectors zeroed")


def beyond(store, seed, count):
    chance = random.Random(seed)
    for path in packs(store)[:count]:
        size = os.path.getsize(path)
        with open(path, "r+b") as file:
            zero(file, size // 4 + chance.randrange(size // 2), 1 << 20)


def unreadable(true, seen):
    files = lost = 0
    for folder, _, names in os.walk(true):
        inside = os.path.relpath(folder, true)
        for name in names:
            right = os.path.join(folder, name)
            if os.path.islink(right) or not os.path.isfile(right):
                continue
            files += 1
            path = os.path.normpath(os.path.join(inside, name))
            try:
                with open(os.path.join(seen, path), "rb") as other:
                    found = other.read()
            except OSError:
                lost += 1
                sys.stdout.buffer.write(os.fsencode(path) + b"\0")
                continue
            with open(right, "rb") as file:
                if file.read() != found:
                    sys.exit(f"{path}: wrong bytes")
    print(f"{files} files, {lost} of them cannot be read", file=sys.stderr)


if __name__ == "__main__":
    what, *rest = sys.argv[1:]
    if what == "within":
        within(rest[0], int(rest[1]))
    elif what == "beyond":
        beyond(rest[0], int(rest[1]), int(rest[2]))
    elif what == "unreadable":
        unreadable(rest[0], rest[1])
    else:
        sys.exit(__doc__)
