#!/bin/sh
# SPDX-License-Identifier: MIT
# quickstart.sh - build libshmq and watch it work: real files through a queue between
# processes, a steady load, and a flood; everything checked.
#
#   ./quickstart.sh [--long]        --long: ten minutes of load instead of ten seconds
#
# Installs only what is missing (Debian), writes only build/ and temporary files, and
# removes its queues, however it ends.
set -eu
cd "$(dirname "$0")"
. scripts/common.sh

long=
case ${1-} in
'') ;;
--long) long=--long ;;
*) echo "usage: ./quickstart.sh [--long]" >&2; exit 64 ;;
esac

mkdir -p build
LOG=$PWD/build/quickstart.log
: >"$LOG"
work=
SHMQ_DIR=
jobs=

clean_up() {
	# shellcheck disable=SC2086 # one word each
	[ -z "$jobs" ] || kill $jobs 2>/dev/null || :
	[ -z "$work" ] || rm -rf "$work"
	[ -z "$SHMQ_DIR" ] || rm -rf "$SHMQ_DIR"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# wait_for WHAT PID...: all of them, each must succeed.
wait_for() {
	what=$1
	shift
	for pid; do
		if ! wait "$pid"; then
			tail -n 30 "$LOG" | sed 's/^/  | /' >&2
			fail "$what (process $pid) has failed"
		fi
	done
}

sum() {
	LC_ALL=C sort "$@" | sha256sum | cut -d ' ' -f 1
}

# same_lines WORDS FILE...: the files together hold the lines of the input.
same_lines() {
	words=$1
	shift
	got=$(sum "$@")
	printf '  sha256 of the sorted lines   input  %s\n' "$input_sum"
	printf '  %-27s  output %s\n' "$words" "$got"
	[ "$got" = "$input_sum" ] || fail "$words: the output differs from the input"
}

# show COMMAND...: its output is part of the story; failure ends it.
show() {
	printf '$ %s\n' "$*"
	"$@" || fail "command: $*  (exit status $?)"
}

# ---------------------------------------------------------------------------
step 1/4 packages
packages gcc libc6-dev meson ninja-build pkg-config check libjansson-dev libxxhash-dev scdoc

# ---------------------------------------------------------------------------
step 2/4 build
printf 'meson setup build && ninja -C build'
begin=$(seconds)
[ -f build/build.ninja ] || run meson setup build
run ninja -C build
printf '   %d s\n' $(($(seconds) - begin))

# ---------------------------------------------------------------------------
step 3/4 run
echo
for shm in /dev/shm "${TMPDIR:-/tmp}"; do
	SHMQ_DIR=$(mktemp -d "$shm/shmq-quickstart.XXXXXX" 2>/dev/null) && break
done
[ -n "$SHMQ_DIR" ] || fail "no folder for the queues can be made in /dev/shm or /tmp"
export SHMQ_DIR
work=$(mktemp -d)
PATH=$PWD/build/tools:$PATH

printf '\n(a) every line of the licences, of the package list and of find /usr: 8 producers,\n'
printf '    3 lanes, 4 consumers, each a process\n'
{
	find /usr/share/common-licenses -type f -exec cat {} + || :
	cat /var/lib/dpkg/status || :
	find /usr || :
} 2>/dev/null | tr -d '\000' | LC_ALL=C cut -b 1-4000 >"$work/input"
input_sum=$(sum "$work/input")
lines=$(wc -l <"$work/input")
[ "$lines" -gt 0 ] || fail "no input found"

show shmq-create demo --lane high:1K --lane normal:1K --lane low:1K --msg-size 4K
build/examples/demo_files demo "$work/input" "$work" >"$work/said" 2>&1 &
jobs=$!
shmq-stat demo || fail "command: shmq-stat demo"
while kill -0 "$jobs" 2>/dev/null; do
	sleep 0.1
	shmq-stat demo | tail -n 1
done
pid=$jobs
jobs=
wait "$pid" || { cat "$work/said"; fail "command: demo_files demo $work/input $work"; }
cat "$work/said"
same_lines 'through demo_files' "$work"/out.*

printf '\n    the same by hand: 8 times shmq-push, 4 times shmq-pop\n'
split -n l/8 "$work/input" "$work/part."
pushers=
n=0
for part in "$work"/part.*; do
	n=$((n + 1))
	case $((n % 3)) in 0) lane=high ;; 1) lane=normal ;; 2) lane=low ;; esac
	shmq-push demo --lane "$lane" --when-full=wait <"$part" >>"$LOG" 2>&1 &
	pushers="$pushers $!"
done
jobs=$pushers
sleep 0.3
shmq-stat demo || fail "command: shmq-stat demo"
poppers=
for n in 0 1 2 3; do
	shmq-pop demo --all --timeout 3s >"$work/hand.$n" 2>>"$LOG" &
	poppers="$poppers $!"
done
jobs="$pushers $poppers"
# shellcheck disable=SC2086 # one word each
wait_for shmq-push $pushers
shmq-stat demo | tail -n 1
# shellcheck disable=SC2086
wait_for shmq-pop $poppers
jobs=
same_lines 'through push and pop' "$work"/hand.*
show shmq-stat demo -v
show shmq-rm demo

printf '\n(b) a steady load: 8 producers, 4 consumers, 100,000 items of 64 bytes a second\n'
show build/examples/demo_load $long

printf '\n(c) a flood: 8 producers that do not wait, one slow consumer, room for 10,000 items\n'
show build/examples/demo_overload

# ---------------------------------------------------------------------------
printf '\n'
step 4/4 result
printf 'all three kept every item: %s lines came back the same twice,\n' "$lines"
printf '%15sthe load was held with nothing refused, the flood stopped at the limit\n' ''
printf 'next:  build/tools/shmq-create --help    build/bench/bench_throughput    ./check.sh\n'
