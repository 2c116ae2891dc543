/* SPDX-License-Identifier: MIT */
/*
 * bound.h - a bound for queues that have none, at about the wanted capacity.
 *
 * To ask such a queue for its size before each push would slow it down unfairly. So a
 * producer that has looked takes its share of the room that it saw, and pushes as many
 * without another look. The looks of several producers are not at the same time, so the
 * queue may get longer than the capacity, but never twice as long.
 */
#ifndef BENCH_BOUND_H
#define BENCH_BOUND_H

#include <stdint.h>

struct bound {
	uint64_t capacity, producers;
	uint64_t credit; /* pushes without another look */
};

/* When the credit is used up. */
static inline void bound_look(struct bound *b, uint64_t size)
{
	uint64_t room = size < b->capacity ? b->capacity - size : 0;

	b->credit = (room + b->producers - 1) / b->producers;
}

/* How many of @n may be pushed now. */
static inline int bound_use(struct bound *b, int n)
{
	uint64_t some = b->credit < (uint64_t)n ? b->credit : (uint64_t)n;

	b->credit -= some;
	return (int)some;
}

#endif
