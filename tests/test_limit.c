/* SPDX-License-Identifier: MIT */
/*
 * test_limit.c - the capacity under a race of processes: never one more, and
 * 'full' and 'empty' only when that is the truth.
 */
#include "common.h"

enum { PRODUCERS = 4, CONSUMERS = 2 };

static const uint64_t capacities[] = { 1, 2, 3, 7, 64, 1000 };

/* ---- nobody pops -------------------------------------------------------- */

struct race {
	pthread_barrier_t start, end;
	atomic_ulong accepted;
	atomic_int last;
	uint64_t seed;
	bool batches;
};

struct runner {
	struct race *r;
	unsigned me;
};

static int race_in(void *arg)
{
	struct runner *me = arg;
	struct race *r = me->r;
	struct rng rng = rng_of(r->seed, me->me);
	struct shmq *q = attach("q");
	struct iovec v[10];
	int got = 0;

	for (int i = 0; i < 10; i++)
		v[i] = (struct iovec){ &rng, 8 };
	for (;;) {
		pthread_barrier_wait(&r->start);
		if (atomic_load(&r->last))
			break;
		/* Single pushes to the end: only 'full' itself is the end. */
		do {
			pause_randomly(&rng);
			if (r->batches && rng_below(&rng, 2)) {
				int n = 2 + (int)rng_below(&rng, 9);

				got = shmq_push_n(q, 1, v, n, SHMQ_NOWAIT);
				if (got > 0)
					atomic_fetch_add(&r->accepted,
							 (unsigned)got);
				must(got > 0 || got == -EAGAIN);
			}
			got = shmq_push(q, 1, &rng, 8, SHMQ_NOWAIT);
			must(got == 0 || got == -EAGAIN, "%d", got);
			atomic_fetch_add(&r->accepted, got == 0);
		} while (got == 0);
		pthread_barrier_wait(&r->end);
	}
	shmq_close(q);
	return 0;
}

static void race(uint64_t capacity, bool batches)
{
	struct race *r = shared(sizeof(*r));
	struct shmq *q = create_attach("q", 3, capacity, 8);
	struct rng rng;
	uint64_t kept = 0;
	pid_t pid[PRODUCERS];

	r->seed = seed("race");
	r->batches = batches;
	rng = rng_of(r->seed, 99);
	barrier_init(&r->start, PRODUCERS + 1);
	barrier_init(&r->end, PRODUCERS + 1);
	for (unsigned i = 0; i < PRODUCERS; i++)
		pid[i] = spawn(race_in, &(struct runner){ r, i });
	for (long round = counts(capacity > 100 ? 300 : 3000); round > 0;
	     round--) {
		uint64_t buf, out = rng_below(&rng, 2)
					    ? capacity
					    : rng_below(&rng, capacity + 1);

		atomic_store(&r->accepted, 0);
		pthread_barrier_wait(&r->start);
		pthread_barrier_wait(&r->end);
		must_eq(atomic_load(&r->accepted), capacity - kept);
		must_eq(depth_of(q, 1), capacity);
		must_eq(shmq_push(q, 1, &buf, 8, 0), -EAGAIN);
		for (uint64_t i = 0; i < out; i++)
			must_eq(shmq_pop(q, 1, &buf, 8, NULL, 0), 8);
		kept = capacity - out;
		must_eq(depth_of(q, 1), kept);
	}
	atomic_store(&r->last, 1);
	pthread_barrier_wait(&r->start);
	reap_all(pid, PRODUCERS);
	shmq_close(q);
}

START_TEST(racing_producers_fill_a_lane_exactly)
{
	race(capacities[_i], false);
}
END_TEST

START_TEST(racing_batches_fill_a_lane_exactly)
{
	race(capacities[_i], true);
}
END_TEST

/* ---- with consumers ----------------------------------------------------- */

/*
 * ledger: pushes that have returned less pops that have begun, which is never
 * more than what the lane holds at that moment.
 */
struct flow {
	uint64_t capacity, seed;
	atomic_long ledger;
	atomic_ulong pushed, popped, looks;
	atomic_int done; /* producers */
	uint64_t want;
	atomic_int most; /* highest ledger seen: the race did reach the limit */
};

struct flow_role {
	struct flow *f;
	unsigned me;
};

