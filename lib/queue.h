/* SPDX-License-Identifier: MIT */
/*
 * queue.h - what one handle knows privately, and the way from it to shared words.
 *
 * The geometry is copied from the header once, after validation, and is the only
 * source of bounds: an index that comes out of shared memory is checked against
 * it before use. A region that contradicts itself yields -EBADMSG, never a wild
 * access.
 */
#ifndef SHMQ_QUEUE_H
#define SHMQ_QUEUE_H

#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "layout.h"

#define HIDDEN __attribute__((visibility("hidden")))
#define NOINLINE __attribute__((noinline))
#define ALWAYS_INLINE inline __attribute__((always_inline))
#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

struct geometry {
	uint64_t bytes;
	uint64_t item_size, slot_bytes;
	uint32_t nr_lanes, max_participants, nr_segments, flags, max_attempts;
	int32_t dead_lane;
	uint32_t slots, slots_shift; /* per segment */
	uint32_t map_words;          /* 64-bit words of a map over the segments */
	uint64_t capacity[SHMQ_MAX_LANES], dir_size[SHMQ_MAX_LANES];
	/* offsets in the region */
	uint64_t participants, lanes, wakeup, dirs[SHMQ_MAX_LANES], marks[SHMQ_MAX_LANES];
	uint64_t pads[SHMQ_MAX_LANES];
	uint64_t hints, segments, descriptors, stamps, payload;
};

/* One data mapping, shared by the handles that shmq_dup() makes from another. */
struct mapping {
	_Atomic uint32_t users;
	char *base;
	uint64_t bytes;
	int fd; /* holds no lock; for probing, re-opening and fstat */
	uint64_t dev, ino; /* of the file that fd stands for */
	struct header header;
	struct geometry geo;
	char name[SHMQ_NAME_MAX + 1];
};

/*
 * Does the descriptor stand for the queue still? A process that closes all of its
 * descriptors closes this one too, and the next file it opens gets the number. No lock
 * is set on such a file, so that everybody would seem dead, and no handle of it holds
 * anything: what is asked through the descriptor counts only if this is true.
 */
HIDDEN bool mapping_intact(const struct mapping *m);

/* A segment as bound to a number of a lane: this binding never changes. */
struct place {
	uint64_t number; /* in full, not cut to NUMBER_BITS */
	uint64_t inc;
	uint32_t segment;
	bool recycled; /* the segment lives another life: every ticket is closed */
	struct descriptor *descriptors; /* of its slots, in this process */
	char *payload;
};

/* No segment has this number: a place that is not known. */
#define NUMBER_UNKNOWN UINT64_MAX
#define GEN_UNKNOWN UINT64_MAX

struct watched {
	uint64_t first; /* ticket of its slot 0 */
	uint64_t inc;
	uint64_t mask; /* slots that were not closed for good when last looked at */
	uint32_t segment;
};

/* Tickets for which the short way of fast.h is open. */
struct window {
	uint64_t first; /* ticket of slot 0 of the segment */
	uint64_t n;     /* so many from there on; 0 none */
	uint64_t full;  /* the slot word of an item that nobody has tried to take */
};

/* How close we are to the producers, and whether another distance is better: distance.c */
struct distance {
	uint64_t looked;        /* the start of the view at the last look */
	uint64_t from, from_ns; /* where and when the stretch began that is measured */
	uint64_t pace_close;    /* of the last stretch from close by */
	uint32_t n;             /* close looks, or pauses, in this stretch */
	uint32_t idle;          /* close looks until a stretch is measured */
	uint32_t patience;      /* and how many if the next trial does not pay */
	uint32_t stretches;     /* of falling back until both are compared again */
	uint32_t lost;          /* items that other consumers were faster at, of late */
	bool falling;
};

