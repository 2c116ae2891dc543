/* SPDX-License-Identifier: MIT */
/* history.c - see history.h. The search: which of the next events of the threads comes
 * first? Depth first, with a copy of the state for each attempt. */
#include "history.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#define EVENTS 40
#define ITEMS 28
#define CALLS 4

static struct thread {
	struct event event[EVENTS];
	int n;
	bool died;
	uint32_t died_at;
	struct call {
		int lane, n, first; /* its first event */
		uint32_t from, to;
	} call[CALLS];
	int calls;
} thread[HISTORY_THREADS];
static int nr_threads, nr_lanes;
static uint64_t capacity[HISTORY_LANES];
static int dead_lane, max_attempts; /* -1: there is none */

struct item {
	uint8_t id, attempts, lane, owner; /* who holds or reserved it */
	bool hole;
	uint32_t from, to; /* of its push */
	uint32_t order;
};

struct list {
	int n;
	struct item item[ITEMS];
};

struct world {
	int next[HISTORY_THREADS]; /* event of each thread */
	uint32_t latest;	   /* time that has passed: begin of the latest call */
	uint32_t pushes, returned;
	struct list lane[HISTORY_LANES], held;
	struct list moving; /* to the dead-letter lane, by a pop that will not tell */
};

void history_begin(int threads, int lanes, const uint64_t *limits)
{
	int i;

	assert(threads <= HISTORY_THREADS && lanes <= HISTORY_LANES);
	nr_threads = threads;
	nr_lanes = lanes;
	dead_lane = -1;
	for (i = 0; i < lanes; i++)
		capacity[i] = limits[i];
	for (i = 0; i < threads; i++) {
		thread[i].n = thread[i].calls = 0;
		thread[i].died = false;
	}
}

void history_dead_lane(int lane, int attempts)
{
	dead_lane = lane;
	max_attempts = attempts;
}

void history_add(int i, struct event e)
{
	assert(thread[i].n < EVENTS);
	thread[i].event[thread[i].n++] = e;
}

void history_push(int i, int lane, int n, uint32_t from, uint32_t to)
{
	assert(thread[i].calls < CALLS);
	thread[i].call[thread[i].calls++] = (struct call){ lane, n, thread[i].n, from, to };
}

void history_died(int i, uint32_t at)
{
	thread[i].died = true;
	thread[i].died_at = at;
}

/* ---- lists --------------------------------------------------------------------- */

static void insert(struct list *l, int at, const struct item *it)
{
	assert(l->n < ITEMS);
	memmove(&l->item[at + 1], &l->item[at], (size_t)(l->n - at) * sizeof *it);
	l->item[at] = *it;
	l->n++;
}

static struct item removed(struct list *l, int at)
{
	struct item it = l->item[at];

	l->n--;
	memmove(&l->item[at], &l->item[at + 1], (size_t)(l->n - at) * sizeof it);
	return it;
}

static int first_item(const struct list *l)
{
	int i;

	for (i = 0; i < l->n; i++)
		if (!l->item[i].hole)
			return i;
	return -1;
}

static int find(const struct list *l, int owner, int id)
{
	int i;

	for (i = 0; i < l->n; i++)
		if (l->item[i].owner == owner && (id < 0 || l->item[i].id == id))
			return i;
	return -1;
}

/* ---- the sequential queue --------------------------------------------------------- */

static void append(struct world *w, int t, const struct event *e, bool hole)
{
	struct item it = { .id = e->id, .lane = e->lane, .owner = (uint8_t)t, .hole = hole,
			   .from = e->from, .to = e->to, .order = w->pushes++ };

	insert(&w->lane[e->lane], w->lane[e->lane].n, &it);
}

/* Places that pushes overlapping @e held, apart from what is in the list. */
static int in_flight(const struct world *w, int t, const struct event *e)
{
	int i, j, k, sum = 0;

	for (i = 0; i < nr_threads; i++)
		for (j = 0; i != t && j < thread[i].calls; j++) {
			const struct call *c = &thread[i].call[j];
			int n = c->n;

			if (c->lane != e->lane || c->from >= e->to || c->to <= e->from)
				continue;
			for (k = c->first; k < w->next[i]; k++) {
				const struct event *done = &thread[i].event[k];

				n -= done->from == c->from &&
				     (done->what == H_PUSH || done->what == H_RESERVE);
			}
			sum += n;
		}
	return sum;
}

static bool explained(const struct world *w);

