/* SPDX-License-Identifier: MIT */
/*
 * Two lanes that share the pool of segments: a segment is retired from one and
 * installed in the other while producers, consumers, markers and recoverers still
 * look where it was. docs/protocol.md, "install", "locate" and "recover", for Spin;
 * the order of the items and the capacity are the business of lane.pml.
 *
 * A segment has one slot, so that numbers are tickets. Every atomic block is one
 * shared access, unless a comment says that more are merged.
 *
 * Configuration (all by -D)
 *   NS segments, D directory entries per lane
 *   NPR producers of ITEMS pushes, producer 0 of I0; the last one into the lanes 0
 *   and 1 in turn, the others into lane 0;  NC consumers of POPS pops, from any lane
 *   MAXK processes may be killed, MAXS may stop for ever, before any of their writes
 *   RECOV recoverers run beside them, each may die at any step; HOLD: a producer may keep its
 *   ticket open to the end (a reservation), then it publishes
 *
 * Mutants (README.md)
 *   MARKLATE RETOPEN NOLANE ANYTAG DISOWNANY OWNER0
 */
#ifndef NS
#define NS 2
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
#ifndef POPS
#define POPS 2
#endif
#ifndef MAXK
#define MAXK 0
#endif
#ifndef MAXS
#define MAXS 0
#endif
#ifndef I0
#define I0 ITEMS
#endif
#define LANE(p,n) ((p)==NPR-1 -> (n)%2 : 0)
#define NITEMS(p) ((p)==0 -> I0 : ITEMS)
#define ITEM(p,n) (((p)==0 -> 0 : I0+((p)-1)*ITEMS)+(n))

#ifndef RECOV
#define RECOV 0
#endif
#define NP   (NPR+NC)
#define REC  NP                     /* identities of the recoverers */
#define LAST (NP+RECOV)
#define NV   (I0+(NPR-1)*ITEMS)
#define NT   (NV+1)                 /* tickets per lane, and one more */
#define NONE 255
#define BIT(x) (1<<(x))
#define DONE  0
#define PAD   1
#define FULL  2
#define TAKEN 3
#define FREE   0
#define OWNED  1
#define ACTIVE 2
#define PENDING 1
#define EXACT   2
/* results of a look into the directory, and of an attempt to install */
#define FOUND 1
#define NEWER 2
#define NOTIN 3
#define NOSEG 4

typedef Slot { byte tag; byte st; byte ow; byte val };
Slot sl[NS];
byte hst[NS], hinc[NS], how[NS];    /* hdr */
byte bl[NS], bk[NS], bi[NS];        /* bind: lane, number, incarnation */
byte dk[2*D] = NONE, ds[2*D];       /* directories: number, segment */
byte tail[2], head[2], marks[2];
byte chg[2] = 255;                  /* gen: a bit per consumer, "changed since you looked" */
byte rec[NPR], rl[NPR], rt[NPR];    /* push records: kind, lane, ticket (or low) */
byte dead, freed;

/* ghosts. (lane, ticket) -> (segment, incarnation), written once, by the directory
   CAS; a consumer that watches a ticket remembers just that. */
byte gs[2*NT], gi[2*NT];
byte own[2*NT], il[NV+1], it[NV+1]; /* owner of a ticket; lane and ticket of an item */
byte comm, acked, fin, kills, stops, stopped;

#define G(l,t)    ((l)*NT+(t))
#define E(l,k)    ((l)*D+(k)%D)
#define W(l,t)    sl[gs[G(l,t)]]
#define INC(l,t)  gi[G(l,t)]
#define HOLE(l,t) (W(l,t).tag<INC(l,t))
#define ISFULL(l,t) (W(l,t).tag==INC(l,t) && W(l,t).st==FULL)
#define TERM(l,t) (W(l,t).tag>INC(l,t) || (W(l,t).tag==INC(l,t) && W(l,t).st<=PAD))
#define INSTALLED(l,k) (dk[E(l,k)]!=NONE && dk[E(l,k)]>=(k))
#ifdef RETOPEN
#define DRAINED(z) (hst[z]==ACTIVE && ((sl[z].tag==hinc[z] && sl[z].st<=PAD) || (sl[z].tag<hinc[z] && bi[z]==hinc[z] && head[bl[z]]>bk[z])))
#else
#define DRAINED(z) (hst[z]==ACTIVE && sl[z].tag==hinc[z] && sl[z].st<=PAD)
#endif
#ifdef NOLANE
#define BINDS(z,l) (bi[z]==hinc[z])
#else
#define BINDS(z,l) (bi[z]==hinc[z] && bl[z]==(l))
#endif
#define CONS(me) ((me)>=NP -> NC : (me)-NPR)

