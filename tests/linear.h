/* SPDX-License-Identifier: MIT */
/*
 * linear.h - was what some processes saw a queue with lanes, or not?
 *
 * A history is a set of logs of operations. Each has an order number drawn before
 * the call and one drawn after it, from one counter, by an atomic addition: an
 * operation whose end is below another's begin happened before it, in the sense of
 * the memory model, so the queue has to agree. (A clock would not do: its reading
 * is no barrier, and a push whose store still sits in the store buffer of its CPU
 * would be called finished.) Every value is pushed once, which is what makes the
 * question cheap: a lane is a FIFO queue if and only if none of four kinds of
 * evidence is found (Henzinger, Sezgin, Vafeiadis: Aspect-Oriented Linearizability
 * Proofs, CONCUR 2013):
 *
 *   - a value is popped that nobody pushed, or before its push began;
 *   - a value is popped twice;
 *   - a is pushed before b, and b is popped before a, or a never;
 *   - a pop says EMPTY, and at each instant of it some value was certainly there:
 *     intervals from the end of a push to the begin of its pop cover it together.
 *
 * All of them are found by sorting: O(n log n). Three more that a queue with lanes
 * and a capacity promises are necessary, not sufficient: FULL only if at an instant
 * of the call as many items and unfinished pushes as fit could have been there,
 * never more items than fit, and an item of a lower lane only if each higher lane
 * was empty at an instant of the call.
 *
 * Batches: all items of a call share its interval, and their order within the call
 * is held against them too (pairs of one batch; chains through several batches
 * are not looked for).
 *
 * Deaths. Who was killed in a call may have done it or not. A dead push counts if
 * one of its values turns up; what turns up is a prefix of the batch. A dead pop
 * may have taken values: those found in its buffer by name, the others blank. A
 * value is gone with a dead pop only if it is in its buffer, since the copy ends
 * before the item is consumed. What was taken and not consumed comes back with
 * attempts above 1, in its old place, ahead of newer items. What is approximate:
 * the instants of the take and of the return are known only by bounds. The first
 * take lies between the begin of the first call that may have held the value and
 * the end of the last; the return is certain from op.over on. In between the value
 * is taken to be neither there nor away, so others may overtake it, EMPTY is
 * believed, and FULL is too. Takes between the first and the last are not ordered.
 */
#ifndef TESTS_LINEAR_H
#define TESTS_LINEAR_H

#include "common.h"

#define LINEAR_BATCH 6

enum linear_kind {
	LINEAR_PUSH = 1,
	LINEAR_ABORT,   /* a place was reserved from begin to end and given up */
	LINEAR_POP,
	LINEAR_REQUEUE, /* taken, and given back before the end */
};

struct linear_op {
	uint64_t begin;
	uint64_t end;   /* 0: the process died in it */
	uint64_t died;  /* then: drawn after the death */
	uint64_t over;  /* then: what it held was certainly given back; 0 unknown */
	uint64_t taken; /* a lease: drawn when it was got, while end is of its release */
	uint8_t kind;
	int8_t lane;    /* SHMQ_ANY_LANE for some pops */
	uint8_t asked;  /* items */
	uint8_t done;   /* fewer than asked: the lane was full, or empty */
	uint8_t attempts[LINEAR_BATCH]; /* of what was popped; 0 not asked for */
	uint8_t from[LINEAR_BATCH];     /* its lanes */
	uint64_t value[LINEAR_BATCH];   /* linear_value(); 0 none */
};

struct linear_log {
	const struct linear_op *ops;
	size_t n;
};

struct linear_history {
	const struct linear_log *logs;
	unsigned nr_logs, nr_lanes;
	uint64_t capacity[SHMQ_MAX_LANES]; /* 0: no limit */
	uint32_t nr_values; /* numbers of values are 1 up to below this */
};

enum linear_fault {
	LINEAR_FINE,
	LINEAR_UNKNOWN,   /* popped, never pushed: refused, given up or garbled */
	LINEAR_EARLY,     /* popped before its push began */
	LINEAR_TWICE,     /* popped twice, or after it was consumed */
	LINEAR_LOST,      /* pushed, and nobody has it */
	LINEAR_MOVED,     /* came from another lane than it went to */
	LINEAR_ORDER,     /* overtaken in its lane */
	LINEAR_EMPTY,     /* EMPTY, and it was not */
	LINEAR_FULL,      /* FULL, and it was not */
	LINEAR_OVERFULL,  /* more items than fit */
	LINEAR_PRIORITY,  /* from a low lane, and a higher one was not empty */
	LINEAR_ATTEMPTS,  /* a flag without a death, or a death without a flag */
	LINEAR_PREFIX,    /* a dead batch arrived in part, and not its front */
	LINEAR_NR_FAULTS,
};

extern const char *const linear_fault_name[LINEAR_NR_FAULTS];

struct linear_result {
	enum linear_fault fault; /* the first that was found */
	char text[400];          /* and the operations that show it */
	uint64_t ops, items, empty, full; /* claims of EMPTY and FULL that were judged */
	uint64_t dead_ops, requeued, came_back, gone; /* redelivered; consumed by the dead */
};

/* A value that can be told from a garbled one. */
uint64_t linear_value(uint32_t number);

/* All that was pushed must have been popped at the end. True if nothing is wrong. */
bool linear_check(const struct linear_history *h, struct linear_result *r);

#endif