static void entered(struct flow *f, long n)
{
	long now = atomic_fetch_add(&f->ledger, n) + n;

	must(now <= (long)f->capacity,
	     "at least %ld items in a lane of %" PRIu64, now, f->capacity);
	if (now > atomic_load(&f->most))
		atomic_store(&f->most, (int)now);
	atomic_fetch_add(&f->pushed, (unsigned long)n);
}

static int flow_in(void *arg)
{
	struct flow_role *me = arg;
	struct flow *f = me->f;
	struct rng r = rng_of(f->seed, me->me);
	struct shmq *q = attach("q");
	struct iovec v[4];

	for (int i = 0; i < 4; i++)
		v[i] = (struct iovec){ &r, 8 };
	while (atomic_load(&f->pushed) < f->want) {
		int got = rng_below(&r, 4)
				  ? shmq_push(q, 0, &r, 8, SHMQ_NOWAIT)
				  : shmq_push_n(q, 0, v, 4, SHMQ_NOWAIT);

		must(got >= 0 || got == -EAGAIN, "%d", got);
		if (got >= 0) {
			entered(f, got ? got : 1);
			pause_randomly(&r);
		} else {
			sched_yield();
		}
	}
	atomic_fetch_add(&f->done, 1);
	shmq_close(q);
	return 0;
}

static int flow_out(void *arg)
{
	struct flow_role *me = arg;
	struct flow *f = me->f;
	struct rng r = rng_of(f->seed, 100 + me->me);
	struct shmq *q = attach("q");
	uint64_t buf;

	for (;;) {
		ssize_t got;

		atomic_fetch_sub(&f->ledger, 1);
		got = shmq_pop(q, 0, &buf, 8, NULL, SHMQ_NOWAIT);
		if (got == 8) {
			atomic_fetch_add(&f->popped, 1);
			pause_randomly(&r);
			continue;
		}
		must_eq(got, -EAGAIN);
		atomic_fetch_add(&f->ledger, 1);
		sched_yield();
		if (atomic_load(&f->done) == PRODUCERS &&
		    atomic_load(&f->popped) == atomic_load(&f->pushed))
			break;
	}
	shmq_close(q);
	return 0;
}

static int flow_look(void *arg)
{
	struct flow *f = arg;
	struct shmq_stat st;
	struct shmq *q;

	must_eq(shmq_open(&q, "q", SHMQ_OBSERVE), 0);
	while (atomic_load(&f->pushed) < f->want) {
		stat_of(q, &st);
		must(st.lanes[0].depth <= f->capacity,
		     "stat sees %" PRIu64 " items in a lane of %" PRIu64,
		     st.lanes[0].depth, f->capacity);
		atomic_fetch_add(&f->looks, 1);
		sleep_ns(MS / 50);
	}
	shmq_close(q);
	return 0;
}

static void flow(uint64_t capacity, bool observed)
{
	struct flow *f = shared(sizeof(*f));
	struct shmq *q = create_attach("q", 2, capacity, 8);
	pid_t pid[PRODUCERS + CONSUMERS + 1];
	struct shmq_stat st;
	int n = 0;

	f->capacity = capacity;
	f->seed = seed("flow");
	/* A busy machine changes processes for every few items of a small lane. */
	f->want = (uint64_t)counts(capacity < 10 ? 20000 : 200000);
	for (unsigned i = 0; i < CONSUMERS; i++)
		pid[n++] = spawn(flow_out, &(struct flow_role){ f, i });
	for (unsigned i = 0; i < PRODUCERS; i++)
		pid[n++] = spawn(flow_in, &(struct flow_role){ f, i });
	if (observed)
		pid[n++] = spawn(flow_look, f);
	reap_all(pid, n);
	must_eq(atomic_load(&f->ledger), 0);
	stat_of(q, &st);
	must_eq(st.lanes[0].depth, 0);
	must_eq(st.lanes[0].pushed, atomic_load(&f->pushed));
	must_eq(st.lanes[0].popped, atomic_load(&f->popped));
	must(!observed || atomic_load(&f->looks) > 0);
	must(atomic_load(&f->most) > 0);
	shmq_close(q);
}

START_TEST(a_lane_never_holds_more_than_its_capacity)
{
	flow(capacities[_i], false);
}
END_TEST

