#!/bin/sh
# SPDX-License-Identifier: MIT
# check.sh - build libshmq in every way that matters and run all tests.
#
#   ./check.sh [--long]         --long: denser sweeps, longer random and stress tests,
#                               larger models, and the tests against seeded bugs; hours
#
# gcc (optimised) runs all suites, clang unit, api and stress, both with warnings as
# errors; the address and undefined-behaviour sanitizers run unit, api and
# tool; the thread sanitizer, which sees threads and not processes, runs tsan. Tests
# that wait run once more without io_uring and futex_waitv; --long runs all of gcc's
# but sweeps and stress without either. Then the model of the protocol.
# Writes only build-check/. The last line is 'N passed, N failed, N skipped'.
set -eu
cd "$(dirname "$0")"
. scripts/common.sh

patience=1
case ${1-} in
'') ;;
--long)
	SHMQ_LONG=1
	export SHMQ_LONG
	patience=20
	;;
*) echo "usage: ./check.sh [--long]" >&2; exit 64 ;;
esac

mkdir -p build-check
LOG=$PWD/build-check/check.log
: >"$LOG"
RESULTS=$PWD/build-check/results # a line for each log, for count_tests.py
: >"$RESULTS"

# configure NAME CC TARGETS OPTION...: build-check/NAME, made anew when the options change.
configure() {
	dir=build-check/$1
	cc=$2
	targets=$3
	shift 3
	set -- -Dtests=enabled -Dtools=enabled "$@"
	if [ ! -f "$dir/build.ninja" ] || [ "$(cat "$dir.options" 2>/dev/null)" != "$cc $*" ]; then
		rm -rf "$dir"
		run env CC="$cc" meson setup "$dir" "$@"
		printf '%s\n' "$cc $*" >"$dir.options"
	fi
	run ninja -C "$dir" $targets
	printf ' %s' "${dir#build-check/}"
}

# tests NAME DIR COMMAND...: COMMAND is 'meson test' and which tests, for build-check/DIR.
# Failures are counted at the end.
tests() {
	name=$1
	dir=build-check/$2
	shift 2
	set -- "$@" -C "$dir" --no-rebuild -t "$patience" --logbase "$name"
	rm -f "$dir/meson-logs/$name.json"
	printf '\n$ %s\n' "$*" >>"$LOG"
	begin=$(seconds)
	"$@" >>"$LOG" 2>&1 </dev/null || :
	printf ' %s %d s,' "$name" $(($(seconds) - begin))
	case $(tail -n 1 "$LOG") in
	'1..0 # SKIP '*) echo "$name:skip=$(tail -n 1 "$LOG")" ;;
	*) echo "$name=$dir/meson-logs/$name.json" ;;
	esac >>"$RESULTS"
}

# one NAME COMMAND...: counts as one test. Status 77 means that it could not be run here.
one() {
	name=$1
	shift
	begin=$(seconds)
	printf '\n$ %s\n' "$*" >>"$LOG"
	status=0
	"$@" >"build-check/$name.log" 2>&1 </dev/null || status=$?
	cat "build-check/$name.log" >>"$LOG"
	case $status in
	0) outcome=pass ;;
	77) outcome=skip ;;
	*) outcome=fail ;;
	esac
	echo "$name:$outcome=$(tail -n 1 "build-check/$name.log")" >>"$RESULTS"
	printf ' %s %d s' "$name" $(($(seconds) - begin))
}

# ---------------------------------------------------------------------------
step 1/3 packages
packages gcc g++ clang libclang-rt-14-dev libc6-dev meson ninja-build pkg-config check \
	libjansson-dev libxxhash-dev liburing-dev libuv1-dev libevent-dev scdoc python3 spin

# ---------------------------------------------------------------------------
step 2/3 build
begin=$(seconds)
all='all meson-test-prereq'
configure gcc gcc "$all" -Dwerror=true -Dbuildtype=release -Db_ndebug=false
configure clang clang "$all" -Dwerror=true
# Sanitized code makes gcc warn of what is not there.
configure asan gcc "$all" -Db_sanitize=address,undefined
configure tsan gcc tests/test_threads -Db_sanitize=thread
printf '   %d s\n' $(($(seconds) - begin))

# ---------------------------------------------------------------------------
step 3/3 test
tests gcc gcc meson test
tests clang clang meson test --suite=unit --suite=api --suite=stress
tests asan asan meson test --suite=unit --suite=api --suite=tool
tests tsan tsan meson test --suite=tsan
# Waiting, where a container refuses io_uring and the kernel is older than futex_waitv.
without=$PWD/build-check/gcc/tests/without
tests less gcc "$without" -e EPERM io_uring "$without" futex_waitv \
	meson test any poll uring waiting points priority
one model docs/model/check.sh
one seeded-bugs-apply python3 tests/seeded_bugs.py --apply
if [ "$patience" -gt 1 ]; then
	one model-long docs/model/check.sh --long
	one seeded-bugs python3 tests/seeded_bugs.py build-check/bugs
	# All that is not a sweep, and of the usual length.
	unset SHMQ_LONG
	set -- meson test --suite=unit --suite=api --suite=tool --suite=process
	tests noring gcc env SHMQ_URING=0 "$@"
	tests noring-eperm gcc "$without" -e EPERM io_uring "$@"
	tests nowaitv gcc "$without" futex_waitv "$@"
fi
printf '\n%14slogs: build-check/check.log, build-check/*/meson-logs/*.txt\n' ''
exec python3 scripts/count_tests.py "$RESULTS"