/* What a handle remembers of a lane. All of it may be old; see protocol.md. */
struct view {
	/* producer */
	_Alignas(256) struct lane *lane;
	struct window push; /* of push_at */
	struct place push_at;
	/* consumer */
	struct tally *tally; /* my counters; the producer's as well */
	uint64_t gen;   /* of the watch list, or GEN_UNKNOWN */
	uint64_t start; /* below it I have seen everything closed or marked */
	uint64_t idle;  /* @start when the lane was last found empty */
	struct window pop; /* of pop_at */
	struct place pop_at;
	uint32_t nr_watched;
	uint32_t hot; /* looks that still wait for the next item: it may be near */
	uint32_t near_left; /* items to be taken behind the window before tail is read */
	word_t *sole;       /* the only watched slot, if there is but one, */
	uint64_t sole_word; /* and its word when nothing was to be had there */
	/* the long way */
	uint64_t limit; /* tickets below it are within the capacity */
	uint64_t near;  /* from here on the limit is close: see draw() in push.c */
	uint64_t full_at; /* head when it was last waited for: see head_comes() */
	uint64_t t0;    /* a value tail had */
	struct distance distance;
	uint64_t long_takes; /* items taken; the others are those that moved @start */
	struct place retire_later; /* a segment that was not drained when we left it */
	struct watched *watched; /* room for every segment; mapped on first use */
};

/* A pollable descriptor of one direction: see bell.c. All 0: there is none. */
struct bell {
	int epoll;   /* what the caller polls; it holds the other two */
	int inotify; /* 0: the system gives none */
	int timer;
	uint32_t quiet;  /* lanes that were found empty, or full, since the last ring: a bit
	                    each */
	uint32_t owed;   /* lanes that were asked for and may have something */
	uint32_t looks;  /* in vain, while others are owed */
	uint32_t rings;  /* as last seen */
	uint64_t set_ns;   /* when the timer was wound up, CLOCK_MONOTONIC, */
	uint64_t slice_ns; /* and for how long */
	uint64_t moved;    /* by this handle, when it was quieted last */
	uint64_t used[SHMQ_MAX_LANES]; /* the same of each lane, of this direction */
};

/* What keeps a handle from pushing, a bit each. */
enum busy {
	BUSY_UNSETTLED = 1, /* its record names a ticket that could not be closed for want
	                       of a segment */
	BUSY_RESERVED = 2,  /* a ticket is open until commit or abort */
};

struct shmq {
	struct mapping *map; /* NULL in a child after fork(): the page reads as zero */
	uint32_t usable_lanes; /* nr_lanes; 0 for an observer, and after fork() */
	uint32_t any_first;    /* where SHMQ_ANY_LANE begins */
	uint32_t short_end;    /* pushes shorter than this may go the short way, */
	uint32_t short_max;    /* and pops of items up to this */
	uint32_t edge_mask;    /* of a slot: head is raised where these bits are all set */
	struct wakeup *wakeup;
	struct geometry geo;
	char *base;
	void *token; /* one page mapped through the description that holds the lock */
	uint64_t inc; /* of my participant record */
	uint32_t me;
	bool observer;
	bool must_fence;   /* membarrier() of others does not reach this process */
	uint32_t calm;     /* wakes in a row that found nobody: see wait.c */
	uint32_t busy;     /* enum busy */
	uint64_t record;   /* what my record says; the shared copy is for the others */
	uint64_t reserved; /* the ticket that is reserved, and where */
	unsigned reserved_lane;
	struct place reserved_at;
	uint32_t nr_leases;
	struct shmq_recovered opened; /* what opening found, until shmq_recover() tells it */
	uint64_t came_by_ns; /* when recover_probe() was last called; */
	uint32_t slow;       /* not 0: too rarely for windows */
	uint32_t alloc_at; /* where the last search for a segment ended */
	uint32_t spin;     /* rounds to spin before sleeping, adaptive */
	bool no_spin;      /* and none at all */
	uint32_t cpus;
	struct participant *self;
	struct bell bell[2]; /* enum wait_side */
	int either;          /* epoll of both, or 0 */
	struct shmq_pressure refused; /* the last time; capacity 0: never */
	struct view view[SHMQ_MAX_LANES];
};