/* It comes back before newer ones: in order, as far as the order of pushes is told. */
static bool given_back(const struct world *w, int held_at)
{
	struct item it = w->held.item[held_at];
	const struct list *l = &w->lane[it.lane];
	int at;

	for (at = 0; at <= l->n; at++) {
		struct world next = *w;

		it.attempts = (uint8_t)(w->held.item[held_at].attempts + 1);
		removed(&next.held, held_at);
		insert(&next.lane[it.lane], at, &it);
		next.returned++;
		if (explained(&next))
			return true;
		if (at == l->n)
			break;
		/* May it come after this one? */
		if (l->item[at].order > it.order &&
		    (l->item[at].from >= it.to || it.from >= l->item[at].to))
			break;
	}
	return false;
}

/* Take the first item of @lane: it is held, or gone. */
static bool taken(struct world *w, int t, int lane, bool held)
{
	struct item it;
	int at = first_item(&w->lane[lane]);

	if (at < 0)
		return false;
	it = removed(&w->lane[lane], at);
	it.owner = (uint8_t)t;
	if (held)
		insert(&w->held, w->held.n, &it);
	return true;
}

/* Moves that may hold a place of @lane. */
static int moves(const struct world *w, int lane)
{
	int t, n = w->moving.n;

	if (lane != dead_lane)
		return 0;
	for (t = 0; t < nr_threads; t++)
		n += thread[t].died;
	return n;
}

/* May it be delivered, or has it failed so often that it must be moved? */
static bool deliverable(const struct world *w, int t, const struct event *e,
			const struct item *it)
{
	struct event to_dead = *e;

	if (dead_lane < 0 || it->attempts < max_attempts || e->lane == dead_lane)
		return true;
	to_dead.lane = (uint8_t)dead_lane;
	return (uint64_t)(w->lane[dead_lane].n + in_flight(w, t, &to_dead) +
			  moves(w, dead_lane)) >= capacity[dead_lane];
}

static bool is_pop(const struct event *e, int lane)
{
	return (e->what == H_POP || e->what == H_EMPTY || e->what == H_PEEK ||
		e->what == H_DIED_IN_POP || e->what == H_DIED_IN_PEEK) &&
	       (e->lane == lane || (e->lane >= HISTORY_LANES && lane != dead_lane));
}

/* The call of @e takes an item to move it. */
static bool move_begins(const struct world *old, int t, const struct event *e)
{
	int lane, at;

	for (lane = 0; lane < nr_lanes; lane++) {
		const struct list *l = &old->lane[lane];
		struct world w = *old;
		struct item it;

		at = first_item(l);
		if (lane == dead_lane || at < 0 || l->item[at].attempts < max_attempts ||
		    !is_pop(e, lane) || e->to <= w.latest)
			continue;
		if (e->from > w.latest)
			w.latest = e->from;
		it = removed(&w.lane[lane], at);
		it.owner = (uint8_t)t;
		insert(&w.moving, w.moving.n, &it);
		if (explained(&w))
			return true;
	}
	return false;
}

static bool move_ends(const struct world *old, int t)
{
	struct world w = *old;
	struct item it = removed(&w.moving, find(&w.moving, t, -1));

	if ((uint64_t)w.lane[dead_lane].n >= capacity[dead_lane] + w.returned)
		return false;
	it.lane = (uint8_t)dead_lane;
	it.order = w.pushes++;
	it.from = 0; /* when is not told: it may come back before or after others */
	it.to = HISTORY_NEVER;
	insert(&w.lane[dead_lane], w.lane[dead_lane].n, &it);
	return explained(&w);
}

/* Its mover is dead, and it was not moved. */
static bool move_undone(const struct world *old, int t)
{
	struct world w = *old;
	struct item it = removed(&w.moving, find(&w.moving, t, -1));

	insert(&w.held, w.held.n, &it);
	return explained(&w);
}

static bool took_unknown(const struct world *w, int t, const struct event *e)
{
	int lane, held;

	for (lane = 0; lane < nr_lanes; lane++)
		for (held = 0; held < 2; held++) {
			struct world next = *w;

			if ((e->lane < HISTORY_LANES ? e->lane != lane : lane == dead_lane) ||
			    (e->what == H_DIED_IN_PEEK && !held))
				continue;
			if (taken(&next, t, lane, held) && explained(&next))
				return true;
		}
	return false;
}

