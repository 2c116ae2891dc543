#!/bin/sh
# SPDX-License-Identifier: MIT
# The command-line tools from outside, as shells and people use them.
#
#   test_tools.sh DIRECTORY HOLD WITHOUT     where the built shmq-* commands are, and hold
#                                            (holder.c) and without (without.c)
#
# Prints TAP. Queues are made in a directory of their own below /dev/shm, which is
# removed at the end, as is every process that was started here.
set -u
LC_ALL=C
export LC_ALL

[ $# = 3 ] && [ -x "$1/shmq-stat" ] && [ -x "$2" ] && [ -x "$3" ] ||
	{ echo "Bail out! usage: $0 DIRECTORY HOLD WITHOUT"; exit 64; }
hold=$(cd "$(dirname "$2")" && pwd)/$(basename "$2")
without=$(cd "$(dirname "$3")" && pwd)/$(basename "$3")
PATH=$(cd "$1" && pwd):$PATH
SHMQ_DIR=$(mktemp -d /dev/shm/shmq-test-XXXXXX) || { echo "Bail out! no /dev/shm"; exit 1; }
export PATH SHMQ_DIR
T=$SHMQ_DIR/.work # what the library does not list
mkdir "$T"
pids=
cleanup() {
	for p in $pids; do kill -9 "$p" 2>/dev/null; done
	rm -rf "$SHMQ_DIR"
}
trap cleanup EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 141' PIPE
trap 'exit 143' TERM

# ---- a test ----------------------------------------------------------------------

. "$(dirname "$0")/tap.sh"

feed() { # TEXT COMMAND...: printf TEXT is stdin
	printf "$1" >"$T/in"
	shift
	run "$@" <"$T/in"
}
want() { # STREAM TEXT: all of it
	printf '%s\n' "$2" | cmp -s - "$T/$1" || fault "$1 is not: $2"
}
want_none() { [ ! -s "$T/$1" ] || fault "$1 is not empty"; }
want_same() { [ "$1" = "$2" ] || fault "$3: '$1', not '$2'"; }
cells() { # NAME COLUMNS
	shmq-stat "$1" --no-header --bytes --columns "$2" | tr -s ' '
}
soon() { # COMMAND...: true within five seconds
	tries=0
	until "$@" >/dev/null 2>&1; do
		tries=$((tries + 1))
		[ $tries -lt 100 ] || { fault "never: $*"; return 1; }
		sleep 0.05
	done
}
attached() { # NAME N: participants
	[ "$(shmq-stat "$1" --json | grep -c '"pid"')" = "$2" ]
}
json() { # EXPRESSION of d: what Python prints for it, from out
	python3 -c "import json; d = json.load(open('$T/out')); e = ($1); print(e)"
}
reap() { # PID: sets rc
	wait "$1" 2>/dev/null
	rc=$?
	pids=$(echo "$pids " | sed "s/ $1 / /")
}
has() { command -v "$1" >/dev/null 2>&1; }
# In the background a shell ignores SIGINT, and the tools would respect that.
interruptible="env --default-signal=INT"
now_ms() { echo $(($(date +%s%N) / 1000000)); }

# ---- help and usage ---------------------------------------------------------------

for tool in shmq-create shmq-stat shmq-push shmq-pop shmq-rm shmq-doctor shmq-recover shmq-bench; do
	begin "$tool --help shows two examples first and exits 0"
	run $tool --help
	want_rc 0
	want_none err
	want_same "$(sed -n 4,5p "$T/out" | grep -c '^  .*shmq-')" 2 examples
	cp "$T/out" "$T/help"
	run $tool -h
	want_rc 0
	cmp -s "$T/help" "$T/out" || fault "-h differs from --help"
	end

	begin "$tool --version and --usage exit 0"
	run $tool --version
	want_rc 0
	want_part out "$tool (libshmq) "
	run $tool --usage
	want_rc 0
	want_part out "Usage: $tool"
	end

	begin "$tool names a bad option and exits 64"
	run $tool --no-such-option x </dev/null
	want_rc 64
	want_none out
	want_part err --no-such-option
	end
done

usage() { # WORDS COMMAND...: exit 64, WORDS on stderr, nothing made
	begin "usage: $(shift; echo "$*")"
	part=$1
	shift
	run "$@" </dev/null
	want_rc 64
	want_none out
	want_part err "$part"
	end
}
usage 'which queue' shmq-create
usage 'which queue' shmq-push
usage 'which queue' shmq-pop
usage 'which queue' shmq-rm
usage 'one queue at a time' shmq-create a b
usage 'one queue at a time' shmq-pop a b
usage 'NAME:CAPACITY' shmq-create a --lane high
usage 'not a number' shmq-create a --lane high:0
usage 'not a number' shmq-create a --lane high:1X
usage 'not a number' shmq-create a --lane high:-1
usage '1 to 15 bytes' shmq-create a --lane abcdefghijklmnop:1
usage '1 to 15 bytes' shmq-create a --lane :1
usage 'at most 8' shmq-create a --lane a:1 --lane b:1 --lane c:1 --lane d:1 --lane e:1 \
	--lane f:1 --lane g:1 --lane h:1 --lane i:1
usage 'not a size' shmq-create a --msg-size many
usage 'too large' shmq-create a --msg-size 99999999T
usage 'shmq-create: a: ' shmq-create a --msg-size 7
usage 'shmq-create: a: ' shmq-create a --msg-size 1025K
usage 'shmq-create: a: ' shmq-create a --participants 1025
usage 'shmq-create: a: ' shmq-create a --lane x:1 --lane x:2
usage 'octal' shmq-create a --mode 0698
usage 'octal' shmq-create a --mode rw
usage 'no such group' shmq-create a --group no.such.group
usage 'names a lane' shmq-create a/high
usage 'needs a name' shmq-create /
usage 'at most 200' shmq-create "$(printf '%0201d' 0)"
usage 'not a number' shmq-create a --max-attempts 0
usage '33 attempts; give 1 to 32' shmq-create a --max-attempts 33
usage 'no such lane; choose from high normal low' shmq-create a --dead-letter bin
usage 'no such lane; choose from x' shmq-create a --lane x:1 --dead-letter 1
usage 'letters, digits' shmq-create 'a b'
usage 'letters, digits' shmq-pop 'a b'
usage 'letters, digits' shmq-rm '..%'
usage 'names a lane' shmq-rm a/high
usage '--force or --stale' shmq-rm --force --stale a
usage 'the lane is given twice' shmq-push a/high --lane low x
usage 'stop, wait or skip' shmq-push a --when-full=drop x
usage 'not a time' shmq-push a --timeout soon x
usage 'not a time' shmq-push a --timeout -1 x
usage 'not a time' shmq-pop a --timeout 1.2.3
usage 'not one byte' shmq-push a --delimiter ab x
usage 'not one byte' shmq-pop a --delimiter x4
usage 'not a number' shmq-pop a --count 0
usage '--all or --count' shmq-pop a --all --count 1
usage 'choose' shmq-pop a --all --follow
usage '--follow waits for ever' shmq-pop a --follow --timeout 1
usage 'bytes of the message alone' shmq-pop a -0 --exec cat
usage 'bytes of the message alone' shmq-pop a --delimiter , --exec cat
usage 'names a lane' shmq-doctor a/high
usage 'which queue' shmq-recover --yes
usage 'one queue at a time' shmq-recover a b --yes
usage 'names a lane' shmq-recover a/high --yes
usage '--dry-run or --yes' shmq-recover a --dry-run --yes
usage 'nobody to ask, stdin is no terminal: --yes does it, --dry-run looks' shmq-recover a
usage 'no column' shmq-stat --columns queue,nonsense
usage '--columns goes with the table' shmq-stat --json --columns queue
usage 'one of -v' shmq-stat --json -v
usage 'go with --check' shmq-stat a --warn depth=1
usage 'name it' shmq-stat --check
usage 'write depth=80%' shmq-stat a --check --warn depth=lots
usage 'write depth=80%' shmq-stat a --check --crit colour=1
usage 'too short' shmq-stat --watch=1ms
usage 'lists all queues' shmq-stat --names a

begin "none of the wrong commands has made anything"
run shmq-stat --names
want_rc 0
want_none out
end

# ---- create ----------------------------------------------------------------------

shape='--lane high:64 --lane normal:1K --lane low:4K --msg-size 256'

begin "create -v says what was made, as in the manual"
run shmq-create -v jobs $shape
want_rc 0
want_none out
sed -i '1s/, [0-9.]* MiB reserved/, N MiB reserved/' "$T/err"
want err 'created jobs: 3 lanes, 5184 messages of up to 256 B, N MiB reserved
  0 high       64   taken first
  1 normal   1024
  2 low      4096
try:  shmq-push jobs --lane high "hello"    shmq-stat jobs'
end

begin "create explains another shape and exits 73"
run shmq-create jobs --lane high:128 --lane normal:1K --lane low:4K --msg-size 256
want_rc 73
want_none out
want err 'shmq-create: jobs exists with another shape
  lane high holds 64 messages, you asked for 128
  keep it:     shmq-create --if-missing with its shape   (shmq-stat jobs --as-create prints it)
  replace it:  shmq-rm jobs'
end

begin "create names every difference"
run shmq-create jobs --lane high:64 --lane bulk:1K --msg-size 128 --participants 3 --stamp --huge \
	--mode 0640 --group 12345
want_rc 73
want_part err 'it has 3 lanes, you asked for 2'
want_part err 'lane 1 is called normal, you asked for bulk'
want_part err 'messages have up to 256 B, you asked for 128'
want_part err 'it takes 64 participants, you asked for 3'
want_part err 'it keeps no time stamps, you asked for --stamp'
want_part err 'it does not ask for huge pages, you asked for --huge'
want_part err 'its mode is 0600, you asked for 0640'
want_part err 'you asked for 12345'
end

begin "create names what differs in what becomes of messages that fail"
run shmq-create jobs $shape --max-attempts 3 --dead-letter low
want_rc 73
want err 'shmq-create: jobs exists with another shape
  it gives up after 32 deliveries, you asked for 3
  its dead-letter lane is none, you asked for low
  keep it:     shmq-create --if-missing with its shape   (shmq-stat jobs --as-create prints it)
  replace it:  shmq-rm jobs'
end

begin "create of the same shape exits 73 without --if-missing"
run shmq-create jobs $shape
want_rc 73
want_part err 'jobs exists, with this very shape'
end

begin "create --if-missing of the same shape exits 0 without a word"
run shmq-create --if-missing jobs $shape
want_rc 0
want_none out
want_none err
end

begin "create --if-missing of another shape exits 73"
run shmq-create --if-missing jobs --lane high:64 --msg-size 256
want_rc 73
want_part err 'exists with another shape'
end

begin "create says nothing when piped, and a leading / is no part of the name"
run shmq-create /quiet --lane x:10
want_rc 0
want_none out
want_none err
run shmq-stat --names
want out 'jobs
quiet'
end

begin "create --dry-run makes nothing and says how much memory it would take"
run shmq-create --dry-run dry $shape
want_rc 0
want_part out 'would create dry: 3 lanes, 5184 messages of up to 256 B'
bytes=$(sed -n 's/ bytes; .*//p' "$T/out")
want_same "$bytes" "$(cells jobs size)" 'bytes of a queue of this shape'
run shmq-stat dry
want_rc 66
end

begin "create --dry-run of what exists exits as create does"
run shmq-create --dry-run jobs $shape
want_rc 73
run shmq-create --dry-run --if-missing jobs $shape
want_rc 0
end

begin "create in a directory that is not there exits 73"
SHMQ_DIR=$T/nowhere run shmq-create jobs
want_rc 73
want_part err "$T/nowhere"
end

begin "create of more than the file system has exits 73 and leaves nothing"
total=$(df -kP /dev/shm | awk 'NR == 2 { print $2 }')
if [ "$total" -eq 0 ] || [ "$total" -ge 1000000000 ]; then
	skip "/dev/shm has $total KiB, too much to ask for more"
else
	run shmq-create --dry-run huge --lane x:1000K --msg-size 1M
	want_rc 73
	want_part out 'would create huge: 1 lane, 1024000 messages'
	run shmq-create huge --lane x:1000K --msg-size 1M
	want_rc 73
	want_part err 'shmq-create: huge: '
	run shmq-stat huge
	want_rc 66
	want_same "$(find "$SHMQ_DIR" -name '*huge*')" '' 'files left'
	end
fi

begin "sizes: 64K and 64KiB are 65536, 64KB is 64000"
for pair in 64K:65536 64KiB:65536 64KB:64000 512:512 1M:1048576 64k:65536; do
	shmq-create size --lane x:2 --msg-size "${pair%:*}"
	want_same "$(cells size msgsize)" "${pair#*:}" "${pair%:*}"
	shmq-rm size
done
end

begin "mode and group are set exactly, whatever the umask"
(umask 077; shmq-create moded --lane x:2 --mode 0640 --group "$(id -g)")
want_same "$(cells moded mode,gid)" "0640 $(id -g)" 'mode and group'
shmq-rm moded
end

# ---- push and pop -----------------------------------------------------------------

begin "push -v counts the lines of stdin"
feed '1\n2\n3\n' shmq-push -v jobs --lane normal
want_rc 0
want_none out
want err 'pushed 3 messages to jobs/normal'
end

begin "push -v counts texts, and options may follow them"
run shmq-push jobs "urgent" --lane high -v
want_rc 0
want err 'pushed 1 message to jobs/high'
end

begin "pop takes the highest lane first"
run shmq-pop jobs --count 2
want_rc 0
want_none err
want out 'urgent
1'
end

begin "pop of an empty lane says how to wait and exits 75"
run shmq-pop jobs/high
want_rc 75
want_none out
want err 'shmq-pop: jobs/high is empty (wait with --timeout 5s or --follow)'
end

begin "pop --count of more than there is prints what there is and exits 75"
run shmq-pop jobs --count 5
want_rc 75
want out '2
3'
want err 'shmq-pop: jobs is empty; 2 of 5 taken'
end

begin "pop -q of an empty queue says nothing and exits 75"
run shmq-pop -q jobs
want_rc 75
want_none out
want_none err
end

begin "pop --all exits 0 after the last one, and 75 if there was none"
feed 'a\nb\n' shmq-push jobs
run shmq-pop jobs --all
want_rc 0
want out 'a
b'
run shmq-pop jobs --all
want_rc 75
want_part err 'jobs is empty'
end

begin "push says nothing when piped; a lane may be a number"
feed 'x\n' shmq-push jobs/2
want_rc 0
want_none err
run shmq-pop jobs --lane low
want_rc 0
want out x
end

begin "pop -v writes lane, length and attempts to stderr"
shmq-push jobs/low five5
run shmq-pop -v jobs
want_rc 0
want out five5
want err 'jobs/low  5 B  attempts 1'
end

begin "empty lines are messages, and so is a last line without newline"
feed '\n\nend' shmq-push -v jobs
want err 'pushed 3 messages to jobs/normal'
run shmq-pop jobs --all
want out '

end'
end

begin "empty input is no message and no error"
feed '' shmq-push -v jobs
want_rc 0
want err 'pushed 0 messages to jobs/normal'
end

begin "push -0 keeps newlines inside messages, pop -0 gives them back"
feed 'a\nb\0\0\n\0last' shmq-push -0 jobs
want_rc 0
run shmq-pop -0 jobs --all
printf 'a\nb\0\0\n\0last\0' | cmp -s - "$T/out" || fault "bytes differ"
end

begin "--delimiter takes a character, an escape and a number"
for d in ',' '\t' '\0' x2c '\x2C' '\\'; do
	case $d in
	'\t') c='\t' ;;
	'\0') c='\0' ;;
	'\\') c='\\' ;;
	*) c=, ;;
	esac
	feed "one${c}two${c}" shmq-push jobs --delimiter "$d"
	run shmq-pop jobs --all --delimiter "$d"
	cmp -s "$T/in" "$T/out" || fault "--delimiter $d"
