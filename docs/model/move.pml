/* SPDX-License-Identifier: MIT */
/*
 * The move of an item to the dead-letter lane, leases and reservations, and the
 * recovery of participants whose index is used again: docs/protocol.md, "move" and
 * "recover", for Spin.
 *
 * Lane A is one slot that gets a new item, in a new incarnation, whenever the one
 * before is gone: where it lies among others is the business of lane.pml. Lane B
 * (dead letters) is a ring of NB slots, ticket t in slot t % NB. A participant may
 * be killed or stop for ever before each of its writes; killed, it comes back with
 * the same index as soon as that is free. NR recoverers run beside it, each may
 * stop at any step. Every atomic block is one shared access, unless a comment says
 * that more are merged.
 *
 * Configuration (all by -D)
 *   NI participants of LIVES lives each, OPS operations a life; NV items, of which
 *   the first AT0 have reached the limit of attempts LIM from the beginning
 *   MAXK kills, MAXS stops in all;  NR recoverers of RECS recoveries each
 *   RSV participant 0 may also reserve a ticket of lane B, commit or abort later
 *   MAXAT attempts end here (saturate): larger than any that occur, or a mutant
 *
 * Mutants (README.md): AFIRST FULLFIRST DONEFIRST RECFIRST MOVEPAD MOVEANY MOVENOTDONE
 *   NOVALREC NOVALITEM EXACTLATE MAXAT=LIM
 */
#ifndef NI
#define NI 2
#endif
#ifndef LIVES
#define LIVES 2
#endif
#ifndef OPS
#define OPS 2
#endif
#ifndef NV
#define NV 1
#endif
#ifndef AT0
#define AT0 NV
#endif
#ifndef LIM
#define LIM 1
#endif
#ifndef MAXAT
#define MAXAT 15
#endif
#ifndef MAXK
#define MAXK 1
#endif
#ifndef MAXS
#define MAXS 0
#endif
#ifndef NR
#define NR 2
#endif
#ifndef RECS
#define RECS 1
#endif
#ifndef NB
#define NB 2
#endif

#ifdef RSV
#define RSVITEM NV                  /* the item of the reservation */
#endif
#define NONE 255
#define BIT(x) (1<<(x))
/* slot states */
#define DONE  0
#define PAD   1
#define FULL  2
#define TAKEN 3
#define MOVING  4
/* kinds of a push record */
#define PENDING 1
#define EXACT   2

typedef Slot { byte tag; byte st; byte ow; byte at; byte val; byte meta };
Slot sl[NB+1];                      /* lane B: 0 .. NB-1; lane A: NB */
#define A    NB
#define B(t) sl[(t)%NB]
#define INC(t) ((t)/NB+1)
byte tail;                          /* of lane B */
byte rec[NI], rt[NI];               /* push records: kind, ticket (or low) */
byte inc[NI];                       /* participant word: incarnation, */
byte live;                          /*   and LIVE, a bit each */
byte token;                         /* whose present life holds its lock */

/* ghosts */
byte born, consumed, fin, kills, stops, stopped;
byte own[NB*8];                     /* owner of a ticket of lane B */

#define LIVE(i)  ((live>>(i))&1)
#define DEAD(i)  (LIVE(i) && !((token>>(i))&1))
#define HOLE(t)  (B(t).tag<INC(t))                      /* unpublished, and not MOVING */
/* the segment of t can be installed: all of its slot's earlier tickets are closed for good */
#define READY(t) (B(t).tag>=INC(t) || (B(t).tag==INC(t)-1 && B(t).st<=PAD))
/* how often v can be had, or is held */
inline places(item) {
  n=0; z=0;
  do :: z<=NB -> if :: sl[z].val==item && (sl[z].st==FULL || sl[z].st==TAKEN) -> n++ :: else fi; z++ :: else -> break od; z=0 }

/* Before every write: killed, or stopped for ever. */
#define ck if :: kills<MAXK -> kills++; goto killed :: stops<MAXS -> stops++; goto stop :: true fi
/* A recoverer may stop, that is, die: it holds nothing. */
#define rk if :: may -> goto stop :: true fi

/* ------------------------------------------------------------------ lane B */

