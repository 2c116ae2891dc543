/* SPDX-License-Identifier: MIT */
/*
 * One lane of the queue: the steps of docs/protocol.md, for Spin.
 *
 * Every atomic block is one shared access (or one access and private work), in
 * sequential consistency, unless a comment says that steps are merged and why
 * that hides nothing. README.md says what is modelled and how to run it.
 *
 * Configuration (all by -D)
 *   K slots per segment, NS segments in the pool, D directory entries
 *   NPR producers; producer 0 pushes I0 items, every other one ITEMS
 *   NC consumers, POPS pops each;  CAP capacity of the lane
 *   MAXK processes that may be killed, MAXS that may stop for ever, each just
 *   before any shared write;  RECOV: a recoverer runs beside the others
 *   RSTOP: that recoverer may stop before any of its writes
 *   LATEHEAD: a consumer moves head, if at all, at the beginning of its next pop
 *   EMPTYSTART: a pop that finds nothing moves its start, and perhaps head, too
 *   BATCH: producer 0 pushes its two items (I0=2) as one batch; there must be
 *   room for all (CAP, NS, D large enough)
 *   FINE: install in single steps (otherwise one step)
 *   STEPDRAIN: the last recovery and the last pops interleave with RECOV's
 *   REQ: so many items are requeued by the consumer that holds them
 *   SIZED: assert that no push is refused for want of a segment
 *
 * Mutants (each must be caught, see README.md; NOT0 needs NOREREAD too)
 *   take:    NOT0 HEADHOLE TAKEFIRST GENFIRST GENQUIET REBLATE MASKB NOTAIL
 *            NORECHK OVERSKIP, with BATCH also NOREREAD TAKEOLDER, with REQ REQNOMARK
 *   push:    NOPOST NOPADMAX SETTLENOPAD ABANDON ADMITNOGEN
 *   recover: NOPEND TAILLATE REDELNOMARK
 *   segment: RETHOLE, with FINE also MARKLATE LOCANY; STRAYANY (strays of segments
 *            still OWNED) is there to play with: no configuration that finishes shows it
 */
#ifndef K
#define K 2
#endif
#ifndef NS
#define NS 3
#endif
#ifndef D
#define D 2
#endif
#ifndef NPR
#define NPR 2
#endif
#ifndef NC
#define NC 1
#endif
#ifndef ITEMS
#define ITEMS 1
#endif
#ifndef I0
#define I0 ITEMS
#endif
#ifndef POPS
#define POPS 2
#endif
#ifndef CAP
#define CAP 3
#endif
#ifndef MAXK
#define MAXK 0
#endif
#ifndef MAXS
#define MAXS 0
#endif

#define NP    (NPR+NC)              /* participants: producers, then consumers */
#define NV    (I0+(NPR-1)*ITEMS)    /* push calls; each takes at most one ticket */
#define NK    (NV/K+2)
#define REC   NP                    /* identity of the recoverer beside the others */
#define LAST  (NP+1)                /* identity of the last recoverer and consumer */
#define NONE  255
#define BIT(x) (1<<(x))

/* slot states, as in the words of the protocol */
#define DONE  0
#define PAD   1
#define FULL  2
#define TAKEN 3
/* segment states */
#define FREE   0
#define OWNED  1
#define ACTIVE 2
/* kinds of a push record */
#define PENDING 1
#define EXACT   2
/* results of a look into the directory, and of an attempt to install */
#define FOUND 1
#define NEWER 2
#define NOTIN 3
#define NOSEG 4

typedef Slot { byte tag; byte st; byte ow; byte at; byte val };
Slot sl[NS*K];
byte hst[NS], hinc[NS], how[NS];    /* hdr: state, incarnation, owner */
byte bk[NS], bi[NS];                /* bind: number, incarnation */
byte dir[D] = NONE;                 /* number per entry; its segment is sg[number] */
byte tail, head, padmax, marks;
byte chg = 255;                     /* gen, kept as one bit per consumer: "gen differs from your watch.gen" */
byte rec[NPR], rt[NPR];             /* push records: kind, ticket (or low) */
byte dead, freed;                   /* participants proven dead; those whose recovery is complete */

/* (lane, k) -> (segment, incarnation), written once, by the directory CAS. A
   process uses it only after it found k in the directory, in a marked segment
   or by a search of the bindings: it stands for what it then remembers. */
byte sg[NK], si[NK];

/* ghosts */
byte stopped, fin, kills, stops, reqs;
byte own[NV+1];                     /* owner of a ticket */
byte pre[NV];                       /* items whose push returned before this push began, not taken yet */
byte comm, retd, taken, acked;      /* items: committed; returned and not taken; ever taken; done */
byte q, nf, uc;                     /* FULL slots; FULL with attempts 0; tickets not closed */
byte sawE = 255, sawF = 255;        /* during this call: q was 0; others' unclosed tickets were >= CAP */
byte mine;                          /* producers with an unclosed ticket of their own */