/* The next event of @t happens now. */
static bool happens(const struct world *old, int t)
{
	const struct event *e = &thread[t].event[old->next[t]];
	struct world w = *old;
	struct list *l = &w.lane[e->lane < HISTORY_LANES ? e->lane : 0];
	int at;

	if (e->to <= w.latest)
		return false;
	if (e->from > w.latest)
		w.latest = e->from;
	w.next[t]++;
	switch (e->what) {
	case H_PUSH:
	case H_RESERVE:
		if ((uint64_t)l->n >= capacity[e->lane] + w.returned)
			return false;
		append(&w, t, e, e->what == H_RESERVE);
		break;
	case H_FULL:
		if ((uint64_t)(l->n + in_flight(old, t, e) + moves(old, e->lane)) <
		    capacity[e->lane])
			return false;
		break;
	case H_COMMIT:
	case H_ABORT:
		at = find(l, t, e->id);
		if (at < 0 || !l->item[at].hole)
			return false;
		l->item[at].hole = false;
		if (e->what == H_ABORT)
			removed(l, at);
		break;
	case H_POP:
	case H_PEEK:
		at = first_item(l);
		if (at < 0 || l->item[at].id != e->id ||
		    (e->attempts && l->item[at].attempts + 1 != e->attempts) ||
		    !deliverable(old, t, e, &l->item[at]))
			return false;
		taken(&w, t, e->lane, e->what == H_PEEK);
		break;
	case H_EMPTY:
		if (first_item(l) >= 0)
			return false;
		break;
	case H_RELEASE:
	case H_REQUEUE:
		at = find(&w.held, t, e->id);
		if (at < 0)
			return false;
		if (e->what == H_REQUEUE)
			return given_back(&w, at);
		removed(&w.held, at);
		break;
	case H_DIED_IN_POP:
	case H_DIED_IN_PEEK:
		return took_unknown(&w, t, e);
	}
	return explained(&w);
}

/* @t is dead and its events are through: one thing it had is settled. */
static bool settled(const struct world *old, int t)
{
	struct world w = *old;
	int i, at = find(&w.held, t, -1);

	if (w.latest < thread[t].died_at)
		w.latest = thread[t].died_at;
	if (at >= 0)
		return given_back(&w, at);
	for (i = 0; i < nr_lanes; i++)
		for (at = 0; at < w.lane[i].n; at++)
			if (w.lane[i].item[at].hole && w.lane[i].item[at].owner == t) {
				removed(&w.lane[i], at);
				return explained(&w);
			}
	return false;
}

static bool unsettled(const struct world *w)
{
	int i, j;

	if (w->moving.n)
		return true;
	for (i = 0; i < w->held.n; i++)
		if (thread[w->held.item[i].owner].died)
			return true;
	for (i = 0; i < nr_lanes; i++)
		for (j = 0; j < w->lane[i].n; j++)
			if (w->lane[i].item[j].hole && thread[w->lane[i].item[j].owner].died)
				return true;
	return false;
}

/* One thing that @t may do next, and all that follows. */
static bool goes_on(const struct world *w, int t, const struct event *e)
{
	if (find(&w->moving, t, -1) >= 0)
		return move_ends(w, t) || (thread[t].died && move_undone(w, t));
	if (!e)
		return thread[t].died && settled(w, t);
	if (t == nr_threads - 1 && unsettled(w))
		return false;
	return happens(w, t) || (dead_lane >= 0 && move_begins(w, t, e));
}

static bool explained(const struct world *w)
{
	bool through = true;
	int t;

	for (t = 0; t < nr_threads; t++) {
		const struct event *e =
			w->next[t] < thread[t].n ? &thread[t].event[w->next[t]] : NULL;

		if (goes_on(w, t, e))
			return true;
		if (e && e->maybe) { /* or it died before that */
			struct world without = *w;

			without.next[t] = thread[t].n;
			if (explained(&without))
				return true;
		}
		through &= !e;
	}
	return through && !unsettled(w);
}

bool history_explained(void)
{
	return explained(&(struct world){ 0 });
}

void history_print(void)
{
	static const char *const names[] = {
		"push", "FULL", "reserve", "commit", "abort", "pop", "EMPTY", "peek",
		"release", "requeue", "died in pop", "died in peek",
	};
	int t, i;

	for (t = 0; t < nr_threads; t++) {
		fprintf(stderr, "  participant %d\n", t);
		for (i = 0; i < thread[t].n; i++) {
			const struct event *e = &thread[t].event[i];

			fprintf(stderr, "    %3u..%-3d lane %u  %s%s", e->from, (int)e->to,
				e->lane, e->maybe ? "maybe " : "", names[e->what]);
			if (e->id)
				fprintf(stderr, " item %u", e->id);
			fprintf(stderr, e->attempts > 1 ? " (delivery %u)\n" : "\n", e->attempts);
		}
		if (thread[t].died)
			fprintf(stderr, "    %3u killed\n", thread[t].died_at);
	}
}