#define ck(me) if :: (me<NP && kills<MAXK) -> kills++; dead=dead|BIT(me); goto die \
                  :: (me<NP && stops<MAXS) -> stops++; stopped=stopped|BIT(me); goto die \
                  :: (me>=REC && me<LAST) -> dead=dead|BIT(me); goto die :: true fi
#ifdef OWNER0
#define OWNER(me) ((me)>=NP -> 1 : (me)+1)
#else
#define OWNER(me) ((me)+1)
#endif

/* ------------------------------------------------------------------ segments */

/* hdr OWNED of the entry e_: complete what it installed (exact, so merged with the read) */
#define ACTIVATE(e_) if :: hst[ds[e_]]==OWNED && bi[ds[e_]]==hinc[ds[e_]] && bk[ds[e_]]==dk[e_] && bl[ds[e_]]==(e_)/D -> hst[ds[e_]]=ACTIVE; how[ds[e_]]=0 :: else fi

/* look k up: y, and if FOUND  s, g = segment and incarnation, NONE if recycled */
inline resolve(l,k) {
  if :: dk[E(l,k)]!=NONE && dk[E(l,k)]==(k) -> y=FOUND; s=ds[E(l,k)];
        if :: BINDS(s,l) && bk[s]==(k) -> g=hinc[s]; ACTIVATE(E(l,k)) :: else -> g=NONE fi
     :: dk[E(l,k)]!=NONE && dk[E(l,k)]>(k) -> y=NEWER
     :: else -> y=NOTIN fi }

/* install number ins of lane l, whose predecessor is installed: y = FOUND or NOSEG */
inline install(me,l) {
  atomic { ck(me); y=0;                                               /* 1, retire merged: words only get terminal */
    s=0; do :: s<NS && hst[s]!=FREE && !DRAINED(s) -> s++ :: else -> break od;
    if :: s==NS -> s=0; y=NOSEG
       :: else -> hinc[s]++; hst[s]=OWNED; how[s]=OWNER(me) fi };
  if :: y==NOSEG -> skip
     :: else ->
#ifndef MARKLATE
    atomic { ck(me); marks[0]=marks[0]&(~BIT(s)) };                   /* 2 */
    atomic { ck(me); marks[1]=marks[1]&(~BIT(s)) };
#endif
    atomic {                                                          /* 3 */
      x=dk[E(l,ins)];
      g=hinc[s];
      if :: x!=NONE && x>=ins -> y=FOUND :: (x==NONE || x<ins) && ins>=D && head[l]<ins-D+1 -> y=NOSEG :: else -> y=0 fi };
    if :: y!=0 -> skip
       :: else ->
      atomic { ck(me); assert(hst[s]==OWNED && hinc[s]==g && how[s]==OWNER(me)); bl[s]=l; bk[s]=ins; bi[s]=g };                 /* 4 */
      atomic { if :: x!=NONE && dk[E(l,ins)]==x -> ACTIVATE(E(l,ins)) :: else fi };                  /* 5 */
      atomic { ck(me);                                                /* 6 */
        if :: dk[E(l,ins)]==x -> assert(gi[G(l,ins)]==0); gs[G(l,ins)]=s; gi[G(l,ins)]=g; dk[E(l,ins)]=ins; ds[E(l,ins)]=s; y=0
           :: else -> y=FOUND fi };
#ifdef MARKLATE
      atomic { ck(me); marks[0]=marks[0]&(~BIT(s)); marks[1]=marks[1]&(~BIT(s)) };
#endif
    fi;
    if :: y==0 -> atomic { ck(me); y=FOUND; if :: hst[s]==OWNED && hinc[s]==g -> hst[s]=ACTIVE; how[s]=0 :: else fi }        /* 7 */
       :: else -> atomic { ck(me); bl[s]=NONE; bi[s]=g };             /* the binding is void */
                  atomic { ck(me); assert(hst[s]==OWNED && how[s]==OWNER(me) && hinc[s]==g); hst[s]=FREE; how[s]=0 } fi
  fi; s=0; g=0; x=0; ins=0 }

