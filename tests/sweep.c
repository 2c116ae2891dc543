/* SPDX-License-Identifier: MIT */
/* sweep.c - see sweep.h. */
#include "sweep.h"

#include "queue.h"

enum { CAPACITY = 40, PARTICIPANTS = 6, SHORT_CALL = 10000 /* instructions */ };

struct sums *sums;
static uint64_t the_seed;

/* ---- the scenes ------------------------------------------------------------------ */

#define BIT(n) (UINT64_C(1) << (n))

/* Slot 3 of 8 is in the middle of a segment; 0 is the first of a new one, which a push
 * has to install; 7 is the last, after which a pop may retire it; a batch from 6 on
 * lies in two. The first N_BASIC are for every call. */
static const struct {
	const char *name;
	struct scene s;
} states[] = {
	{ "empty, first use", { .fill = EMPTY, .slot = 3, .first_use = true } },
	{ "empty", { .fill = EMPTY, .slot = 3 } },
	{ "one item", { .fill = ONE, .slot = 3 } },
	{ "some items", { .fill = SOME, .slot = 3 } },
	{ "room for one", { .fill = ALL_BUT_ONE, .slot = 3 } },
	{ "full", { .fill = FULL, .slot = 3 } },
	{ "first of a segment", { .fill = SOME, .slot = 0 } },
	{ "last of a segment", { .fill = SOME, .slot = 7 } },
	{ "small and full", { .fill = FULL, .slot = 3, .capacity = BATCH } },
	{ "small and empty", { .fill = EMPTY, .slot = 6, .capacity = BATCH } },
	{ "counters wrap", { .fill = SOME, .slot = 0, .first_number = BIT(61) - 3,
			     .first_inc = BIT(20) } },
	{ "behind a hole", { .fill = SOME, .slot = 3, .trouble = HOLE } },
	{ "behind a hole, near full", { .fill = ALL_BUT_ONE, .slot = 3, .trouble = HOLE,
					.first_use = true } },
};

/* The calls whose way does not depend on so much: these states. */
static const int few[] = { 1, 2, 5, 7, 10, 11 };

/* Calls that have a state of their own. */
static const struct scene special[] = {
	{ "pop, doomed item", OP_POP, .fill = SOME, .trouble = DOOMED },
	{ "pop any, doomed item", OP_POP_ANY, .fill = SOME, .trouble = DOOMED },
	{ "peek, doomed item", OP_PEEK, .fill = SOME, .trouble = DOOMED },
	{ "peek, doomed item, last lane", OP_PEEK, .lane = LANES - 1, .fill = SOME,
	  .trouble = DOOMED },
	{ "pop, doomed item, while writing", OP_POP, .fill = SOME, .trouble = DOOMED,
	  .reserving = true },
	{ "pop, corpses", OP_POP, .fill = SOME, .trouble = PROBE, .first_use = true },
	{ "pop of nothing, corpses", OP_POP, .fill = ONE, .trouble = PROBE },
	{ "push to a full lane, corpses", OP_PUSH, .fill = FULL, .trouble = PROBE },
	{ "recover", OP_RECOVER, .fill = SOME, .trouble = CORPSES },
	{ "recover, wrap", OP_RECOVER, .fill = FULL, .trouble = CORPSES,
	  .first_number = BIT(61) - 3, .first_inc = BIT(20) },
	{ "recover, small", OP_RECOVER, .fill = FULL, .trouble = CORPSES, .capacity = BATCH,
	  .participants = 5 },
	{ "recover nobody", OP_RECOVER, .fill = SOME },
	{ "open", OP_OPEN, .fill = SOME, .first_use = true },
	{ "open in place of the dead", OP_OPEN, .fill = SOME, .first_use = true, .trouble = CORPSES,
	  .participants = 3 },
	{ "close", OP_CLOSE, .fill = SOME },
	{ "push, polled", OP_PUSH, .fill = SOME, .polled = true },
	{ "push_n, polled", OP_PUSH_N, .fill = SOME, .polled = true },
	{ "commit, polled", OP_COMMIT, .fill = SOME, .polled = true },
	{ "pop, polled", OP_POP, .fill = FULL, .polled = true },
	{ "release, polled", OP_RELEASE, .fill = FULL, .polled = true },
	{ "pop of nothing, polls", OP_POP, .fill = EMPTY, .polls = true },
	{ "push to a full lane, polls", OP_PUSH, .fill = FULL, .polls = true },
	{ "pop, asleep", OP_POP, .fill = EMPTY, .first_use = true, .sleeps = true },
	{ "pop any, asleep", OP_POP_ANY, .fill = EMPTY, .first_use = true, .sleeps = true },
	{ "pop_n, asleep", OP_POP_N, .fill = EMPTY, .first_use = true, .sleeps = true },
	{ "peek, asleep", OP_PEEK, .fill = EMPTY, .first_use = true, .sleeps = true },
	{ "push, asleep", OP_PUSH, .fill = FULL, .first_use = true, .sleeps = true },
	{ "push_n, asleep", OP_PUSH_N, .fill = FULL, .first_use = true, .sleeps = true },
	{ "reserve, asleep", OP_RESERVE, .fill = FULL, .first_use = true, .sleeps = true },
};

