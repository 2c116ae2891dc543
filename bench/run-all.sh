#!/bin/sh
# SPDX-License-Identifier: MIT
# run-all.sh - every benchmark, one after the other, each result into a file of its own.
#
#   bench/run-all.sh [--quick] BUILD OUTPUT
#
# BUILD is a build directory (meson setup build -Dbuildtype=release; ninja -C build), OUTPUT
# a directory for the tables (.txt) and the throughput as JSON lines (.jsonl). About
# 20 minutes; with --quick 1 minute, to see that everything runs. Leave the machine alone.
set -eu
runs=9 seconds=0.5
if [ "${1-}" = --quick ]; then
	runs=1 seconds=0.05
	shift
fi
[ $# = 2 ] && [ -x "$1/bench/bench_throughput" ] ||
	{ echo "usage: $0 [--quick] BUILD OUTPUT" >&2; exit 64; }
build=$1 out=$2
here=$(dirname "$0")
mkdir -p "$out"

show() { # NAME COMMAND...
	name=$1
	shift
	echo "== $name" >&2
	"$@" >"$out/$name.txt"
	cat "$out/$name.txt"
}
throughput() {
	"$build/bench/bench_throughput" --runs $runs --duration $seconds "$@"
}

show throughput throughput -c shmq,ring -b 1,32 -s 1x1,2x1,1x2,2x2,4x4,8x4
show rivals throughput -c all -b 1,32 -s 1x1,8x4
show stopped throughput -c shmq,ring,shmq-in-push,shmq-in-pop -b 1 -s 1x1,2x2,8x4
for size in 16 256 1024 4096 65536; do
	show "size-$size" throughput -c shmq,ring -b 1 -s 1x1,8x4 --size $size --capacity 2048
done
throughput -c all -b 1,32 -s 1x1,8x4 --json >"$out/rivals.jsonl"
if [ $runs -gt 1 ]; then
	show latency "$build/bench/bench_latency"
	show flat "$build/bench/bench_flat"
	show scenario "$build/bench/bench_scenario"
	show waits "$build/bench/bench_waits"
	mkdir -p "$out/files"
	show files python3 "$here/files.py" "$build/tools" "$out/files"
else
	show latency "$build/bench/bench_latency" --runs 1 --trips 1000
	show scenario "$build/bench/bench_scenario" --runs 1 --seconds 0.2
	mkdir -p "$out/files"
	show files python3 "$here/files.py" --runs 1 --mib 1 "$build/tools" "$out/files"
fi