inline ensure(me,l,kk) {             /* y = FOUND or NOSEG */
  do :: atomic { INSTALLED(l,kk) -> y=FOUND; break }
     :: atomic { !INSTALLED(l,kk) -> ins=(kk); do :: ins>0 && !INSTALLED(l,ins-1) -> ins-- :: else -> break od };      /* 0 */
        install(me,l);
        if :: y==NOSEG -> break :: else fi
  od }

/* y = FOUND with s, g;  NONE: its segment is gone, so it is resolved;  NOSEG */
inline locate(me,l,t_) {
  do :: atomic { resolve(l,t_);
          if :: y==FOUND -> if :: g==NONE -> y=NONE :: else fi; break
             :: y==NEWER ->
                s=0; do :: s<NS && !(hst[s]==ACTIVE && BINDS(s,l) && bk[s]==(t_)) -> s++ :: else -> break od;
                if :: s<NS -> g=hinc[s]; y=FOUND :: else -> s=0; y=NONE fi; break
             :: else fi };
        ensure(me,l,t_);
        if :: y==NOSEG -> break :: else fi
  od }

/* ------------------------------------------------------------------ push */

#define PLOCALS byte s=0, g=0, x=0, ins=0, y=0

proctype P(byte me) {
  PLOCALS; byte n=0, l=0, t=0; bool held=0;
  do
  :: n<NITEMS(me) && !held ->
     l=LANE(me,n);
     atomic { t=tail[l] };
     ensure(me,l,t);
     if :: y==NOSEG -> skip          /* FULL, no ticket */
        :: else ->
       atomic { ck(me); rec[me]=PENDING; rl[me]=l; rt[me]=t };
       atomic { ck(me); t=tail[l]; tail[l]++; own[G(l,t)]=me };
       atomic { ck(me); rec[me]=EXACT; rt[me]=t };
       locate(me,l,t);
       if :: y==NOSEG -> held=1      /* the record keeps the ticket */
          :: else ->
#ifdef HOLD
         if :: true :: (fin>=NP-1) fi;
#endif
         assert(y==FOUND && s==gs[G(l,t)] && g==INC(l,t));
         atomic { ck(me); assert(sl[s].tag<g && hinc[s]==g); sl[s].val=ITEM(me,n)+1 };
         atomic { ck(me); assert(sl[s].tag<g && hinc[s]==g && sl[s].val==ITEM(me,n)+1);
           sl[s].tag=g; sl[s].st=FULL; comm=comm|BIT(ITEM(me,n)); il[ITEM(me,n)]=l; it[ITEM(me,n)]=t };
         atomic { ck(me); rec[me]=0 }
       fi
     fi; n++; s=0; g=0; t=0; y=0
  :: else -> break
  od;
  if :: held -> dead=dead|BIT(me) :: else fi;
die:
  atomic { s=0; g=0; x=0; ins=0; y=0; n=0; l=0; t=0; held=0; fin++ } }

/* ------------------------------------------------------------------ take */

/* the CAS FULL -> TAKEN of ticket t_ of lane l, at the place that was found before */
inline grab(me,l,t_) {
#ifdef ANYTAG
  if :: sl[s].st==FULL ->
#else
  if :: sl[s].tag==g && sl[s].st==FULL ->
#endif
        v=sl[s].val-1; assert(sl[s].val>0 && ((comm>>v)&1) && !((acked>>v)&1) && il[v]==(l) && it[v]==(t_));
        sl[s].st=TAKEN; sl[s].ow=me; got=1
     :: else -> got=0 fi }

#define CLOCALS byte n=0, l=0, j=0, h=0, z=0, v=0, wl0=0, wl1=0, p0=0, p1=0, hm=0; bool got=0, m=0
#define WL (l -> wl1 : wl0)
#define PST (l -> p1 : p0)
#define SETWL(e_) if :: l -> wl1=(e_) :: else -> wl0=(e_) fi

