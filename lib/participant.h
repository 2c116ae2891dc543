/* SPDX-License-Identifier: MIT */
/* participant.h - the record of a handle, and whether its owner lives. */
#ifndef SHMQ_PARTICIPANT_H
#define SHMQ_PARTICIPANT_H

#include "queue.h"

/*
 * Take a record and become alive: sets q->me, q->inc, q->self, q->token.
 * 0; -EUSERS all are taken by the living; other errors.
 */
HIDDEN int participant_join(struct shmq *q);

/* Leave. With an unsettled ticket the record stays, for recovery. */
HIDDEN void participant_leave(struct shmq *q);

/*
 * Is the participant with this token certainly dead? In doubt: no.
 * The kernel says so: the byte that its mapping keeps locked is free.
 */
HIDDEN bool participant_dead(struct shmq *q, uint64_t token);

static inline uint64_t participant_state_of(struct shmq *q, uint32_t i)
{
	/* JOIN: identity and the cleared record are seen with LIVE. */
	return atomic_load_explicit(&participant_of(q, i)->state, memory_order_acquire);
}

#endif
