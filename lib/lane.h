/* SPDX-License-Identifier: MIT */
/* lane.h - push and take: the algorithm of docs/protocol.md. */
#ifndef SHMQ_LANE_H
#define SHMQ_LANE_H

#include "queue.h"

/* An item that is ours: TAKEN, until lane_finish(). */
struct taken {
	uint64_t ticket, slot, inc;
	uint32_t segment, len;
	unsigned attempts; /* earlier takers that died with it */
	unsigned lane;
};

/*
 * Push a prefix of @n items, n >= 1, without waiting: the number pushed; 0 if
 * the lane is full, q->refused says how; -EBADMSG.
 */
HIDDEN int lane_push(struct shmq *q, unsigned lane, const struct iovec *items, int n);

/*
 * Take the next item of at most @room bytes: 1; 0 the lane is empty;
 * -EMSGSIZE it is longer, t->len says how long, nothing is taken; -EBADMSG;
 * -ENOMEM.
 */
HIDDEN int lane_take(struct shmq *q, unsigned lane, size_t room, struct taken *t);

/* Done with a taken item: it is consumed. */
HIDDEN void lane_finish(struct shmq *q, const struct taken *t);

/* Close the own ticket that an earlier push left for want of a segment. */
HIDDEN bool lane_settle(struct shmq *q);

/* PAD the tickets [@t, @t + @n) where they are unpublished; -ENOBUFS, -EBADMSG.
 * The caller owns them, or has proven their owner dead and calls @valid first. */
HIDDEN int lane_pad(struct shmq *q, unsigned lane, uint64_t t, unsigned n,
		    bool (*valid)(struct shmq *, void *), void *arg);

/* A ticket below head may be open again: have every consumer look. */
HIDDEN void lane_mark(struct shmq *q, unsigned lane, uint32_t segment);

#endif