START_TEST(an_observer_never_sees_more_than_the_capacity)
{
	flow(capacities[_i], true);
}
END_TEST

/* ---- what is seen ----------------------------------------------------------- */

enum { AT_LEAST = 5, AT_MOST = 8 };

static int breathe(void *arg)
{
	atomic_int *quit = arg;
	struct shmq *q = attach("q");
	uint64_t buf;

	while (!atomic_load(quit)) {
		for (int i = AT_LEAST; i < AT_MOST; i++)
			must_eq(shmq_push(q, 1, &buf, 8, SHMQ_NOWAIT), 0);
		for (int i = AT_LEAST; i < AT_MOST; i++)
			must_eq(shmq_pop(q, 1, &buf, 8, NULL, SHMQ_NOWAIT), 8);
	}
	shmq_close(q);
	return 0;
}

START_TEST(an_observer_never_counts_two_for_one_place)
{
	atomic_int *quit = shared(sizeof(*quit));
	struct shmq *q = create_attach("q", 2, 1000, 8), *o;
	pid_t pid;

	for (int i = 0; i < AT_LEAST; i++)
		must_eq(shmq_push(q, 1, "8 bytes.", 8, SHMQ_NOWAIT), 0);
	must_eq(shmq_open(&o, "q", SHMQ_OBSERVE), 0);
	pid = spawn(breathe, quit);
	for (long i = counts(20000); i > 0; i--) {
		uint64_t n = depth_of(o, 1);

		must(n <= AT_MOST, "%" PRIu64 " items seen, there were at most %d", n,
		     AT_MOST);
	}
	atomic_store(quit, 1);
	reap_ok(pid);
	shmq_close(o);
	shmq_close(q);
}
END_TEST

/* ---- full and empty are true -------------------------------------------- */

/*
 * Who holds one of capacity tokens may push, and who holds one of the items
 * that have arrived may pop; neither can be refused, whatever the others do.
 */
struct tokens {
	atomic_long room, items;
	atomic_ulong pushed, popped;
	atomic_int done; /* producers */
	uint64_t want;
};

struct token_role {
	struct tokens *t;
	unsigned me;
	uint64_t seed;
};

static bool take_token(atomic_long *n)
{
	long v = atomic_load(n);

	while (v > 0)
		if (atomic_compare_exchange_weak(n, &v, v - 1))
			return true;
	return false;
}

static int push_with_token(void *arg)
{
	struct token_role *me = arg;
	struct tokens *t = me->t;
	struct rng r = rng_of(me->seed, me->me);
	struct shmq *q = attach("q");

	while (atomic_load(&t->pushed) < t->want) {
		if (!take_token(&t->room)) {
			sched_yield();
			continue;
		}
		must_eq(shmq_push(q, 0, &r, 8, SHMQ_NOWAIT), 0);
		atomic_fetch_add(&t->pushed, 1);
		atomic_fetch_add(&t->items, 1);
		pause_randomly(&r);
	}
	atomic_fetch_add(&t->done, 1);
	shmq_close(q);
	return 0;
}

static int pop_with_token(void *arg)
{
	struct token_role *me = arg;
	struct tokens *t = me->t;
	struct rng r = rng_of(me->seed, 100 + me->me);
	struct shmq *q = attach("q");
	uint64_t buf;

	for (;;) {
		if (take_token(&t->items)) {
			must_eq(shmq_pop(q, 0, &buf, 8, NULL, SHMQ_NOWAIT), 8);
			atomic_fetch_add(&t->room, 1);
			atomic_fetch_add(&t->popped, 1);
			pause_randomly(&r);
		} else if (atomic_load(&t->done) == PRODUCERS &&
			   atomic_load(&t->popped) ==
				   atomic_load(&t->pushed)) {
			break;
		} else {
			sched_yield();
		}
	}
	shmq_close(q);
	return 0;
}

