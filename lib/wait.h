/* SPDX-License-Identifier: MIT */
/* wait.h - sleeping until there is an item, or room. */
#ifndef SHMQ_WAIT_H
#define SHMQ_WAIT_H

#include "queue.h"

/* word: [epoch 23 | fence 1 | armed 8], one armed bit per lane. */
#define WAIT_ARMED 0xffu
#define WAIT_FENCE 0x100u
#define WAIT_EPOCH 0x200u

HIDDEN void wake_slow(struct shmq *q, enum wait_side side, unsigned lane, int n, uint32_t w);
/* Have every sleeper of both sides look again. */
HIDDEN void wake_all(struct shmq *q);

/* Does anybody sleep on that side? Then *@w is for wake_slow(). Costs a load. */
static ALWAYS_INLINE bool sleepers(struct shmq *q, enum wait_side side, uint32_t *w)
{
	if (unlikely(q->must_fence)) /* PARK: membarrier() does not reach us */
		atomic_thread_fence(memory_order_seq_cst);
	/* PARK: after PUBLISH (sleepers use membarrier) or TAKE (seq_cst). */
	*w = atomic_load_explicit(&wakeup_of(q)->side[side].word, memory_order_seq_cst);
	return unlikely(*w & (WAIT_ARMED | WAIT_FENCE));
}

/* Wake up to @n sleepers of @lane. */
static inline void wake(struct shmq *q, enum wait_side side, unsigned lane, int n)
{
	uint32_t w;

	if (sleepers(q, side, &w))
		wake_slow(q, side, lane, n, w);
}

/*
 * Call @attempt until it returns something other than -EAGAIN, sleeping between
 * the calls while nobody wakes one of @lanes (a bit each), at most @timeout_ns.
 * Returns what it returned; -EAGAIN if @timeout_ns is 0; -ETIMEDOUT; -EINTR.
 */
HIDDEN ssize_t wait_until(struct shmq *q, enum wait_side side, uint32_t lanes,
			  int64_t timeout_ns, ssize_t (*attempt)(void *arg), void *arg);

#endif