#define SEG(t)   sg[(t)/K]
#define W(t)     sl[SEG(t)*K+(t)%K]
#define INC(t)   si[(t)/K]
#define HOLE(t)  (W(t).tag<INC(t))
#define ISFULL(t) (W(t).tag==INC(t) && W(t).st==FULL)
#define TERM(t)  (W(t).tag>INC(t) || (W(t).tag==INC(t) && W(t).st<=PAD))
#define CLOSED(t) (TERM(t) || (W(t).tag==INC(t) && W(t).st==TAKEN))
#define INSTALLED(k) (dir[(k)%D]!=NONE && dir[(k)%D]>=(k))
#define MARKED(t) ((marks>>SEG(t))&1)
#define CONS(me) ((me)>=NP -> NC : (me)-NPR)

/* the slots of segment z itself, at its present incarnation */
#define ZTERM(z,o) (sl[(z)*K+(o)].tag==hinc[z] && sl[(z)*K+(o)].st<=PAD)
#ifdef RETHOLE
#define ZREADY(z,o) (ZTERM(z,o) || (sl[(z)*K+(o)].tag<hinc[z] && head>bk[z]*K+(o)))
#else
#define ZREADY(z,o) ZTERM(z,o)
#endif
#define DRAINED(z) (hst[z]==ACTIVE && ZREADY(z,0) && ZREADY(z,K-1))    /* K <= 2 */
#define BOUND(z)   (hst[z]==ACTIVE && bi[z]==hinc[z])
#if defined(STRAYANY)
#define COUNTS(z)  (hst[z]!=FREE && bi[z]==hinc[z])
#else
#define COUNTS(z)  BOUND(z)
#endif

/* Before every shared write a process may be killed or stop for ever. */
#ifdef RSTOP
#define ck(me) if :: (me<NP && kills<MAXK) -> kills++; dead=dead|BIT(me); goto die \
                  :: (me<NP && stops<MAXS) -> stops++; stopped=stopped|BIT(me); goto die \
                  :: (me==REC) -> goto die :: true fi
#else
#define ck(me) if :: (me<NP && kills<MAXK) -> kills++; dead=dead|BIT(me); goto die \
                  :: (me<NP && stops<MAXS) -> stops++; stopped=stopped|BIT(me); goto die :: true fi
#endif

/* one more unclosed ticket, of producer me (NONE: redelivered) */
inline unclosed(me) {
  uc++;
  z=0; do :: z<NPR -> if :: z!=me && uc-((mine>>z)&1)>=CAP -> sawF=sawF|BIT(z) :: else fi; z++ :: else -> break od; z=0 }

/* ------------------------------------------------------------------ segments */

/* look k up in the directory; finding it OWNED, help it to ACTIVE (the CAS is
   exact, so that doing it late changes nothing: merged with the read) */
inline resolve(kk) {
  if :: dir[(kk)%D]!=NONE && dir[(kk)%D]==(kk) -> y=FOUND;
#ifdef FINE
        if :: hst[sg[kk]]==OWNED && hinc[sg[kk]]==si[kk] -> hst[sg[kk]]=ACTIVE; how[sg[kk]]=0 :: else fi
#endif
     :: dir[(kk)%D]!=NONE && dir[(kk)%D]>(kk)  -> y=NEWER
     :: else -> y=NOTIN fi }

#ifdef FINE
/* install number ins, whose predecessor is installed: y = FOUND or NOSEG */
inline install(me) {
  atomic { ck(me);                                                    /* 1 */
    if :: zi=0 :: zi=NS/2 fi; xi=0;   /* the hint: two places to begin the search */
    do :: xi<NS && hst[zi]!=FREE && !DRAINED(zi) -> zi=(zi+1)%NS; xi++ :: else -> break od;
    if :: xi==NS -> zi=0; y=NOSEG; ins=NONE :: else -> hinc[zi]++; hst[zi]=OWNED; how[zi]=me+1; y=0 fi; xi=0 };
  if :: y==NOSEG -> skip
     :: else ->
#ifndef MARKLATE
    atomic { ck(me); marks=marks&(~BIT(zi)) };                        /* 2 */
#endif
    atomic { xi=dir[ins%D];                                           /* 3 */
      if :: xi!=NONE && xi>=ins -> y=FOUND :: ins>=D && head<(ins-D+1)*K && (xi==NONE || xi<ins) -> y=NOSEG :: else -> y=0 fi };
    if :: y!=0 -> skip
       :: else ->
      atomic { ck(me); bk[zi]=ins; bi[zi]=hinc[zi] };                 /* 4 */
      atomic { if :: xi!=NONE && hst[sg[xi]]==OWNED && hinc[sg[xi]]==si[xi] -> hst[sg[xi]]=ACTIVE; how[sg[xi]]=0 :: else fi };  /* 5 */
      atomic { ck(me);                                                /* 6 */
        if :: dir[ins%D]==xi -> dir[ins%D]=ins; sg[ins]=zi; si[ins]=hinc[zi]; y=0 :: else -> y=FOUND fi };
#ifdef MARKLATE
      atomic { ck(me); marks=marks&(~BIT(zi)) };
#endif
    fi;
    if :: y==0 -> atomic { ck(me); y=FOUND;                           /* 7 */
                    if :: hst[zi]==OWNED && hinc[zi]==si[ins] -> hst[zi]=ACTIVE; how[zi]=0 :: else fi; zi=0; xi=0; ins=NONE }
       :: else -> atomic { ck(me); assert(hst[zi]==OWNED && how[zi]==me+1); hst[zi]=FREE; how[zi]=0; zi=0; xi=0; ins=NONE }
    fi
  fi }
