#!/bin/sh
# SPDX-License-Identifier: MIT
# test_files.sh - shmq-dump, shmq-drain and shmq-restore: what is in a file and what is in
# the queue, also after kill -9 in the middle, for files that are cut or damaged, and
# without io_uring.
#
#   test_files.sh TOOLS WITHOUT     directory of the tools; tests/without
set -u
LC_ALL=C
export LC_ALL
[ $# = 2 ] && [ -x "$1/shmq-dump" ] && [ -x "$2" ] ||
	{ echo "Bail out! usage: $0 TOOLS WITHOUT"; exit 64; }
without=$(cd "$(dirname "$2")" && pwd)/$(basename "$2")
PATH=$(cd "$1" && pwd):$PATH
SHMQ_DIR=$(mktemp -d /dev/shm/shmq-test-XXXXXX) || { echo "Bail out! no /dev/shm"; exit 1; }
export PATH SHMQ_DIR
trap 'rm -rf "$SHMQ_DIR"' EXIT
trap 'exit 130' INT TERM HUP
T=$SHMQ_DIR/.work # what the library does not list
rounds=${SHMQ_LONG:+300}
rounds=${rounds:-25}
. "$(dirname "$0")/tap.sh"
mkdir "$T"
cd "$T" || exit 1
want_same() { [ "$1" = "$2" ] || fault "$3: '$1', not '$2'"; }

queue() { # NAME: three lanes, a dead-letter lane among them
	shmq-create -q "$1" --lane high:64 --lane normal:100K --lane dead:1K --dead-letter dead \
		--msg-size 300 "${2:---max-attempts=32}"
}
lines() { # FIRST LAST: long enough that thousands fill several blocks
	seq "$1" "$2" | sed 's/.*/&:message & is one of many, and each of them has a few more words than it needs/'
}
fill() { # NAME FIRST LAST
	lines "$2" "$3" | shmq-push -q "$1/normal"
}
sum() { sort | md5sum; }

# ---- a copy -----------------------------------------------------------------------------

queue jobs
fill jobs 1 30000
shmq-push -q jobs/high urgent 'with	tab' ''
seq 5 | shmq-push -q jobs/dead

begin "dump copies what waits, in order, and leaves it"
before=$(shmq-stat jobs --json)
run shmq-dump jobs -o jobs.shmqd -v
want_rc 0
want_part err 'copied 30008 messages of jobs to jobs.shmqd'
run shmq-restore --check jobs.shmqd -v
want_rc 0
want_part err 'jobs.shmqd: 30008 messages of jobs, all whole'
want_same "$(shmq-stat jobs --json)" "$before" 'what stat says'
run shmq-dump jobs/high --raw
want_rc 0
want_same "$(cat out)" "$(printf 'urgent\nwith\ttab\n\n')" text
run shmq-dump jobs --raw -n 1
want_same "$(cat out)" urgent 'the first'
run shmq-dump jobs/high --text
want_part out 'high  #2  '
want_part out '  8 B  with.tab'
run shmq-dump jobs/high --json
want_part out '{"lane":"high","number":1,"bytes":6,"wait_ns":'
want_part out ',"deliveries":0,"text":"with\ttab"}'
printf 'a\0\377' | shmq-push -q jobs/high --delimiter x
run shmq-dump jobs/high --json
want_part out '"bytes":3,'
want_part out '"hex":"6100ff"}'
shmq-drain -q jobs/high --to gone --count 4
shmq-push -q jobs/high urgent 'with	tab' ''
run shmq-dump jobs/high --hex -n 2
want_part out 'high  #1  6 B'
want_part out '  000000  75 72 67 65 6e 74                                |urgent|'
end

begin "a lane or a queue that is not there is named"
for command in 'dump jobs/none --raw' 'drain jobs/none --to none' 'restore jobs --lane none jobs.shmqd'; do
	run shmq-$command
	want_rc 66
	want_part err 'jobs has no lane none; it has: high normal dead'
done
for command in 'dump none --raw' 'drain none --to none' 'restore none jobs.shmqd'; do
	run shmq-$command
	want_rc 66
	want_part err 'none: no such queue'
done
end

begin "dump does not overwrite without --force, and then only when the copy is whole"
run shmq-dump jobs -o jobs.shmqd
want_rc 73
want_part err 'jobs.shmqd exists   (--force replaces it)'
cp jobs.shmqd old
(ulimit -f 100; trap '' XFSZ; shmq-dump jobs -o jobs.shmqd --force >out 2>err)
want_same $? 74 'exit status when there is no room'
cmp -s old jobs.shmqd || fault "what was to be replaced is gone"
[ ! -e jobs.shmqd.part ] || fault "half a copy is left"
run shmq-dump jobs/normal -o jobs.shmqd --force
want_rc 0
want_same "$(shmq-restore --check jobs.shmqd -v 2>&1)" \
	'jobs.shmqd: 30000 messages of jobs, all whole' copy
end

begin "restore puts each message into the lane of its name, in order"
queue again
run shmq-restore again old -v
want_rc 0
want_part err 'restored 30008 messages to again'
run shmq-dump again -o again.shmqd
for lane in high normal dead; do
	want_same "$(shmq-dump again/$lane --raw | md5sum)" "$(shmq-dump jobs/$lane --raw | md5sum)" $lane
done
end

begin "a dump goes through a pipe"
shmq-rm -q again
queue again
shmq-dump jobs -o - | shmq-restore again -q
want_same "$(shmq-dump again --raw | md5sum)" "$(shmq-dump jobs --raw | md5sum)" messages
end

begin "restore stops at a full lane, says how to go on, and goes on there"
shmq-create -q small --lane high:64 --lane normal:20000 --lane dead:64 --msg-size 300
run shmq-restore small old
want_rc 75
want_part err 'small/normal is full'
want_part err '20003 messages restored'
want_part err 'continue:  shmq-restore small --skip 20003 --when-full=wait old'
shmq-pop small --count 20003 >first
run shmq-restore small --skip 20003 --when-full=wait old
want_rc 0
shmq-pop small --all >second
want_same "$(cat first second | md5sum)" "$(shmq-dump jobs --raw | md5sum)" messages
shmq-rm -q small
end

begin "restore --when-full=wait waits for room"
shmq-create -q small --lane normal:100 --msg-size 300
shmq-restore small --lane normal --when-full=wait old >out 2>err &
shmq-pop small --count 30008 --timeout 20s >taken
wait $!
want_same $? 0 'exit status'
want_same "$(sum <taken)" "$(shmq-dump jobs --raw | sum)" messages
shmq-rm -q small
end

begin "restore names a lane that the queue does not have, and a message that is too long"
shmq-create -q other --lane any:100K --msg-size 8
run shmq-restore other old
want_rc 66
want_part err 'old has messages of a lane high   (--lane LANE puts all into one)'
run shmq-restore other old --lane any
want_rc 65
want_part err 'old: message 4 has 79 bytes, other takes 8'
want_part err '3 messages restored'
shmq-rm -q other
end

# ---- files that are not as they were written -------------------------------------------

begin "restore refuses a damaged file, says where, and pushes nothing of it"
queue empty
size=$(stat -c %s old)
shmq-dump jobs --raw >all
for at in 0 9 300 488 500 600 $((size / 2)) $((size - 40)) $((size - 1)); do
	cp old bad
	printf '\377' | dd of=bad bs=1 seek="$at" conv=notrunc 2>/dev/null
	run shmq-restore empty bad
	want_rc 65
	grep -Eq 'bad: (damaged at byte [0-9]+: .*; the [0-9]+ messages before it are whole|not a file of shmq)' \
		err || fault "byte $at: no such words"
	where=$(sed -n 's/.*damaged at byte \([0-9]*\).*/\1/p' err)
	[ "${where:-0}" -le "$at" ] || fault "byte $at is said to be damaged at $where"
done
want_same "$(shmq-stat empty --json | grep -c '"depth": 0')" 3 'empty lanes'
end

begin "restore refuses a file without an end, and takes what is whole of it with --partial"
for len in 0 4 100 487; do
	head -c $len old >cut
	run shmq-restore empty cut
	[ "$rc" = 65 ] || [ "$rc" = 66 ] || fault "$len bytes: exit status $rc"
done
head -c $((size - 1)) old >cut
run shmq-restore empty cut
want_rc 66
want_part err 'without an end: it was cut, or its writer was killed; the 30008 messages before that are whole'
head -c $((size / 2)) old >cut
run shmq-restore empty cut --partial -v
want_rc 0
n=$(sed -n 's/.*restored \([0-9]*\) messages.*/\1/p' err)
[ "$n" -gt 1000 ] && [ "$n" -lt 30000 ] || fault "$n messages of half a file"
want_same "$(shmq-dump empty --raw | md5sum)" "$(head -n "$n" all | md5sum)" messages
end

begin "from a pipe, or in a single pass, no message of a damaged block gets into the queue"
cp old bad
printf '\377' | dd of=bad bs=1 seek=$((size / 2)) conv=notrunc 2>/dev/null
for way in '' bad; do
	shmq-rm -q empty
	queue empty
	cat bad | shmq-restore empty --single-pass $way >out 2>err
	want_same $? 65 'exit status'
	n=$(sed -n 's/.* \([0-9]*\) messages restored.*/\1/p' err)
	[ "${n:-0}" -gt 1000 ] || fault "${n:-no} messages before the damage"
	want_part err "shmq-restore empty --skip $n --when-full=wait --single-pass ${way:-< FILE}"
	want_same "$(shmq-dump empty --raw | md5sum)" "$(head -n "$n" all | md5sum)" messages
done
shmq-rm -q empty
end

begin "restore in a single pass"
shmq-rm -q again
queue again
run shmq-restore again --single-pass old -v
want_rc 0
want_part err 'restored 30008 messages to again'
want_same "$(shmq-dump again --raw | md5sum)" "$(md5sum <all)" messages
end

# ---- moving to a file ------------------------------------------------------------------

begin "drain moves everything but dead letters, and restore brings it back"
all=$(shmq-dump jobs/high --raw; shmq-dump jobs/normal --raw)
run shmq-drain jobs --to d1 --until-empty -v
want_rc 0
want_part err 'moved 30003 messages of jobs to d1'
want_same "$(shmq-dump jobs --raw | wc -l)" 5 'dead letters'
run shmq-restore jobs d1
want_rc 0
want_same "$(shmq-dump jobs/high --raw; shmq-dump jobs/normal --raw)" "$all" messages
run shmq-drain jobs --to d1 --until-empty
want_rc 73
want_part err 'd1 exists   (choose another name: nothing is overwritten)'
run shmq-drain jobs/dead --to d2 --until-empty
want_rc 0
want_same "$(shmq-restore --check d2 -v 2>&1)" 'd2: 5 messages of jobs, all whole' 'dead letters'
run shmq-drain jobs --to d3 --count 7
want_rc 0
want_same "$(shmq-stat jobs --json | grep -c '"held": [1-9]')" 0 'lanes with messages in hand'
want_same "$(shmq-dump jobs --raw | wc -l)" 29996 'what is left'
end

begin "drain --to - releases what the pipe took"
shmq-drain jobs --to - --until-empty | shmq-restore --check -v >out 2>err
want_same "$?" 0 'exit status'
want_part err '29996 messages of jobs, all whole'
want_same "$(shmq-dump jobs --raw | wc -l)" 0 'what is left'
end

begin "drain without --until-empty waits for more, and ends well on a signal"
shmq-drain jobs --to d4 >out 2>err &
p=$!
for i in 1 2 3; do
	fill jobs $i $i
	sleep 0.3
done
want_same "$(shmq-stat jobs --json | grep -c '"held": [1-9]')" 0 'lanes with messages in hand'
kill -TERM $p # a shell has its children ignore Ctrl-C
wait $p
want_same $? 0 'exit status'
want_same "$(shmq-restore --check d4 -v 2>&1)" 'd4: 3 messages of jobs, all whole' file
end

begin "drain that cannot write puts everything back"
fill jobs 1 30000
(ulimit -f 4000; trap '' XFSZ; shmq-drain jobs --to d5 --until-empty >out 2>err)
want_same $? 74 'exit status'
want_part err 'd5: '
shmq-restore --check d5 --partial >out 2>err || fault "what was written is not whole"
shmq-dump jobs --raw >left
queue got
shmq-restore got d5 --partial -q
shmq-dump got --raw >>left
want_same "$(sort -u left | md5sum)" "$(lines 1 30000 | sort | md5sum)" messages
shmq-rm -q got
shmq-pop jobs --all >/dev/null
end

# KIND N: who is killed in the middle. Each message must be in the file or in the queue; if
# it is in both the queue must say that it was delivered before.
killed() {
	i=0 both=0 cut=0
	while [ $i -lt "$rounds" ]; do
		i=$((i + 1))
		queue k
		fill k 1 20000
		rm -f f
		$1 shmq-drain k --to f --until-empty 2>/dev/null &
		p=$!
		sleep 0.0$((i * 7 % 40 / 10))$((i * 7 % 10))
		kill -9 $p 2>/dev/null
		wait $p 2>/dev/null
		shmq-recover k --yes >/dev/null 2>&1
		: >in_file
		if [ -e f ] && ! shmq-restore --check f >/dev/null 2>&1; then
			cut=$((cut + 1))
		fi
		if [ -s f ]; then
			queue got
			shmq-restore got f --partial -q 2>/dev/null
			shmq-dump got --raw >in_file
			shmq-rm -q got
		fi
		shmq-dump k --hex | awk '/, delivered /{ again = 1 }
			/^  000000/ { if (again) { sub(/^[^|]*[|]/, ""); sub(/:.*/, ""); print } again = 0 }' |
			sort >flagged
		shmq-dump k --raw >in_queue
		sort in_file in_queue | uniq -d >twice
		both=$((both + $(wc -l <twice)))
		[ "$(sort -u in_file in_queue | md5sum)" = "$expected" ] || {
			fault "round $i: not all are there: $(sort -u in_file in_queue | wc -l)"
			break
		}
		n=$(cut -d: -f1 twice | sort | comm -23 - flagged | wc -l)
		[ "$n" = 0 ] || fault "round $i: $n in both are not said to be delivered before"
		shmq-rm -qf k
	done
	shmq-rm -qf k 2>/dev/null
	echo "# $i kills; $cut files without an end; $both messages in file and queue" >&2
}
expected=$(lines 1 20000 | sort | md5sum)

begin "kill -9 of drain at any moment loses nothing"
killed ''
end

begin "the same without io_uring"
SHMQ_URING=0
export SHMQ_URING
killed ''
unset SHMQ_URING
end

begin "io_uring that is refused is done without, and said with -v"
fill jobs 1 1000
run "$without" -e EPERM io_uring shmq-dump jobs -o e1 -v
if [ $rc = 77 ]; then
	skip 'filters are not permitted'
else
	want_rc 0
	want_part err ', by pwrite'
	run "$without" -e EPERM io_uring shmq-drain jobs --to e2 --until-empty -v
	want_rc 0
	want_part err 'moved 1000 messages of jobs to e2'
	want_part err ', by pwrite'
	run env SHMQ_URING=0 shmq-restore jobs e2 -v
	want_rc 0
	want_part err 'restored 1000 messages to jobs, by pread'
	end
fi

echo "1..$nr"