/* PENDING, draw, EXACT: y = 1 ticket t, 0 no room */
inline draw(i) {
  atomic { t=tail; y=READY(t); n=READY(t+1) };
  if :: !y -> skip
     :: else ->
    atomic { ck; rec[i]=PENDING; rt[i]=t };
    atomic { ck; if :: !n && tail!=t -> y=0                   /* one slot is left: compare-and-swap */
                    :: else -> t=tail; tail++; assert(t<NB*8); own[t]=i fi };
    if :: !y -> atomic { ck; rec[i]=0; rt[i]=0 }
       :: else ->
#ifndef EXACTLATE
          atomic { ck; rec[i]=EXACT; rt[i]=t }
#endif
    fi
  fi; n=0 }

/* close the own ticket t: y = 0 not possible now */
inline pad(i) {
  atomic { y=READY(t) };
  if :: !y -> uns=1
     :: else -> atomic { ck; assert(HOLE(t)); B(t).tag=INC(t); B(t).st=PAD; B(t).ow=0; B(t).at=0; B(t).val=0 };
                atomic { ck; rec[i]=0; rt[i]=0; t=0; uns=0 } fi }

/* give the held item back: the living owner (mark and gen are in lane.pml) */
inline requeue(i) {
  atomic { ck; assert(sl[h].st==TAKEN && sl[h].ow==i && sl[h].at==ha && sl[h].tag==hg);
    sl[h].st=FULL; sl[h].ow=0; sl[h].at=(ha<MAXAT -> ha+1 : ha); h=NONE; ha=0; hg=0 } }

#define TODONE  atomic { ck; assert(sl[h].st==TAKEN && sl[h].ow==i && sl[h].at==ha && sl[h].tag==hg); sl[h].st=DONE; sl[h].ow=0; sl[h].val=0 }
#define TOFULL  atomic { ck; assert(B(t).tag==INC(t) && B(t).st==MOVING && B(t).ow==i); B(t).st=FULL; B(t).ow=0; B(t).meta=0; places(hv); assert(n==1); n=0 }
#define TONONE  atomic { ck; rec[i]=0; rt[i]=0 }

/* the held item of lane A has reached the limit: to lane B */
inline move(i) {
  draw(i);
  if :: !y -> requeue(i)
     :: else ->
    atomic { y=READY(t) };
    if :: !y -> uns=1; requeue(i)    /* no segment: the record keeps the ticket */
       :: else ->
      atomic { ck; assert(HOLE(t)); B(t).val=hv; B(t).meta=h };      /* payload, length, index: private */
#ifdef DONEFIRST
      TODONE;
#endif
#ifdef FULLFIRST
      atomic { ck; assert(HOLE(t)); B(t).tag=INC(t); B(t).at=ha; B(t).ow=0; B(t).st=FULL; B(t).meta=0 };
      TODONE;
#else
      atomic { ck; assert(HOLE(t)); B(t).tag=INC(t); B(t).at=ha; B(t).ow=i; B(t).st=MOVING };
#ifdef EXACTLATE
      atomic { ck; rec[i]=EXACT; rt[i]=t };
#endif
#ifndef DONEFIRST
      TODONE;                        /* the commit */
#endif
#ifdef RECFIRST
      TONONE; TOFULL;
#else
      TOFULL;
#endif
#endif
#ifndef RECFIRST
      TONONE;
#endif
      atomic { h=NONE; ha=0; hg=0; hv=0; t=0 }
    fi
  fi }

/* ------------------------------------------------------------------ participants */

