/* SPDX-License-Identifier: MIT */
/*
 * The wake-up of a blocking pop, for Spin: total store order (x86).
 *
 * A push publishes with a plain store, which may sit in the store buffer of its
 * processor, and then loads the event count word {epoch, armed}. A waiter arms
 * the word, calls membarrier(), looks again, and sleeps on the value it stored.
 *
 * The epoch is 31 bits or more in the code and never wraps while a process
 * stands still. Here it is kept as one bit per process: "the word is still the
 * value that you hold". Each successful CAS makes every other held value old.
 *
 * NPR producers push one item each; NC consumers pop one item each.
 *   QUIT   consumer 0 may leave its sleep by itself (deadline), after a last pop
 *   LOCKED publish is a locked instruction (then no membarrier is needed)
 *   FENCE  the fence and fenced bits: after a membarrier the next waiters do without,
 *          and a producer that sees the fence bit fences and loads again; CALM is one
 *   BATON  one wake-up at a time: who is to wake and sees that a waiter was woken which
 *          has not looked yet leaves it at that; who arms, or was woken, takes the stamp
 *          away before it looks, and who was woken and has taken something wakes the next
 *          if more is left. With FENCE or LOCKED
 * Mutants: NOMEMB NORECHECK NOEPOCH ARMSAME CLEARANY CLEARFIRST GIVEUP NOLASTPOP
 *          with FENCE: FENCEDEARLY (fenced before the membarrier), NORELOAD
 *          with BATON: NOPASS (the woken wakes nobody), KEEPSTAMP (it takes the stamp
 *          away only if it has taken something), ARMKEEPS (who arms does not take it away),
 *          STAMPLATE (stamp after the epoch)
 */
#ifndef NPR
#define NPR 2
#endif
#ifndef NC
#define NC 2
#endif
#define BIT(x) (1<<(x))
#define ME     BIT(id)              /* producers are 0 .. NPR-1, consumers follow */
#define CME    BIT(id-NPR)

byte vis;                           /* items in the queue, as everybody sees them */
byte buf;                           /* items whose store is in a store buffer */
bit armed;                          /* the word: armed, and for the epoch: */
bit fence, fenced;
byte same;                          /* processes whose held value is still the word */
byte asleep;                        /* consumers in futex_wait */
byte woken;                         /* consumers that a futex_wake has woken, till they know */
bit stamp;                          /* one was woken and has not looked */

inline drain(p) { if :: buf&BIT(p) -> vis=vis|BIT(p); buf=buf&(~BIT(p)) :: else fi }

/* what follows a load of the word that was armed: the rest of wake() */
inline wake() {
#ifdef BATON
  sawstamp=stamp;                                        /* load */
#ifndef STAMPLATE
  atomic {                                               /* CAS {0} -> {now} */
    if :: sawstamp -> skip
       :: else -> drain(id); if :: stamp -> sawstamp=1 :: else -> stamp=1 fi fi };
#endif
#endif
  do
  :: sawstamp -> break
  :: else ->
     atomic { if :: !armed -> sawstamp=1 :: else -> same=same|ME fi };      /* load */
     if :: sawstamp -> break :: else fi;
     atomic {                                            /* CAS {e, 1} -> {e+1, 1}; drains the own buffer, won or lost */
       drain(id);
       if :: same&ME -> won=1;
#ifdef CLEARFIRST
             armed=0;
#endif
#ifndef NOEPOCH
             same=ME
#endif
          :: else -> won=0 fi };
     if
     :: !won ->
#ifdef GIVEUP
        break
#else
        skip                                             /* load again */
#endif
     :: else ->
#if defined(BATON) && defined(STAMPLATE)
        stamp=1;
#endif
        atomic {                                         /* futex_wake(1): any one sleeper */
          if :: asleep&1 -> asleep=asleep&(~1); woken=woken|1
             :: asleep&2 -> asleep=asleep&(~2); woken=woken|2
             :: asleep&4 -> asleep=asleep&(~4); woken=woken|4
             :: !asleep -> won=0 fi };
        if :: won -> skip
           :: else -> atomic {                           /* nobody: CAS {e+1, 1} -> {e+1, 0} */
#ifdef CLEARANY
                armed=0; same=0
#else
                if :: same&ME -> armed=0; same=0 :: else fi
#endif
              } fi;
        break
     fi
  od }