done
end

begin "push --count stops after so many"
feed '1\n2\n3\n4\n' shmq-push -v jobs --count 2
want_rc 0
want err 'pushed 2 messages to jobs/normal'
run shmq-pop jobs --all
want out '1
2'
end

begin "a text that looks like an option goes after --"
run shmq-push jobs -- -q --all
want_rc 0
run shmq-pop jobs --all
want out '-q
--all'
end

begin "push without a lane takes the only one, or asks which"
shmq-push quiet here
run shmq-pop quiet
want out here
shmq-create two --lane a:4 --lane b:4
run shmq-push two x
want_rc 64
want_part err 'name one, as in two/a'
shmq-rm two
end

begin "a line that is too long is named by number, after those before it; exit 65"
printf 'one\ntwo\n' >"$T/in"
printf '%0257d\nfour\n' 0 >>"$T/in"
run shmq-push jobs <"$T/in"
want_rc 65
want_part err 'line 3 ("0000000000000000000000000000000000000000"...) is longer than the 256 B'
want_part err '2 pushed'
run shmq-pop jobs --all
want out 'one
two'
end

begin "a line without end is refused as soon as it is too long"
head -c 300000 /dev/zero | tr '\0' x >"$T/in"
run shmq-push jobs <"$T/in"
want_rc 65
want_part err 'line 1 ('
want_part err '0 pushed'
end

begin "a line of just the size goes through; a text over it exits 65"
line=$(printf '%0256d' 7)
feed "$line\n" shmq-push jobs
want_rc 0
run shmq-pop jobs
want out "$line"
run shmq-push jobs ok "${line}8"
want_rc 65
want_part err 'argument 2 ('
want_part err '1 pushed'
shmq-pop jobs >/dev/null
end

