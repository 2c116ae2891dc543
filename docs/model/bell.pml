/* SPDX-License-Identifier: MIT */
/*
 * The bell of those who poll, for Spin: total store order (x86).
 *
 * Two lanes with a polled bit each, in one word. A push publishes with a plain store,
 * which may sit in the store buffer of its processor, loads the word, and if its lane is
 * polled clears the bit and rings the bell of every poller. A poller whose pop finds
 * nothing drains its bell, sets the bits of its lanes, calls membarrier(), pops again,
 * and then is quiet, or leaves its timer running out.
 *
 * NPR producers push ITEMS items each, one into lane 1, one into lane 0. NC pollers wait until
 * their descriptor is readable and then look: poller 0 at lane 0 and then at lane 1, the others
 * at both in one call; with MIX at each wake-up in any of these ways, or at lane 1 first. They
 * take one item per wake-up. MAXK processes die, anywhere. What a dead poller had taken is
 * given back, and told, by whoever looks at the end of a slice.
 *
 * When nothing moves and an item waits, no bell may be silent unless a process died between a
 * publication and the end of its ring: then, and for what the dead hold, and only then, the
 * slice has to make it good.
 *   ALONE  there is no bell but the timer's (no inotify instance): the slice must do all
 * Mutants: NOMEMB NORECHECK DRAINLATE READFIRST RINGFIRST ONEBELL RINGONE BYBITS NOTAKEN LOOKS=1
 */
#ifndef NPR
#define NPR 2
#endif
#ifndef NC
#define NC 2
#endif
#ifndef ITEMS
#define ITEMS 2
#endif
#ifndef MAXK
#define MAXK 0
#endif
#define BOTH 3
#ifndef LOOKS
#define LOOKS 4                     /* in vain, after which what is owed is forgotten */
#endif
#define LANE(p) (!((p)&1))
#define BIT(x)  (1<<(x))
#ifdef ONEBELL
#define MINE 0                      /* one descriptor for all of them, as a named pipe is */
#else
#define MINE id
#endif

byte vis[2];                        /* items in a lane, as everybody sees them */
bit buf[NPR];                       /* an item whose store is in a store buffer */
byte polled;                        /* the word */
bit bell[NC], timer[NC];            /* readable, of each poller */
bit rung[NC];                       /* rings is not what this poller has read */
bit dead[NC];
byte held[2];                       /* items that dead pollers had taken */
byte kills;
bit excused, due;                   /* a ring is missing; a slice has passed */

/* before each step that others can see */
#define MAY_DIE(x) if :: kills<MAXK -> x; kills++; goto end :: skip fi

inline drain(p) { if :: buf[p] -> buf[p]=0; vis[LANE(p)]++ :: else fi }

/* a store leaves its buffer at any time, also that of a dead process */
proctype Buffer() {
end: do :: atomic { buf[0] -> drain(0) }
#if NPR > 1
        :: atomic { buf[1] -> drain(1) }
#endif
     od }

/* lanes m were given items: load, clear, ring. In the kernel nobody dies between two bells. */
inline ring(m) {
  if
#ifdef RINGFIRST
  :: polled&(m) -> i=0; do :: i<NC -> bell[i]=1; i++ :: else -> break od;
     atomic { MAY_DIE(excused=1) };
     polled=polled&(~(m))
#else
  :: atomic { polled&(m) -> MAY_DIE(excused=1) };
     atomic { was=polled&(m); polled=polled&(~(m)) };
     atomic { MAY_DIE(excused=1) };
     atomic {                                                /* rings + 1 */
       if :: was -> i=0; do :: i<NC -> rung[i]=1; i++ :: else -> break od :: else fi; i=0 };
     do
     :: was && i<NC ->
#ifdef RINGONE
        if :: bell[i] -> i++ :: else -> bell[i]=1; i=NC fi   /* the first that is silent */
#else
#ifndef ALONE
        bell[i]=1;
#endif
        i++
#endif
     :: else -> break
     od
#endif
  :: else
  fi;
  i=0; was=0 }

proctype Producer(byte id) {
  byte n=0, i=0, was=0;
  do
  :: n<ITEMS ->
     atomic { drain(id); n++ };                              /* the ticket: a locked instruction */
     atomic { MAY_DIE(skip) };
     buf[id]=1;                                              /* the commit */
     ring(BIT(LANE(id)))
  :: else -> break
  od;
end: skip }

