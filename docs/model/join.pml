/* SPDX-License-Identifier: MIT */
/*
 * Attach, death, recovery, leave, and attach again: lib/participant.c, for Spin.
 *
 * A participant word is {incarnation, FREE, JOINING or LIVE}. An incarnation is a
 * number that is drawn (one FAA), and its owner lives as long as the kernel keeps
 * the byte of that number locked for it: nobody else ever tries that byte. NJ
 * processes try to join, index by index, LIVES times; each may be killed or stop for
 * ever before any write or system call. NR recoverers give back what the dead held,
 * for which a push record and one taken item stand here; TRIES of these in all.
 * Every atomic block is one access. MAXK, MAXS as in lane.pml; NI indices.
 *
 * Mutants (README.md)
 *   BYINDEX the byte is {index, incarnation + 1}, which others may try as well; with
 *   UNLOCK  who got the byte of somebody else's incarnation gives it back at once
 *   ONEBYTE a byte per index (with BYINDEX)
 *   NOJOINING the record is cleared before the word is won, which goes straight to LIVE
 *   LEAVEEARLY FREE before the own ticket is settled
 *   NOVALID recovery does not validate again;  FREEFIRST it frees the word first
 */
#ifndef NI
#define NI 1
#endif
#ifndef NJ
#define NJ 2
#endif
#ifndef LIVES
#define LIVES 2
#endif
#ifndef MAXK
#define MAXK 1
#endif
#ifndef MAXS
#define MAXS 0
#endif
#ifndef NR
#define NR 1
#endif
#ifndef RECS
#define RECS 2
#endif
#ifndef TRIES
#define TRIES 2
#endif
#define NINC (NJ*LIVES+1)           /* incarnations are 1 .. NINC-1 */
#define NONE 255
#define BIT(x) (1<<(x))
#define FREE    0
#define LIVE    1
#define JOINING 2
#define EXACT   2

byte pinc[NI], pst[NI];             /* participant words */
byte rec[NI];                       /* push record: 0, or the ticket it names */
byte item[NI];                      /* an item in the hands of {index, attempts}: attempts, or 0 */
#ifdef ONEBYTE
#define BYTE(i,e) lock[i]
#elif defined(BYINDEX)
#define BYTE(i,e) lock[(i)*NINC+(e)]
#else
#define BYTE(i,e) lock[e]
#endif
byte lock[NI*NINC];                 /* process (and 1) that holds the byte, or 0 */
byte drawn;                         /* last incarnation drawn */
byte tries;                         /* tickets, and attempts of the item, never come back */

/* ghosts */
byte who[NI];                       /* process (and 1) whose life the word names; 0: FREE */
byte over;                          /* indices of which that life is over */
byte fin, kills, stops, stopped;
byte open;                          /* tickets drawn and neither published nor closed */

#define ck if :: kills<MAXK -> kills++; goto killed :: stops<MAXS -> stops++; goto stop :: true fi
#define rk if :: may -> goto stop :: true fi
#define DEAD(i,e) (BYTE(i,e)==0)

/* the kernel drops what process me had locked */
inline ends(me) {
  atomic {
    z=0; do :: z<NI*NINC -> if :: lock[z]==me+1 -> lock[z]=0 :: else fi; z++ :: else -> break od;
    z=0; do :: z<NI -> if :: who[z]==me+1 -> over=over|BIT(z) :: else fi; z++ :: else -> break od;
    i=0; e=0; w=0; z=0; t=0; n=0 } }

