#!/bin/sh
# SPDX-License-Identifier: MIT
#
# check.sh [--long] [NAME...]
#   Runs the models of this folder: clean configurations, which must have no
#   error, and mutants, each of which must be caught. One line per run:
#     NAME  clean|mutant  states  result  (definitions)
#   --long runs the large configurations instead (up to about 4 GB, 10 minutes).
#   With names, only the runs of these names, from all lists.
# Exit status: 0 all as expected, 1 not, 77 spin or gcc is missing.

for tool in spin gcc; do
    command -v $tool >/dev/null 2>&1 || { echo "check.sh: no $tool, skipped"; exit 77; }
done
here=$(cd "$(dirname "$0")" && pwd) || exit 1
which=short
[ "$1" = --long ] && { which=long; shift; }
names="$*"

tmp=$(mktemp -d "${TMPDIR:-/tmp}/lane-model.XXXXXX") || exit 1
trap 'rm -rf "$tmp"' EXIT
trap 'exit 1' HUP INT TERM

# list  name  model  kind  definitions       kind: clean, cycles (clean, and no
#                                            non-progress cycle), mutant, reverse
#                                            (mutant, found sooner by searching
#                                            the processes in the other order)
# list extra: only by name (4 GB and 5 minutes by itself)
cat > "$tmp/all" <<'LIST'
short 2p1c      lane clean  -DNPR=2 -DNC=1
short 1p2c      lane clean  -DNPR=1 -DNC=2 -DI0=2 -DPOPS=1
short full      lane clean  -DNPR=2 -DNC=1 -DCAP=1
short recycle-k lane clean  -DNPR=1 -DNC=1 -DK=1 -DNS=2 -DI0=3 -DPOPS=3 -DMAXK=1 -DRECOV
short install   lane clean  -DNPR=2 -DNC=1 -DFINE
short kill      lane clean  -DNPR=2 -DNC=1 -DMAXK=1
short kill-r    lane clean  -DNPR=1 -DNC=1 -DI0=2 -DMAXK=1 -DRECOV
short kill-2r   lane clean  -DNPR=1 -DNC=1 -DPOPS=1 -DMAXK=1 -DRECOV -DSTEPDRAIN -DRSTOP
short stop      lane clean  -DNPR=2 -DNC=1 -DMAXS=1
short stop-kill lane clean  -DNPR=1 -DNC=2 -DI0=2 -DPOPS=1 -DMAXS=1 -DMAXK=1
short batch     lane clean  -DNPR=2 -DNC=1 -DI0=2 -DCAP=4 -DBATCH
short start     lane clean  -DNPR=2 -DNC=1 -DPOPS=3 -DEMPTYSTART
short late-head lane clean  -DNPR=2 -DNC=1 -DPOPS=3 -DLATEHEAD
short cycles    lane cycles -DNPR=2 -DNC=1
short cycles-k  lane cycles -DNPR=1 -DNC=1 -DI0=2 -DMAXK=1 -DRECOV
short wake-2-2  wake clean  -DNPR=2 -DNC=2
short wake-2-3  wake clean  -DNPR=2 -DNC=3
short wake-quit wake clean  -DNPR=3 -DNC=2 -DQUIT
short locked    wake clean  -DNPR=2 -DNC=2 -DLOCKED -DNOMEMB
short fence-2-2 wake clean  -DNPR=2 -DNC=2 -DFENCE
long fence-3-2  wake clean  -DNPR=3 -DNC=2 -DFENCE
long fence-2-3  wake clean  -DNPR=2 -DNC=3 -DFENCE
short baton-2-2 wake clean  -DNPR=2 -DNC=2 -DFENCE -DBATON
short baton-room wake clean -DNPR=2 -DNC=3 -DLOCKED -DNOMEMB -DBATON
short baton-quit wake clean -DNPR=3 -DNC=2 -DLOCKED -DNOMEMB -DBATON -DQUIT
short requeue   lane clean  -DNPR=1 -DNC=2 -DI0=2 -DPOPS=1 -DREQ=1
short move      move clean  -DNI=1 -DMAXK=2 -DLIVES=3 -DNV=2
short move-2    move clean  -DNI=2 -DMAXK=1 -DNV=2 -DNR=1
short move-stop move clean  -DNI=2 -DMAXK=1 -DMAXS=1 -DNV=2 -DNR=1 -DOPS=1
short move-rsv  move clean  -DNI=1 -DMAXK=1 -DLIVES=3 -DNR=1 -DRSV -DOPS=3
short join      join clean  -DNI=1 -DLIVES=1 -DMAXS=1
short join-2    join clean  -DNI=2 -DLIVES=1
short pool      pool clean  -DNPR=1 -DNC=2 -DITEMS=2 -DNS=1 -DPOPS=1
short pool-2p   pool clean  -DI0=1 -DITEMS=2 -DMAXS=1 -DPOPS=1
short pool-hold pool clean  -DI0=1 -DITEMS=2 -DHOLD
short pool-kill pool clean  -DI0=1 -DITEMS=2 -DNS=1 -DMAXK=1 -DRECOV=1 -DPOPS=0
short pool-kk   pool clean  -DNPR=1 -DITEMS=2 -DMAXK=2 -DRECOV=1 -DPOPS=1
short pool-2r   pool clean  -DNPR=1 -DNS=1 -DMAXK=1 -DRECOV=2 -DPOPS=1
short bell      bell clean  -DNPR=2 -DNC=1
short bell-row  bell clean  -DNPR=1 -DNC=1 -DITEMS=7 -DMIX
short bell-kill bell clean  -DNPR=1 -DNC=2 -DMAXK=2
short bell-none bell clean  -DNPR=1 -DNC=2 -DMAXK=1 -DALONE
short m-t0        lane mutant -DNOT0 -DNOREREAD -DNPR=2 -DNC=1
short m-hole      lane mutant -DHEADHOLE -DNPR=2 -DNC=1
short m-take1st   lane mutant -DTAKEFIRST -DNPR=2 -DNC=1 -DCAP=2 -DITEMS=2 -DI0=1
short m-gen1st    lane mutant -DGENFIRST -DNPR=2 -DNC=1 -DCAP=1
short m-genquiet  lane mutant -DGENQUIET -DNPR=2 -DNC=1 -DCAP=2 -DITEMS=2 -DI0=1
short m-marks1st  lane mutant -DREBLATE -DNPR=2 -DNC=1 -DCAP=1
short m-mask      lane mutant -DMASKB -DNPR=2 -DNC=1 -DCAP=1
short m-notail    lane mutant -DNOTAIL -DNPR=1 -DNC=2 -DI0=2 -DPOPS=1
short m-noreread  lane mutant -DNOREREAD -DNPR=1 -DNC=1 -DI0=2 -DBATCH
short m-older     lane mutant -DTAKEOLDER -DNPR=2 -DNC=1 -DI0=2 -DCAP=4 -DBATCH
short m-overskip  lane reverse -DOVERSKIP -DNPR=2 -DNC=2 -DI0=1 -DITEMS=2 -DPOPS=1 -DK=1
short m-nopost    lane mutant -DNOPOST -DNPR=2 -DNC=1 -DCAP=1
short m-padmax    lane mutant -DNOPADMAX -DNPR=2 -DNC=1 -DI0=2 -DITEMS=2 -DCAP=2 -DPOPS=1
short m-settle    lane mutant -DSETTLENOPAD -DNPR=2 -DNC=1 -DI0=2 -DITEMS=2 -DCAP=2 -DPOPS=1 -DK=1 -DNS=2 -DD=4
short m-abandon   lane mutant -DABANDON -DNPR=2 -DNC=1 -DK=1 -DNS=2 -DITEMS=2 -DI0=1
short m-admitgen  lane mutant -DADMITNOGEN -DNPR=2 -DNC=1 -DCAP=1
short m-pending   lane mutant -DNOPEND -DNPR=2 -DNC=1 -DMAXK=1 -DRECOV
short m-redeliver lane mutant -DREDELNOMARK -DNPR=1 -DNC=2 -DI0=2 -DPOPS=1 -DMAXK=1 -DRECOV
short m-recycle   lane mutant -DRETHOLE -DNPR=2 -DNC=1 -DK=1 -DITEMS=2 -DI0=1 -DPOPS=3
short w-nomemb    wake mutant -DNOMEMB
short w-norecheck wake mutant -DNORECHECK
short w-noepoch   wake mutant -DNOEPOCH
short w-armsame   wake mutant -DARMSAME
short w-clearany  wake mutant -DCLEARANY
short w-clear1st  wake mutant -DCLEARFIRST
short w-giveup    wake mutant -DGIVEUP
short w-fenced    wake mutant -DFENCE -DFENCEDEARLY -DNPR=2 -DNC=2
short w-noreload  wake mutant -DFENCE -DNORELOAD -DNPR=2 -DNC=2
short w-nopass    wake mutant -DFENCE -DBATON -DNOPASS -DNPR=2 -DNC=2
short w-keepstamp wake mutant -DLOCKED -DNOMEMB -DBATON -DKEEPSTAMP -DNPR=3 -DNC=3
short w-armkeeps  wake mutant -DFENCE -DBATON -DARMKEEPS -DNPR=2 -DNC=2
short w-stamplate wake mutant -DFENCE -DBATON -DSTAMPLATE -DNPR=2 -DNC=2
short w-nolastpop wake mutant -DNOLASTPOP -DNPR=1 -DNC=2
short m-reqmark   lane mutant -DREQNOMARK -DNPR=1 -DNC=2 -DI0=2 -DPOPS=1 -DREQ=1
short v-afirst    move mutant -DAFIRST -DNI=1 -DMAXK=2 -DLIVES=3 -DNV=2
short v-fullfirst move mutant -DFULLFIRST -DNI=1 -DMAXK=2 -DLIVES=3 -DNV=2
short v-donefirst move mutant -DDONEFIRST -DNI=1 -DMAXK=2 -DLIVES=3 -DNV=2
short v-recfirst  move mutant -DRECFIRST -DNI=1 -DMAXK=2 -DLIVES=3 -DNV=2
short v-pad       move mutant -DMOVEPAD -DNI=1 -DMAXK=2 -DLIVES=3 -DNV=2
short v-notdone   move mutant -DMOVENOTDONE -DNI=1 -DMAXK=2 -DLIVES=3 -DNV=2
short v-any       move mutant -DMOVEANY -DNI=2 -DNV=2 -DMAXK=1 -DNR=1
short v-exactlate move mutant -DEXACTLATE -DNI=2 -DMAXK=1 -DNR=1 -DRSV
short v-novalrec  move mutant -DNOVALREC -DNI=1 -DMAXK=2 -DLIVES=3 -DNV=2
short v-novalitem move mutant -DNOVALITEM -DNI=1 -DMAXK=2 -DLIVES=3 -DNV=2
short v-saturate  move mutant -DMAXAT=LIM -DNI=1 -DMAXK=2 -DLIVES=3 -DNV=2
short j-byindex   join mutant -DBYINDEX -DMAXS=1
short j-unlock    join mutant -DBYINDEX -DUNLOCK -DMAXS=1
short j-onebyte   join mutant -DBYINDEX -DONEBYTE -DMAXS=1
short j-nojoining join mutant -DNOJOINING
short j-leave     join mutant -DLEAVEEARLY
short j-noval     join mutant -DNOVALID
short j-freefirst join mutant -DFREEFIRST
short p-marklate  pool mutant -DMARKLATE -DI0=1 -DNS=1 -DMAXK=1 -DRECOV=1 -DPOPS=1
short p-retopen   pool mutant -DRETOPEN -DI0=1 -DITEMS=2
short p-nolane    pool mutant -DNOLANE -DNPR=1 -DNC=2 -DITEMS=2 -DNS=1 -DPOPS=1
short p-anytag    pool mutant -DANYTAG -DNPR=1 -DNC=2 -DITEMS=2 -DNS=1 -DPOPS=1
short p-disown    pool mutant -DDISOWNANY -DI0=1 -DITEMS=2 -DNS=1 -DMAXK=1 -DRECOV=1 -DPOPS=0
short p-owner0    pool mutant -DOWNER0 -DI0=1 -DNS=1 -DMAXK=1 -DRECOV=2 -DPOPS=0
short b-nomemb    bell mutant -DNOMEMB -DNC=1
short b-norecheck bell mutant -DNORECHECK -DNC=1
short b-drainlate bell mutant -DDRAINLATE -DNC=1
short b-readfirst bell mutant -DREADFIRST -DNC=1
short b-ringfirst bell mutant -DRINGFIRST -DNC=1
short b-onebell   bell mutant -DONEBELL -DNPR=1 -DMAXK=1
short b-ringone   bell mutant -DRINGONE -DNPR=1 -DMAXK=1
short b-bybits    bell mutant -DBYBITS -DNPR=1 -DMAXK=1
short b-notaken   bell mutant -DNOTAKEN -DNPR=1 -DNC=1 -DITEMS=7
short b-forget    bell mutant -DLOOKS=1 -DNC=1 -DMIX
long recycle    lane clean  -DNPR=2 -DNC=1 -DK=1 -DI0=1 -DITEMS=2 -DPOPS=3
long 2p2c       lane clean  -DNPR=2 -DNC=2 -DPOPS=1
long full-2     lane clean  -DNPR=2 -DNC=1 -DCAP=2 -DI0=1 -DITEMS=2
long full-1     lane clean  -DNPR=2 -DNC=1 -DCAP=1 -DI0=1 -DITEMS=2
long sized      lane clean  -DNPR=2 -DNC=1 -DK=1 -DI0=1 -DITEMS=2 -DCAP=1 -DD=5 -DNS=4 -DSIZED
long batch-2c   lane clean  -DNPR=1 -DNC=2 -DI0=2 -DBATCH -DMAXK=1 -DRECOV
long start-2c   lane clean  -DNPR=1 -DNC=2 -DI0=2 -DEMPTYSTART
long 2p1c-kill  lane clean  -DNPR=2 -DNC=1 -DMAXK=1 -DRECOV
long 1p2c-kill  lane clean  -DNPR=1 -DNC=2 -DI0=2 -DPOPS=1 -DMAXK=1 -DRECOV
long 2kills-2r  lane clean  -DNPR=1 -DNC=1 -DI0=2 -DPOPS=1 -DMAXK=2 -DRECOV -DSTEPDRAIN
long kill-stop  lane clean  -DNPR=2 -DNC=1 -DMAXK=1 -DMAXS=1 -DRECOV
extra install-4 lane clean  -DFINE -DNPR=2 -DNC=1 -DITEMS=2 -DI0=1 -DPOPS=1 -DK=1 -DNS=4
long install-k  lane clean  -DFINE -DNPR=2 -DNC=1 -DPOPS=1 -DMAXK=1 -DRECOV
long wake-3-3   wake clean  -DNPR=3 -DNC=3
long bell-mix   bell clean  -DNPR=2 -DNC=1 -DMIX
long bell-2-2   bell clean  -DNPR=2 -DNC=2 -DITEMS=1 -DMAXK=1
long move-2r     move clean  -DNI=2 -DMAXK=1 -DNR=2
long move-2k     move clean  -DNI=2 -DMAXK=2 -DNR=2 -DOPS=1
long move-at0    move clean  -DNI=2 -DMAXK=1 -DNR=1 -DNV=2 -DAT0=0
long move-rsv-2  move clean  -DNI=2 -DMAXK=1 -DNR=1 -DRSV
long move-rsv-2r move clean  -DNI=1 -DMAXK=2 -DLIVES=3 -DNR=2 -DRSV
long join-lives  join clean  -DNI=1
long join-stop   join clean  -DNI=2 -DLIVES=1 -DMAXS=1
long pool-d1     pool clean  -DI0=1 -DITEMS=3 -DD=1 -DNS=3
long pool-kill-c pool clean  -DI0=1 -DNS=1 -DMAXK=1 -DRECOV=1 -DPOPS=1
long pool-kill-r pool clean  -DI0=1 -DNS=1 -DMAXK=1 -DRECOV=2 -DPOPS=0
long m-norecheck lane mutant -DNORECHK -DNPR=2 -DNC=2 -DPOPS=1
long m-marklate  lane mutant -DMARKLATE -DFINE -DNPR=2 -DNC=1 -DMAXK=1 -DRECOV -DPOPS=1
long m-taillate  lane mutant -DTAILLATE -DNPR=2 -DNC=1 -DMAXK=1 -DRECOV
long m-locate    lane mutant -DLOCANY -DFINE -DNPR=2 -DNC=1 -DITEMS=2 -DI0=1 -DPOPS=1 -DK=1 -DNS=4
LIST