/* a store leaves its buffer at any time */
proctype Buffer() {
end: do :: atomic { buf&1 -> drain(0) } :: atomic { buf&2 -> drain(1) } :: atomic { buf&4 -> drain(2) } od }

proctype Producer(byte id) {
  bit won=0, was=0, sawarmed=0, sawfenced=0, sawstamp=0;
#ifdef LOCKED
  vis=vis|ME;
#else
  buf=buf|ME;                                            /* push, 6: the commit */
#endif
#ifdef FENCE
  atomic { was=fence; sawarmed=armed; sawfenced=fenced; same=same|ME };   /* load */
#ifdef NORELOAD
  if :: was -> if :: !sawarmed -> goto done :: else fi
#else
  if :: was -> atomic { drain(id); sawarmed=armed; sawfenced=fenced; was=fence; same=same|ME };   /* fence, load */
#endif
     :: else fi;
  if
  :: !sawarmed && was && sawfenced ->
     atomic { if :: same&ME -> fence=0; fenced=0; same=0; drain(id) :: else fi }
  :: else fi;
  if :: !sawarmed -> goto done :: else fi;
#elif defined(BATON)
  if :: !armed -> goto done :: else fi;
#endif
  wake();                                                /* push, 8 */
done: skip }

/* a whole pop: takes an item that is there, or finds none at one instant */
inline pop() {
  atomic {
    if :: vis&1 -> vis=vis&(~1); got=1 :: vis&2 -> vis=vis&(~2); got=1 :: vis&4 -> vis=vis&(~4); got=1
       :: !vis -> got=0 fi } }

proctype Consumer(byte id) {
  bit got=0, last=0, ok=0, done=0, won=0, sawstamp=0; byte p=0;
  pop();
  if :: got -> goto left :: else fi;
  do
  :: atomic { same=same|ME; ok=armed };                  /* load */
#ifdef ARMSAME
     if :: ok -> skip
        :: else ->
#endif
     atomic { if :: same&ME -> armed=1; fence=1; done=fenced; same=ME; ok=1 :: else -> ok=0 fi };      /* CAS {e, x} -> {e+1, 1} */
#ifdef ARMSAME
     fi;
#endif
     if
     :: !ok -> skip
     :: else ->
#ifdef FENCEDEARLY
        atomic { if :: !done && (same&ME) -> fenced=1; same=ME :: else fi };
#endif
#ifdef FENCE
        if :: done -> skip :: else ->
#endif
#ifndef NOMEMB
        do :: atomic { p<NPR -> drain(p); p++ } :: atomic { p>=NPR -> p=0; break } od;    /* membarrier: one processor after the other */
#endif
#ifdef FENCE
        atomic { if :: same&ME -> fenced=1; same=ME :: else fi }          /* CAS: the value that is slept on */
        fi;
#endif
#if defined(BATON) && !defined(ARMKEEPS)
        stamp=0;
#endif
#ifndef NORECHECK
        pop();
        if :: got -> break :: else fi;
#endif
        atomic { if :: same&ME -> asleep=asleep|CME :: else fi };                /* futex_wait(value) */
end:    if
        :: atomic { !(asleep&CME) -> skip }              /* woken, or the value was old */
#if defined(QUIT) || defined(NOLASTPOP)
        :: atomic { id==NPR && (asleep&CME) -> asleep=asleep&(~CME); last=1 }
        :: atomic { id==NPR && !(asleep&CME) -> last=1 } /* woken just at the deadline */
#endif
        fi;
#ifdef NOLASTPOP
        if :: last -> break :: else fi;
#endif
#if defined(BATON) && !defined(KEEPSTAMP)
        stamp=0;
#endif
        pop();
        if
        :: got ->
#if defined(BATON) && !defined(NOPASS)
           if
           :: woken&CME ->
#ifdef KEEPSTAMP
              stamp=0;
#endif
              if :: vis && armed -> wake() :: else fi
           :: else
           fi;
#endif
           break
        :: !got && last -> break
        :: else -> woken=woken&(~CME)
        fi
     fi
  od;
left: skip }

/* nothing moves any more: nobody may sleep while an item waits */
proctype Monitor() { timeout -> assert(!(asleep && vis)) }

init { byte i; atomic {
  i=0; do :: i<NPR -> run Producer(i); i++ :: else -> break od;
  i=0; do :: i<NC -> run Consumer(NPR+i); i++ :: else -> break od;
  run Buffer(); run Monitor(); i=0 } }
