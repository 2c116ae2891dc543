/* SPDX-License-Identifier: MIT */
/*
 * layout.h - every byte that is shared between processes, and who may change it.
 *
 * The region is one file: header, participants, lanes, directories, mark maps,
 * free hints, segment headers, descriptors, time stamps (if kept), payload. It
 * holds no pointer; every place is computed from the private copy of the header
 * (struct geometry) that attach has validated, never from a stored offset.
 *
 * Two rules carry the whole design. The words are the truth: one 64-bit word per
 * slot, segment and participant says state, owner and a tag that never repeats;
 * head, marks, free hints and counters are hints or tickets. And words move in
 * one direction within a tag, so that whoever is late can only fail its
 * compare-and-swap. docs/protocol.md has the steps, docs/design.md the deaths.
 *
 * The edge ledger: every access in lib/ that is not relaxed cites one of these.
 *
 * edge      writer (release)               reader (acquire)            makes visible
 * PUBLISH   publish: slot word FULL        scan: slot word             payload, length, stamp
 * TAKE      take: slot word TAKEN (CAS)    recovery: slot word         who holds the item
 * RETIRE    finish, pad: word DONE or PAD  segment_retire: slot words  nobody uses the slot any more
 * REUSE     segment_retire: hdr FREE       segment_alloc: hdr (CAS)    the segment may be written again
 * BIND      segment_install: dir (CAS)     segment_find: dir           hdr, bind; marks of older lives cleared
 * TICKET    push: tail (FAA or CAS)        take, admit: tail           the record says PENDING or EXACT
 * MOVE      lane_move: MOVING, source DONE recovery: both words        whether the move is decided
 * MARK      mark_segment: marks, then gen  watch_refresh: gen, marks   a ticket below head may be open
 * PASS      head_raise: head (CAS)         take, admit: head           everything below is closed or marked
 * RECORD    push: push record              recovery: push record       which tickets a push may own
 * PADS      pad: pad_max, map, then PAD    admit: pad_max, map         where PADs may lie
 * JOIN      participant_join: state LIVE   everyone: state             identity, cleared record
 * PARK      wait.c: sleeper arms (CAS), membarrier, looks again; waker publishes, loads. See the trace there.
 * BATON     wait.c: waker stamps woken_ns, changes the word; who was woken clears it, looks again
 * RING      bell_ring: rings (FAA)         shmq_arm, owe: rings        the polled bits are clear
 */
#ifndef SHMQ_LAYOUT_H
#define SHMQ_LAYOUT_H

#include <assert.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shmq.h"

#define SHMQ_MAGIC UINT64_C(0x0a30514d48530a7f) /* "\x7f\nSHMQ0\n" */
#define FORMAT_MAJOR 1 /* a reader of another major refuses */
#define FORMAT_MINOR 0

#define LINE 128 /* two cache lines: adjacent lines are prefetched in pairs */
#define SEGMENT_SLOTS_MAX 64 /* a watch mask is one word */
#define SEGMENTS_MAX (1u << 20)
#define SPREAD 5 /* descriptors between those of neighbouring slots: see spread() */

_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2 && ATOMIC_INT_LOCK_FREE == 2,
	       "shared words must be lock-free: a lock would be private to a process");
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ && sizeof(void *) == 8,
	       "the region is defined for little-endian 64-bit machines");

typedef _Atomic uint64_t word_t;
typedef _Atomic uint32_t futex_t;

/* ---- the header: written before the region has a name, then constant ------ */

struct header_lane {
	char name[SHMQ_LANE_NAME_MAX + 1];
	uint64_t capacity;
	uint64_t dir_size; /* power of two */
};

struct header {
	uint64_t magic;
	uint32_t format_major, format_minor;
	uint64_t layout_hash; /* of the structures below, and SPREAD */
	uint64_t region_bytes;
	uint64_t item_size;
	uint32_t nr_lanes;
	uint32_t max_participants;
	uint32_t nr_segments;
	uint32_t segment_slots; /* power of two */
	uint32_t flags;
	uint32_t max_attempts;
	int32_t dead_lane; /* or SHMQ_DROP */
	uint32_t creator_pid;
	uint64_t created_ns; /* CLOCK_REALTIME */
	uint64_t nonce;      /* tells two queues of one name apart */
	char creator[16];
	struct header_lane lanes[SHMQ_MAX_LANES];
};

/* ---- words ---------------------------------------------------------------- */

/* Slot word: [tag 44 | attempts 6 | owner 10 | state 4]. MOVING is unpublished yet,
 * a hole like those of an older tag: see lane_move(). */
enum slot_state {
	SLOT_DONE = 0, SLOT_PAD = 1, SLOT_FULL = 2, SLOT_TAKEN = 3, SLOT_MOVING = 4
};
#define SLOT_ATTEMPTS_MAX 63u
#define SLOT_OWNER_MAX 1023u