begin "messages of the largest size go through unchanged"
shmq-create large --lane x:4 --msg-size 1M
head -c 1048576 /dev/urandom | tr '\n' x >"$T/big"
echo >>"$T/big"
run shmq-push large <"$T/big"
want_rc 0
run shmq-pop large
cmp -s "$T/big" "$T/out" || fault "bytes differ"
: >"$T/out"
shmq-rm large
end

begin "100,000 lines through push and pop arrive byte-identical and in order"
awk 'BEGIN { srand(7); for (i = 1; i <= 100000; i++) {
	s = i; for (n = int(rand() * 6); n > 0; n--) s = s " and more"; print s } }' >"$T/lines"
shmq-create pipe --lane x:500
shmq-push pipe --when-full=wait <"$T/lines" 2>"$T/push.err" &
p=$! pids="$pids $!"
run shmq-pop pipe --follow --count 100000
want_rc 0
reap $p
want_same $rc 0 'exit status of push'
cmp -s "$T/lines" "$T/out" || fault "bytes differ"
want_same "$(cells pipe depth,pushed,popped)" '0 100000 100000' depth,pushed,popped
: >"$T/out"
shmq-rm pipe
end

begin "a line is delivered at once while stdin stays open, half a line is not"
mkfifo "$T/slow"
shmq-push jobs <"$T/slow" 2>"$T/push.err" &
p=$! pids="$pids $!"
exec 3<>"$T/slow" # also a reader, so that no SIGPIPE ends us
echo one >&3
run shmq-pop jobs --timeout 5s
want out one
printf tw >&3
run shmq-pop jobs --timeout 200ms
want_rc 75
echo o >&3
run shmq-pop jobs --timeout 5s
want out two
exec 3>&-
reap $p
want_same $rc 0 'exit status of push'
end

begin "pop --timeout says how long it waited and exits 75"
t0=$(now_ms)
run shmq-pop jobs --timeout 250ms
t1=$(now_ms)
want_rc 75
want err 'shmq-pop: jobs is still empty after 250 ms'
[ $((t1 - t0)) -ge 250 ] || fault "it waited $((t1 - t0)) ms"
end

begin "pop --follow is woken by a push, and with --count it ends"
shmq-pop jobs --follow --count 2 >"$T/follow" 2>"$T/pop.err" &
p=$! pids="$pids $!"
soon attached jobs 1
shmq-push jobs a
shmq-push jobs b
reap $p
want_same $rc 0 'exit status of pop'
want_same "$(cat "$T/follow")" 'a
b' output
end

# ---- full ---------------------------------------------------------------------------

begin "push into a full lane stops, names the first message refused, exits 75"
yes | head -n 70 >"$T/in"
run shmq-push jobs --lane high --when-full=stop <"$T/in"
want_rc 75
want err 'shmq-push: jobs/high is full (64 of 64); 64 pushed, 1 refused
  not pushed:  line 65 ("y") and what follows
  wait for room: --when-full=wait    count and go on: --when-full=skip'
run shmq-push -q jobs/high last
want_rc 75
want_part err 'not pushed:  argument 1 ("last")'
end

begin "push --when-full=skip counts, goes on and exits 75"
shmq-pop jobs/high --count 2 >/dev/null
feed 'a\nb\nc\nd\ne\n' shmq-push jobs/high --when-full=skip
want_rc 75
want err 'shmq-push: jobs/high was full: 2 pushed, 3 skipped'
end

begin "push --timeout waits so long for room and exits 75"
t0=$(now_ms)
run shmq-push jobs/high x --timeout 0.25
t1=$(now_ms)
want_rc 75
want_part err 'jobs/high is still full after 250 ms (64 of 64); 0 pushed, 1 refused'
[ $((t1 - t0)) -ge 250 ] || fault "it waited $((t1 - t0)) ms"
end

begin "push --when-full=wait goes on when there is room"
shmq-push jobs/high --when-full=wait waited 2>"$T/push.err" &
p=$! pids="$pids $!"
soon attached jobs 1
kill -0 $p || fault "it did not wait"
shmq-pop jobs/high >/dev/null
reap $p
want_same $rc 0 'exit status of push'
run shmq-pop jobs/high --all
want_same "$(wc -l <"$T/out") $(tail -n 1 "$T/out")" '64 waited' 'lines and last line'
end

# ---- stdout ---------------------------------------------------------------------------

depth() { cells "$1" depth; }
have_depth() { [ "$(depth "$1")" = "$2" ]; }

begin "a write that fails exits 74 and says how many messages are lost"
feed '1\n2\n' shmq-push jobs
shmq-pop jobs >/dev/full 2>"$T/err"
rc=$?
want_rc 74
want_part err 'stdout: No space left on device; 0 written, 1 popped message lost'
want_same "$(depth jobs)" 1 depth
end

begin "with stdout closed nothing is popped and the exit status is 74"
shmq-pop jobs --all >&- 2>"$T/err"
rc=$?
want_rc 74
want_part err '0 popped messages lost'
want_same "$(depth jobs)" 1 depth
shmq-pop jobs >/dev/null
end

begin "with stdin closed push exits 74, with stdout closed stat does"
shmq-push jobs <&- >"$T/out" 2>"$T/err"
rc=$?
want_rc 74
want_part err 'stdin: '
shmq-stat jobs >&- 2>"$T/err"
rc=$?
want_rc 74
want_part err 'stdout: '
end

begin "a reader that goes away ends pop with 74, and the queue keeps the rest"
seq 4000 | shmq-push jobs/low
{ shmq-pop jobs --all 2>"$T/err"; echo $? >"$T/rc"; } | sed 1q >"$T/out"
rc=$(cat "$T/rc")
# A pipe holds 64 KiB, so all of them may have been written before sed left.
if [ "$rc" = 74 ]; then
	want_part err 'stdout: Broken pipe'
else
	want_rc 0
fi
want out 1
shmq-pop -q jobs --all >/dev/null
end

begin "a reader that stalls leaves the messages in the queue, SIGINT loses none"
awk 'BEGIN { for (i = 1; i <= 4000; i++) printf "%0250d\n", i }' >"$T/in"
shmq-push jobs/low <"$T/in"
mkfifo "$T/stalled"
$interruptible shmq-pop jobs --follow >"$T/stalled" 2>"$T/err" &
p=$! pids="$pids $!"
exec 4<"$T/stalled"
started() { [ "$(depth jobs)" -lt 4000 ]; }
soon started
left=
while now=$(depth jobs); [ "$now" != "$left" ]; do # until the pipe is full
	left=$now
	sleep 0.3
done
[ "$left" -gt 3000 ] || fault "$left messages left"
kill -INT $p
reap $p
want_rc 130
want_part err "interrupted; $((4000 - left)) messages taken from jobs"
want_same "$(depth jobs)" "$left" 'depth after SIGINT'
cat <&4 >"$T/out"
exec 4<&-
shmq-pop jobs --all >>"$T/out"
cmp -s "$T/in" "$T/out" || fault "what came out is not what went in"
: >"$T/out"
end

# ---- signals ---------------------------------------------------------------------------

interrupt() { # SIGNAL COMMAND...: sets rc and the time it took, attached before
	signal=$1
	shift
	$interruptible "$@" >"$T/out" 2>"$T/err" <"$T/idle" &
	p=$! pids="$pids $!"
	soon attached jobs 1
	sleep 0.1
	t0=$(now_ms)
	kill "-$signal" $p
	reap $p
	took=$(($(now_ms) - t0))
}
quick() { # SIGNAL COMMAND...: within 100 ms in one of five attempts, for busy machines
	attempt=0
	while [ $attempt -lt 5 ]; do
		interrupt "$@"
		[ $took -ge 100 ] || return 0
		attempt=$((attempt + 1))
	done
	fault "it took $took ms"
}
mkfifo "$T/idle"
exec 5<>"$T/idle"

begin "pop --follow ends within 100 ms of SIGINT with 130 and a report"
quick INT shmq-pop jobs --follow
want_rc 130
want err 'shmq-pop: interrupted; 0 messages taken from jobs'
end

begin "push that waits for stdin ends within 100 ms of SIGINT with 130 and a report"
quick INT shmq-push jobs
want_rc 130
want err 'shmq-push: interrupted; 0 messages pushed to jobs/normal'
end

begin "push that waits for room ends within 100 ms of SIGINT with 130 and a report"
shmq-create --if-missing full --lane x:2
quick INT sh -c 'exec shmq-push jobs/high --when-full=wait $(seq 70)'
want_rc 130
want_part err 'messages pushed to jobs/high'
shmq-pop -q jobs --all >/dev/null
shmq-rm full
end

begin "SIGTERM ends pop --follow with 143"
quick TERM shmq-pop jobs --follow
want_rc 143
end
exec 5>&-

