#!/usr/bin/env python3
"""Compares two mounted trees, every path of them.

usage: compare_trees.py TRUTH OTHER unix|windows

Compared: type, size of files, time of modification to the nanosecond, link target, content; with `unix` also mode, owner, group,
number of links, device numbers and the size of folders. Prints what differs and exits 1 if anything does.
"""
import os
import stat
import sys
import time


def walk(root):
    root = os.fsencode(root)
    found, waiting = {}, [b""]
    while waiting:
        folder = waiting.pop()
        for entry in os.scandir(os.path.join(root, folder) if folder else root):
            path = os.path.join(folder, entry.name) if folder else entry.name
            found[path] = entry.stat(follow_symlinks=False)
            if entry.is_dir(follow_symlinks=False):
                waiting.append(path)
    return found


def compare(truth, other, unix):
    differences = []
    started = time.time()
    a = walk(truth)
    middle = time.time()
    b = walk(other)
    print(f"{len(a)} entries in {truth} ({middle - started:.1f} s), {len(b)} in {other} ({time.time() - middle:.1f} s)")
    for path in sorted(set(a) ^ set(b)):
        differences.append((path, "is only in one of them"))
    compared = 0
    for path in sorted(set(a) & set(b)):
        x, y = a[path], b[path]
        fields = ["st_mtime_ns"]
        if unix:
            fields += ["st_mode", "st_uid", "st_gid", "st_nlink", "st_rdev", "st_size"]
        elif not stat.S_ISDIR(x.st_mode):
            fields += ["st_size"]
        if stat.S_IFMT(x.st_mode) != stat.S_IFMT(y.st_mode):
            differences.append((path, "type"))
            continue
        for field in fields:
            if getattr(x, field) != getattr(y, field):
                differences.append((path, f"{field}: {getattr(x, field)} and {getattr(y, field)}"))
        one, two = os.path.join(os.fsencode(truth), path), os.path.join(os.fsencode(other), path)
        try:
            if stat.S_ISLNK(x.st_mode) and os.readlink(one) != os.readlink(two):
                differences.append((path, "link target"))
            if stat.S_ISREG(x.st_mode):
                with open(one, "rb") as f, open(two, "rb") as g:
                    while True:
                        p, q = f.read(1 << 20), g.read(1 << 20)
                        if p != q:
                            differences.append((path, "content"))
                            break
                        compared += len(p)
                        if not p:
                            break
        except OSError as error:
            differences.append((path, str(error)))
    for path, what in differences[:20]:
        print("DIFFERS:", os.fsdecode(path), what)
    print(f"{compared} bytes of content compared, {len(differences)} differences")
    return bool(differences)


if __name__ == "__main__":
    if len(sys.argv) != 4 or sys.argv[3] not in ("unix", "windows"):
        sys.exit(__doc__)
    sys.exit(compare(sys.argv[1], sys.argv[2], sys.argv[3] == "unix"))
