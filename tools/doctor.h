/* SPDX-License-Identifier: MIT */
/*
 * doctor.h - the parts of shmq-doctor: doctor.c reads the command line and prints what
 * was found, doctor_machine.c and doctor_inotify.c look at the machine, doctor_queue.c at
 * the queues, doctor_process.c at the processes that use them. Nothing here changes anything.
 */
#ifndef SHMQ_DOCTOR_H
#define SHMQ_DOCTOR_H

#include <sys/stat.h>

#include "tool.h"

/* ---- doctor.c: findings ---- */

enum doctor_level { DOCTOR_OK, DOCTOR_WARN, DOCTOR_FAIL }; /* the exit codes, too */

struct doctor_finding {
	enum doctor_level level;
	const char *id;    /* for programs: "kernel", "held-by-dead", ... */
	const char *queue; /* NULL: about the machine */
	const char *lane;  /* or NULL */
	char *text;
	char *fix; /* what to do, or NULL */
};

struct doctor_queue {
	char *name;
	int err;               /* why it can not be looked at, or 0 */
	char *detail;          /* of @err */
	struct tool_view view; /* if err is 0 */
	char *states;          /* of view.who[i], enum doctor_state */
	int first, nr;         /* its findings */
};

struct doctor {
	const char *root; /* of the configuration files */
	struct doctor_finding *findings;
	int nr_findings;
	int count[3]; /* per level */
	struct doctor_queue *queues;
	int nr_queues;
};

/* Add a finding; exits if there is no memory. */
void doctor_add(struct doctor *d, enum doctor_level level, const char *id,
		const struct doctor_queue *q, const char *lane, const char *fmt, ...)
	__attribute__((format(printf, 6, 7)));
/* What to do about the last one. */
void doctor_fix(struct doctor *d, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
/* @p, or exits because there is no memory. */
void *doctor_memory(void *p);

/* ---- doctor_machine.c ---- */

void doctor_machine(struct doctor *d);

/* ---- doctor_inotify.c ---- */

void doctor_inotify(struct doctor *d);

/* ---- doctor_queue.c ---- */

/* Adds the queue, to be looked at by doctor_queues(). */
void doctor_add_queue(struct doctor *d, const char *name);
void doctor_queues(struct doctor *d);
/* For -v: who is attached to @q and holds what, indented below its line. */
void doctor_print_queue(const struct doctor_queue *q);
/* stat() of the file of the queue @name; false if there is none. */
bool doctor_file(const char *name, struct stat *st);

/* ---- doctor_process.c ---- */

enum doctor_state {
	STATE_ALIVE,   /* and running, or in a place where we can not see it */
	STATE_STOPPED, /* by SIGSTOP and the like, or by a debugger */
	STATE_DEAD,
	STATE_ZOMBIE, /* dead, and its parent has not noticed */
};

enum doctor_state doctor_state(const struct shmq_participant *who,
			       const struct stat *file);
const char *doctor_state_name(enum doctor_state state);

/* ---- doctor_json.c ---- */

/* One document of schema shmq-doctor/1. Returns 0 or -ENOMEM. */
int doctor_print_json(const struct doctor *d);

#endif