# ---- stat ------------------------------------------------------------------------------

shmq-create metrics --lane all:10 --stamp --huge
seq 10 | shmq-push metrics
shmq-push metrics over 2>/dev/null
shmq-push jobs/low 1 2 3

begin "stat shows a table of all queues, sorted"
run shmq-stat
want_rc 0
want_none err
sed -E 's/[0-9.]+ [KM]iB/SIZE/; s/ +/ /g' "$T/out" >"$T/squeezed"
mv "$T/squeezed" "$T/out"
want out 'QUEUE LANES DEPTH HELD CAP USE% PROD CONS SIZE STATE
jobs 3 3 0 5184 0% 0 0 SIZE ok
metrics 1 10 0 10 100% 0 0 SIZE FULL, nobody reads
quiet 1 0 0 10 0% 0 0 SIZE ok'
end

begin "stat --columns, --no-header and --bytes are for scripts"
run shmq-stat metrics --no-header --columns queue,depth,rejected
want_rc 0
want out 'metrics  10  1'
run shmq-stat metrics --columns depth,queue
want out 'DEPTH  QUEUE
   10  metrics'
run shmq-stat --columns help
want_rc 0
want_part out 'queue,lanes,depth,held'
want_same "$(cells metrics size)" "$(stat -c %s "$SHMQ_DIR/shmq.metrics")" 'bytes'
end

begin "stat -v shows owner, lanes and participants"
shmq-pop quiet --follow >"$T/follow" 2>"$T/pop.err" &
p=$! pids="$pids $!"
soon attached quiet 1
run shmq-stat -v quiet metrics
want_rc 0
want_part out "$(id -un):$(id -gn) 0600"
want_part out '(shmq-create)'
want_part out "$p "
grep -q "^$p .* shmq-pop .* alive\$" "$T/out" || fault "no line of pid $p"
grep -Eq '^all +10 +0 +10 +100% +10 +0 +1 ' "$T/out" || fault "no line of lane all"
end

begin "stat --json is valid and has the numbers"
run shmq-stat --json jobs metrics quiet
want_rc 0
python3 -m json.tool "$T/out" >/dev/null || fault "not JSON"
want_same "$(json 'd["schema"], [q["name"] for q in d["queues"]]')" \
	"('shmq-stat/1', ['jobs', 'metrics', 'quiet'])" 'schema and queues'
want_same "$(json '[(l["name"], l["depth"], l["capacity"]) for l in d["queues"][0]["lanes"]]')" \
	"[('high', 0, 64), ('normal', 0, 1024), ('low', 3, 4096)]" 'lanes of jobs'
want_same "$(json '[d["queues"][1]["lanes"][0][k] for k in ("pushed", "popped", "rejected")]')" \
	'[10, 0, 1]' 'counters of metrics'
want_same "$(json 'd["queues"][1]["lanes"][0]["oldest_ns"] > 0')" True 'age with --stamp'
want_same "$(json 'd["queues"][0]["lanes"][2]["oldest_ns"]')" 0 'age without --stamp'
want_same "$(json '[(p["pid"], p["command"], p["alive"]) for p in d["queues"][2]["participants"]]')" \
	"[($p, 'shmq-pop', True)]" 'participants of quiet'
want_same "$(json '" ".join(d["queues"][0]["lanes"][0])')" 'name depth held capacity pushed popped rejected oldest_ns unfinished redelivered dead dropped' 'keys of a lane'
want_same "$(json 'd["queues"][0]["item_size"], d["queues"][0]["mode"]')" "(256, '0600')" shape
end

begin "stat --json without queues is an empty list"
SHMQ_DIR=$T run shmq-stat --json
want_rc 0
want_same "$(json 'd["queues"]')" '[]' queues
end

begin "stat --as-create prints a command that makes the same shape"
run shmq-stat metrics --as-create
want_rc 0
command=$(cat "$T/out")
want_part out 'shmq-create metrics --lane all:10 --msg-size 64 --participants 64 --mode 0600 --stamp --huge'
run sh -c "$command --if-missing"
want_rc 0
end

begin "stat --watch appends lines, repeats the titles, and Ctrl-C ends it with 0"
run timeout --preserve-status -s INT 2 shmq-stat jobs --watch=20ms
want_rc 0
want_none err
lines=$(wc -l <"$T/out")
[ "$lines" -gt 25 ] || fault "$lines lines in two seconds"
want_same "$(sed -n '1p;22p' "$T/out" | grep -c '^    time   depth')" 2 'titles in line 1 and 22'
sed -n 2p "$T/out" | grep -Eq '^[0-9:]{8} +3 +0 +- +- +- ' || fault "line 2"
end

begin "stat --watch shows rates, and with --json a document a line"
$interruptible shmq-stat jobs --watch=200ms >"$T/watch" 2>"$T/err" &
w=$! pids="$pids $!"
soon grep -q ' - ' "$T/watch"
seq 100 | shmq-push jobs/low
soon grep -Eq '^[0-9:]{8} +103 +0 +[1-9][0-9]* +0 +0 ' "$T/watch"
kill -INT $w
reap $w
want_rc 0
run timeout --preserve-status -s INT 0.5 shmq-stat jobs --watch=50ms --json --no-header
want_rc 0
want_same "$(grep -c '^{"schema":"shmq-stat/1",.*}$' "$T/out")" "$(wc -l <"$T/out")" documents
end

begin "stat --watch ends with 66 when the queue is removed"
shmq-create gone --lane x:2
$interruptible shmq-stat gone --watch=50ms >"$T/watch" 2>"$T/err" &
w=$! pids="$pids $!"
soon test -s "$T/watch"
shmq-rm gone
reap $w
want_rc 66
want_part err 'shmq-stat: gone: '
end

begin "stat --check exits 0, 1 or 2 and prints the line of a plug-in"
run shmq-stat --check jobs
want_rc 0
want_part out 'OK jobs/low: depth 103 of 4096 (3%), no live reader | depth_high=0;52;61;0;64 '
run shmq-stat --check metrics --warn depth=80% --crit depth=11
want_rc 1
want_part out 'WARNING metrics: depth 10 of 10 (100%), oldest '
want_part out ', no live reader | depth=10;8;11;0;10'
run shmq-stat --check metrics
want_rc 2
want_part out 'CRITICAL metrics: '
run shmq-stat --check jobs --crit readers=0
want_rc 2
run shmq-stat --check metrics --warn age=1ns --crit age=1d
want_rc 1
end

begin "stat --check exits 3 if the queue cannot be looked at"
run shmq-stat --check missing
want_rc 3
want_part out 'UNKNOWN missing: '
end

begin "stat of a missing queue exits 66 and shows the others"
run shmq-stat missing jobs
want_rc 66
want_part err 'shmq-stat: missing: '
want_part out 'jobs  '
end

# ---- rm ----------------------------------------------------------------------------------

begin "rm refuses a queue in use, names the pid and exits 69; nothing is removed"
run shmq-rm metrics quiet
want_rc 69
grep -Eq "^shmq-rm: quiet has 1 live (consumer|participant) \(pid $p\); nothing removed\.  --force removes the name anyway\$" \
	"$T/err" || fault "not the words"
run shmq-stat --names
want out 'jobs
metrics
quiet'
end

begin "rm --stale leaves a queue in use alone, and --dry-run everything"
run shmq-rm --stale --dry-run metrics quiet
want_rc 0
want_part out 'would remove metrics: '
want_part out '10 messages waiting'
run shmq-rm -v --stale metrics quiet
want_rc 0
want_part err 'removed metrics: '
want_part err 'kept quiet: '
run shmq-stat --names
want out 'jobs
quiet'
run shmq-rm --stale
want_rc 0
end

begin "rm --force removes the name; who has the queue open goes on"
run shmq-rm --force quiet
want_rc 0
want_none err
kill -0 "$p" || fault "the process is gone"
run shmq-stat quiet
want_rc 66
kill "$p"
reap "$p"
end

begin "rm does not mind participants that were killed"
shmq-create killed --lane x:4
shmq-pop killed --follow >"$T/follow" 2>&1 &
p=$! pids="$pids $!"
soon attached killed 1
kill -9 $p
reap $p
run shmq-rm killed
want_rc 0
end

begin "rm of a missing queue exits 66 and removes none of the others"
run shmq-rm jobs missing
want_rc 66
want_part err 'shmq-rm: missing: '
run shmq-stat --names
want out jobs
end

# ---- what is not a queue, and who may not --------------------------------------------------

