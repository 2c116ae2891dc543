/* SPDX-License-Identifier: MIT */
/* bell.h - descriptors to poll: who waits for items or room without sleeping here. */
#ifndef SHMQ_BELL_H
#define SHMQ_BELL_H

#include "queue.h"

/* Tell all who poll one of @lanes on that side. For wait.c. */
HIDDEN void bell_ring(struct shmq *q, enum wait_side side, uint32_t lanes);

/* The descriptor of that side, made on first use; or an error. */
HIDDEN int bell_open(struct shmq *q, enum wait_side side);
HIDDEN void bells_close(struct shmq *q);

HIDDEN ssize_t bell_quieten(struct shmq *q, enum wait_side side, uint32_t lanes,
			    ssize_t (*attempt)(void *arg), void *arg);

static inline bool bell_there(const struct shmq *q, enum wait_side side)
{
	return unlikely(q->bell[side].epoll);
}

/*
 * @attempt has just returned -EAGAIN: if the handle is polled, its descriptor is not
 * readable any more, until there may be something in @lanes. Returns what another
 * @attempt returned: -EAGAIN, or there was something after all.
 */
static inline ssize_t bell_quiet(struct shmq *q, enum wait_side side, uint32_t lanes,
				 ssize_t (*attempt)(void *arg), void *arg)
{
	return bell_there(q, side) ? bell_quieten(q, side, lanes, attempt, arg) : -EAGAIN;
}

#endif
