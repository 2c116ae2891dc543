/* SPDX-License-Identifier: MIT */
/*
 * pop.h - the parts of shmq-pop: pop.c reads the command line and takes messages for
 * stdout, pop_exec.c hands each message to a command.
 */
#ifndef SHMQ_POP_H
#define SHMQ_POP_H

#include "tool.h"

struct pop_args {
	struct tool_target from;
	int delimiter;
	const char *lane;
	const char *command;               /* of --exec, or NULL */
	uint64_t count;                    /* 0: not given */
	bool all, follow, timeout, ending; /* ending: -0 or --delimiter was given */
	int64_t timeout_ns;
	unsigned open_flags;
};

struct pop {
	const struct pop_args *args;
	struct shmq *q;
	struct shmq_stat st;
	int lane;
	char label[SHMQ_NAME_MAX + SHMQ_LANE_NAME_MAX + 2]; /* jobs, or jobs/high */
	uint64_t want, done; /* messages: done is written, or released by --exec */
	unsigned failures;   /* of the command of --exec, in a row */
	bool empty;          /* found so: the end, whatever is still wanted */
	int64_t timeout_ns;
	int nr_room; /* messages of full size that @room holds, at most one batch */
	char *room;
};

/* ---- pop.c ---- */

/* Name of the lane that a message was in. */
const char *pop_lane_name(const struct pop *p, const struct shmq_info *info);
/* For -v: a line about one message. */
void pop_say_message(const struct pop *p, const struct shmq_info *info);
/* Asked to stop, with @lost messages popped and not written. Returns the exit code. */
int pop_say_interrupted(const struct pop *p, int lost);
/* Nothing (more) to take. Returns the exit code. */
int pop_say_empty(struct pop *p, int err);

/* ---- pop_exec.c ---- */

/* Run the command for one message. Returns 0, or an exit code that ends it all. */
int pop_exec(struct pop *p);

#endif