START_TEST(with_room_no_push_and_with_items_no_pop_is_refused)
{
	struct tokens *t = shared(sizeof(*t));
	struct shmq *q = create_attach("q", 1, capacities[_i], 8);
	uint64_t sd = seed("tokens");
	pid_t pid[PRODUCERS + CONSUMERS];
	int n = 0;

	t->want = (uint64_t)counts(capacities[_i] < 10 ? 20000 : 60000);
	atomic_store(&t->room, (long)capacities[_i]);
	for (unsigned i = 0; i < PRODUCERS; i++)
		pid[n++] = spawn(push_with_token,
				 &(struct token_role){ t, i, sd });
	for (unsigned i = 0; i < CONSUMERS; i++)
		pid[n++] = spawn(pop_with_token,
				 &(struct token_role){ t, i, sd });
	reap_all(pid, n);
	must_eq(depth_of(q, 0), 0);
	shmq_close(q);
}
END_TEST

/*
 * Consumers lower the ledger before they pop, and count in zeros when it is not
 * positive then. So if it was positive before a pop of somebody else, and zeros
 * is the same behind it, the lane held an item all the time.
 */
struct probe {
	atomic_long ledger;
	atomic_ulong zeros;
	atomic_int quit;
	uint64_t seed;
};

struct probe_role {
	struct probe *p;
	unsigned me;
};

static int probe_in(void *arg)
{
	struct probe_role *me = arg;
	struct rng r = rng_of(me->p->seed, me->me);
	struct shmq *q = attach("q");

	while (!atomic_load(&me->p->quit)) {
		int err = shmq_push(q, 0, &r, 8, SHMQ_NOWAIT);

		must(err == 0 || err == -EAGAIN, "%d", err);
		if (err == 0)
			atomic_fetch_add(&me->p->ledger, 1);
		else
			sched_yield();
		pause_randomly(&r);
	}
	shmq_close(q);
	return 0;
}

static int probe_out(void *arg)
{
	struct probe_role *me = arg;
	struct probe *p = me->p;
	struct rng r = rng_of(p->seed, 100 + me->me);
	struct shmq *q = attach("q");
	uint64_t buf;

	while (!atomic_load(&p->quit)) {
		if (atomic_fetch_sub(&p->ledger, 1) <= 1)
			atomic_fetch_add(&p->zeros, 1);
		if (shmq_pop(q, 0, &buf, 8, NULL, SHMQ_NOWAIT) != 8)
			atomic_fetch_add(&p->ledger, 1);
		pause_randomly(&r);
	}
	shmq_close(q);
	return 0;
}

START_TEST(pop_says_empty_only_if_the_lane_was_empty_for_a_moment)
{
	struct probe *p = shared(sizeof(*p));
	struct shmq *q = create_attach("q", 1, 64, 8);
	long decided = 0;
	pid_t pid[5];
	uint64_t buf;

	p->seed = seed("probe");
	for (unsigned i = 0; i < 5; i++)
		pid[i] = spawn(i < 3 ? probe_in : probe_out,
			       &(struct probe_role){ p, i });
	for (long i = counts(300000); i > 0; i--) {
		unsigned long zeros = atomic_load(&p->zeros);
		bool there = atomic_load(&p->ledger) > 0;
		ssize_t n = shmq_pop(q, 0, &buf, 8, NULL, SHMQ_NOWAIT);
		bool lasted = there && atomic_load(&p->zeros) == zeros;

		if (n == 8)
			atomic_fetch_sub(&p->ledger, 1);
		else
			must_eq(n, -EAGAIN);
		must(n == 8 || !lasted, "empty, but there was an item");
		decided += lasted;
		if (n != 8)
			sched_yield();
	}
	must(decided > 0);
	atomic_store(&p->quit, 1);
	reap_all(pid, 5);
	shmq_close(q);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("limit");
	TCase *t = suite_case(s, "limit", 90);
	int n = ARRAY_LEN(capacities);

	tcase_add_loop_test(t, racing_producers_fill_a_lane_exactly, 0, n);
	tcase_add_loop_test(t, racing_batches_fill_a_lane_exactly, 0, n);
	tcase_add_loop_test(t, a_lane_never_holds_more_than_its_capacity, 0, n);
	tcase_add_loop_test(t, an_observer_never_sees_more_than_the_capacity, 0,
			    n);
	tcase_add_test(t, an_observer_never_counts_two_for_one_place);
	tcase_add_loop_test(
		t, with_room_no_push_and_with_items_no_pop_is_refused, 0, n);
	tcase_add_test(
		t, pop_says_empty_only_if_the_lane_was_empty_for_a_moment);
	return s;
}

int main(void)
{
	return suite_run(suite());
}