static const enum op many[] = { OP_PUSH, OP_PUSH_N, OP_POP, OP_POP_ANY, OP_POP_N };
static const enum op others[] = { OP_RESERVE, OP_COMMIT, OP_ABORT, OP_PEEK, OP_RELEASE,
				  OP_REQUEUE };

enum {
	N_MANY = 2 * (int)ARRAY_LEN(many) * (int)ARRAY_LEN(states),
	N_OTHERS = 2 * (int)ARRAY_LEN(others) * (int)ARRAY_LEN(few),
	N_SPECIAL = (int)ARRAY_LEN(special),
};

int sweep_scenes(void)
{
	return N_MANY + N_OTHERS + N_SPECIAL;
}

static struct scene plain(enum op op, int state, int lane)
{
	struct scene s = states[state].s;

	s.op = op;
	s.lane = lane;
	snprintf(s.name, sizeof(s.name), "%s, %s, lane %d", op_name(op), states[state].name,
		 lane);
	return s;
}

struct scene sweep_scene(int i)
{
	struct scene s;
	int n = (int)ARRAY_LEN(states);

	if (i < N_MANY) {
		s = plain(many[i / 2 / n], i / 2 % n, i % 2 ? LANES - 1 : 0);
	} else if ((i -= N_MANY) < N_OTHERS) {
		n = (int)ARRAY_LEN(few);
		s = plain(others[i / 2 / n], few[i / 2 % n], i % 2 ? LANES - 1 : 0);
	} else {
		s = special[i - N_OTHERS];
		s.slot = 3;
	}
	if (!s.capacity)
		s.capacity = CAPACITY;
	if (!s.participants)
		s.participants = PARTICIPANTS;
	if (s.sleeps)
		s.timeout_ns = 20 * (int64_t)SECOND;
	return s;
}

/* ---- points ----------------------------------------------------------------------- */

void sweep_begin(const char *what)
{
	the_seed = seed(what);
	sums = shared(sizeof(*sums));
}

int sweep_run(const char *what, Suite *s, const char *point, const char *rest)
{
	int status;

	sweep_begin(what);
	status = suite_run(s);
	fprintf(stderr, "# %s: %ld calls of %ld instructions, %ld of them at every one, %ld "
		"wherever something happens; %ld %s points, %ld missed, %ld astray; %ld %s\n", what,
		sums->calls, sums->instructions, sums->whole, sums->events, sums->points, point,
		sums->missed, sums->astray, sums->others, rest);
	return status;
}

bool sweep_wanted(const struct scene *s)
{
	const char *words = getenv("SHMQ_SCENE");

	if (SANITIZED)
		skip("too many instructions under a sanitizer");
	return !SANITIZED && (!words || strstr(s->name, words));
}

/* Before instruction @k: has something happened since @k - 1? */
static void note_event(struct sweep *w, long k)
{
	struct events *e = &w->events;
	const char *now = w->g.q->base;
	bool same = k > 0 && !memcmp(e->before, now, e->bytes);

	if (same && !step_calls_kernel(w->r.at[k - 1]))
		return;
	if (!same)
		memcpy(e->before, now, e->bytes);
	if (e->n == e->room) {
		e->room = e->room ? 2 * e->room : 256;
		e->at = realloc(e->at, (size_t)e->room * sizeof(*e->at));
		must(e->at);
	}
	e->at[e->n++] = k;
}

/* A step takes so long that the time to look for the dead would come. */
static bool look(void *arg, long k)
{
	struct sweep *w = arg;

	if (counts(1) > 1)
		note_event(w, k);
	if (k % 16 == 1 && w->s.trouble != PROBE)
		stage_quiet(&w->g);
	return false;
}

static void wake(void *arg)
{
	stage_wake(&((struct sweep *)arg)->g);
}

static void record(struct sweep *w)
{
	w->r.n = 0;
	w->events.n = 0;
	w->events.bytes = w->g.q->geo.bytes;
	w->events.before = realloc(w->events.before, w->events.bytes);
	must(w->events.before);
	step_record(w->g.pid[0], &w->r, &w->g.w->actor[0].done, look,
		    w->s.sleeps ? wake : NULL, w);
}

