#!/bin/sh
# SPDX-License-Identifier: MIT
# run-all.sh - every benchmark, with its results in one directory.
#
#   run-all.sh [--quick | --blink] BUILD DIRECTORY
#
# BUILD is a build directory (for figures worth keeping: --buildtype=release). Writes to
# DIRECTORY one file of JSON lines for each part, a picture of it, and tables.md. Takes half an
# hour to an hour; with --quick, which has fewer points and shorter runs, some minutes; --blink only
# shows that everything works. Fails if a contender failed; the others are measured
# nevertheless.
set -eu

usage()
{
	sed -n 's/^#   //p' "$0" >&2
	exit 64
}

all=shmq,ring,mutex,pipe,mqueue,ck,rte,boost,moodycamel,segqueue,vecdeque
runs=7 duration=1 rounds=100000 sleeps=2000 seconds=10
shapes=1x1,2x2,4x4,8x4,8x8
grid=1x1,1x2,1x4,1x8,2x1,2x2,2x4,2x8,4x1,4x2,4x4,4x8,8x1,8x2,8x4,8x8
depths=10,100,1000,10000,100000,1000000
idle=0,2,6,14,30,62,98,198
lanes=1,2,3,4,5,6,7,8
capacities=64,256,1024,4096,16384,65536,262144,1000000
sizes=8,64,256,1024,4096,65536

case ${1-} in
--quick)
	runs=3 duration=0.2 rounds=20000 sleeps=500 seconds=2
	shapes=1x1,2x2,8x4
	grid=1x1,1x4,4x1,4x4,8x8
	depths=10,1000,100000
	idle=0,30,198
	lanes=1,3,8
	capacities=64,4096,1000000
	shift
	;;
--blink)
	runs=1 duration=0.02 rounds=500 sleeps=20 seconds=0.1
	shapes=1x1,2x2
	grid=1x2,2x1
	depths=10,1000
	idle=0,10
	lanes=1,8
	capacities=64,4096
	sizes=8,64,65536
	shift
	;;
esac
[ $# = 2 ] || usage
bench=$1/bench
out=$2
here=$(dirname "$0")
[ -x "$bench/bench_throughput" ] || usage
failed=0
mkdir -p "$out"

# NAME PROGRAM ARGUMENT...
part()
{
	name=$1 program=$2
	shift 2
	echo "$name" >&2
	"$bench/$program" "$@" >"$out/$name.jsonl" || failed=1
}

# NAME ARGUMENT...
throughput()
{
	name=$1
	shift
	part "$name" bench_throughput --json --runs $runs --duration $duration "$@"
	"$here/plot.py" "$out/$name.jsonl" >"$out/$name.svg"
}

# The depths need one capacity for all of them.
throughput rivals --contender $all --shape $shapes --batch 1,16
throughput shapes --contender shmq,ring --shape $grid --batch 1
throughput sizes --contender shmq,ring --shape 1x1,2x2 --batch 1 --capacity 1024 --size $sizes
throughput depth --contender shmq --shape 1x1,2x2 --batch 1 --capacity 1048576 --depth $depths
throughput idle --contender shmq --shape 1x1 --batch 1 --idle $idle
throughput lanes --contender shmq --shape 1x1,2x2 --batch 1 --capacity 8192 --lanes $lanes
throughput last-lane --contender shmq --shape 1x1,2x2 --batch 1,32 --lanes $lanes --last-lane
throughput capacity --contender shmq --shape 1x1,2x2 --batch 1 --capacity $capacities
part latency bench_latency --json --runs $runs --rounds $rounds --contender $all
part waits bench_waits --json $runs $sleeps
part scenario bench_scenario --json --runs $runs --duration $seconds \
	--contender shmq,pipe,mqueue,boost
"$here/tables.py" "$out" >"$out/tables.md"
echo "$out/tables.md" >&2
exit $failed