#else
/* the same in one step */
inline install(me) {
  atomic { ck(me);
    if :: INSTALLED(ins) -> y=FOUND
       :: !INSTALLED(ins) && ins>=D && head<(ins-D+1)*K -> y=NOSEG
       :: else -> z=0; do :: z<NS && hst[z]!=FREE && !DRAINED(z) -> z++ :: else -> break od;
          if :: z==NS -> y=NOSEG
             :: else -> hinc[z]++; hst[z]=ACTIVE; marks=marks&(~BIT(z)); bk[z]=ins; bi[z]=hinc[z];
                        sg[ins]=z; si[ins]=hinc[z]; dir[ins%D]=ins; y=FOUND fi fi;
    z=0; ins=NONE } }
#endif

/* install everything up to kk: y = FOUND or NOSEG */
inline ensure(me,kk) {
  do :: atomic { INSTALLED(kk) -> y=FOUND; break }
     :: atomic { !INSTALLED(kk) -> ins=(kk); do :: ins>0 && !INSTALLED(ins-1) -> ins-- :: else -> break od };   /* 0 */
        install(me);
        if :: y==NOSEG -> break :: else fi
  od }

/* locate(t): y = FOUND, NONE (its segment is gone, so it is resolved) or NOSEG */
inline locate(me,tt) {
  do :: atomic { resolve((tt)/K);
          if :: y==FOUND -> break
             :: y==NEWER ->
#ifdef FINE
#ifdef LOCANY
                z=0; do :: z<NS && !(bi[z] && bk[z]==(tt)/K) -> z++ :: else -> break od;
#else
                z=0; do :: z<NS && !(BOUND(z) && bk[z]==(tt)/K) -> z++ :: else -> break od;
#endif
                if :: z<NS -> assert(z==SEG(tt)); y=FOUND :: else -> y=NONE fi; z=0;
#else
                if :: hinc[SEG(tt)]==INC(tt) -> y=FOUND :: else -> y=NONE fi;
#endif
                break
             :: else fi };
        ensure(me,(tt)/K);
        if :: y==NOSEG -> break :: else fi
  od }

/* ------------------------------------------------------------------ admission */

/* x = tickets below g, in marked segments, that are neither terminal nor TAKEN.
   One step: the number only falls while it is being counted (redelivery apart),
   so any result of a slot-by-slot count is the exact number at some instant. */
inline strays(g_) {
  x=0; z=0;
  do :: z<NS*K ->
        if :: ((marks>>(z/K))&1) && COUNTS(z/K) && bk[z/K]*K+z%K<(g_) &&
              (sl[z].tag<hinc[z/K] || (sl[z].tag==hinc[z/K] && sl[z].st==FULL)) -> x++ :: else fi; z++
     :: else -> break od; z=0 }

/* admit(tt, 1): y = 1 a new limit allows it, 2 there is room now, 0 no */
inline admit(me,tt) {
  atomic { h=head; g=h; u=0 };                                        /* 1 */
  atomic { strays(h); if :: tt+1+x<=h+CAP -> lim=h+CAP-x; y=1 :: else -> y=0 fi; x=0 };
  if :: y==1 -> skip
     :: else ->
    do                                                                /* 2 */
    :: atomic { g>=tt -> break }
    :: atomic { g<tt && u<2 ->
         resolve(g/K);
         if :: y==NEWER -> h=head; g=h            /* head has passed that segment */
            :: y==NOTIN -> y=0; break
            :: else ->
               if :: CLOSED(g) -> g++
                  :: !CLOSED(g) && MARKED(g) -> u=1; g++
                  :: !CLOSED(g) && !MARKED(g) && HOLE(g) -> u=2
                  :: else -> y=0; break fi fi }
    :: atomic { g<tt && u==2 -> ck(me); marks=marks|BIT(SEG(g)); u=1; g++ }
    od;
    if :: g>h ->
#ifndef ADMITNOGEN
          if :: u -> atomic { ck(me); chg=255 } :: else fi;
#endif
          atomic { ck(me); if :: head<g -> head=g :: else fi }
       :: else fi;
    atomic { strays(g);                                               /* 3: the same argument for one step */
      z=g; do :: z<padmax && z<tt -> if :: INSTALLED(z/K) && W(z).tag==INC(z) && W(z).st==PAD -> x-- :: else fi; z++ :: else -> break od; z=0;
      if :: tt+x+1<=g+CAP -> y=2 :: else -> y=0 fi; x=0 }
  fi;
  h=0; g=0; u=0 }

