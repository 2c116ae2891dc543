#!/bin/sh
# SPDX-License-Identifier: MIT
# test_man.sh - every function of the header has a man page, which names it, shows it as the
# header declares it, and refers to pages that exist.
#
#   test_man.sh MANDIR HEADER...       MANDIR: where the pages were built
set -eu
man=$1
shift
failed=0

bad() {
	echo "# $*"
	failed=1
}

# The page behind NAME.3, an alias or not.
page_of() {
	sed -n '1s|^\.so man3/||p' "$man/$1.3" | grep . || echo "$1.3"
}

# Declarations on one line each, without blanks: of the header, and of a page.
declarations() {
	sed -e 's|/\*.*\*/||' -e '/^\/\*/,/\*\//d' -e 's/SHMQ_API//' -e 's/\\&//g' -e 's/\\-/-/g' "$@" | tr '\n' ' ' | tr ';{}' '\n\n\n' |
		tr -d ' \t'
}

echo 1..2
for header; do
	functions=$(sed -n 's/^SHMQ_API.*[ *]\(shmq_[a-z_]*\)(.*/\1/p' "$header")
	[ -n "$functions" ] || bad "$header: no functions found"
	for f in $functions; do
		if [ ! -s "$man/$f.3" ]; then
			bad "$f has no page"
			continue
		fi
		page=$man/$(page_of "$f")
		sed -n '/^\.SH NAME/,/^\.SH SYNOPSIS/p' "$page" | grep -qw "$f" ||
			bad "$f is not in the NAME of ${page##*/}"
		want=$(declarations "$header" | grep -o "[a-z_*]*$f(.*)$" | head -n 1)
		declarations "$page" | grep -qF "$f(${want#*"$f("}" ||
			bad "$f is not in ${page##*/} as the header has it: $want"
	done
done
[ $failed = 0 ] && echo "ok 1 - every function has a page that shows it" ||
	echo "not ok 1 - every function has a page that shows it"

status=$failed
failed=0
for page in "$man"/*.[137]; do
	refs=$(sed -n '/^\.SH SEE ALSO/,$p' "$page" | tr ' ,' '\n\n' |
		sed -n 's/.*\(shmq[-_a-z\\]*\)\\f[RP](\([137]\)).*/\1.\2/p' | tr -d '\\')
	for ref in $refs; do
		[ -s "$man/$ref" ] || bad "${page##*/} refers to $ref, which does not exist"
	done
done
[ $failed = 0 ] && echo "ok 2 - references lead somewhere" ||
	echo "not ok 2 - references lead somewhere"
exit $((status | failed))