proctype U(byte i) {
  byte lives=LIVES, ops=0, h=NONE, ha=0, hg=0, hv=0, t=0, z=0, n=0, y=0; bool uns=0, rsv=0;
join:
  if
  :: atomic { lives && !LIVE(i) -> lives--; inc[i]++; live=live|BIT(i); token=token|BIT(i); rec[i]=0; rt[i]=0 }   /* join.pml */
  :: goto end
  fi;
  do
  :: ops<OPS && h==NONE ->           /* take what there is; keep it as a lease, or move it */
     ops++;
     atomic { ck;
       if :: sl[A].st==FULL -> h=A
          :: sl[0].st==FULL -> h=0
          :: NB>1 && sl[1].st==FULL -> h=1
          :: else -> skip fi;
       if :: h!=NONE -> ha=sl[h].at; hg=sl[h].tag; hv=sl[h].val; assert(((born>>hv)&1) && !((consumed>>hv)&1));
               places(hv); assert(n==1); n=0; sl[h].st=TAKEN; sl[h].ow=i
          :: else fi };
     if :: h==A && ha>=LIM -> if :: uns || rsv -> requeue(i) :: else -> move(i) fi :: else fi
  :: h!=NONE -> requeue(i); hv=0
  :: h!=NONE -> atomic { ck; assert(sl[h].st==TAKEN && sl[h].ow==i && sl[h].at==ha && sl[h].tag==hg);      /* release */
       sl[h].st=DONE; sl[h].ow=0; sl[h].val=0; assert(!((consumed>>hv)&1)); consumed=consumed|BIT(hv); h=NONE; ha=0; hg=0; hv=0 }
  :: uns -> pad(i); if :: uns -> break :: else fi
#ifdef RSV
  :: i==0 && ops<OPS && !rsv && !uns && !((born>>RSVITEM)&1) -> ops++; draw(i); if :: y -> rsv=1 :: else fi
  :: rsv -> pad(i); rsv=0                                              /* abort */
  :: rsv && READY(t) -> atomic { ck; assert(HOLE(t)); B(t).val=RSVITEM };
     atomic { ck; assert(HOLE(t) && B(t).val==RSVITEM); B(t).tag=INC(t); B(t).st=FULL; B(t).ow=0; B(t).at=0; born=born|BIT(RSVITEM) };
     TONONE; t=0; rsv=0
#endif
  :: h==NONE && !rsv && !uns -> atomic { ck; live=live&(~BIT(i)); token=token&(~BIT(i)); goto end }         /* leave */
  od;
killed:
  atomic { token=token&(~BIT(i)); ops=0; h=NONE; ha=0; hg=0; hv=0; t=0; z=0; n=0; y=0; uns=0; rsv=0 };
  goto join;
stop:
  stopped=stopped|BIT(i);
end:
  atomic { ops=0; lives=0; h=NONE; ha=0; hg=0; hv=0; t=0; z=0; n=0; y=0; uns=0; rsv=0; fin++ } }

/* lane A gets its next item in a new life of the slot (retired, installed, pushed: one step) */
proctype E() {
  byte v=1;
end: do :: atomic { v<NV && sl[A].st<=PAD -> sl[A].tag++; sl[A].st=FULL; sl[A].at=(v<AT0 -> LIM : 0); sl[A].val=v; born=born|BIT(v); v++ } od }

/* ------------------------------------------------------------------ recover */

#define VALID(i) (LIVE(i) && inc[i]==e)

inline items(i) {                    /* each slot TAKEN{i} */
  s=0;
  do
  :: s<=NB ->
     atomic { y=(sl[s].st==TAKEN && sl[s].ow==i); if :: y -> a=sl[s].at; g=sl[s].tag :: else fi };
     if :: y ->
#ifndef NOVALITEM
           atomic { if :: !VALID(i) -> y=0 :: else fi };
#endif
           if :: y -> atomic { rk; if :: sl[s].st==TAKEN && sl[s].ow==i && sl[s].at==a && sl[s].tag==g ->
                        assert(DEAD(i)); sl[s].st=FULL; sl[s].ow=0; sl[s].at=(a<MAXAT -> a+1 : a); places(sl[s].val); assert(n==1); n=0 :: else fi }
              :: else fi
        :: else fi; s++; a=0; g=0; y=0
  :: else -> break
  od; s=0 }

/* ticket t, of the dead i: a hole -> PAD; MOVING{i} -> PAD or FULL, as slot A says */
inline ticket(i) {
  atomic { y=0;
    if :: HOLE(t) && !READY(t) -> defer=1
       :: HOLE(t) && READY(t) -> y=1
       :: B(t).tag==INC(t) && B(t).st==MOVING && B(t).ow==i -> y=2; s=B(t).meta
       :: else fi };
  if
  :: y==1 -> atomic { rk; if :: HOLE(t) -> assert(DEAD(own[t])); B(t).tag=INC(t); B(t).st=PAD; B(t).ow=0; B(t).at=0; B(t).val=0 :: else fi }
  :: y==2 ->
#ifdef MOVEPAD
     y=PAD;
#elif defined(MOVEANY)
     atomic { y=(sl[s].st==TAKEN -> PAD : FULL) };
#elif defined(MOVENOTDONE)
     atomic { y=(sl[s].st!=DONE -> PAD : FULL) };
#else
     atomic { y=(sl[s].st==TAKEN && sl[s].ow==i -> PAD : FULL) };
#endif
     atomic { rk; if :: B(t).tag==INC(t) && B(t).st==MOVING && B(t).ow==i ->
                  assert(own[t]==i && DEAD(i)); B(t).st=y; B(t).ow=0; B(t).meta=0;
                  if :: y==PAD -> B(t).at=0; B(t).val=0 :: else -> places(B(t).val); assert(n==1); n=0 fi
           :: else fi }
  :: else fi; y=0; s=0 }