/* ------------------------------------------------------------------ push */

#ifdef SETTLENOPAD
#define NORAISE u
#else
#define NORAISE 0
#endif
inline pad(me,tt) {                  /* store PAD in the own slot tt; y = NOSEG: not possible now */
  locate(me,tt);
  if :: y==NOSEG -> skip
     :: else -> assert(y==FOUND);
#ifndef NOPADMAX
        atomic { ck(me); if :: padmax<tt+1 && !NORAISE -> padmax=tt+1 :: else fi };
#endif
        atomic { ck(me); assert(HOLE(tt) && own[tt]==me && hinc[SEG(tt)]==INC(tt));
          W(tt).tag=INC(tt); W(tt).st=PAD; W(tt).at=0; uc--; mine=mine&(~BIT(me)) };
        atomic { ck(me); rec[me]=0; rt[me]=0; held=NONE }
  fi }

/* push of item v; held: the unsettled ticket of an earlier one */
inline push(me,v) {
  atomic { sawF=sawF&(~BIT(me)) };
  if :: held!=NONE -> u=1; pad(me,held); u=0 :: else fi;              /* 0 */
  if :: held!=NONE -> skip
     :: else ->
    atomic { pre[v]=retd; if :: uc>=CAP -> sawF=sawF|BIT(me) :: else fi };
    do
    :: atomic { t=tail; w=0; if :: t+1<=lim -> y=1 :: else -> y=0 fi };        /* 1 */
       if :: y==0 -> admit(me,t); w=y :: else fi;
       if :: y==0 -> break :: else fi;
       ensure(me,t/K);
       if :: y==NOSEG -> break :: else fi;
       atomic { ck(me); rec[me]=PENDING; rt[me]=t };                           /* 2 */
       atomic { ck(me);                                                        /* 3 */
         if :: w==2 && tail!=t -> y=0
            :: else -> t=tail; tail++; own[t]=me; mine=mine|BIT(me); unclosed(me); y=1 fi };
       if :: y==1 -> break :: else fi;
       atomic { ck(me); rec[me]=0; rt[me]=0 }
    od;
    if
    :: y==0 -> assert((sawF>>me)&1)                        /* FULL, and it was */
    :: y==NOSEG ->
#ifdef SIZED
       assert(0);
#endif
       skip                                                /* FULL: no segment, no ticket */
    :: else ->
       atomic { ck(me); rec[me]=EXACT; rt[me]=t };                             /* 4 */
#ifndef NOPOST
       if :: w<2 && t+1>lim -> admit(me,t) :: else -> y=1 fi;                  /* 5 */
#endif
       w=0;
       if
       :: y==0 -> assert((sawF>>me)&1);
          held=t; pad(me,t)
       :: else ->
          locate(me,t);                                                        /* 6 */
          if
          :: y==NOSEG ->
#ifdef SIZED
             assert(0);
#endif
#ifdef ABANDON
             atomic { rec[me]=0; rt[me]=0 }
#else
             held=t
#endif
          :: else -> assert(y==FOUND);
             atomic { ck(me); assert(HOLE(t) && hinc[SEG(t)]==INC(t)); W(t).val=v+1 };
             atomic { ck(me); assert(HOLE(t) && hinc[SEG(t)]==INC(t) && W(t).val==v+1);
               W(t).tag=INC(t); W(t).st=FULL; W(t).at=0;
               comm=comm|BIT(v); mine=mine&(~BIT(me)); q++; nf++; assert(nf<=CAP) };
             atomic { ck(me); rec[me]=0; rt[me]=0;                             /* 7 */
               if :: !((taken>>v)&1) -> retd=retd|BIT(v) :: else fi }
          fi
       fi
    fi
  fi;
  atomic { t=0; y=0; w=0; sawF=sawF|BIT(me) } }

#ifdef BATCH
/* a batch of two, v and v+1: one FAA, published in order; merged: payload and word */
inline commit(me,tt,v) {
  locate(me,tt); assert(y==FOUND);
  atomic { ck(me); assert(HOLE(tt) && hinc[SEG(tt)]==INC(tt)); W(tt).val=v+1; W(tt).tag=INC(tt); W(tt).st=FULL; W(tt).at=0;
    comm=comm|BIT(v); q++; nf++; assert(nf<=CAP) } }
inline push2(me,v) {
  atomic { pre[v]=retd; pre[v+1]=retd|BIT(v); t=tail };
  ensure(me,(t+1)/K); assert(y==FOUND);
  atomic { ck(me); rec[me]=PENDING; rt[me]=t };
  atomic { ck(me); t=tail; tail=tail+2; assert(tail<=lim); own[t]=me; own[t+1]=me; unclosed(me); unclosed(me) };
  atomic { ck(me); rec[me]=EXACT; rt[me]=t };
  commit(me,t,v); t++; commit(me,t,(v+1));
  atomic { ck(me); rec[me]=0; rt[me]=0; retd=retd|((BIT(v)|BIT(v+1))&(~taken)); t=0; y=0 } }
