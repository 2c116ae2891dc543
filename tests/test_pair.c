/* SPDX-License-Identifier: MIT */
/*
 * test_pair.c - two processes at once, each stopped before a random instruction of its
 * call, then killed or let go, in either order, others at work in between; and two that
 * recover a third, stopped or killed inside the recovery of one another.
 *
 * Nothing here repeats itself: the seed and the number of the round tell a failure.
 * The oracle is that of scene.h.
 */
#include "scene.h"

#include <stdarg.h>

enum { ROUNDS = 40, LAPS = 12 };

static uint64_t the_seed;
static struct sums {
	atomic_long pairs, kills, halts, recoverers;
} *sums;

static const enum op calls[] = { OP_PUSH, OP_PUSH_N, OP_RESERVE, OP_COMMIT, OP_ABORT,
				 OP_POP, OP_POP_ANY, OP_POP_N, OP_PEEK, OP_RELEASE,
				 OP_REQUEUE };

struct pair {
	struct scene s;
	struct stage g;
	struct rng r;
	char what[200]; /* the story so far, for the message */
};

static void tell(struct pair *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void tell(struct pair *p, const char *fmt, ...)
{
	size_t n = strlen(p->what);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(p->what + n, sizeof(p->what) - n, fmt, ap);
	va_end(ap);
}

static bool coin(struct pair *p)
{
	return rng_below(&p->r, 2);
}

/* On by so many instructions, at most to the end of its call. */
static void step(struct pair *p, int i, long n)
{
	struct step_record none = { 0 };
	bool astray;

	step_to(p->g.pid[i], &none, 0, n, &p->g.w->actor[i].done, &astray);
	tell(p, " %d+%ld", i, n);
}

static long some_steps(struct pair *p)
{
	return (long)(coin(p) ? rng_below(&p->r, 150) : rng_below(&p->r, 900));
}

static void end(struct pair *p, int i)
{
	if (coin(p)) {
		stage_kill(&p->g, i);
		stage_reap(&p->g, i);
		atomic_fetch_add(&sums->kills, 1);
		tell(p, " %d killed", i);
	} else {
		stage_finish(&p->g, i);
		atomic_fetch_add(&sums->halts, 1);
		tell(p, " %d goes on", i);
	}
}

static void maybe_work(struct pair *p)
{
	if (coin(p))
		return;
	tell(p, " work");
	stage_work(&p->g, 100);
}

static struct scene random_scene(struct pair *p)
{
	struct scene s = {
		.op = calls[rng_below(&p->r, ARRAY_LEN(calls))],
		.lane = (int)rng_below(&p->r, LANES),
		.capacity = coin(p) ? 40 : 14,
		.fill = (enum fill)rng_below(&p->r, FULL + 1),
		.slot = (unsigned)rng_below(&p->r, 8),
		.first_use = coin(p),
		.participants = 8,
	};

	if (coin(p)) {
		s.first_number = (UINT64_C(1) << 61) - 1 - rng_below(&p->r, 3);
		s.first_inc = UINT64_C(1) << 20;
	}
	return s;
}

static bool begin(struct pair *p, int round)
{
	p->s = random_scene(p);
	p->what[0] = 0;
	if (!stage_open(&p->g, &p->s, true))
		return false;
	p->g.lapped = true; /* anybody may have been in its way */
	snprintf(p->s.name, sizeof(p->s.name), "round %d: %s", round, op_name(p->s.op));
	return true;
}

static void finish(struct pair *p)
{
	stage_check(&p->g, CHECK_RECOVER, 0, p->what);
	stage_close(&p->g, true);
}

static void pair_of_calls(struct pair *p)
{
	enum op second = calls[rng_below(&p->r, ARRAY_LEN(calls))];
	int first = coin(p);

	if (op_prepares(second) && p->s.fill != SOME) /* there might be nothing to hold */
		second = OP_POP_N;
	stage_enter(&p->g, 1, second, p->s.lane, true);
	tell(p, " and %s:", op_name(second));
	step(p, 0, some_steps(p));
	maybe_work(p);
	step(p, 1, some_steps(p));
	maybe_work(p);
	if (coin(p))
		step(p, 0, (long)rng_below(&p->r, 60));
	end(p, first);
	maybe_work(p);
	if (coin(p))
		step(p, !first, (long)rng_below(&p->r, 60));
	end(p, !first);
}

/* Actor 0 dies somewhere; 1 and 2 recover it. */
static void pair_of_recoverers(struct pair *p)
{
	int first = 1 + coin(p);

	step(p, 0, some_steps(p));
	for (int i = 1; i < 3; i++)
		stage_enter(&p->g, i, OP_RECOVER, p->s.lane, true);
	stage_kill(&p->g, 0);
	stage_reap(&p->g, 0);
	tell(p, " 0 killed, two recover:");
	step(p, 1, (long)rng_below(&p->r, 6000));
	step(p, 2, (long)rng_below(&p->r, 6000));
	if (coin(p))
		step(p, 1, (long)rng_below(&p->r, 2000));
	maybe_work(p);
	end(p, first);
	maybe_work(p);
	end(p, 3 - first);
	atomic_fetch_add(&sums->recoverers, 1);
}

START_TEST(two_at_random_instructions_killed_or_stopped)
{
	struct pair p = { .s = { .lane = 0 } };
	long rounds = counts(ROUNDS);

	if (SANITIZED) {
		skip("too many instructions under a sanitizer");
		return;
	}
	pin(0);
	for (long i = 0; i < rounds; i++) {
		p.r = rng_of(the_seed, (uint64_t)(_i * 100000 + i));
		if (!begin(&p, _i * 100000 + (int)i))
			return;
		if (rng_below(&p.r, 8))
			pair_of_calls(&p);
		else
			pair_of_recoverers(&p);
		finish(&p);
		atomic_fetch_add(&sums->pairs, 1);
	}
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("pair");
	TCase *t = suite_case(s, "pairs", 60);

	tcase_add_loop_test(t, two_at_random_instructions_killed_or_stopped, 0, LAPS);
	return s;
}

int main(void)
{
	int status;

	the_seed = seed("pair");
	sums = shared(sizeof(*sums));
	status = suite_run(suite());
	fprintf(stderr, "# pair: %ld pairs, %ld of them recoverers; %ld killed, %ld let go\n",
		sums->pairs, sums->recoverers, sums->kills, sums->halts);
	return status;
}