/* ---- from the handle to shared words --------------------------------------- */

static inline struct lane *lane_of(const struct shmq *q, unsigned lane)
{
	return (struct lane *)(q->base + q->geo.lanes) + lane;
}
static inline struct wakeup *wakeup_of(const struct shmq *q)
{
	return q->wakeup;
}
static inline struct participant *participant_of(const struct shmq *q, unsigned i)
{
	return (struct participant *)(q->base + q->geo.participants) + i;
}
static inline word_t *dir_of(const struct shmq *q, unsigned lane, uint64_t number)
{
	return (word_t *)(q->base + q->geo.dirs[lane]) +
	       (number & (q->geo.dir_size[lane] - 1));
}
static inline word_t *marks_of(const struct shmq *q, unsigned lane)
{
	return (word_t *)(q->base + q->geo.marks[lane]);
}
static inline word_t *pads_of(const struct shmq *q, unsigned lane)
{
	return (word_t *)(q->base + q->geo.pads[lane]);
}
static inline word_t *hints_of(const struct shmq *q)
{
	return (word_t *)(q->base + q->geo.hints);
}
static inline struct segment *segment_of(const struct shmq *q, uint32_t s)
{
	return (struct segment *)(q->base + q->geo.segments) + s;
}
static inline uint64_t slot_index(const struct shmq *q, uint32_t s, uint64_t ticket)
{
	return ((uint64_t)s << q->geo.slots_shift) + (ticket & (q->geo.slots - 1));
}
static inline struct descriptor *descriptor_of(const struct shmq *q, uint64_t slot)
{
	return (struct descriptor *)(q->base + q->geo.descriptors) + slot;
}
/*
 * Where the descriptor of a slot lies among those of its segment. Neighbours lie
 * on different cache lines, so that a consumer close behind a producer does not
 * take away the line that the producer is about to write. SPREAD is odd, and so many
 * descriptors are more than a line.
 */
static inline uint64_t spread(const struct shmq *q, uint64_t ticket)
{
	return (ticket * SPREAD) & (q->geo.slots - 1);
}
static inline char *payload_of(const struct shmq *q, uint64_t slot)
{
	return q->base + q->geo.payload + slot * q->geo.slot_bytes;
}
static inline word_t *stamp_of(const struct shmq *q, uint64_t slot)
{
	return (word_t *)(q->base + q->geo.stamps) + slot;
}

/* relaxed: only the owner of the record writes its counters. */
static inline uint64_t tally_get(word_t *w)
{
	return atomic_load_explicit(w, memory_order_relaxed);
}
static inline void tally_add(word_t *w, uint64_t n)
{
	atomic_store_explicit(w, tally_get(w) + n, memory_order_relaxed);
}

/* At the head of a function that makes system calls: errno stays the caller's. */
static inline void errno_restore(const int *saved)
{
	errno = *saved;
}
#define KEEP_ERRNO int saved_errno __attribute__((cleanup(errno_restore), unused)) = errno

/* At the head of a function that opens or closes something: open(), read() and close()
 * are cancellation points, and a thread that ended there would leave the rest undone. */
static inline int cancel_disable(void)
{
	int old;

	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old);
	return old;
}

static inline void cancel_restore(const int *saved)
{
	pthread_setcancelstate(*saved, NULL);
}
#define NO_CANCEL int saved_cancel __attribute__((cleanup(cancel_restore), unused)) = \
		cancel_disable()

/* Fetch a line for writing. __builtin_prefetch(p, 1) only reads on plain x86-64. */
static inline void fetch_for_write(const void *p)
{
#if defined(__x86_64__)
	__asm__ volatile("prefetchw %0" : : "m"(*(const char *)p));
#else
	__builtin_prefetch(p, 1);
#endif
}

static inline void cpu_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

#endif