#define TWO(i_) ((i_)==0)
#else
#define TWO(i_) 0
#endif

/* ------------------------------------------------------------------ take */

/* the CAS FULL -> TAKEN of ticket tt, and what must hold then */
inline grab(tt,me) {
  vv=W(tt).val-1; assert(W(tt).val>0 && vv<NV && ((comm>>vv)&1));
  W(tt).st=TAKEN; W(tt).ow=me; q--; uc--;
  if :: W(tt).at==0 -> assert(!((taken>>vv)&1)); assert(pre[vv]==0); nf--        /* once only; in order */
     :: else -> assert((taken>>vv)&1) fi;
  taken=taken|BIT(vv); retd=retd&(~BIT(vv));
  z=0; do :: z<NV -> pre[z]=pre[z]&(~BIT(vv)); z++ :: else -> break od; z=0;
  if :: q==0 -> sawE=255 :: else fi }

#ifdef MASKB
#define WLIM p
#else
#define WLIM NV
#endif

inline rebuild() {                   /* 3: segment by segment */
  m=0; wl=0;
  do :: atomic { m<NS ->
          if :: ((marks>>m)&1) && BOUND(m) ->
                z=0; do :: z<K ->
                  if :: !ZTERM(m,z) && bk[m]*K+z<WLIM -> wl=wl|BIT(bk[m]*K+z) :: else fi; z++ :: else -> break od; z=0
             :: else fi; m++ }
     :: atomic { m>=NS -> m=0; break }
  od }

/* what a consumer that is about to take something is doing about holes */
#define PASS   1
#define MARK   2
#define COUNT  3
#define REREAD 4
#define REDONE 5

/* Before a slot is taken behind holes of watched tickets (below lim_), these are
   read once more, one by one: y = one of them is FULL now. */
#define OLDER(lim_) ((hm&(BIT(lim_)-1)) RR)
#ifdef NOREREAD
#define RR &&0
#else
#define RR
#endif
inline reread(lim_) {
  do :: m<(lim_) && !((hm>>m)&1) -> m++ :: else -> break od;
  if :: m>=(lim_) -> m=0; y=0; mk=REDONE
     :: else -> if :: ISFULL(m) -> m=0; y=1 :: else -> y=0; m++ fi fi }