_Static_assert(SHMQ_PARTICIPANTS_MAX <= SLOT_OWNER_MAX + 1 &&
	       SHMQ_ATTEMPTS_MAX < SLOT_ATTEMPTS_MAX, "fields of the slot word");

static inline uint64_t slot_word(uint64_t tag, unsigned attempts, unsigned owner,
				 enum slot_state state)
{
	return tag << 20 | (uint64_t)attempts << 14 | (uint64_t)owner << 4 | state;
}
static inline uint64_t slot_tag(uint64_t w)
{
	return w >> 20;
}
static inline unsigned slot_attempts(uint64_t w)
{
	return w >> 14 & SLOT_ATTEMPTS_MAX;
}
static inline unsigned slot_owner(uint64_t w)
{
	return w >> 4 & SLOT_OWNER_MAX;
}
static inline unsigned slot_state(uint64_t w)
{
	return w & 15;
}

/* What a slot word says about a ticket whose segment has incarnation @inc. */
enum slot_class { OPEN_HOLE, OPEN_FULL, CLOSED_TAKEN, CLOSED_FOR_GOOD };

static inline enum slot_class slot_classify(uint64_t w, uint64_t inc)
{
	uint64_t tag = slot_tag(w);

	if (tag != inc) /* tags only grow: an older one is unpublished */
		return tag < inc ? OPEN_HOLE : CLOSED_FOR_GOOD;
	switch (slot_state(w)) {
	case SLOT_FULL:
		return OPEN_FULL;
	case SLOT_TAKEN:
		return CLOSED_TAKEN;
	case SLOT_MOVING:
		return OPEN_HOLE;
	default:
		return CLOSED_FOR_GOOD;
	}
}

/* Segment header word: [inc 44 | owner 12 | state 4 | 0 4]. */
enum segment_state { SEGMENT_FREE = 0, SEGMENT_OWNED = 1, SEGMENT_ACTIVE = 2 };

static inline uint64_t segment_word(uint64_t inc, unsigned owner, enum segment_state s)
{
	return inc << 20 | (uint64_t)owner << 8 | (uint64_t)s << 4;
}
static inline uint64_t segment_inc(uint64_t h)
{
	return h >> 20;
}
static inline unsigned segment_owner(uint64_t h)
{
	return h >> 8 & 0xfff;
}
static inline unsigned segment_state(uint64_t h)
{
	return h >> 4 & 15;
}

/* Segment numbers are compared as 44-bit serial numbers: they may wrap. */
#define NUMBER_BITS 44
#define NUMBER_MASK ((UINT64_C(1) << NUMBER_BITS) - 1)

static inline int64_t number_diff(uint64_t a, uint64_t b)
{
	return (int64_t)((a - b) << (64 - NUMBER_BITS)) >> (64 - NUMBER_BITS);
}

/* @number in full, which is close to @near. */
static inline uint64_t number_in_full(uint64_t number, uint64_t near)
{
	return near + (uint64_t)number_diff(number, near);
}

/* Binding: [number 44 | lane 4 | inc_low 16]. */
static inline uint64_t bind_word(uint64_t number, unsigned lane, uint64_t inc)
{
	return number << 20 | (uint64_t)lane << 16 | (inc & 0xffff);
}
/* No lane has this number: the binding of a segment that is not bound. */
#define LANE_NONE 15u
static inline uint64_t bind_number(uint64_t b)
{
	return b >> 20;
}
static inline unsigned bind_lane(uint64_t b)
{
	return b >> 16 & 15;
}
static inline bool bind_matches(uint64_t b, uint64_t inc)
{
	return (b & 0xffff) == (inc & 0xffff);
}

/* Directory entry: [number 44 | segment 20]. */
static inline uint64_t dir_word(uint64_t number, uint32_t segment)
{
	return number << 20 | segment;
}
static inline uint64_t dir_number(uint64_t d)
{
	return d >> 20;
}
static inline uint32_t dir_segment(uint64_t d)
{
	return d & 0xfffff;
}

/* Push record: [kind 2 | lane 3 | n 7 | ticket 52]. */
enum record_kind { RECORD_NONE = 0, RECORD_PENDING = 1, RECORD_EXACT = 2 };
#define TICKET_BITS 52
#define TICKET_MASK ((UINT64_C(1) << TICKET_BITS) - 1)