/* takes an item of lanes m that is there, or finds none at one instant */
inline pop(m) {
  atomic {
    if :: (m)&1 && vis[0] -> vis[0]--; got=1 :: (m)&2 && vis[1] -> vis[1]--; got=2
       :: !((m)&1 && vis[0]) && !((m)&2 && vis[1]) -> got=0 fi;
    taken=taken|got } }

proctype Poller(byte id) {
  byte m, next, got=0, p=0, i=0, was=0;
  byte quiet=0, owed=BOTH, vain=0, taken=0;
endpoll:
  do
  :: atomic { bell[MINE] || timer[id] ->                     /* poll() returns */
     if
#ifdef MIX
     :: m=1; next=2 :: m=2; next=1 :: m=BOTH; next=0
#else
     :: id==0 -> m=1; next=2                                 /* by priority */
     :: id>0 -> m=BOTH; next=0                               /* in one call */
#endif
     fi };
     if
     :: due && (held[0] || held[1]) ->                       /* look for the dead */
        atomic { MAY_DIE(skip) };
        atomic { vis[0]=vis[0]+held[0]; vis[1]=vis[1]+held[1]; held[0]=0; held[1]=0; due=0 };
        ring(BOTH)
     :: else
     fi;
     do
     :: atomic { pop(m); if :: got -> break :: else fi };
        /* ---- bell_quieten(m) ---- */
#ifdef READFIRST
        atomic { p=rung[id]; rung[id]=0 };
#endif
#ifndef DRAINLATE
        atomic { bell[MINE]=0; timer[id]=0 };
#endif
#ifdef BYBITS
        p=(quiet&(~polled) -> 1 : 0);                        /* bits that others may set again */
#endif
#if !defined(READFIRST) && !defined(BYBITS)
        atomic { p=rung[id]; rung[id]=0 };
#endif
        atomic { MAY_DIE(skip) };
        polled=polled|m;
        atomic { MAY_DIE(skip) };
#ifndef NOMEMB
        atomic { drain(0) };                                 /* one processor after the other */
#if NPR > 1
        atomic { drain(1) };
#endif
#endif
        atomic {
          if :: p -> owed=owed|quiet; quiet=0; vain=0 :: else fi;
#ifndef NOTAKEN
          if :: taken -> owed=owed|taken; vain=0 :: else fi;
#endif
          owed=owed&(~m); vain=(owed -> vain+1 : 0);
          if :: vain>LOOKS -> owed=0; vain=0 :: else fi;
          taken=0;
          p=0 };
#ifndef NORECHECK
        pop(m);
#endif
#ifdef DRAINLATE
        atomic { bell[MINE]=0; timer[id]=0 };
#endif
        atomic {
          if
          :: got -> owed=owed|m; timer[id]=1
          :: else -> quiet=quiet|m; if :: owed -> timer[id]=1 :: else fi
          fi;
          if :: got || !next -> break :: else -> m=next; next=0 fi }
     od;
     if
     :: got -> atomic { MAY_DIE(held[got-1]++); got=0 }      /* holds it, then is done with it */
     :: else
     fi;
     atomic { m=0; next=0 }
  od;
end: dead[id]=1 }

/* nothing moves any more */
proctype Monitor() {
  byte i=0, died=255; bit alive=0;
  do
  :: timeout ->
     atomic {
       i=0; alive=0; do :: i<NC -> alive=alive||!dead[i]; i++ :: else -> break od;
       if
       :: !alive || !(vis[0] || vis[1] || held[0] || held[1]) -> break
       :: else ->
#ifndef ALONE
          assert(excused || !(vis[0] || vis[1]));            /* lost wake-up */
#endif
          assert(died!=kills);               /* not made good by a slice, and nobody died in it */
          died=kills; excused=0; due=1;
          i=0; do :: i<NC -> if :: !dead[i] -> timer[i]=1 :: else fi; i++ :: else -> break od
       fi;
       i=0 }
  od;
end: skip }

init { byte i; atomic {
  i=0; do :: i<NPR -> run Producer(i); i++ :: else -> break od;
  i=0; do :: i<NC -> timer[i]=1; run Poller(i); i++ :: else -> break od;
  run Buffer(); run Monitor(); i=0 } }