# one run, in its own folder
one() {
    name=$1 model=$2 kind=$3; shift 3
    dir=$tmp/$name; mkdir "$dir" && cd "$dir" || exit 1
    cp "$here/$model.pml" . || exit 1
    mode=-DSAFETY; arg=
    [ "$kind" = cycles ] && { mode=-DNP; arg=-l; }
    [ "$kind" = reverse ] && { mode="-DSAFETY -DREVERSE"; kind=mutant; }
    states=-; verdict=
    if spin -a "$@" $model.pml >out 2>&1 &&
       gcc -O0 -w $mode -DCOLLAPSE -DVECTORSZ=2048 -DMEMLIM=$mem -o pan pan.c >out 2>&1; then
        ./pan -m600000 $arg >out 2>&1
        states=$(sed -n 's/^ *\([0-9.e+]*\) states, stored.*/\1/p' out)
        errors=$(sed -n 's/.*errors: \([0-9]*\).*/\1/p' out)
        if [ -z "$errors" ]; then verdict="did not run"
        elif [ "$errors" != 0 ]; then
            why=$(sed -n 's/^pan:1: \(.*\) (at depth.*/\1/p' out | tr -s ' ')
            case $why in *"max search depth"*) verdict="too deep" ;; *) verdict="error: $why" ;; esac
        elif grep -q -e 'Search not completed' -e 'max search depth' out; then verdict="not finished"
        else verdict="0 errors"
        fi
    else verdict="does not compile: $(tail -n 1 out)"
    fi
    good=no
    case $kind,$verdict in
    mutant,error:*) good=yes; verdict="caught: ${verdict#error: }" ;;
    mutant,"0 errors") verdict="SURVIVES" ;;
    clean,"0 errors"|cycles,"0 errors") good=yes ;;
    esac
    [ $good = yes ] || verdict="$verdict   <== not as expected"
    printf '%-11s %-6s %10s  %s  (%s)\n' "$name" "$kind" "${states:--}" "$verdict" "$*"
    echo "$good" >> "$tmp/good"
    cd "$tmp" && rm -rf "$dir"
}

# the long runs need the memory for themselves; of the short ones two go at once
mem=900; workers=2
[ $which = long ] && { mem=4500; workers=1; }
if [ -n "$names" ]; then
    for n in $names; do awk -v n="$n" '$2 == n' "$tmp/all"; done > "$tmp/list"
    mem=4500; workers=1
else
    awk -v w=$which '$1 == w' "$tmp/all" > "$tmp/list"
fi
: > "$tmp/good"
w=0
while [ $w -lt $workers ]; do
    awk -v n=$workers -v w=$w 'NR % n == w' "$tmp/list" |
    while read -r list name model kind defs; do
        one "$name" "$model" "$kind" $defs
    done &
    w=$((w + 1))
done
wait

all=$(wc -l < "$tmp/list")
ok=$(grep -c yes "$tmp/good")
echo "$((ok)) of $((all)) runs as expected"
[ "$((ok))" -eq "$((all))" ] && [ "$((all))" -gt 0 ]