inline pop(me) {                     /* of lane l: got, or nothing seen */
  z=0;
again:
  atomic { h=head[l]; hm=0 };
  atomic { got=((chg[l]>>CONS(me))&1); chg[l]=chg[l]&(~BIT(CONS(me))) };
  if :: got -> z=0; got=0; atomic { SETWL(0) };
        do :: atomic { z<NS -> if :: ((marks[l]>>z)&1) && hst[z]==ACTIVE && BINDS(z,l) && !(sl[z].tag==hinc[z] && sl[z].st<=PAD) -> SETWL(WL|BIT(bk[z])) :: else fi; z++ }
           :: atomic { z>=NS -> z=0; break } od
     :: else fi;
  /* watched tickets */
  z=0;
  do :: atomic { z<NT && !got ->
          if :: (WL>>z)&1 -> s=gs[G(l,z)]; g=gi[G(l,z)];
                if :: TERM(l,z) -> SETWL(WL&(~BIT(z))); z++ :: ISFULL(l,z) -> m=1 :: else -> z++ fi
             :: else -> z++ fi };
        if :: m -> m=0; atomic { ck(me); grab(me,l,z) }; if :: got -> j=z :: else fi :: else fi
     :: atomic { got || z>=NT -> z=0; break } od;
  /* the others */
  if :: !got -> atomic { j=(h>PST -> h : PST) } :: else fi;
  do
  :: !got ->
     atomic { if :: j>=tail[l] -> y=NOTIN :: else -> resolve(l,j) fi };
     if :: y==NEWER -> goto again
        :: y==NOTIN -> break
        :: else fi;
     if :: g==NONE -> j++            /* recycled: closed */
        :: else ->
       atomic { if :: sl[s].tag==g && sl[s].st==FULL -> y=1 :: sl[s].tag<g -> y=2 :: else -> y=0 fi };
       if :: y==2 -> hm=hm|BIT(j); j++
          :: y==0 -> j++
          :: else ->
            if :: hm -> z=0;
                  do :: z<j -> if :: (hm>>z)&1 -> atomic { ck(me); marks[l]=marks[l]|BIT(gs[G(l,z)]) } :: else fi; z++ :: else -> break od; z=0;
                  atomic { ck(me); chg[l]=255 }
               :: else fi;
            atomic { ck(me); grab(me,l,j) };
            if :: got -> if :: l -> p1=j+1 :: else -> p0=j+1 fi;
                  atomic { ck(me); if :: head[l]<j+1 -> head[l]=j+1 :: else fi }
               :: else fi
       fi
     fi
  :: got -> break
  od;
  if :: got -> atomic { ck(me); assert(sl[s].tag==g && sl[s].st==TAKEN && sl[s].ow==me && sl[s].val==v+1);
                sl[s].st=DONE; sl[s].ow=0; assert(!((acked>>v)&1)); acked=acked|BIT(v) }
     :: else fi;
  atomic { j=0; h=0; z=0; v=0; hm=0; s=0; g=0; y=0; m=0 } }

proctype C(byte me) {
  PLOCALS; CLOCALS;
  do :: n<POPS -> if :: l=0 :: l=1 fi; pop(me); got=0; l=0; n++ :: else -> break od;
die:
  atomic { s=0; g=0; y=0; n=0; l=0; j=0; h=0; z=0; v=0; wl0=0; wl1=0; p0=0; p1=0; hm=0; got=0; m=0; fin++;
           chg[0]=chg[0]|BIT(CONS(me)); chg[1]=chg[1]|BIT(CONS(me)) } }

/* ------------------------------------------------------------------ recover */

inline padfor(me,lx,tt) {
  locate(me,lx,tt);
  if :: y==NOSEG -> defer=1
     :: y==NONE -> skip
     :: else -> assert(s==gs[G(lx,tt)] && g==INC(lx,tt) || sl[gs[G(lx,tt)]].tag>=INC(lx,tt));
        atomic { ck(me); if :: sl[s].tag<g -> assert((dead>>own[G(lx,tt)])&1); sl[s].tag=g; sl[s].st=PAD; sl[s].ow=0 :: else fi }
  fi; s=0; g=0; y=0 }

