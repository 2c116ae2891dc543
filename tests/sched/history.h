/* SPDX-License-Identifier: MIT */
/*
 * history.h - is what the participants saw the behaviour of a queue? Searches for an
 * order of everything that happened, each thing at one instant within its call, that
 * a sequential queue with lanes could have gone through.
 *
 * The sequential queue: a lane is a list of items and holes (reservations); a pop
 * takes the first item, EMPTY means that there is none; a push appends. FULL is true
 * if items, holes and the pushes that overlap the refused call could fill the lane.
 * What a killed participant was at may have happened until its death or not; what it
 * held comes back where it was, what it reserved goes, at some time after the death.
 */
#ifndef HISTORY_H
#define HISTORY_H

#include <stdbool.h>
#include <stdint.h>

#define HISTORY_THREADS 5 /* participants, the past, and the one that drains */
#define HISTORY_LANES 2
#define HISTORY_NEVER UINT32_MAX

enum happening {
	H_PUSH,	   /* @id appended to @lane */
	H_FULL,	   /* @lane had no room */
	H_RESERVE, /* a hole for @id appended */
	H_COMMIT,  /* the hole is the item @id */
	H_ABORT,   /* the hole of @id is gone */
	H_POP,	   /* @id taken and done with */
	H_EMPTY,   /* @lane had no item */
	H_PEEK,	   /* @id taken and held */
	H_RELEASE, /* done with @id */
	H_REQUEUE, /* @id back where it was */
	H_DIED_IN_POP,	/* maybe: some item taken and done with, or held */
	H_DIED_IN_PEEK, /* maybe: some item taken and held */
};

struct event {
	enum happening what;
	uint8_t lane, id, attempts; /* 0: unknown */
	bool maybe;	   /* in the call that its thread died in */
	uint32_t from, to; /* the call: from the time it began until it returned */
};

void history_begin(int threads, int lanes, const uint64_t *capacity);
/* Items that came back @attempts times are not delivered, but moved to @lane, by a pop
 * that meets them; unless @lane could be full, or is their own. */
void history_dead_lane(int lane, int attempts);
void history_add(int thread, struct event e);
/* The call [from, to) of @thread may have held @n places of @lane. */
void history_push(int thread, int lane, int n, uint32_t from, uint32_t to);
void history_died(int thread, uint32_t at);
/* The last thread begins when all is over. */
bool history_explained(void);
void history_print(void);

#endif