static inline uint64_t record_word(enum record_kind kind, unsigned lane, unsigned n,
				   uint64_t ticket)
{
	return (uint64_t)kind << 62 | (uint64_t)lane << 59 | (uint64_t)n << 52 |
	       (ticket & TICKET_MASK);
}
static inline unsigned record_kind(uint64_t r)
{
	return r >> 62;
}
static inline unsigned record_lane(uint64_t r)
{
	return r >> 59 & 7;
}
static inline unsigned record_n(uint64_t r)
{
	return r >> 52 & 127;
}
/* The ticket in full: the one nearest to @tail, of which it may be on either side. */
static inline uint64_t record_near(uint64_t r, uint64_t tail)
{
	return tail + (uint64_t)((int64_t)((r - tail) << (64 - TICKET_BITS)) >> (64 - TICKET_BITS));
}
/* The ticket in full: the newest one at or below @tail with these low bits. */
static inline uint64_t record_ticket(uint64_t r, uint64_t tail)
{
	return tail - ((tail - r) & TICKET_MASK);
}
/* Does an EXACT record name this ticket of this lane? @tail as in record_ticket(). */
static inline bool record_names(uint64_t r, unsigned lane, uint64_t ticket, uint64_t tail)
{
	return record_kind(r) == RECORD_EXACT && record_lane(r) == lane &&
	       ticket - record_ticket(r, tail) < record_n(r);
}

/* Participant word: [token 60 | state 4]. The token is never used again, so it stands
 * for the life of a participant as well. JOINING: whoever holds the token writes its
 * identity, and holds nothing yet. */
enum participant_state { PARTICIPANT_FREE = 0, PARTICIPANT_LIVE = 1, PARTICIPANT_JOINING = 2 };

static inline uint64_t participant_word(uint64_t inc, enum participant_state s)
{
	return inc << 4 | s;
}
static inline uint64_t participant_inc(uint64_t w)
{
	return w >> 4;
}
static inline unsigned participant_state(uint64_t w)
{
	return w & 15;
}

/* ---- structures ----------------------------------------------------------- */

/* On lines of their own: read by all, written only where somebody waits. */
struct waitword {
	_Alignas(LINE) futex_t word; /* see wait.c */
	futex_t rings;               /* counts, for who waits on many words: see bell.c */
	word_t woken_ns[SHMQ_MAX_LANES]; /* when a sleeper was woken that has not looked yet */
};

enum wait_side { WAIT_ITEMS = 0, WAIT_ROOM = 1 };

/* Of the queue, not of a lane. */
struct wakeup {
	struct waitword side[2];
	_Alignas(LINE) word_t alloc_at; /* hint: where the last free segment was found */
	_Alignas(LINE) word_t probed_ns; /* hint: when somebody last looked for the dead */
	word_t tokens; /* how many were drawn */
	word_t seats;  /* hint: participants from this number on have never been */
};

struct lane {
	_Alignas(LINE) word_t tail; /* written by producers */
	_Alignas(LINE) word_t head; /* written by consumers, now and then */
	_Alignas(LINE) word_t gen;  /* counts mark events */
	word_t pad_max;             /* no PAD at or above this ticket */
};

/* Counters only grow, also over the lives of a record: sums are totals. What the
 * present owner did is what came on top of its base. */
struct tally {
	word_t pushed, popped, rejected, dead, dropped;
};

struct participant {
	_Alignas(LINE) word_t state; /* with the owner's identity, for diagnosis */
	word_t since_ns;
	word_t start_time; /* of the process, in clock ticks after boot */
	word_t pid_ns;     /* inode of its pid namespace */
	word_t nonce;
	_Atomic uint32_t pid;
	_Atomic uint32_t role; /* enum shmq_role */
	word_t command[2];
	word_t base[3]; /* sums of the first three over the lanes, at the attach */
	/* written by the owner alone, by recovery never */
	_Alignas(LINE) word_t record;
	word_t reserved; /* EXACT from reserve to commit or abort; never PENDING */
	_Alignas(LINE) struct tally tally[SHMQ_MAX_LANES];
};

/* What one participant says about its tickets. */
struct records {
	uint64_t push, reserved;
};

/* RECORD: in this order, for a ticket goes from the one to the other. */
static inline struct records records_of(struct participant *p)
{
	struct records r;

	r.push = atomic_load_explicit(&p->record, memory_order_acquire);
	r.reserved = atomic_load_explicit(&p->reserved, memory_order_acquire);
	return r;
}

static inline bool records_name(const struct records *r, unsigned lane, uint64_t ticket,
				uint64_t tail)
{
	return record_names(r->push, lane, ticket, tail) ||
	       record_names(r->reserved, lane, ticket, tail);
}

struct segment {
	word_t hdr;
	word_t bind;
};

/* What a consumer looks at; apart from the payload, four to a cache line. */
struct descriptor {
	word_t word;
	word_t meta; /* [source 32 | length 32]; read before the word is won, hence atomic */
};

/* @source: of a MOVING slot, the index of the descriptor the item comes from. */
static inline uint64_t meta_word(uint32_t source, uint32_t len)
{
	return (uint64_t)source << 32 | len;
}
static inline uint32_t meta_source(uint64_t m)
{
	return (uint32_t)(m >> 32);
}
static inline uint32_t meta_len(uint64_t m)
{
	return (uint32_t)m;
}

#endif