inline recover(me,i_) {
  defer=0;
  if :: i_<NPR ->                                                     /* B */
    atomic { k=rec[i_]; r=rl[i_]; t=rt[i_] };
    if :: k==EXACT -> padfor(me,r,t)
       :: k==PENDING ->
          atomic { tb=tail[r] };
          cov=0; lo=NONE; q=0;
          do :: q<NPR -> atomic { if :: rl[q]!=r -> skip
                                     :: rl[q]==r && rec[q]==EXACT -> cov=cov|BIT(rt[q])
                                     :: rl[q]==r && rec[q]==PENDING && !((dead>>q)&1) && rt[q]<lo -> lo=rt[q] :: else fi; q++ }
             :: else -> break od; q=0;
          do :: t<tb -> if :: (cov>>t)&1 -> skip
                           :: !((cov>>t)&1) && t>=lo -> atomic { if :: INSTALLED(r,t) && !HOLE(r,t) -> skip :: else -> defer=1 fi }
                           :: else -> padfor(me,r,t) fi; t++
             :: else -> break od
       :: else fi; k=0; r=0; t=0; tb=0; cov=0; lo=0
     :: else fi;
  q=0;
  do                                                                  /* A */
  :: q<NS ->
     atomic { if :: hst[q]!=FREE && bi[q]==hinc[q] && sl[q].tag==hinc[q] && sl[q].st==TAKEN && sl[q].ow==i_ -> k=1; g=hinc[q]; r=bl[q] :: else -> k=0 fi };
     if :: k -> atomic { ck(me); marks[r]=marks[r]|BIT(q) }; atomic { ck(me); chg[r]=255 };
           atomic { ck(me); if :: sl[q].tag==g && sl[q].st==TAKEN && sl[q].ow==i_ -> sl[q].st=FULL; sl[q].ow=0 :: else fi }     /* attempts: move.pml */
        :: else fi;
     k=0; g=0; r=0; q++
  :: else -> break
  od; q=0;
  do                                                                  /* C */
  :: q<NS ->
     atomic { if :: hst[q]==OWNED && how[q]==i_+1 -> k=1; g=hinc[q]; if :: bi[q]==hinc[q] && bl[q]<2 -> k=2; r=bl[q]; t=bk[q] :: else fi :: else -> k=0 fi };
#ifndef DISOWNANY
     if :: k==2 -> atomic { if :: dk[E(r,t)]==t && ds[E(r,t)]==q -> k=3 :: else fi } :: else fi;
#endif
     if :: k -> atomic { ck(me); if :: hst[q]==OWNED && how[q]==i_+1 && hinc[q]==g -> hst[q]=(k==3 -> ACTIVE : FREE); how[q]=0 :: else fi } :: else fi;
     k=0; g=0; r=0; t=0; q++
  :: else -> break
  od; q=0;
  if :: !defer -> atomic { ck(me); freed=freed|BIT(i_) } :: else fi; defer=0 }

#define RLOCALS byte k=0, r=0, t=0, tb=0, cov=0, lo=0, q=0, i=0; bool defer=0

proctype R(byte me) {
  PLOCALS; RLOCALS;
  do :: i<NP -> if :: ((dead>>i)&1) && !((freed>>i)&1) -> recover(me,i) :: true fi; i++ :: else -> break od;
die:
  atomic { s=0; g=0; x=0; ins=0; y=0; k=0; r=0; t=0; tb=0; cov=0; lo=0; q=0; i=0; defer=0; fin++ } }

/* When all have ended: recover the dead, pop all, three times (a drained segment is
   what an earlier deferral waited for); then look at everything. */
proctype Last(byte me) {
  PLOCALS; RLOCALS; CLOCALS;
  (fin==NP+RECOV);
  atomic {
  do :: n<3 ->
        i=0; do :: i<LAST -> if :: ((dead>>i)&1) && !((freed>>i)&1) -> recover(me,i) :: else fi; i++ :: else -> break od; i=0;
        l=0; do :: l<2 -> do :: pop(me); if :: got -> got=0 :: else -> break fi od;
                   /* head as far as it goes, as admit does it */
                   j=head[l]; do :: j<tail[l] && INSTALLED(l,j) && !ISFULL(l,j) ->
                                      if :: HOLE(l,j) -> marks[l]=marks[l]|BIT(gs[G(l,j)]); chg[l]=255 :: else fi; j++ :: else -> break od;
                   head[l]=(head[l]<j -> j : head[l]); j=0; l++
                :: else -> break od; l=0; n++
     :: else -> break od;
  i=0; do :: i<NV -> if :: ((comm>>i)&1) && !((acked>>i)&1) -> /* with a stopped consumer, else lost */
                           z=0; got=0; do :: z<NS -> if :: sl[z].val==i+1 && sl[z].st==TAKEN && ((stopped>>sl[z].ow)&1) -> got=1 :: else fi; z++ :: else -> break od; assert(got)
                        :: else fi; i++ :: else -> break od;
  if :: stops==0 -> l=0; do :: l<2 -> j=0; do :: j<tail[l] -> assert(INC(l,j) && TERM(l,j)); j++ :: else -> break od; l++ :: else -> break od
     :: else fi };
die: skip }

init { byte i; atomic {
  i=0; do :: i<NPR -> run P(i); i++ :: else -> break od;
  i=0; do :: i<NC -> run C(NPR+i); i++ :: else -> break od;
  i=0; do :: i<RECOV -> run R(REC+i); i++ :: else -> break od;
  run Last(LAST); i=0 } }
