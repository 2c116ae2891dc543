/* SPDX-License-Identifier: MIT */
/* recover.h - the dead: what they held goes back. */
#ifndef SHMQ_RECOVER_H
#define SHMQ_RECOVER_H

#include "queue.h"

struct recovered {
	uint32_t participants; /* records freed */
	uint32_t deferred;     /* dead, but a ticket of theirs can not be told yet */
	uint64_t items;        /* made available again */
	uint64_t tickets;      /* unfinished pushes closed */
};

/* Recover whoever is proven dead: true if that gave anything back. @out may be NULL. */
HIDDEN bool recover_all(struct shmq *q, struct recovered *out);

/* Look at some participants, others each time, and recover the dead. */
HIDDEN void recover_probe(struct shmq *q);

#endif