bool sweep_record(struct sweep *w, const struct scene *s)
{
	uint64_t hash = 14695981039346656037u;
	long shortest = LONG_MAX;
	int tries = 0;

	for (const char *c = s->name; *c; c++) /* a scene keeps its stream */
		hash = (hash ^ (uint8_t)*c) * 1099511628211u;
	w->rng = rng_of(the_seed, hash);
	w->s = *s;
	pin(sched_getcpu());
	if (!stage_open(&w->g, &w->s, true))
		return false;
	/* Twice: actors are copies of this process, whose heap the first run changes. Then,
	 * unless the call is a long one, until it is as short as any: who reads the clock while
	 * that ticks reads it again, a way that the sweep would hardly find again. */
	record(w);
	do {
		shortest = tries && w->r.n < shortest ? w->r.n : shortest;
		stage_close(&w->g, true);
		must(stage_open(&w->g, &w->s, true));
		record(w);
	} while (w->r.n < SHORT_CALL &&
		 (++tries < 3 || (w->r.n > shortest && tries < 10)));
	must(!s->sleeps || w->r.slept >= 0, "%s: it never slept", s->name);
	must(w->r.n > 20);
	atomic_fetch_add(&sums->calls, 1);
	atomic_fetch_add(&sums->instructions, w->r.n);
	return true;
}

bool sweep_reach(struct sweep *w, long k)
{
	pid_t pid;
	const atomic_int *done;
	bool astray = false, there;
	long from = 0;

	must(stage_open(&w->g, &w->s, true));
	pid = w->g.pid[0];
	done = &w->g.w->actor[0].done;
	if (w->r.slept >= 0 && k > w->r.slept) { /* through the sleep */
		from = w->r.slept + 1;
		if (step_to(pid, &w->r, 0, w->r.slept, done, &astray) && !astray &&
		    !step_one(pid, true)) {
			stage_wake(&w->g);
			step_wake(pid);
		} else {
			astray = true;
		}
	}
	there = !astray && step_to(pid, &w->r, from, k, done, &astray);
	w->strayed = astray && k < w->r.n;
	w->points += !w->strayed;
	w->astray += w->strayed;
	return there || w->strayed;
}

void sweep_plan(struct sweep *w, uint64_t ns, uint64_t budget_ns)
{
	uint64_t sum = 0;

	if (counts(1) > 1)
		budget_ns *= 5;
	for (long k = 0; k < w->r.n; k++) {
		long from = w->r.slept >= 0 && k > w->r.slept ? w->r.slept + 1 : 0;

		sum += ns + 20000 * (uint64_t)step_cost(&w->r, from, k);
	}
	if (w->s.trouble == CORPSES) /* long, and everybody relies on it */
		budget_ns *= 4;
	w->stride = (long)(sum / budget_ns) + 1;
	w->first = (long)rng_below(&w->rng, (uint64_t)w->stride);
	atomic_fetch_add(&sums->whole, w->stride == 1);
	atomic_fetch_add(&sums->events, w->stride > 1 && w->events.n > 0);
}

/* The first event behind instruction @k, or LONG_MAX. */
static long event_behind(const struct events *e, long k)
{
	long low = 0, high = e->n; /* it is at one of [low, high] */

	while (low < high) {
		long middle = (low + high) / 2;

		if (e->at[middle] > k)
			high = middle;
		else
			low = middle + 1;
	}
	return low < e->n ? e->at[low] : LONG_MAX;
}

long sweep_next(const struct sweep *w, long k)
{
	long next = k < w->first ? w->first :
				   k - (k - w->first) % w->stride + w->stride;
	long event = event_behind(&w->events, k);

	return event < next ? event : next;
}

bool sweep_same_state(const struct sweep *w, long from, long to)
{
	return w->events.n > 0 && to < w->r.n && event_behind(&w->events, from) > to;
}

bool sweep_again(struct sweep *w)
{
	w->tries = w->strayed ? w->tries + 1 : 0;
	if (w->tries == 0)
		return false;
	if (w->tries < 5)
		return true;
	w->tries = 0;
	w->missed++;
	return false;
}

void sweep_end(struct sweep *w)
{
	must(w->missed * 5 <= w->points, "%s: no way to %ld instructions", w->s.name,
	     w->missed);
	atomic_fetch_add(&sums->missed, w->missed);
	atomic_fetch_add(&sums->points, w->points);
	atomic_fetch_add(&sums->astray, w->astray);
	sweep_free(w);
}

void sweep_free(struct sweep *w)
{
	free(w->events.at);
	free(w->events.before);
	step_record_free(&w->r);
}