for kind in text empty truncated directory; do
	begin "a $kind in the place of a queue exits 65 everywhere"
	bad=$SHMQ_DIR/shmq.bad
	case $kind in
	text) seq 100000 >"$bad" ;;
	empty) : >"$bad" ;;
	truncated) head -c 8192 "$SHMQ_DIR/shmq.jobs" >"$bad" ;;
	directory) mkdir "$bad" ;;
	esac
	[ $kind = directory ] || chmod 600 "$bad"
	for command in 'shmq-stat bad' 'shmq-stat' 'shmq-push bad x' 'shmq-pop bad' 'shmq-rm bad' \
		'shmq-create bad'; do
		run $command </dev/null
		[ $rc = 65 ] || fault "$command: exit status $rc: $(cat "$T/err")"
		want_part err ' bad: '
	done
	if [ $kind = directory ]; then
		rmdir "$bad"
	else
		run shmq-rm --force bad
		want_rc 0
		[ ! -e "$bad" ] || fault "rm --force left it"
	fi
	end
done

begin "push, pop and rm of a missing queue or lane exit 66"
for command in 'shmq-push missing x' 'shmq-pop missing' 'shmq-rm missing' 'shmq-push jobs/urgent x' \
	'shmq-pop jobs/urgent' 'shmq-pop jobs/3' 'shmq-push jobs x --lane 01x'; do
	run $command
	[ $rc = 66 ] || fault "$command: exit status $rc"
done
run shmq-pop jobs/urgent
want err 'shmq-pop: jobs has no lane urgent; it has: high normal low'
end

begin "a participant more than the queue takes exits 71 and says what to do"
shmq-create small --lane x:4 --participants 1
shmq-pop small --follow >"$T/follow" 2>&1 &
p=$! pids="$pids $!"
soon attached small 1
run shmq-push small x
want_rc 71
want_part err 'shmq-stat NAME -v'
kill $p
reap $p
run shmq-push small x
want_rc 0
shmq-rm small
end

chmod 1777 "$SHMQ_DIR"
chmod 777 "$T"
as_nobody() { setpriv --reuid=65534 --regid=65534 --clear-groups -- "$@"; }
others=
[ "$(id -u)" = 0 ] || others="not root"
[ -n "$others" ] || has setpriv || others="no setpriv"
[ -n "$others" ] || as_nobody shmq-stat --names >/dev/null 2>&1 ||
	others="another user may not run the tools there"

begin "with mode 0440 another user may look, and no more"
if [ -n "$others" ]; then
	skip "$others"
else
	shmq-create shared --lane x:4 --group 65534
	shmq-push shared one
	chmod 0440 "$SHMQ_DIR/shmq.shared"
	for option in --no-header -v --json --as-create --check; do
		run as_nobody shmq-stat shared $option
		want_rc 0
	done
	want_part out 'OK shared: depth 1 of 4'
	run as_nobody shmq-pop shared
	want_rc 77
	run as_nobody shmq-rm shared
	want_rc 77
	chmod 0400 "$SHMQ_DIR/shmq.shared"
	run as_nobody shmq-stat shared
	want_rc 77
	want_same "$(depth shared)" 1 depth
	shmq-rm shared
	end
fi

begin "a queue of another user needs --any-owner"
if [ -n "$others" ]; then
	skip "$others"
else
	as_nobody shmq-create theirs --lane x:4
	run shmq-push theirs one
	want_rc 77
	want_part err '--any-owner'
	run shmq-push theirs one --any-owner
	want_rc 0
	run shmq-pop theirs --any-owner
	want_rc 0
	want out one
	shmq-rm theirs
	end
fi

begin "a group shares a queue of mode 0660"
if [ -n "$others" ]; then
	skip "$others"
else
	shmq-create grouped --lane x:4 --mode 0660 --group 65534
	run as_nobody shmq-push grouped hello
	want_rc 0
	run shmq-pop grouped
	want out hello
	shmq-rm grouped
	end
fi

# ---- terminals --------------------------------------------------------------------------------

terminal() { # COMMAND: on a terminal of its own, output of both streams in out
	script -qec "$1" /dev/null </dev/null 2>"$T/err" | tr -d '\r' >"$T/out"
}

begin "on a terminal create, push and rm say what they did, with -q they do not"
if ! has script; then
	skip "no script(1)"
else
	terminal 'shmq-create t --lane x:4; shmq-push t hello; shmq-rm t'
	want_part out 'created t: 1 lane, 4 messages of up to 64 B'
	want_part out 'pushed 1 message to t/x'
	want_part out 'removed t: '
	terminal 'shmq-create -q t --lane x:4; shmq-push -q t hello; shmq-rm -q t'
	want_none out
	end
fi

begin "push prints help and exits 64 when stdin is a terminal"
if ! has script; then
	skip "no script(1)"
else
	terminal 'shmq-push jobs; echo status $?'
	want_part out 'Usage: shmq-push'
	want_part out 'status 64'
	end
fi

# ---- pop --exec -------------------------------------------------------------------------

begin "create -v marks the lane of dead letters, stat shows it, --as-create repeats it"
run shmq-create -v work --lane in:10 --lane dead:10 --max-attempts 3 --dead-letter dead
want_rc 0
sed -i '1s/, [0-9.]* KiB reserved/, N KiB reserved/' "$T/err"
want err 'created work: 2 lanes, 20 messages of up to 64 B, N KiB reserved
  0 in     10   taken first
  1 dead   10   dead letters
try:  shmq-push work --lane in "hello"    shmq-stat work'
run shmq-stat work -v
want_part out 'given up after 3 deliveries that failed: to lane dead'
run shmq-stat work --as-create
want out 'shmq-create work --lane in:10 --lane dead:10 --msg-size 64 --participants 64 --mode 0600 --max-attempts 3 --dead-letter dead'
run sh -c "$(cat "$T/out") --if-missing"
want_rc 0
run shmq-stat work --json
want_same "$(json 'd["queues"][0]["max_attempts"], d["queues"][0]["dead_lane"]')" "(3, 'dead')" \
	'what becomes of them'
end

begin "pop --exec: the message is stdin, the environment says which"
shmq-push work/in one two
run shmq-pop work --exec 'cat; echo " $SHMQ_QUEUE/$SHMQ_LANE $SHMQ_ATTEMPTS"'
want_rc 0
want out 'one work/in 1'
want_none err
want_same "$(cells work depth,held,popped)" '1 0 1' depth,held,popped
end

begin "pop --exec: a command that fails puts the message back, before newer ones"
shmq-push work/in three
run shmq-pop work --exec 'exit 3'
want_rc 1
want_none out
want err 'shmq-pop: the command exited with 3; the message is back in work/in, delivery 1 of 3'
run shmq-pop work --exec 'kill -9 $$'
want_rc 1
want err 'shmq-pop: the command was killed by signal 9; the message is back in work/in, delivery 2 of 3'
run shmq-pop work -v --exec 'cat; echo " $SHMQ_ATTEMPTS"'
want_rc 0
want out 'two 3'
want err 'work/in  3 B  attempts 3'
end

begin "pop --exec: the message is held while the command runs"
run shmq-pop work --exec 'shmq-stat work --no-header --columns depth,held,popped | tr -s " "'
want_rc 0
want out '0 1 2'
want_same "$(cells work depth,held,popped)" '0 0 3' depth,held,popped
run shmq-pop work --exec cat
want_rc 75
want_part err 'work is empty'
run shmq-pop work --exec cat --timeout 10ms
want_rc 75
want_part err 'work is still empty after 10 ms'
end

begin "pop --exec --all ends at the first failure; --count counts what is done"
shmq-push work/in 1 2 bad 3
run shmq-pop work --all --exec 'read -r x; echo "$x"; [ "$x" != bad ]'
want_rc 1
want out '1
2
bad'
run shmq-pop work --count 2 --exec 'cat; echo'
want_rc 0
want out 'bad
3'
shmq-push work/in 1 2
run shmq-pop work --all --exec 'cat; echo'
want_rc 0
want out '1
2'
end

begin "pop --exec --follow goes on after a failure, and gives up after --max-attempts"
shmq-push work/in 1 bad 2 3
t0=$(now_ms)
run timeout 20 shmq-pop work/in --follow --count 3 --exec 'read -r x; echo "$x $SHMQ_ATTEMPTS"; [ "$x" != bad ]'
t1=$(now_ms)
want_rc 0
want out '1 1
bad 1
bad 2
bad 3
2 1
3 1'
want_part err 'back in work/in, delivery 2 of 3'
want_part err 'back in work/in, delivery 3 of 3: it goes to the dead-letter lane dead'
[ $((t1 - t0)) -ge 700 ] || fault "pauses of 100, 200 and 400 ms took $((t1 - t0)) ms"
want_same "$(cells work depth,letters,dropped,state)" '1 1 0 1 dead letter' 'dead letters'
run shmq-stat --check work --warn letters=1
want_rc 1
want_part out ', 1 dead letter | '
run shmq-pop work/dead
want out bad
want_same "$(cells work letters,state)" '0 ok' 'dead letters after pop'
end

