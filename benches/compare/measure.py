#!/usr/bin/env python3
"""Measurements that a shell cannot make. Every command prints `name value` lines.

    measure.py pack IMAGE OUT           the allocated bytes of a sparse image, one after the other
    measure.py used IMAGE...            how many bytes of sparse images are allocated
    measure.py forget FILE...           drops the kernel's pages of these files
    measure.py run OUT COMMAND...       runs it with its output in the file OUT; seconds, processor time, most memory
    measure.py crowd WIDTH COMMAND...   runs commands, each one word quoted as for a shell, WIDTH of them at a time; the same for all together
    measure.py mount CAIRN SOURCE MNT FOLDER   from the start of the command to the first listing of a guest's folder
    measure.py reads CAIRN SOURCE MNT FILE IMAGE   reads of a file of the mount; IMAGE tells where the data lies
"""
import os
import random
import shlex
import subprocess
import sys
import threading
import time

MIB = 1 << 20


def extents(path):
    """Ranges of a sparse file that hold data, aligned as the file system has them."""
    fd = os.open(path, os.O_RDONLY)
    size = os.fstat(fd).st_size
    found, at = [], 0
    while at < size:
        try:
            start = os.lseek(fd, at, os.SEEK_DATA)
        except OSError:  # nothing but a hole up to the end
            break
        at = os.lseek(fd, start, os.SEEK_HOLE)
        found.append((start, at))
    os.close(fd)
    return found


def pack(image, out):
    source = os.open(image, os.O_RDONLY)
    target = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    for start, end in extents(image):
        while start < end:
            start += os.write(target, os.pread(source, min(8 * MIB, end - start), start))
    os.fsync(target)
    print("used_bytes", os.fstat(target).st_size)


def used(*images):
    print("used_bytes", sum(end - start for image in images for start, end in extents(image)))


def forget(*files):
    for path in files:
        fd = os.open(path, os.O_RDONLY)
        os.fsync(fd)  # only clean pages are dropped
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)


def family(pid):
    """A process and all that it has started."""
    found = [pid]
    for parent in found:
        try:
            threads = os.listdir(f"/proc/{parent}/task")
            for thread in threads:
                with open(f"/proc/{parent}/task/{thread}/children") as children:
                    found.extend(int(child) for child in children.read().split())
        except OSError:  # it has ended
            continue
    return found


def private(pid):
    """Private memory of a process in bytes: what is its own, without maps of files and without page cache."""
    try:
        with open(f"/proc/{pid}/smaps_rollup") as lines:
            return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(("Private_Dirty:", "Swap:")))
    except (OSError, ValueError):
        return 0


class Watch:
    """Samples the private memory of a process and all that it starts, or only of what it starts, until it ends."""

    def __init__(self, pid, itself=True):
        self.pid, self.skipped, self.most, self.ended = pid, 0 if itself else 1, 0, threading.Event()
        self.thread = threading.Thread(target=self.look, daemon=True)
        self.thread.start()

    def sample(self):
        self.most = max(self.most, sum(private(pid) for pid in family(self.pid)[self.skipped :]))

    def look(self):
        while not self.ended.wait(0.1):
            self.sample()

    def end(self):
        self.sample()
        self.ended.set()
        self.thread.join()
        return self.most


def run(out, *command):
    output = open(out, "wb")
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=output)
    watch = Watch(process.pid)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    watch.end()
    code = os.waitstatus_to_exitcode(status)
    # What usage has is what /usr/bin/time prints as %M.
    print("seconds %.3f" % seconds, "user %.3f" % usage.ru_utime, "system %.3f" % usage.ru_stime, sep="\n")
    print("resident", usage.ru_maxrss * 1024)
    print("private", watch.most)
    sys.exit(code)


