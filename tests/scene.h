/* SPDX-License-Identifier: MIT */
/*
 * scene.h - one call of one process, in a queue in a given state, with an oracle.
 *
 * A scene is a call (push, pop, ...) and the state that it meets. stage_open() makes
 * a fresh queue, brings it into that state and leaves an actor, a traced child, right
 * before its call; the test then steps it, kills it or leaves it standing, and asks
 * stage_check(): who never took part opens the queue, and everything that was promised
 * must be there:
 *
 *   - every committed item comes out once, byte for byte, in its producer's order;
 *   - an item that a killed consumer had in its hands comes again, first, or is gone,
 *     no more of them than its call could take;
 *   - of a killed push the item is there or not; of push_n, which publishes one item
 *     after the other, any prefix of the batch;
 *   - after that each lane takes exactly its capacity, and shmq_stat() agrees.
 *
 * The same scene always runs the same instructions, so what a test finds at an
 * instruction can be repeated by its number.
 */
#ifndef TESTS_SCENE_H
#define TESTS_SCENE_H

#include "common.h"
#include "step.h"

enum { LANES = 3, SLOTS = 8 /* of a segment */, ACTORS = 4, BATCH = 3, ITEM_SIZE = 64 };
enum { DEAD_LANE = 1, RESERVED_LANE = 2, MAX_ATTEMPTS = 2 };

enum op {
	OP_PUSH,
	OP_PUSH_N,
	OP_RESERVE, /* and commit, but that is not part of the call */
	OP_COMMIT,
	OP_ABORT,
	OP_POP,
	OP_POP_ANY,
	OP_POP_N,
	OP_PEEK, /* and release, likewise */
	OP_RELEASE,
	OP_REQUEUE,
	OP_RECOVER,
	OP_OPEN,
	OP_CLOSE,
	NR_OPS,
};

enum fill { EMPTY, ONE, SOME, ALL_BUT_ONE, FULL };

enum trouble {
	NO_TROUBLE,
	HOLE,    /* before the items lies a ticket of a producer that is stopped */
	CORPSES, /* a consumer died with an item, a producer with an unnamed ticket */
	DOOMED,  /* the first item has failed so often that it is moved to DEAD_LANE */
	PROBE,   /* it is time to look for the dead; CORPSES are there */
};

struct scene {
	char name[80];
	enum op op;
	int lane;
	unsigned capacity; /* of each lane */
	enum fill fill;    /* of the call's lane; others hold two items */
	unsigned slot;     /* place in its segment of the ticket that the call is about */
	bool first_use;    /* the actor has just attached; else it has pushed and popped */
	int64_t timeout_ns;
	enum trouble trouble;
	bool sleeps;       /* the call has to wait for an item, or for room */
	bool reserving;    /* the actor has a reservation open in RESERVED_LANE */
	bool polled;       /* others poll the lane, for items and for room */
	bool polls;        /* the actor's handle has descriptors that are polled */
	uint64_t first_number, first_inc; /* of segments; 0: those of a new queue */
	unsigned participants;
};

const char *op_name(enum op op);
bool op_prepares(enum op op); /* it holds something when the call begins */

/* How many items the call has pushed or consumed when it returns, if nobody interferes. */
unsigned scene_moves(const struct scene *s);

enum fate { ABSENT, STANDING, KILLED, FINISHED };

/* A process with one call to make. In shared memory. */
struct actor {
	enum op op;
	int lane;
	bool first_use;
	bool reserving, polls;
	int64_t timeout_ns;
	enum fate fate;
	atomic_int done;       /* its call has returned */
	atomic_int ended;      /* and then it came to the mark behind it */
	int64_t result;
	struct stamp got[BATCH]; /* that its call popped */
	int nr_got;
	int nr_pushed;
	atomic_uint seen;      /* of its pushed items, a bit each: has come out */
};

/* The helper's items that must come out of a lane, in order. */
struct book {
	uint64_t seq[1024];
	uint64_t from, to; /* modulo the above */
	uint64_t next;     /* number of the next item */
	uint64_t last;     /* number of the last that came out, + 1 */
};

/* Item @seq has come out: it must have been waiting. What was passed over, because an
 * actor holds it, stays. */
void book_remove(struct book *b, uint64_t seq);

struct world { /* what the stage and the checking process share */
	struct book book[LANES];
	struct actor actor[ACTORS];
	unsigned moved;   /* found out by stage_check(): items that came or went by actor 0 */
	unsigned missing; /* in all */
	atomic_uint again; /* items with more than one attempt */
	bool doomed;       /* items may be moved to DEAD_LANE */
};

struct stage {
	const struct scene *s;
	struct world *w;
	struct shmq *q; /* of this process, the helper */
	pid_t pid[ACTORS];
	struct step_record way[ACTORS]; /* of actors that others put into the scene */
	bool lapped; /* a lane was filled up and emptied since the actors stand */
};

/* False: ptrace is not permitted here. @fresh: make a new queue, else use it again. */
bool stage_open(struct stage *g, const struct scene *s, bool fresh);

/* One more actor, right before its call; fate STANDING. */
void stage_enter(struct stage *g, int i, enum op op, int lane, bool first_use);

/* Nobody is to look for the dead by himself for the next 25 ms. */
void stage_quiet(struct stage *g);

/* What an actor sleeps for: an item is pushed or popped. */
void stage_wake(struct stage *g);
void stage_push(struct stage *g);

/* Actor @i dies; it stays a zombie until stage_reap(). */
void stage_kill(struct stage *g, int i);
void stage_reap(struct stage *g, int i);

/* Actor @i goes on to its end; what it returned must be legal. */
void stage_finish(struct stage *g, int i);

/* The helper pushes and pops at least @n items each; nothing may be in its way. */
void stage_work(struct stage *g, unsigned n);

enum check {
	CHECK_RECOVER, /* ask for recovery, then look */
	CHECK_WAIT,    /* never ask: whoever waits finds the dead */
};

/* The oracle, a participant of its own. @stuck tickets of stopped producers lie in
 * the lane of the scene. @what says which point it is, for the message. */
void stage_check(struct stage *g, enum check how, unsigned stuck, const char *what);

/* Remove the queue, end whoever is left. */
void stage_close(struct stage *g, bool last);

#endif
