/* SPDX-License-Identifier: MIT */
/*
 * sweep.h - the scenes of the sweeps over every instruction (test_kill.c,
 * test_halt.c), and which of their instructions are visited.
 *
 * A call is recorded once, whole. Visited is every one of its instructions as long as
 * that fits into a time that is given to each call; else one in so many, from a
 * random start, and always the first and the one behind the last. SHMQ_LONG=1 visits
 * every one of all; SHMQ_SCENE=words visits only the calls in whose name the words are.
 */
#ifndef TESTS_SWEEP_H
#define TESTS_SWEEP_H

#include "scene.h"

struct sweep {
	struct scene s;
	struct stage g;
	struct step_record r;
	struct rng rng;
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

/* Instructions from one point to the next, if a point takes @ns beside the steps. */
long sweep_stride(const struct sweep *w, uint64_t ns, uint64_t budget_ns);

void sweep_end(struct sweep *w);

/* Sums over all scenes, for the last line. */
struct sums {
	atomic_long calls, instructions, whole, points, others, astray, missed;
};
extern struct sums *sums;

#endif