def crowd(width, *commands):
    waiting = [shlex.split(command) for command in reversed(commands)]
    running, failed, worst = {}, [], 0
    watch = Watch(os.getpid(), itself=False)
    started = time.perf_counter()
    while waiting or running:
        while waiting and len(running) < int(width):
            process = subprocess.Popen(waiting.pop(), stdout=subprocess.DEVNULL)
            running[process.pid] = process
        pid, status, usage = os.wait4(-1, 0)
        process = running.pop(pid)
        process.returncode = os.waitstatus_to_exitcode(status)
        worst = max(worst, usage.ru_maxrss)
        if process.returncode != 0:
            failed.append(f"{process.returncode} from {shlex.join(process.args)}")
    seconds = time.perf_counter() - started
    total = os.times()
    print("seconds %.3f" % seconds, "user %.3f" % total.children_user, "system %.3f" % total.children_system, sep="\n")
    # The largest of them, and the most that all had together.
    print("resident", worst * 1024)
    print("private", watch.end())
    sys.exit("; ".join(failed) or None)


class Mount:
    def __init__(self, cairn, source, mountpoint, wanted):
        self.started = time.perf_counter()
        self.mountpoint = mountpoint
        self.process = subprocess.Popen([cairn, "mount", source, mountpoint], stderr=subprocess.DEVNULL)
        path = os.path.join(mountpoint, wanted)
        while True:
            try:
                os.listdir(path)
                break
            except OSError:
                if self.process.poll() is not None or time.perf_counter() - self.started > 30:
                    sys.exit(f"no {path} in the mount")
                time.sleep(0.0005)
        self.ready = time.perf_counter() - self.started
        self.watch = Watch(self.process.pid)

    def end(self):
        most = self.watch.end()
        subprocess.run(["umount", self.mountpoint], check=True)
        self.process.wait()
        return most


def mount(cairn, source, mountpoint, folder):
    times = []
    for _ in range(7):
        mounted = Mount(cairn, source, mountpoint, folder)
        times.append(mounted.ready)
        mounted.end()
    times.sort()
    print("mount_ms %.1f" % (times[len(times) // 2] * 1000))
    print("mount_worst_ms %.1f" % (times[-1] * 1000))


def at_random(fd, offsets):
    started = time.perf_counter()
    for offset in offsets:
        if len(os.pread(fd, 4096, offset)) != 4096:
            sys.exit("a short read")
    return len(offsets) / (time.perf_counter() - started)


def reads(cairn, source, mountpoint, name, image):
    ranges = extents(image)
    folder, file = os.path.dirname(name), os.path.join(mountpoint, name)
    most = 0

    mounted = Mount(cairn, source, mountpoint, folder)
    fd = os.open(file, os.O_RDONLY)
    buffer, done, started = bytearray(MIB), 0, time.perf_counter()
    for start, end in ranges:
        while start < end:
            got = os.preadv(fd, [memoryview(buffer)[: min(MIB, end - start)]], start)
            if got == 0:
                sys.exit("the file is shorter than the disk")
            start, done = start + got, done + got
    print("sequential_gbs %.3f" % (done / (time.perf_counter() - started) / 1e9))
    os.close(fd)
    most = max(most, mounted.end())

    mounted = Mount(cairn, source, mountpoint, folder)
    fd = os.open(file, os.O_RDONLY)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
    chance = random.Random(1)
    blocks = [at for start, end in ranges for at in range(-(-start // 4096) * 4096, end - 4095, 4096)]
    offsets = [chance.choice(blocks) for _ in range(20000)]
    print("random_cold %.0f" % at_random(fd, offsets))
    # Again: the kernel has these pages now.
    print("random_kernel %.0f" % at_random(fd, offsets))
    # Warm in cairn, not in the kernel: a part of the disk that fits its cache, and the kernel's pages dropped.
    near = blocks[len(blocks) // 2 : len(blocks) // 2 + 32 * 256]
    for at in near:
        os.pread(fd, 4096, at)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    chance.shuffle(near)
    print("random_warm %.0f" % at_random(fd, near))
    os.close(fd)
    most = max(most, mounted.end())
    print("private", most)


if __name__ == "__main__":
    commands = {"pack": pack, "used": used, "forget": forget, "run": run, "crowd": crowd, "mount": mount, "reads": reads}
    if len(sys.argv) < 3 or sys.argv[1] not in commands:
        sys.exit(__doc__)
    commands[sys.argv[1]](*sys.argv[2:])
