/* SPDX-License-Identifier: MIT */
/*
 * test_halt.c - a process stands still before any single instruction of a call, alive,
 * and is in nobody's way; then it goes on as if nothing had been.
 *
 * The scenes and points are those of test_kill.c. While the actor stands, another
 * process pushes and pops ITEMS items at each point: from empty to full and back,
 * nothing but full and empty may be refused, full only if no more places are left than
 * the actor may have in hand. It asks for recovery too: of a living process nothing may
 * be taken back, and who stands in the middle of a recovery is overtaken. Then the actor
 * goes on to its end; its call returns what is true, and the oracle of scene.h holds.
 */
#include "sweep.h"

#include <time.h>

enum { ITEMS = 10000 };

#define POINT_NS (2500 * UINT64_C(1000)) /* about what a point takes */
#define WORK_NS (2 * SECOND)		 /* of the other's own time, at most, for ITEMS */

static uint64_t own_time_ns(void)
{
	struct timespec t;

	must_eq(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t), 0);
	return (uint64_t)t.tv_sec * SECOND + (uint64_t)t.tv_nsec;
}

/* What is in actors' hands, and what came back from somebody. */
static void hands(struct stage *g, uint64_t *held, uint64_t *unfinished, uint64_t *back)
{
	struct shmq_stat st;

	*held = *unfinished = *back = 0;
	stat_of(g->q, &st);
	must_eq(st.nr_dead, 0);
	for (int lane = 0; lane < LANES; lane++) {
		*held += st.lanes[lane].held;
		*unfinished += st.lanes[lane].unfinished;
		*back += st.lanes[lane].redelivered;
	}
}

/* Others at work around who stands at instruction @k. */
static void others_go_on(struct sweep *w, long k)
{
	struct stage *g = &w->g;
	uint64_t held, unfinished, back, held_after, unfinished_after, back_after;
	struct shmq_recovered out = { .sz = sizeof(out) };
	uint64_t begin = own_time_ns(), took;

	if (w->s.trouble == CORPSES) { /* the helper is faster than the actor */
		must_eq(shmq_recover(g->q, NULL), 0);
		stage_work(g, ITEMS);
		return;
	}
	hands(g, &held, &unfinished, &back);
	must_eq(shmq_recover(g->q, &out), 0);
	must_eq(out.participants + out.deferred + out.items + out.tickets, 0);
	hands(g, &held_after, &unfinished_after, &back_after);
	must(held_after == held && unfinished_after == unfinished && back_after == back,
	     "%s: at %ld something was taken from the living", w->s.name, k);
	stage_work(g, ITEMS);
	took = own_time_ns() - begin;
	must(took < WORK_NS, "%s: at %ld %u items took %" PRIu64 " ms", w->s.name, k, ITEMS,
	     took / MS);
	hands(g, &held_after, &unfinished_after, &back_after);
	must(held_after == held && unfinished_after == unfinished,
	     "%s: at %ld %" PRIu64 " held and %" PRIu64 " unfinished, before %" PRIu64
	     " and %" PRIu64, w->s.name, k, held_after, unfinished_after, held, unfinished);
	atomic_fetch_add(&sums->others, ITEMS);
}

/* False: there is no instruction @k. */
static bool halt_at(struct sweep *w, long k)
{
	struct stage *g = &w->g;
	bool there;
	char what[64];

	snprintf(what, sizeof(what), "stopped before instruction %ld", k);
	do {
		there = sweep_reach(w, k);
		others_go_on(w, k);
		stage_finish(g, 0);
		if (w->s.trouble == HOLE)
			stage_finish(g, 1);
		stage_check(g, CHECK_RECOVER, 0, what);
		stage_close(g, true);
	} while (sweep_again(w));
	return there;
}

START_TEST(stopped_at_any_instruction_it_is_in_nobodys_way)
{
	struct scene s = sweep_scene(_i);
	struct sweep w = { .points = 0 };
	uint64_t begin = now_ns();
	long n, last, k = 0;

	if (s.trouble == PROBE || s.trouble == DOOMED || s.sleeps)
		return; /* made for deaths; and a sleeper stands anyway */
	if (!sweep_wanted(&s) || !sweep_record(&w, &s))
		return;
	n = w.r.n;
	stage_close(&w.g, true);
	sweep_plan(&w, POINT_NS, 300 * MS);
	do {
		last = k;
		k = sweep_next(&w, k);
	} while (halt_at(&w, last));
	must(k > n && w.points + w.missed >= n / w.stride, "%s: %ld points, the last at %ld of %ld",
	     s.name, w.points, last, n);
	fprintf(stderr, "# %s: %ld instructions, stopped at %ld (%ld astray); %.2f s\n", s.name, n,
		w.points, w.astray, (double)(now_ns() - begin) / 1e9);
	sweep_end(&w);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("halt");
	TCase *t = suite_case(s, "stopped", 60);

	tcase_add_loop_test(t, stopped_at_any_instruction_it_is_in_nobodys_way, 0,
			    sweep_scenes());
	return s;
}

int main(void)
{
	return sweep_run("halt", suite(), "stop", "items of others meanwhile");
}
