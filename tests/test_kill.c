/* SPDX-License-Identifier: MIT */
/*
 * test_kill.c - a process is killed before every single instruction of a call, and
 * the queue is then as if its call had happened, or had not.
 *
 * For each scene (sweep.c) and each instruction of its call a fresh queue is brought
 * into the state, the call runs to that instruction, SIGKILL ends it, and a process
 * that never took part looks (scene.h). What the queue shows as moved may only grow
 * from one instruction to the next, from nothing at the first to all at the last. At
 * one random point of each call nobody asks for recovery: it has to come by itself.
 *
 * A second sweep leaves the dead unreaped while the queue is looked at, and uses the
 * same queue for all its points: what a death costs would add up.
 */
#include "sweep.h"

#define POINT_NS (1200 * UINT64_C(1000)) /* about what a point takes */

struct kill_sweep {
	struct sweep sweep;
	unsigned moved;
	long late;
};

/* The dead is looked after, and so is who stands before the items. */
static void judge(struct kill_sweep *w, enum check how, const char *where, long k)
{
	struct stage *g = &w->sweep.g;
	unsigned hole = w->sweep.s.trouble == HOLE, before = w->moved;
	char what[80];

	snprintf(what, sizeof(what), "killed %s instruction %ld", where, k);
	stage_check(g, how, hole, what);
	if (!w->sweep.strayed) {
		w->moved = g->w->moved;
		must(w->moved >= before, "%s: %s: %u items moved, %u at an earlier point",
		     w->sweep.s.name, what, w->moved, before);
	}
	if (!hole)
		return;
	stage_finish(g, 1);
	strcat(what, ", the other goes on");
	stage_check(g, CHECK_RECOVER, 0, what);
}

/* False: there is no instruction @k. */
static bool kill_at(struct kill_sweep *w, long k, enum check how)
{
	struct stage *g = &w->sweep.g;
	bool there;

	do {
		there = sweep_reach(&w->sweep, k);
		stage_kill(g, 0);
		stage_reap(g, 0);
		judge(w, how, "before", k);
		stage_close(g, true);
	} while (sweep_again(&w->sweep));
	must(k > 0 || w->moved == 0, "%s: items moved before the first instruction",
	     w->sweep.s.name);
	return there;
}

static void kill_asleep(struct kill_sweep *w)
{
	struct stage *g = &w->sweep.g;
	long k = w->sweep.r.slept;

	do {
		w->moved = 0;
		sweep_reach(&w->sweep, k);
		must(w->sweep.strayed || !step_one(g->pid[0], true));
		stage_kill(g, 0);
		stage_reap(g, 0);
		judge(w, CHECK_RECOVER, "asleep in", k);
		stage_close(g, true);
	} while (sweep_again(&w->sweep));
}

/* In a queue that is used again and again; the dead stays a zombie. */
static void kill_late(struct kill_sweep *w)
{
	struct stage *g = &w->sweep.g;
	struct step_record none = { 0 };
	bool astray, there = true;
	long n = w->sweep.r.n, some = n < 750 ? 20 : 15000 / n + 1;
	long stride = n / (counts(1) > 1 ? 3 * some : some) + 1;
	long k = (long)rng_below(&w->sweep.rng, (uint64_t)stride);

	for (; there; k += stride, w->late++) {
		must(stage_open(g, &w->sweep.s, w->late == 0));
		there = step_to(g->pid[0], &none, 0, k, &g->w->actor[0].done, &astray);
		stage_kill(g, 0);
		w->moved = 0;
		judge(w, CHECK_RECOVER, "and a zombie at", k);
		stage_reap(g, 0);
		stage_close(g, !there);
	}
}

static void sweep(struct kill_sweep *w)
{
	long n = w->sweep.r.n, k = 0, last = 0, stride, alone;
	unsigned all = w->moved, moved = 0;

	sweep_plan(&w->sweep, POINT_NS, 320 * MS);
	stride = w->sweep.stride;
	alone = w->sweep.first + stride * (long)rng_below(&w->sweep.rng, (uint64_t)(n / stride + 1));
	w->moved = 0;
	while (kill_at(w, k, k == alone ? CHECK_WAIT : CHECK_RECOVER)) {
		must(w->sweep.strayed || !sweep_same_state(&w->sweep, last, k) ||
		     w->moved == moved, "%s: %u items moved at %ld, %u at %ld: a death in between "
		     "is not the same", w->sweep.s.name, w->moved, k, moved, last);
		last = k;
		moved = w->moved;
		k = sweep_next(&w->sweep, k);
	}
	must_eq(w->moved, all);
	must(k + stride > n && w->sweep.points + w->sweep.missed >= n / stride,
	     "%s: %ld points, the last at %ld of %ld", w->sweep.s.name, w->sweep.points, k, n);
}

START_TEST(killed_at_any_instruction_it_costs_nothing)
{
	struct scene s = sweep_scene(_i);
	struct kill_sweep w = { .moved = 0 };
	uint64_t begin = now_ns();
	long n;

	if (!sweep_wanted(&s) || !sweep_record(&w.sweep, &s))
		return;
	n = w.sweep.r.n;
	stage_kill(&w.sweep.g, 0);
	stage_reap(&w.sweep.g, 0);
	judge(&w, CHECK_RECOVER, "behind", n);
	stage_close(&w.sweep.g, true);
	if (!s.sleeps)
		must_eq(w.moved, scene_moves(&s));
	sweep(&w);
	if (s.sleeps)
		kill_asleep(&w);
	else
		kill_late(&w);
	fprintf(stderr, "# %s: %ld instructions, killed at %ld (%ld astray), unreaped at %ld; %.2f s\n",
		s.name, n, w.sweep.points, w.sweep.astray, w.late,
		(double)(now_ns() - begin) / 1e9);
	atomic_fetch_add(&sums->others, w.late);
	sweep_end(&w.sweep);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("kill");
	TCase *t = suite_case(s, "killed", 60);

	tcase_add_loop_test(t, killed_at_any_instruction_it_costs_nothing, 0, sweep_scenes());
	return s;
}

int main(void)
{
	return sweep_run("kill", suite(), "kill", "unreaped");
}
