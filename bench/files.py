#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""files.py - how fast shmq-dump, shmq-drain and shmq-restore move messages to and from a
disk, beside dd doing the same with the bytes of the same file.

  files.py [--runs N] [--mib N] [--engine io_uring|write] [--huge] TOOLS DIRECTORY

TOOLS is where the tools are, DIRECTORY a place on the disk. In each run dump, drain and
dd write the same bytes and put them onto the disk, then restore and dd read them from the
disk, not from the page cache, dd into a file in /dev/shm; "once" is restore --single-pass.
The table has medians in MB/s of the file, and the ratio to dd.
"""
import argparse
import os
import statistics
import subprocess
import sys
import time

SIZES = (64, 256, 1024, 4096, 16384, 65536)


def timed(*command):
    begin = time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.monotonic() - begin


def forget(path):
    """What is in the page cache of a file that is on the disk."""
    with open(path, "rb") as f:
        os.fsync(f.fileno())
        os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def measure(size, args):
    tool = lambda name: os.path.join(args.tools, "shmq-" + name)
    path = lambda name: os.path.join(args.directory, name)
    n = args.mib * (1 << 20) // size
    rates = {}

    subprocess.run([tool("create"), "-q", "bench-files", "--lane", f"all:{n}",
                    "--msg-size", str(size)] + ["--huge"] * args.huge, check=True)
    line = b"m" * size + b"\n"
    chunk = line * max(1, (1 << 20) // size)
    with subprocess.Popen([tool("push"), "-q", "bench-files"],
                          stdin=subprocess.PIPE) as push:
        left = n
        while left > 0:
            take = min(left, len(chunk) // len(line))
            push.stdin.write(chunk[:take * len(line)])
            left -= take
        push.stdin.close()
    subprocess.run([tool("dump"), "-q", "bench-files", "-o", path("source"), "--force"],
                   check=True)
    size_of_file = os.stat(path("source")).st_size
    for _ in range(args.runs):
        for name, command in (
                ("dd out", ["dd", "if=" + path("source"), "of=" + path("copy"), "bs=1M",
                            "conv=fdatasync"]),
                ("dump", [tool("dump"), "-q", "bench-files", "-o", path("copy")]),
                ("drain", [tool("drain"), "-q", "bench-files", "--until-empty", "--to",
                           path("copy")]),
                ("dd in", ["dd", "if=" + path("source"), "of=/dev/shm/bench-files.copy",
                           "bs=1M"]),
                ("restore", [tool("restore"), "-q", "bench-files", path("source")]),
                ("once", [tool("restore"), "-q", "--single-pass", "bench-files",
                          path("source")])):
            if name in ("dd out", "dump", "drain") and os.path.exists(path("copy")):
                os.unlink(path("copy"))
            if name in ("dd in", "restore", "once"):
                forget(path("source"))
            if name == "once":
                subprocess.run([tool("drain"), "-q", "bench-files", "--until-empty", "--to",
                                "-"], check=True, stdout=subprocess.DEVNULL)
            rates.setdefault(name, []).append(size_of_file / timed(*command) / 1e6)
            if name == "dd in":
                os.unlink("/dev/shm/bench-files.copy")
    os.unlink(path("copy"))
    os.unlink(path("source"))
    subprocess.run([tool("rm"), "-qf", "bench-files"], check=True)
    return {name: (statistics.median(r), min(r), max(r)) for name, r in rates.items()}


def main():
    p = argparse.ArgumentParser(description="Rates of dump, drain and restore beside dd.")
    p.add_argument("--runs", type=int, default=5)
    p.add_argument("--mib", type=int, default=256, help="bytes of messages")
    p.add_argument("--sizes", type=lambda s: [int(x) for x in s.split(",")], default=SIZES)
    p.add_argument("--engine", choices=("io_uring", "write"), default="io_uring")
    p.add_argument("--huge", action="store_true", help="a queue in huge pages")
    p.add_argument("tools")
    p.add_argument("directory")
    args = p.parse_args()
    if args.engine == "write":
        os.environ["SHMQ_URING"] = "0"
    print("| bytes | dd out | dump | ratio | drain | ratio | dd in | restore | ratio "
          "| once | ratio |")
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for size in args.sizes:
        r = measure(size, args)
        spread = lambda name: "%.0f (%.0f-%.0f)" % r[name]
        ratio = lambda name, dd: "%.2f" % (r[name][0] / r[dd][0])
        print("|", " | ".join([str(size), spread("dd out"), spread("dump"),
                               ratio("dump", "dd out"), spread("drain"),
                               ratio("drain", "dd out"), spread("dd in"), spread("restore"),
                               ratio("restore", "dd in"), spread("once"),
                               ratio("once", "dd in")]), "|", flush=True)


if __name__ == "__main__":
    sys.exit(main())