inline tickets(i) {
  atomic { k=rec[i]; t=rt[i] };
#ifndef NOVALREC
  atomic { if :: !VALID(i) -> k=0 :: else fi };
#endif
  if
  :: k==EXACT -> ticket(i)
  :: k==PENDING ->
     atomic { tb=tail };
     cov=0; lo=NONE; z=0;
     do :: z<NI -> atomic { if :: rec[z]==EXACT -> cov=cov|BIT(rt[z])
                               :: rec[z]==PENDING && LIVE(z) && !DEAD(z) && rt[z]<lo -> lo=rt[z] :: else fi; z++ }
        :: else -> break od; z=0;
     do :: t<tb -> if :: (cov>>t)&1 -> skip
                      :: !((cov>>t)&1) && t>=lo -> atomic { if :: HOLE(t) -> defer=1 :: else fi }
                      :: else -> ticket(i) fi; t++
        :: else -> break od
  :: else fi; k=0; t=0; tb=0; cov=0; lo=0 }

inline recover(i) {
  defer=0;
#ifdef AFIRST
  items(i); tickets(i);
#else
  tickets(i); items(i);
#endif
  if :: !defer -> atomic { rk; if :: VALID(i) -> assert(DEAD(i)); live=live&(~BIT(i)) :: else fi } :: else fi; defer=0; e=0 }

#define RLOCALS byte i=0, e=0, k=0, t=0, tb=0, cov=0, lo=0, s=0, a=0, g=0, y=0, z=0, n=0; bool defer=0

proctype R() {
  RLOCALS; byte c=0; bool may=1;
  do
  :: c<RECS ->
     if :: atomic { DEAD(0) -> e=inc[0]; i=0 } :: atomic { NI>1 && DEAD(NI-1) -> e=inc[NI-1]; i=NI-1 } :: goto stop fi;
     recover(i); c++; i=0
  :: else -> break
  od;
stop:
  atomic { i=0; e=0; k=0; t=0; tb=0; cov=0; lo=0; s=0; a=0; g=0; y=0; z=0; n=0; defer=0; c=0; fin++ } }

/* When all have ended: recover, take everything, twice; then look. */
proctype Last() {
  RLOCALS; byte c=0; bool may=0;
  atomic {
  (fin==NI+NR);
  do :: c<3 -> c++;
     i=0; do :: i<NI -> if :: DEAD(i) -> e=inc[i]; recover(i) :: else fi; i++ :: else -> break od; i=0;
     s=0; do :: s<=NB -> if :: sl[s].st==FULL -> z=sl[s].val; assert(((born>>z)&1) && !((consumed>>z)&1)); consumed=consumed|BIT(z); sl[s].st=DONE; sl[s].val=0 :: else fi; s++
             :: else -> break od; s=0; z=0
     :: else -> break od;
  /* no item is lost; what is not consumed is in the hands of a stopped one */
  t=0; do :: t<NV+1 ->
            if :: ((born>>t)&1) && !((consumed>>t)&1) ->
                  y=0; s=0; do :: s<=NB -> if :: sl[s].val==t && (sl[s].st==TAKEN || sl[s].st==MOVING) && ((stopped>>sl[s].ow)&1) -> y=1 :: else fi; s++ :: else -> break od;
                  assert(y)
               :: else fi; t++ :: else -> break od; s=0;
  if :: stops==0 ->                  /* everybody is recovered, every ticket is closed */
        i=0; do :: i<NI -> assert(!DEAD(i)); i++ :: else -> break od;
        t=0; do :: t<tail -> assert(B(t).tag>INC(t) || (B(t).tag==INC(t) && B(t).st<=PAD)); t++ :: else -> break od
     :: else fi
  };
stop: skip }

init { byte j; atomic {
  sl[A].tag=1; sl[A].st=FULL; sl[A].at=(AT0 -> LIM : 0); born=1; sl[A].val=0;
  j=0; do :: j<=NB -> if :: j<NB -> sl[j].val=NONE :: else fi; j++ :: else -> break od;
  j=0; do :: j<NI -> run U(j); j++ :: else -> break od;
  if :: NV>1 -> run E() :: else fi;
  j=0; do :: j<NR -> run R(); j++ :: else -> break od;
  run Last(); j=0 } }