begin "without a dead-letter lane the message is dropped and counted"
shmq-create drops --lane x:4 --max-attempts 1
shmq-push drops bad
run shmq-pop drops --exec false
want_rc 1
want err 'shmq-pop: the command exited with 1; the message is back in drops/x, delivery 1 of 1: it is dropped'
run shmq-pop drops
want_rc 75
want_same "$(cells drops depth,letters,dropped,state)" '0 0 1 ok' 'numbers'
run shmq-stat --check drops --crit dropped=1
want_rc 2
want_part out ', 1 dropped | '
end

begin "messages in the dead-letter lane are never given up, and may be put there by hand"
shmq-create plain --lane in:4 --lane dead:4 --max-attempts 1 --dead-letter dead
shmq-push plain/dead 1
run shmq-doctor --root "$T" plain -q
want_none out
run shmq-pop plain/dead --exec false
want err 'shmq-pop: the command exited with 1; the message is back in plain/dead, delivery 1 of 1'
run shmq-pop plain/dead --exec false
want err 'shmq-pop: the command exited with 1; the message is back in plain/dead, delivery 2'
run shmq-pop plain
want_rc 75
run shmq-pop plain/dead
want_rc 0
want out 1
shmq-rm plain
end

begin "pop --exec --follow ends if there is no such command"
shmq-push work/in 1
run timeout 20 shmq-pop work --follow --exec no-such-command-here
want_rc 1
want_part err 'the command exited with 127; the message is back in work/in'
want_part err 'it would fail for every message; stopped'
want_same "$(cells work depth)" 1 depth
shmq-pop work >"$T/out"
end

begin "pop --exec: messages of the largest size, read whole or not at all"
shmq-create large --lane x:4 --msg-size 1M
shmq-push large <"$T/big"
head -c 1048576 "$T/big" >"$T/in"
run shmq-pop large --exec cat
want_rc 0
cmp -s "$T/in" "$T/out" || fault "bytes differ"
: >"$T/out"
shmq-push large <"$T/big"
run shmq-pop large --exec true
want_rc 0
shmq-rm large
rm "$T/big"
end

begin "pop --exec after SIGINT: the command ends, and its exit status counts"
shmq-push work/in 1 2
for code in 0 3; do
	rm -f "$T/began" "$T/ended"
	$interruptible shmq-pop work --all \
		--exec "cat >$T/began; sleep 0.4; echo >$T/ended; exit $code" >"$T/out" 2>"$T/err" &
	p=$! pids="$pids $!"
	soon test -s "$T/began"
	kill -INT $p
	reap $p
	want_rc 130
	[ -e "$T/ended" ] || fault "the command did not end"
done
want_part err 'the command exited with 3; the message is back in work/in'
want_part err 'interrupted; 0 messages taken from work'
want_same "$(cells work depth,held)" '1 0' depth,held
run shmq-pop -v work
want out 2
want_part err 'attempts 2'
end

# ---- doctor and recover ----------------------------------------------------------------------

mkdir "$T/root"
doctor() { # ARGUMENT...: without the machine, and without what a machine may have of its own
	run shmq-doctor --root "$T/root" "$@"
	sed -i '1,/^queues$/d' "$T/out"
	same_each_time
}
same_each_time() { # replace what differs from run to run in out
	sed -Ei 's/(pushed|attached) [0-9.]+ [mu]?s ago/\1 N ago/; s/ticket [0-9]+/ticket N/' "$T/out"
}
holding() { # ARGUMENT...: run hold in the background, sets p
	rm -f "$T/holding"
	"$hold" "$@" >"$T/holding" 2>&1 &
	p=$! pids="$pids $!"
	soon grep -qx holding "$T/holding"
}
killed() { # PID
	kill -9 "$1"
	reap "$1"
}

begin "doctor: nothing is wrong with queues that are at work"
shmq-rm -q metrics quiet 2>/dev/null
holding work 0 peek 0
doctor work jobs
want_rc 0
want_none err
want out '  ok    jobs
  ok    work
nothing is wrong'
killed $p
shmq-recover work --yes >/dev/null
end

begin "doctor: huge pages: by the kernel, by the file system, none for little"
mkdir "$T/pages"
if unshare -m mount -t tmpfs -o huge=advise none "$T/pages" 2>"$T/why"; then
	for lane in never:100K advise:100K advise:10; do
		run unshare -m sh -c '
			mount -t tmpfs -o size=64M,huge=${1%:*} none "$2" && export SHMQ_DIR="$2" &&
			shmq-create -q large --lane all:${1#*:} --huge &&
			shmq-doctor --root "$3" large
		' sh $lane "$T/pages" "$T/root"
		case $lane-$(printf '%s\n' 6.1 "$(uname -r)" | sort -V | head -n 1) in
		never:100K-6.1 | advise:100K-*)
			want_rc 0
			;;
		*)
			want_rc 1
			want_part out 'it asks for huge pages and has none'
			want_part out "mount -o remount,huge=advise $T/pages"
			;;
		esac
	done
	end
else
	skip "no tmpfs with huge pages can be mounted: $(cat "$T/why")"
fi

begin "doctor: the machine"
run shmq-doctor --root "$T/root" jobs
want_rc 0
grep -Eqx 'machine' "$T/out" || fault "no machine"
grep -Eq "^  ok    kernel $(uname -r): futex yes, OFD locks yes, membarrier (yes|no), futex_waitv (yes|no|refused), io_uring (yes|no|refused), io_uring futex (yes|no) " \
	"$T/out" || fault "no kernel"
grep -Eq "^  ok    $SHMQ_DIR .*, [0-9.]+ MiB used by [0-9] queues\$" "$T/out" || fault "no directory"
grep -Eq '^  ok    memory that may be locked: ' "$T/out" || fault "no limit"
! grep -q logind "$T/out" || fault "a word on logind, which is not there"
end