proctype J(byte me) {
  byte lives=LIVES, i=0, e=0, w=NONE, z=0, t=0, n=0;
begin:
  if :: atomic { lives -> lives-- } :: goto end fi;
#ifndef BYINDEX
  atomic { ck; drawn++; n=drawn };
  atomic { ck; assert(BYTE(0,n)==0); BYTE(0,n)=me+1 };
#endif
  do                                 /* claim, index by index; one description for all */
  :: i<NI ->
     atomic { e=pinc[i]; w=pst[i] };
     if :: w!=FREE -> skip
        :: else ->
#ifndef BYINDEX
#ifdef NOJOINING
       atomic { ck; rec[i]=0 };
       atomic { ck; if :: pst[i]==FREE && pinc[i]==e -> pst[i]=LIVE; pinc[i]=n; e=n; z=1; who[i]=me+1; over=over&(~BIT(i)) :: else -> z=0 fi };
       if :: z -> z=0; n=0; break :: else fi
#else
       atomic { ck; if :: pst[i]==FREE && pinc[i]==e -> pst[i]=JOINING; pinc[i]=n; e=n; z=1 :: else -> z=0 fi };
       if :: z ->
             atomic { ck; assert(pinc[i]==e && pst[i]==JOINING); rec[i]=0 };
             atomic { ck; assert(pinc[i]==e && pst[i]==JOINING); pst[i]=LIVE; who[i]=me+1; over=over&(~BIT(i)) };
             z=0; n=0; break
          :: else -> skip
       fi
#endif
#else
       atomic { ck; if :: BYTE(i,e+1)==0 -> BYTE(i,e+1)=me+1; z=1 :: else -> z=0 fi };
       if :: !z -> skip
          :: else ->
            atomic { z=(pst[i]==FREE && pinc[i]==e) };
            if :: !z -> skip
               :: else ->
                 atomic { ck; assert(pst[i]==FREE); rec[i]=0 };
                 atomic { ck; if :: (pst[i]==FREE && pinc[i]==e) -> pst[i]=LIVE; pinc[i]=e+1; z=1; who[i]=me+1; over=over&(~BIT(i)); e++ :: else -> z=0 fi };
                 if :: z -> z=0; break :: else fi
            fi;
#ifdef UNLOCK
            atomic { ck; assert(BYTE(i,e+1)==me+1); BYTE(i,e+1)=0 };
#endif
       fi;
       z=0
#endif
     fi; i++
  :: else -> goto leave              /* -EUSERS */
  od;
  /* attached: a push (ticket, record, published) and an item (taken, finished) */
  do
  :: atomic { t==0 && tries<TRIES -> ck; assert(rec[i]==0); tries++; t=tries; rec[i]=t; open=open|BIT(t) }     /* merged: see lane.pml */
  :: atomic { t!=0 -> ck; assert((open>>t)&1); open=open&(~BIT(t)) };
     atomic { ck; assert(rec[i]==t); rec[i]=0; t=0 }
  :: atomic { t==0 && tries<TRIES && item[i]==0 -> ck; tries++; t=tries; item[i]=t };
     atomic { ck; assert(item[i]==t); item[i]=0; t=0 }
  :: t==0 -> break
#ifdef LEAVEEARLY
  :: t!=0 -> atomic { ck; pst[i]=FREE; who[i]=0 }; atomic { ck; assert(rec[i]==t); rec[i]=0; open=open&(~BIT(t)); t=0 }; goto leave
#endif
  od;
  atomic { ck; assert(pst[i]==LIVE && pinc[i]==e); pst[i]=FREE; who[i]=0 };
leave:                               /* the mapping goes, and with it all locks */
  atomic { ck };
  ends(me);
  goto begin;
killed:
  ends(me);
  goto begin;
stop:
  stopped=stopped|BIT(me);
end:
  atomic { lives=0; i=0; e=0; w=0; z=0; t=0; n=0; fin++ } }

/* participant i of incarnation e is dead: tickets, items, record */
#ifdef NOVALID
#define VALID(i) true
#else
#define VALID(i) (pst[i]==LIVE && pinc[i]==e)
#endif
/* what is changed belongs to the dead: the life that the word names is over */
#define OVER(i)  (who[i]!=0 && ((over>>(i))&1))
inline recover(i) {
#ifdef FREEFIRST
  atomic { rk; if :: pst[i]==LIVE && pinc[i]==e -> pst[i]=FREE; who[i]=0 :: else fi };
#endif
  atomic { t=rec[i] };
  atomic { if :: !VALID(i) -> t=0 :: else fi };
  if :: t!=0 -> atomic { rk; if :: (open>>t)&1 -> assert(OVER(i)); open=open&(~BIT(t)) :: else fi } :: else fi;
  atomic { t=item[i] };
  atomic { if :: !VALID(i) -> t=0 :: else fi };
  if :: t!=0 -> atomic { rk; if :: item[i]==t -> assert(OVER(i)); item[i]=0 :: else fi } :: else fi;
  t=0;
#ifndef FREEFIRST
  atomic { rk; if :: pst[i]==LIVE && pinc[i]==e -> assert(OVER(i)); pst[i]=FREE; who[i]=0 :: else fi }
#endif
  }

/* look at i: the word first, then the kernel */
inline probe(i) {
  atomic { e=pinc[i]; y=pst[i] };
  if :: y==FREE -> skip
     :: else ->
    atomic { z=DEAD(i,e) };
    if :: z && y==LIVE -> recover(i)
       :: z && y==JOINING -> atomic { rk; if :: pst[i]==JOINING && pinc[i]==e -> pst[i]=FREE :: else fi }
       :: else fi
  fi; e=0; y=0; z=0 }

proctype R() {
  byte i=0, e=0, t=0, y=0, z=0, c=0; bool may=1;
  do :: c<RECS -> if :: i=0 :: i=NI-1 fi; probe(i); c++; i=0 :: else -> break od;
stop:
  atomic { i=0; e=0; t=0; y=0; z=0; c=0; fin++ } }

/* When all have ended: everybody is recovered who is not alive. */
proctype Last() {
  byte i=0, e=0, t=0, y=0, z=0; bool may=0;
  atomic {
    (fin==NJ+NR);
    do :: i<NI -> probe(i); i++ :: else -> break od; i=0;
    do :: i<NI ->                    /* what is not FREE is the life of one that is stopped, and not over */
            assert(pst[i]==FREE || (pst[i]==LIVE && who[i]!=0 && ((stopped>>(who[i]-1))&1) && !OVER(i)) ||
                   (pst[i]==JOINING && !DEAD(i,pinc[i])));
            if :: pst[i]==FREE -> assert(item[i]==0) :: else fi; i++ :: else -> break od;
    if :: stops==0 -> assert(open==0) :: else fi };
stop: skip }

init { byte j; atomic {
  j=0; do :: j<NJ -> run J(j); j++ :: else -> break od;
  j=0; do :: j<NR -> run R(); j++ :: else -> break od;
  run Last(); j=0 } }
