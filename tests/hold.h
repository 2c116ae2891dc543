/* SPDX-License-Identifier: MIT */
/*
 * hold.h - the question of who is alive, asked as a user would: a process holds an
 * item of lane 0 of the queue "q". While it lives nobody else gets that item,
 * however long he waits; when it is dead a waiting one gets it, flagged and soon.
 */
#ifndef TESTS_HOLD_H
#define TESTS_HOLD_H

#include "common.h"

enum { ITEM = 7 }; /* the item that is held */

struct hold { /* of a child, in shared() */
	atomic_int ready, go;
	atomic_int pid; /* of somebody else of interest */
};

/* In the holder: take ITEM, and keep it in @lease. */
void hold_item(struct shmq *q, struct shmq_lease *lease);
/* Tell that all is set, and wait to be told to go on. */
void hold_ready(struct hold *h);
/* The end of a holder who lived: the item is still its own. */
void hold_finish(struct shmq *q, struct shmq_lease *lease);
/* For ever, but no longer than a test may last. */
_Noreturn void hold_on(void);

/* The queue "q" of three lanes with ITEM in the first. */
struct shmq *hold_queue(uint64_t capacity);
/* Wait until the holder has come to hold_ready(); let it go on from there. */
void hold_wait(struct hold *h, pid_t pid);
void hold_go(struct hold *h);
/* A holder that runs @fn, which has come to hold_ready(). */
pid_t hold_start(struct hold *h, int (*fn)(void *), void *arg);

/* ITEM is held by somebody alive: wait so long in vain. */
void hold_lasts(struct shmq *q, uint64_t ns);
/* Its holder is dead: wait for it. Returns how long that took. */
uint64_t hold_ends(struct shmq *q, const char *what);
/* ITEM was dealt with; nobody is attached but @participants, none of them dead. */
void hold_over(struct shmq *q, unsigned participants);

/* Descriptors of queue "q" that process @pid ("self") has; its mappings in *@maps. */
int uses_of(const char *pid, int *maps);

#endif