limits() { # INSTANCES WATCHES
	mkdir -p "$T/root/proc/sys/fs/inotify"
	echo "$1" >"$T/root/proc/sys/fs/inotify/max_user_instances"
	echo "$2" >"$T/root/proc/sys/fs/inotify/max_user_watches"
}
watching() { ls -l "/proc/$p/fd" | grep -q inotify && grep -q ^inotify "/proc/$p"/fdinfo/*; }

begin "doctor: inotify instances and watches of this user, enough and too few"
tail -f "$T/out" >/dev/null 2>&1 &
p=$! pids="$pids $!"
soon watching
limits 100000 200000
run shmq-doctor --root "$T/root" jobs
want_rc 0
grep -Eq '^  ok    inotify: [1-9][0-9]* of 100000 instances and [1-9][0-9]* of 200000 watches ' \
	"$T/out" || fault "no inotify"
limits 5 200000
run shmq-doctor --root "$T/root" jobs
want_rc 1
grep -Eq '^  WARN  [1-9][0-9]* of 5 inotify instances of this user are in use' "$T/out" ||
	fault "no warning"
want_part out '        fix: sysctl fs.inotify.max_user_instances=1024 '
limits 100000 5
run shmq-doctor --root "$T/root" --json jobs
want_rc 1
want_same "$(json '[(f["level"], f["section"]) for f in d["findings"] if f["id"] == "inotify"]')" \
	"[('warn', 'machine')]" finding
want_part out 'of 5 inotify watches of this user are in use'
want_part out 'sysctl fs.inotify.max_user_watches=1024 '
killed $p
rm -r "$T/root/proc"
end

begin "doctor: no inotify instance is to be had"
if unshare -Ur sh -c 'echo 0 >/proc/sys/user/max_inotify_instances' 2>"$T/why"; then
	run unshare -Ur sh -c '
		echo 0 >/proc/sys/user/max_inotify_instances
		shmq-doctor --root "$1" jobs' sh "$T/root"
	want_rc 1
	want_part out '  WARN  no inotify instance is left for this user (Too many open files): '
	want_part out '        fix: sysctl fs.inotify.max_user_instances=1024 '
	end
else
	skip "no user namespace with limits of its own: $(cat "$T/why")"
fi

begin "doctor: inotify is refused"
run "$without" -e EPERM inotify shmq-doctor --root "$T/root" jobs
if grep -q '^1..0 # SKIP' "$T/out"; then
	skip "filters of system calls are not permitted"
else
	want_rc 1
	want_part out '  WARN  inotify is refused (Operation not permitted): descriptors of '
	want_part out '        fix: have the profile of the container permit inotify_init1'
	end
fi

begin "doctor and recover: a killed pop --exec, from the first look to the next pop"
shmq-create --stamp doomed --lane high:4 --lane normal:4
shmq-push doomed/normal "held at death" next
shmq-pop doomed --exec "echo \$\$ >$T/child; exec sleep 100" >"$T/follow" 2>&1 &
p=$! pids="$pids $!"
soon test -s "$T/child"
pids="$pids $(cat "$T/child")"
killed $p
doctor doomed
want_rc 2
want out "  FAIL  doomed/normal: ticket N is held by pid $p (shmq-pop), which is dead; pushed N ago
        fix: shmq-recover doomed      (the message goes back to the head of the lane)
1 problem"
doctor -q
want_rc 2
run shmq-recover doomed --dry-run
want_rc 0
same_each_time
want out "doomed/normal: would return 1 message (ticket N, 13 B, pushed N ago) and detach pid $p"
want_same "$(cells doomed depth,held,dead)" '1 1 1' 'after a dry run'
run shmq-recover doomed --yes
want_rc 0
want_none err
want out "doomed/normal: returned 1 message, detached pid $p"
want_same "$(cells doomed depth,held,dead)" '2 0 0' 'after recover'
doctor doomed
want_rc 0
run shmq-recover doomed --yes
want_rc 0
want out 'doomed: nothing to do, nobody who is attached is dead'
run shmq-pop -v doomed --count 2
want out 'held at death
next'
want_part err 'doomed/normal  13 B  attempts 2'
want_part err 'doomed/normal  4 B  attempts 1'
gone() { ! kill -0 "$(cat "$T/child")"; }
soon gone
end

begin "the message of a killed pop --exec is taken by one that waits"
shmq-create pair --lane x:4
shmq-push pair again
shmq-pop pair --exec "echo >$T/child.2; exec sleep 100" >"$T/follow" 2>&1 &
p=$! pids="$pids $!"
soon test -s "$T/child.2"
shmq-pop pair --follow --count 1 --exec 'cat; echo " $SHMQ_ATTEMPTS"' >"$T/out" 2>"$T/err" &
a=$! pids="$pids $!"
soon attached pair 2
killed $p
reap $a
want_rc 0
want out 'again 2'
shmq-rm pair
end

begin "doctor -v: who is attached, alive or dead, holds what"
seq 3 | shmq-push doomed/normal
holding doomed 1 peek 2
a=$p
holding doomed 0 reserve
kill -9 $a
reap $a
doctor -v doomed
want_rc 2
want out "  FAIL  doomed/normal: 2 messages are held by pid $a (hold), which is dead; pushed N ago
        fix: shmq-recover doomed      (the messages go back to the head of the lane)
        pid $a  hold  consumer  attached N ago  dead
          doomed/normal ticket N  1 B  delivery 1  pushed N ago
          doomed/normal ticket N  1 B  delivery 1  pushed N ago
        pid $p  hold  producer  attached N ago  alive
          doomed/high ticket N  unfinished push
1 problem"
end

begin "doctor and recover: an unfinished push of a dead process, two lanes, two pids"
killed $p
doctor doomed
want_rc 2
grep -q "^  FAIL  doomed/high: ticket N, an unfinished push, is held by pid $p (hold), which is dead" "$T/out" ||
	fault "no push"
want_part out 'fix: shmq-recover doomed      (a push that is not finished is undone)'
want_part out '2 problems'
b=$p
if [ $a -lt $b ]; then list="$a, $b"; else list="$b, $a"; fi
[ $((a - b)) != -1 ] || list="$a-$b"
run shmq-recover doomed --dry-run
want out "doomed/high: would close 1 unfinished push
doomed/normal: would return 2 messages (2 B)
doomed: would detach pids $list"
run shmq-recover doomed -y
want_rc 0
want out "doomed/high: closed 1 unfinished push
doomed/normal: returned 2 messages
doomed: detached pids $list"
doctor doomed
want_rc 0
run shmq-pop doomed --all
want out '1
2
3'
shmq-rm doomed
end

begin "doctor and recover say when a message has used up its deliveries"
shmq-push work/in poison
shmq-pop -q work --exec false 2>/dev/null
shmq-pop -q work --exec false 2>/dev/null
holding work 0 peek 1
killed $p
doctor work
want_rc 2
want_part out 'fix: shmq-recover work      (1 message, after 3 deliveries, goes to the dead-letter lane dead)'
run shmq-recover work --dry-run
want_part out 'work/in: 1 message, after 3 deliveries, goes to the dead-letter lane dead'
run shmq-recover work --yes
want_part out "work/in: returned 1 message, detached pid $p"
want_part out 'work/in: 1 message, after 3 deliveries, goes to the dead-letter lane dead'
run shmq-pop work/in
want_rc 75
doctor work
want_rc 1
want out '  WARN  work/dead: 1 dead letter waits: given up after 3 deliveries
        fix: take them out: shmq-pop work/dead --all
1 warning'
run shmq-pop work/dead
want out poison
doctor work
want_rc 0
end

begin "doctor: a dead participant that holds nothing is a warning"
holding work 0 peek 0
killed $p
doctor work
want_rc 1
want out "  WARN  work: pid $p (hold) is dead and still attached; it holds nothing
        fix: shmq-recover work
1 warning"
run shmq-recover work --dry-run
want out "work: would detach pid $p"
run shmq-recover work --yes -q
want_rc 0
want_none out
doctor work
want_rc 0
end

begin "doctor: a holder that is stopped is a warning, and recover leaves it alone"
shmq-push work/in 1
holding work 0 peek 1
doctor work
want_rc 0
kill -STOP $p
stopped() { grep -q '^State:.T' "/proc/$p/status"; }
soon stopped
doctor work
want_rc 1
want out "  WARN  work/in: ticket N is held by pid $p (hold), which is stopped
        fix: let it go on: kill -CONT $p    or give it up: kill -KILL $p
1 warning"
doctor -v work
grep -Eq "^        pid $p  hold  consumer  attached .* ago  stopped\$" "$T/out" || fault "not stopped in -v"
run shmq-recover work --yes
want_rc 0
want out 'work: nothing to do, nobody who is attached is dead'
want_same "$(cells work held)" 1 held
kill -CONT $p
doctor work
want_rc 0
killed $p
shmq-recover work --yes -q
run shmq-pop work
want out 1
end

begin "doctor and recover: a dead push that can not be told from a live one has to wait"
holding work 0 push pending # may have drawn any ticket from here on
a=$p
holding work 0 push ticket
killed $p
kill -STOP $a
doctor -v work
want_rc 1
want out "  WARN  work/in: ticket N, an unfinished push, is held by somebody who can not be told yet
        fix: see who is stopped or dead: shmq-doctor work -v
  WARN  work: pid $p (hold) is dead and still attached; it holds nothing
        fix: shmq-recover work
        pid $a  hold  producer  attached N ago  stopped
        pid $p  hold  producer  attached N ago  dead
        somebody who can not be told yet
          work/in ticket N  unfinished push
2 warnings"
run shmq-recover work --dry-run
want_rc 0
want out "work: would detach pid $p
work: 1 unfinished push of others or of the dead, which can not be told yet"
run shmq-recover work --yes
want_rc 75
want_none out
want err 'shmq-recover: work: 1 dead participant must wait: an unfinished push can not be told from that of a live process
  try again in a moment; if it stays so, see who is stopped:  shmq-doctor work -v'
killed $a
run shmq-recover work --yes
want_rc 0
want_part out 'work: detached pids '
doctor work
want_rc 0
end

begin "doctor: full lanes, nobody reads, dropped messages, participants used up"
shmq-create tight --lane x:20 --participants 2
seq 19 | shmq-push tight
doctor tight drops
want_rc 1
want out '  WARN  drops/x: 1 message dropped after 1 failed delivery
        fix: find out why consumers fail; keep such messages: shmq-create --dead-letter LANE
  WARN  tight/x: 95% full (19 of 20), nobody reads
        fix: start a consumer; take a look with: shmq-pop tight
2 warnings'
shmq-pop tight >/dev/null
doctor tight
want_rc 0
holding tight 0 peek 0
a=$p
holding tight 0 peek 0
doctor tight
want_rc 1
want_part out 'WARN  tight: 2 of 2 participants are attached: soon nobody can attach any more'
killed $a
killed $p
shmq-rm tight
shmq-rm drops
end

begin "doctor: what is not there, no queue, or not readable"
seq 100000 >"$SHMQ_DIR/shmq.bad"
chmod 600 "$SHMQ_DIR/shmq.bad"
doctor missing bad work
want_rc 2
grep -q '^  FAIL  bad: ' "$T/out" || fault "bad"
want_part out '        fix: if it is in the way: shmq-rm --force bad'
grep -q '^  FAIL  missing: ' "$T/out" || fault "missing"
want_part out '        fix: see which there are: shmq-stat --names'
want_part out '  ok    work'
want_part out '2 problems'
rm "$SHMQ_DIR/shmq.bad"
run shmq-recover missing --yes
want_rc 66
SHMQ_DIR=$T/nowhere run shmq-doctor --root "$T/root"
want_rc 2
want_part out "  FAIL  $T/nowhere: No such file or directory"
end

begin "doctor: a directory that is not on a tmpfs is a warning"
disk=$(mktemp -d)
if [ "$(stat -f -c %T "$disk")" = tmpfs ]; then
	skip "$disk is on a tmpfs"
else
	SHMQ_DIR=$disk run shmq-doctor --root "$T/root"
	want_rc 1
	grep -q "^  WARN  $disk is on .*, not on a tmpfs" "$T/out" || fault "no warning"
	end
fi
rmdir "$disk"

begin "doctor --json is valid and has findings, participants and holds"
shmq-push work/in 1
holding work 0 peek 1
killed $p
run shmq-doctor --root "$T/root" --json work
want_rc 2
want_none err
want_same "$(json 'd["schema"], d["problems"], d["warnings"]')" "('shmq-doctor/1', 1, 0)" head
want_same "$(json '[(f["level"], f["section"], f["lane"]) for f in d["findings"] if f["id"] == "held-by-dead"]')" \
	"[('fail', 'queues', 'in')]" finding
want_same "$(json '[f["fix"].split()[:2] for f in d["findings"] if f["fix"]]')" "[['shmq-recover', 'work']]" fix
want_same "$(json '[(p["pid"], p["command"], p["alive"], p["stopped"], p["held"]) for p in d["queues"][0]["participants"]]')" \
	"[($p, 'hold', False, False, 1)]" participants
want_same "$(json '[(h["kind"], h["lane"], h["pid"], h["alive"], h["attempts"], h["bytes"]) for h in d["queues"][0]["holds"]]')" \
	"[('message', 'in', $p, False, 0, 1)]" holds
end

begin "recover asks on a terminal; no answer but yes does anything"
if ! has script; then
	skip "no script(1)"
else
	say() { printf '%s\n' "$1" | script -qec "$2" /dev/null 2>"$T/err" | tr -d '\r' >"$T/out"; }
	say n 'shmq-recover work'
	want_part out "work/in: would return 1 message"
	want_part out 'recover work? [y/N] '
	want_part out 'nothing was changed'
	want_same "$(cells work held)" 1 held
	say y 'shmq-recover work'
	want_part out "work/in: returned 1 message, detached pid $p"
	want_same "$(cells work held,depth)" '0 1' held,depth
	end
fi
shmq-pop work >"$T/out"

logind() { # DIRECTORY below root, FILE, LINE...
	mkdir -p "$T/root/$1/systemd/logind.conf.d" "$T/root/usr/lib/systemd"
	: >"$T/root/usr/lib/systemd/systemd-logind"
	file=$T/root/$1/systemd/$2
	shift 2
	printf '%s\n' "$@" >"$file"
}
begin "doctor: logind, its files in the order it reads them"
for d in "$SHMQ_DIR" "$T" "$T/root"; do chmod go+rx "$d"; done
logind etc logind.conf '[Login]' '#RemoveIPC=no' ' RemoveIPC = no ' '[Other]' 'RemoveIPC=yes'
run shmq-doctor --root "$T/root" work
want_part out '  ok    logind keeps IPC at logout (RemoveIPC=no)'
logind usr/lib logind.conf.d/50-a.conf '[Login]' 'RemoveIPC=yes'
run shmq-doctor --root "$T/root" work
want_part out '  ok    logind removes IPC at logout (RemoveIPC=yes): no queue here is of a user who logs in'
logind usr/lib logind.conf.d/60-b.conf '[Login]' 'RemoveIPC=no'
run shmq-doctor --root "$T/root" work
want_part out '(RemoveIPC=no)'
logind etc logind.conf.d/60-b.conf '[Login]' 'KillUserProcesses=no'
run shmq-doctor --root "$T/root" work
want_part out '(RemoveIPC=yes)'
want_rc 0
end
begin "doctor: logind removes the queues of users by name"
if [ -n "$others" ]; then
	skip "$others"
else
	as_nobody shmq-create theirs --lane x:4
	run shmq-doctor --root "$T/root" theirs
	want_rc 1
	want_part out "  WARN  logind removes IPC at logout (RemoveIPC=yes): queues of user $(id -un 65534) (uid 65534) vanish when that user logs out"
	want_part out '        fix: make them as a system user, or set RemoveIPC=no in /etc/systemd/logind.conf'
	shmq-rm theirs
	end
fi
rm -r "$T/root"
mkdir "$T/root"

begin "doctor needs read permission only, and says so where there is none"
if [ -n "$others" ]; then
	skip "$others"
else
	shmq-create shared --lane x:4 --mode 0440 --group 65534
	run as_nobody shmq-doctor --root "$T/root" shared -v
	want_rc 0
	want_part out '  ok    shared'
	run as_nobody shmq-recover shared --yes
	want_rc 0
	want out 'shared: nothing to do, nobody who is attached is dead'
	chmod 0400 "$SHMQ_DIR/shmq.shared"
	run as_nobody shmq-doctor --root "$T/root" shared
	want_rc 1
	grep -q '^  WARN  shared: ' "$T/out" || fault "no warning"
	want_part out '        fix: look as its owner or as root'
	shmq-rm shared
	end
fi

begin "recover of a queue of another user needs --any-owner"
if [ -n "$others" ]; then
	skip "$others"
else
	as_nobody shmq-create theirs --lane x:4
	as_nobody shmq-push theirs one
	rm -f "$T/holding"
	(exec setpriv --reuid=65534 --regid=65534 --clear-groups -- "$hold" theirs 0 peek 1) \
		>"$T/holding" &
	p=$! pids="$pids $!"
	soon grep -qx holding "$T/holding"
	killed $p
	run shmq-recover theirs --yes
	want_rc 77
	want_part err '--any-owner'
	run shmq-recover theirs --yes --any-owner
	want_rc 0
	want_part out 'theirs/x: returned 1 message'
	shmq-rm theirs
	end
fi

begin "nothing is left but what was made here"
shmq-rm jobs work
run shmq-stat --names
want_rc 0
want_none out
end

# ---- bench -------------------------------------------------------------------------------

begin "bench counts and checks every message, and leaves nothing behind"
before=$(shmq-stat --names)
run shmq-bench --producers 3 --consumers 2 --lanes 2 --batch 4 --msg-size 100 --capacity 64 \
	--duration 300ms --seed 7 --json "$T/bench.json" --hgrm "$T/bench.hgrm" --svg "$T/bench.svg"
want_rc 0
want_part out '3 producers -> 2 consumers, 100 B, 2 lanes, capacity 64, separate processes, batches of 4'
want_part out 'messages, 0 lost, 0 duplicated, 0 out of order within a lane'
want_part out '(rerun: --seed 7)'
cp "$T/bench.json" "$T/out"
want_same "$(json 'd["schema"], d["options"]["producers"], d["options"]["msg_size"]')" \
	"('shmq-bench/1', 3, 100)" options
want_same "$(json 'd["result"]["each_once"], d["result"]["pushed"] == d["result"]["popped"] > 0')" \
	'(True, True)' result
want_same "$(json 'd["result"]["damaged"], d["result"]["out_of_order"]')" '(0, 0)' checks
want_same "$(json '[p["ns"] for p in d["wait"]["percentiles"]] == sorted(p["ns"] for p in d["wait"]["percentiles"])')" \
	True order
want_same "$(json 'd["wait"]["percentiles"][-1]["count"] == d["wait"]["timed"] > 0')" True total
want_same "$(json 'd["wait"]["p50_ns"] <= d["wait"]["p99_99_ns"] <= d["wait"]["max_ns"]')" True percentiles
grep -q '^ *Value *Percentile *TotalCount 1/(1-Percentile)$' "$T/bench.hgrm" || fault "no head"
grep -q '^#\[Max' "$T/bench.hgrm" || fault "no foot"
python3 -c 'import sys, xml.etree.ElementTree as x
assert x.parse(sys.argv[1]).getroot().tag.endswith("svg")' "$T/bench.svg" || fault "no picture"
want_same "$(shmq-stat --names)" "$before" queues
end

begin "bench --rate pushes that many, and times each"
run shmq-bench --rate 2000 --duration 500ms --json - --busy
want_rc 0
want_same "$(json 'd["wait"]["timed"] == d["result"]["popped"], 500 <= d["result"]["popped"] <= 2000')" \
	'(True, True)' messages
end

begin "bench reports when it is interrupted"
run timeout --preserve-status -s INT 1 shmq-bench --duration 1h
want_rc 0
want_part out '(interrupted)'
want_part out '0 lost, 0 duplicated'
end

begin "bench says which of its processes died, and ends"
shmq-bench --duration 1h >"$T/out" 2>"$T/err" &
p=$! pids="$pids $!"
soon pgrep -P $p -f shmq-bench >/dev/null
sleep 0.3
kill -9 "$(pgrep -P $p | head -1)"
wait $p
rc=$?
want_rc 71
want_part err 'producer 0 died of signal 9'
end

begin "bench refuses what it can not do"
for args in '--producers 0' '--msg-size 31' '--msg-size 2M' '--lanes 9' '--batch 65' '--duration 0' 'jobs'; do
	run shmq-bench $args
	want_rc 64
done
run shmq-bench --duration 10ms --json /nowhere/file
want_rc 74
want_part err '/nowhere/file: No such file or directory'
end

echo "1..$nr"
