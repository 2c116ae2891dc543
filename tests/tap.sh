# shellcheck shell=sh
# SPDX-License-Identifier: MIT
# tap.sh - what the tests in shell share: a test is begin SENTENCE, run and want..., end;
# prints TAP. To be read with '.'; T must be set, a directory for what commands print.

nr=0
begin() { sentence=$1 wrong='' rc=; }
fault() {
	wrong="$wrong
# $*"
}
end() {
	nr=$((nr + 1))
	if [ -z "$wrong" ]; then
		echo "ok $nr - $sentence"
	else
		echo "not ok $nr - $sentence$wrong"
		for stream in out err; do
			head -c 4000 "$T/$stream" | tr -cd '\11\12\40-\176' |
				sed "s/^/#   $stream: /"
		done
	fi
}
skip() { # REASON
	nr=$((nr + 1))
	echo "ok $nr - $sentence # SKIP $1"
}

run() { # COMMAND...: stdin is ours
	"$@" >"$T/out" 2>"$T/err"
	rc=$?
}
want_rc() { [ "$rc" = "$1" ] || fault "exit status $rc, not $1"; }
want_part() { # STREAM TEXT: somewhere in it
	grep -qF -- "$2" "$T/$1" || fault "$1 lacks: $2"
}
