/* SPDX-License-Identifier: MIT */
/* wait.h - sleeping until there is an item, or room. */
#ifndef SHMQ_WAIT_H
#define SHMQ_WAIT_H

#include "queue.h"

/* word: [epoch 14 | fenced 1 | polled 8 | fence 1 | armed 8]. One armed bit per lane for
 * those who sleep, and one polled bit for those who are to be told: see bell.c. */
#define WAIT_ARMED 0xffu
#define WAIT_FENCE 0x100u
#define WAIT_POLLED_SHIFT 9
#define WAIT_POLLED (0xffu << WAIT_POLLED_SHIFT)
#define WAIT_FENCED 0x20000u
#define WAIT_EPOCH 0x40000u

#define SLICE_NS (50 * UINT64_C(1000000)) /* everybody who waits looks again after it */

HIDDEN void wake_slow(struct shmq *q, enum wait_side side, unsigned lane, int n, uint32_t w);
/* Have every sleeper of both sides look again. */
HIDDEN void wake_all(struct shmq *q);

/* Does anybody wait on that side? Then *@w is for wake_slow(). Costs a load. */
static ALWAYS_INLINE bool sleepers(struct shmq *q, enum wait_side side, uint32_t *w)
{
	if (unlikely(q->must_fence)) /* PARK: membarrier() does not reach us */
		atomic_thread_fence(memory_order_seq_cst);
	/* PARK: after PUBLISH (sleepers use membarrier) or TAKE (seq_cst). */
	*w = atomic_load_explicit(&wakeup_of(q)->side[side].word, memory_order_seq_cst);
	return unlikely(*w & (WAIT_ARMED | WAIT_POLLED | WAIT_FENCE));
}

/* Wake up to @n sleepers of @lane, and tell all who poll it. */
static inline void wake(struct shmq *q, enum wait_side side, unsigned lane, int n)
{
	uint32_t w;

	if (sleepers(q, side, &w))
		wake_slow(q, side, lane, n, w);
}

/*
 * Announce somebody who waits on that side: set @bits of the word and add @epoch to it,
 * with a barrier before whatever is looked at next. Returns the word as it is now.
 */
HIDDEN uint32_t wait_announce(struct shmq *q, enum wait_side side, uint32_t bits,
			      uint32_t epoch);

/*
 * Call @attempt until it returns something other than -EAGAIN, sleeping between
 * the calls while nobody wakes one of @lanes (a bit each), at most @timeout_ns.
 * Returns what it returned; -EAGAIN if @timeout_ns is 0; -ETIMEDOUT; -EINTR.
 */
HIDDEN ssize_t wait_until(struct shmq *q, enum wait_side side, uint32_t lanes,
			  int64_t timeout_ns, ssize_t (*attempt)(void *arg), void *arg);

#endif
