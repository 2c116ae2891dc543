#!/bin/sh
# SPDX-License-Identifier: MIT
# check.sh - build libshmq in every way that matters and run all tests.
#
#   ./check.sh [--long]         --long: all sweeps whole, longer random and stress
#                               tests, larger models, and the tests against seeded bugs
#
# gcc (optimised) runs all suites, clang all but the long ones of processes, both with
# warnings as errors; the address and undefined-behaviour sanitizers run unit, api and
# tool; the thread sanitizer, which sees threads and not processes, runs tsan. Then
# the model of the protocol.
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

# configure NAME CC OPTION...: build-check/NAME, made anew when the options change.
configure() {
	dir=build-check/$1
	cc=$2
	shift 2
	set -- -Dtests=enabled -Dtools=enabled "$@"
	if [ ! -f "$dir/build.ninja" ] || [ "$(cat "$dir.options" 2>/dev/null)" != "$cc $*" ]; then
		rm -rf "$dir"
		run env CC="$cc" meson setup "$dir" "$@"
		printf '%s\n' "$cc $*" >"$dir.options"
	fi
	run ninja -C "$dir" all meson-test-prereq
	printf ' %s' "${dir#build-check/}"
}

# tests NAME SUITE...: without a suite all of them. Failures are counted at the end.
tests() {
	name=$1
	dir=build-check/$1
	shift
	suites=
	for suite; do
		suites="$suites --suite $suite"
	done
	rm -f "$dir/meson-logs/testlog.json"
	printf '\n$ meson test -C %s%s\n' "$dir" "$suites" >>"$LOG"
	begin=$(seconds)
	# shellcheck disable=SC2086 # one word each
	meson test -C "$dir" --no-rebuild -t "$patience" $suites >>"$LOG" 2>&1 </dev/null || :
	printf ' %s %d s,' "$name" $(($(seconds) - begin))
	echo "$name=$dir/meson-logs/testlog.json" >>"$RESULTS"
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
configure gcc gcc -Dwerror=true -Dbuildtype=release -Db_ndebug=false
configure clang clang -Dwerror=true
# Sanitized code makes gcc warn of what is not there.
configure asan gcc -Db_sanitize=address,undefined
configure tsan gcc -Db_sanitize=thread
printf '   %d s\n' $(($(seconds) - begin))

# ---------------------------------------------------------------------------
step 3/3 test
tests gcc
tests clang unit api tool stress
tests asan unit api tool
tests tsan tsan
one model docs/model/check.sh
if [ "$patience" -gt 1 ]; then
	one model-long docs/model/check.sh --long
	one seeded-bugs python3 tests/seeded_bugs.py build-check/bugs
fi
printf '\n%14slogs: build-check/check.log, build-check/*/meson-logs/testlog.txt\n' ''
exec python3 scripts/count_tests.py "$RESULTS"
