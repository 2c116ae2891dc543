/* SPDX-License-Identifier: MIT */
/*
 * sweep.h - the scenes of the sweeps over every instruction (test_kill.c,
 * test_halt.c), and which of their instructions are visited.
 *
 * A call is recorded once, whole. Visited is every one of its instructions as long as
 * that fits into a time that is given to each call; else one in so many, from a
 * random start, and always the first and the one behind the last. SHMQ_LONG=1 gives
 * five times the time, and visits beside them every instruction before which
 * something has happened: the region is not what it was an instruction earlier, or the
 * kernel was called. To whoever is left, a death at any other instruction is the same as
 * one at the last of these. SHMQ_SCENE=words visits only the calls in whose name the
 * words are.
 */
#ifndef TESTS_SWEEP_H
#define TESTS_SWEEP_H

#include "scene.h"

/* The instructions before which something has happened, in order. */
struct events {
	long *at, n, room;
	char *before; /* the region as it was an instruction earlier */
	uint64_t bytes;
};

struct sweep {
	struct scene s;
	struct stage g;
	struct step_record r;
	struct rng rng;
	struct events events;
	long stride, first; /* instructions from one point to the next, and the first one */
	long points, astray;
	bool strayed; /* the last one was not where it should be */
	int tries;
	long missed;  /* instructions that only the record came to */
};

/* Number of scenes, and the i-th. */
int sweep_scenes(void);
struct scene sweep_scene(int i);

/* Print the seed that all sweeps of this program use. Before the suite is run. */
void sweep_begin(const char *what);

/* Begin, run @s, and print what came of it: how many @point points, and how many others,
 * which are the @rest. The exit status. */
int sweep_run(const char *what, Suite *s, const char *point, const char *rest);

/* Can it run here, and is it asked for? */
bool sweep_wanted(const struct scene *s);

/* Record the call of @s. False: no ptrace here. The actor stands behind its call. */
bool sweep_record(struct sweep *w, const struct scene *s);

/*
 * Set the scene anew, go to instruction @k of the call; false: it was over before. A run
 * may stray: the clock was just being set when the record was made, or on a busy
 * machine it found that it is time to look for the dead. It is good for a look at the
 * queue, but not in place of the point: then sweep_again() is true, a few times.
 */
bool sweep_reach(struct sweep *w, long k);
bool sweep_again(struct sweep *w);

/* Choose the stride and the first point, if a point takes @ns beside the steps and all
 * of them may take @budget_ns. */
void sweep_plan(struct sweep *w, uint64_t ns, uint64_t budget_ns);

/* The point after that at instruction @k. */
long sweep_next(const struct sweep *w, long k);

/* Is it known that nothing happens from instruction @from to instruction @to? */
bool sweep_same_state(const struct sweep *w, long from, long to);

/* Count what was visited, and free. */
void sweep_end(struct sweep *w);
void sweep_free(struct sweep *w);

/* Sums over all scenes, for the last line. */
struct sums {
	atomic_long calls, instructions, whole, events, points, others, astray, missed;
};
extern struct sums *sums;

#endif