/* p is max(h, p) after step 1: head never falls, so keeping the maximum is the same */
inline pop(me) {
  atomic { if :: q==0 -> sawE=sawE|BIT(CONS(me)) :: else -> sawE=sawE&(~BIT(CONS(me))) fi; got=0; w=0 };
#ifdef LATEHEAD
  if :: atomic { ck(me); if :: head<p -> head=p :: else fi } :: true fi;
#endif
again:
  atomic { hm=0; hu=0; mk=0; u=0; m=0 };
#ifdef GENFIRST
  atomic { y=(chg>>CONS(me))&1; chg=chg&(~BIT(CONS(me))) };
  atomic { if :: p<head -> p=head :: else fi };
#else
  atomic { if :: p<head -> p=head :: else fi };                       /* 1 */
#endif
#ifdef REBLATE
  if :: (chg>>CONS(me))&1 -> rebuild() :: else fi;
  atomic { chg=chg&(~BIT(CONS(me))) };
#else
#ifndef GENFIRST
  atomic { y=(chg>>CONS(me))&1; chg=chg&(~BIT(CONS(me))) };           /* 2 */
#endif
  if :: y -> rebuild() :: else fi;
#endif
  j=0;
  do                                                                  /* 4 */
  :: atomic { mk!=REREAD ->
       do :: j<p && !((wl>>j)&1) -> j++ :: else -> break od;
       if :: j>=p -> break
          :: else ->
             if :: ISFULL(j) && (!OLDER(j) || mk==REDONE) -> ck(me); grab(j,me); got=1; w=1; break
                :: ISFULL(j) && OLDER(j) && mk==0 -> mk=REREAD; m=0
                :: !ISFULL(j) && HOLE(j) -> hm=hm|BIT(j); j++; mk=0
                :: !ISFULL(j) && TERM(j) -> wl=wl&(~BIT(j)); j++; mk=0
                :: else -> j++; mk=0 fi fi }
  :: atomic { mk==REREAD -> reread(j); if :: y -> goto again :: else fi }
  od;
  if :: got -> skip
     :: else ->
    atomic { j=p; ni=NONE; y=0; mk=0 };     /* y: the segment of j has been looked up */
    do                                                                /* 5 */
#ifdef NOT0
    :: atomic { !mk && j>=tail -> t0=tail; break }
    :: atomic { ((!mk && j<tail) || mk==REDONE) ->
#else
    :: atomic { !mk && j>=t0 -> break }
    :: atomic { ((!mk && j<t0) || mk==REDONE) ->
#endif
         if
         :: y!=FOUND ->
            resolve(j/K);
            if :: y==FOUND -> skip
               :: y==NEWER ->
#ifdef OVERSKIP
                  j=(j/K+1)*K
#else
                  goto again
#endif
               :: else -> ni=j; break fi
         :: else ->
            if :: ISFULL(j) && hu==0 && (!OLDER(p) || mk==REDONE) -> ck(me); grab(j,me); got=1; break
               :: ISFULL(j) && hu==0 && OLDER(p) && mk==0 -> mk=REREAD; m=0
               :: ISFULL(j) && hu!=0 -> mk=PASS
               :: !ISFULL(j) && HOLE(j) -> hm=hm|BIT(j); mk=0;
#if !defined(HEADHOLE) && !defined(TAKEFIRST)
                  hu=hu|BIT(j);
#endif
                  j++; if :: j%K==0 -> y=0 :: else fi
               :: else -> mk=0; j++; if :: j%K==0 -> y=0 :: else fi fi
         fi }
    :: atomic { mk==PASS ->           /* the lowest hole passed: re-read it */
         z=0; do :: !((hu>>z)&1) -> z++ :: else -> break od;
         if
#ifdef NOREREAD
         :: ISFULL(z) -> mk=MARK
#elif defined(TAKEOLDER)
         :: ISFULL(z) -> j=z; y=0; hu=0
#else
         :: ISFULL(z) -> z=0; goto again      /* not: take it. Holes below it were read before it was */
#endif
         :: HOLE(z) -> mk=MARK
         :: else -> hu=hu&(~BIT(z)) fi;
         if :: mk==PASS && hu==0 -> mk=(u -> COUNT : 0) :: else fi; z=0 }
    :: atomic { mk==MARK -> ck(me);   /* still a hole: mark its segment */
         z=0; do :: !((hu>>z)&1) -> z++ :: else -> break od;
#ifdef GENQUIET
         if :: !MARKED(z) -> u=1 :: else fi;
#else
         u=1;
#endif
         marks=marks|BIT(SEG(z)); hu=hu&(~BIT(z)); z=0;
         mk=(hu!=0 -> PASS : (u -> COUNT : 0)) }
    :: atomic { mk==COUNT -> ck(me); chg=255; mk=0; u=0 }      /* gen++; then read the slot again */
    :: atomic { mk==REREAD -> reread(p); if :: y -> goto again :: else y=FOUND fi }
    od
  fi;
  if
  :: got ->                                                           /* 6 */
#ifdef TAKEFIRST
     z=p;                             /* marks only now, before head moves */
     do :: z<j && ((hm>>z)&1) -> atomic { ck(me); marks=marks|BIT(SEG(z)) }; atomic { ck(me); chg=255 }; z++
        :: z<j && !((hm>>z)&1) -> z++ :: z>=j -> break od; z=0;
#endif
     if :: !w -> p=j+1;
#ifndef LATEHEAD
           if :: atomic { ck(me); if :: head<p -> head=p :: else fi } :: true fi
#endif
        :: else fi
  :: else ->                                                          /* 7 */
#ifdef EMPTYSTART
     atomic { if :: hu==0 -> p=j :: else -> z=0; do :: !((hu>>z)&1) -> z++ :: else -> break od; p=z; z=0 fi };
#endif
#ifndef NOTAIL
     atomic { if :: tail!=t0 -> t0=tail; goto again :: else fi };
#else
     atomic { if :: tail!=t0 && !w -> t0=tail; w=1; goto again :: else fi };   /* the tail is read once, early */
#endif
#ifndef NORECHK
     z=0;
     do :: atomic { do :: z<NV && !((hm>>z)&1) -> z++ :: else -> break od;
              if :: z>=NV -> z=0; break :: else -> if :: !HOLE(z) -> z=0; goto again :: else -> z++ fi fi }
     od;
     if :: ni!=NONE -> atomic { if :: INSTALLED(ni/K) -> goto again :: else fi } :: else fi;
#endif
     assert(((sawE>>CONS(me))&1) || kills>0)                          /* EMPTY, and it was */
  fi;
#ifdef EMPTYSTART
  if :: got -> skip :: !got -> atomic { ck(me); if :: head<p -> head=p :: else fi } :: !got -> skip fi;
#endif
  atomic { hm=0; hu=0; ni=NONE; y=0; w=0; u=0; mk=0; m=0; sawE=sawE|BIT(CONS(me)) };
  if :: got ->
        atomic { assert(W(j).val==vv+1 && W(j).tag==INC(j) && W(j).st==TAKEN && W(j).ow==me) };   /* the payload is read */
#ifdef REQ
        if
        :: atomic { reqs<REQ && me<NP -> reqs++ };                    /* requeue */
#ifndef REQNOMARK
           atomic { ck(me); marks=marks|BIT(SEG(j)) };
           atomic { ck(me); chg=255 };
#endif
           atomic { ck(me); assert(W(j).val==vv+1 && W(j).tag==INC(j) && W(j).st==TAKEN && W(j).ow==me);
                    W(j).st=FULL; W(j).ow=0; W(j).at++; q++; unclosed(NONE); vv=0; j=0 }
        :: true ->
#endif
        atomic { ck(me); assert(W(j).val==vv+1 && W(j).tag==INC(j) && W(j).st==TAKEN && W(j).ow==me);
                 W(j).st=DONE; W(j).ow=0; assert(!((acked>>vv)&1)); acked=acked|BIT(vv); vv=0; j=0 }  /* finish */
#ifdef REQ
        fi
#endif
     :: else -> j=0 fi }

/* ------------------------------------------------------------------ recover */

inline padfor(me,tt) {               /* the owner of tt is dead: PAD it if it is unpublished */
  locate(me,tt);
  if :: y==NOSEG -> defer=1
     :: y==NONE -> skip
     :: else ->
        if :: HOLE(tt) ->
#ifndef NOPADMAX
              atomic { ck(me); if :: padmax<tt+1 -> padmax=tt+1 :: else fi };
#endif
              atomic { ck(me); if :: HOLE(tt) -> assert((dead>>own[tt])&1); W(tt).tag=INC(tt); W(tt).st=PAD; W(tt).at=0; uc--; mine=mine&(~BIT(own[tt]))
                                  :: else fi }
           :: else fi fi; y=0 }

inline recover(me,i_) {
  defer=0; g=0;
  do                                                                  /* A */
  :: g<NS*K ->
     atomic { if :: sl[g].st==TAKEN && sl[g].ow==i_ -> y=1; h=sl[g].at; x=sl[g].tag :: else -> y=0 fi };
     if :: y ->
#ifndef REDELNOMARK
           atomic { ck(me); marks=marks|BIT(g/K) };
           atomic { ck(me); chg=255 };
#endif
           atomic { ck(me); if :: sl[g].st==TAKEN && sl[g].ow==i_ && sl[g].at==h && sl[g].tag==x ->
                        sl[g].st=FULL; sl[g].ow=0; sl[g].at=h+1; q++; unclosed(NONE) :: else fi }
        :: else fi; h=0; x=0; y=0; g++
  :: else -> break od; g=0;
  if :: i_<NPR ->                                                     /* B */
    atomic { y=rec[i_]; t=rt[i_] };
    if :: y==EXACT -> padfor(me,t); if :: TWO(i_) -> t++; padfor(me,t) :: else fi
       :: y==PENDING ->
#ifndef TAILLATE
          atomic { t0=tail };
#endif
          hm=0; ni=NONE;             /* hm: covered;  ni: lo */
          do :: g<NPR -> atomic { if :: rec[g]==EXACT -> hm=hm|BIT(rt[g]); if :: TWO(g) -> hm=hm|BIT(rt[g]+1) :: else fi
#ifndef NOPEND
                                     :: rec[g]==PENDING && !((dead>>g)&1) && rt[g]<ni -> ni=rt[g]
#endif
                                     :: else fi; g++ }
             :: else -> break od; g=0;
#ifdef TAILLATE
          atomic { t0=tail };
#endif
          do :: t<t0 -> if :: (hm>>t)&1 -> skip
                           :: !((hm>>t)&1) && t>=ni -> atomic { if :: INSTALLED(t/K) && !HOLE(t) -> skip :: else -> defer=1 fi }
                           :: else -> padfor(me,t) fi; t++
             :: else -> break od
       :: else fi;
    hm=0; ni=NONE; t=0; t0=0; y=0
  :: else fi;
#ifdef FINE
  do :: g<NS -> atomic { ck(me);                                      /* C: hdr, bind, dir of a dead owner do not change */
          if :: hst[g]==OWNED && how[g]==i_+1 ->
                if :: bi[g]==hinc[g] && dir[bk[g]%D]==bk[g] && sg[bk[g]]==g -> hst[g]=ACTIVE :: else -> hst[g]=FREE fi; how[g]=0
             :: else fi }; g++
     :: else -> break od; g=0;
#endif
  if :: !defer -> atomic { ck(me); freed=freed|BIT(i_) } :: else fi }    /* D: the record stays as it is */

/* ------------------------------------------------------------------ processes */

#ifdef FINE
#define FINELOCALS byte zi=0,xi=0
#else
#define FINELOCALS skip
#endif
#define SEGLOCALS  byte ins=NONE,y=0,z=0

proctype P(byte me) {
  SEGLOCALS; FINELOCALS;
  byte t=0, h=0, g=0, x=0, u=0, w=0, lim=CAP, held=NONE, n=0;
#ifdef BATCH
  if :: me==0 -> push2(me,0); n=I0 :: else fi;
#endif
  do :: n<(me==0 -> I0 : ITEMS) -> push(me,((me==0 -> 0 : I0+(me-1)*ITEMS)+n)); n++ :: else -> break od;
  if :: held!=NONE -> pad(me,held) :: else fi;
  if :: held!=NONE -> dead=dead|BIT(me) :: else fi;      /* leaves an unsettled ticket to recovery */
die:
  atomic { y=0; z=0; t=0; h=0; g=0; x=0; u=0; w=0; lim=0; held=NONE; n=0; ins=NONE; fin++; sawF=sawF|BIT(me)
#ifdef FINE
    ; zi=0; xi=0
#endif
  } }

proctype C(byte me) {
  byte y=0, z=0, j=0, p=0, t0=0, m=0, u=0, w=0, ni=NONE, vv=0, n=0, wl=0, hm=0, hu=0, mk=0; bool got=0;
  do :: n<POPS -> pop(me); n++ :: else -> break od;
die:
  atomic { y=0; z=0; j=0; p=0; t0=0; m=0; u=0; w=0; ni=NONE; vv=0; n=0; wl=0; hm=0; hu=0; mk=0; got=0; fin++;
           sawE=sawE|BIT(CONS(me)); chg=chg|BIT(CONS(me)) } }

#ifdef RECOV
proctype R(byte me) {
  SEGLOCALS; FINELOCALS;
  byte t=0, t0=0, h=0, g=0, x=0, ni=NONE, hm=0, i=0; bool defer=0;
  do :: i<NP -> if :: ((dead>>i)&1) && !((freed>>i)&1) -> recover(me,i) :: true fi; i++ :: else -> break od;
die:
  atomic { y=0; z=0; t=0; t0=0; h=0; g=0; x=0; ni=NONE; hm=0; i=0; defer=0; ins=NONE
#ifdef FINE
    ; zi=0; xi=0; fin++
#endif
  } }
#endif
#if defined(RECOV) && defined(FINE)
#define NFIN (NP+1)
#else
#define NFIN NP
#endif

/* When all have ended: recover the dead, pop until EMPTY, twice; then look at everything. */
proctype Last(byte me) {
  SEGLOCALS; FINELOCALS;
  byte t=0, t0=0, h=0, g=0, x=0, ni=NONE, hm=0, hu=0, mk=0, i=0, j=0, p=0, m=0, u=0, w=0, vv=0, wl=0, n=0; bool defer=0, got=0;
  (fin==NFIN);
#ifndef STEPDRAIN
  atomic {
#endif
  do :: n<2 ->
        i=0; do :: i<NP -> if :: ((dead>>i)&1) && !((freed>>i)&1) -> recover(me,i) :: else fi; i++ :: else -> break od;
        do :: pop(me); if :: got -> skip :: else -> break fi od; n++;
        atomic {     /* head as far as it goes (admit 2), so that recovery can install what it needs */
          g=head;
          do :: g<tail && INSTALLED(g/K) && !CLOSED(g) && (MARKED(g) || HOLE(g)) -> marks=marks|BIT(SEG(g)); chg=255; g++
             :: g<tail && INSTALLED(g/K) && CLOSED(g) -> g++
             :: else -> break od;
          head=g; g=0 }
     :: else -> break od;
  atomic {
    /* every committed item was delivered and finished, or is in the hands of a stopped consumer */
    i=0; do :: i<NV -> if :: ((comm>>i)&1) && !((acked>>i)&1) ->
                             y=0; z=0; do :: z<NS*K -> if :: sl[z].st==TAKEN && sl[z].val==i+1 && ((stopped>>sl[z].ow)&1) -> y=1 :: else fi; z++ :: else -> break od; assert(y)
                          :: else -> assert(((comm>>i)&1) || !((acked>>i)&1)) fi; i++ :: else -> break od;
    /* recovery was deferred only because of a producer that stopped in PENDING */
    y=0; i=0; do :: i<NPR -> if :: ((dead>>i)&1) && !((freed>>i)&1) -> y=1 :: else fi; i++ :: else -> break od;
    if :: y -> z=0; i=0; do :: i<NPR -> if :: ((stopped>>i)&1) && rec[i]==PENDING -> z=1 :: else fi; i++ :: else -> break od; assert(z) :: else fi;
    /* every ticket is terminal (so every segment drains), but for those of a stopped or deferred owner */
    i=0; do :: i<tail -> if :: !INSTALLED(i/K) -> assert(((stopped>>own[i])&1) || (y && ((dead>>own[i])&1)))
                            :: else ->
                 if :: TERM(i) -> skip
                    :: HOLE(i) -> assert(((stopped>>own[i])&1) || (y && ((dead>>own[i])&1)))
                    :: else -> assert(W(i).st==TAKEN && ((stopped>>W(i).ow)&1)) fi fi; i++ :: else -> break od }
#ifndef STEPDRAIN
  }
#endif
  ;
die: skip }

init { byte i;
  atomic {
    i=0; do :: i<NPR -> run P(i); i++ :: else -> break od;
    i=0; do :: i<NC -> run C(NPR+i); i++ :: else -> break od;
#ifdef RECOV
    run R(REC);
#endif
    run Last(LAST); i=0 } }
