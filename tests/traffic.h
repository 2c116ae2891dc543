/* SPDX-License-Identifier: MIT */
/*
 * traffic.h - producers and consumers that account for every item: how many,
 * which ones, in which order. Used by processes and by threads alike.
 *
 * The struct lies in shared(); each worker writes only its own part.
 */
#ifndef TESTS_TRAFFIC_H
#define TESTS_TRAFFIC_H

#include "common.h"

#define TRAFFIC_WORKERS 8 /* producers, and as many consumers */

struct worker {
	_Alignas(64) atomic_ulong items[SHMQ_MAX_LANES];
	atomic_ulong hash;    /* sum over its items */
	atomic_ulong refused; /* calls that returned -EAGAIN or -ETIMEDOUT */
	atomic_int done;
};

struct traffic {
	unsigned producers, consumers, lanes;
	uint64_t each;      /* items of each producer; it ends then or at quit */
	size_t item_size;   /* items are STAMP_LEN up to this long */
	unsigned batch;     /* up to so many at once, single calls among them */
	int64_t timeout_ns; /* some calls wait so long, the others do not */
	bool pauses;        /* linger between calls */
	uint64_t seed;
	struct arrivals *arrivals; /* or NULL */

	atomic_int quit;
	struct worker producer[TRAFFIC_WORKERS], consumer[TRAFFIC_WORKERS];
};

struct traffic *traffic_new(unsigned producers, unsigned consumers,
			    unsigned lanes, uint64_t each);
void traffic_produce(struct traffic *t, struct shmq *q, unsigned me);
/* Until every producer is done and all of their items have come. */
void traffic_consume(struct traffic *t, struct shmq *q, unsigned me);

uint64_t traffic_items(const struct worker *w, unsigned n, int lane);
/* What went in came out, and the queue agrees and is empty. */
void traffic_check(struct traffic *t, struct shmq *q);

/* The same by processes of their own on the queue "q". */
void traffic_spawn(struct traffic *t, pid_t *producers, pid_t *consumers);

#endif
