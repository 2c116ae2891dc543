/* SPDX-License-Identifier: MIT */
/*
 * test_stop.c - processes at work, some of them stopped at random, for a while: nobody
 * else stops, and nobody is robbed of anything (test_halt.c: at every instruction); and
 * what calls cost when nobody sleeps.
 */
#include "trace.h"
#include "traffic.h"

#include <sys/wait.h>

/* ---- at random ---------------------------------------------------------- */

enum { P = 3, C = 3, LANES = 2 };

/* What all but the victim have done, least lane first. */
static uint64_t progress(struct traffic *t, const struct worker *victim)
{
	uint64_t least = UINT64_MAX;

	for (int lane = 0; lane < LANES; lane++) {
		uint64_t in = 0, out = 0;

		for (int i = 0; i < P; i++)
			if (&t->producer[i] != victim)
				in += traffic_items(&t->producer[i], 1, lane);
		for (int i = 0; i < C; i++)
			if (&t->consumer[i] != victim)
				out += traffic_items(&t->consumer[i], 1, lane);
		least = in < least ? in : least;
		least = out < least ? out : least;
	}
	return least;
}

static void stop(pid_t pid)
{
	int status;

	must_eq(kill(pid, SIGSTOP), 0);
	must_eq(waitpid(pid, &status, WUNTRACED), pid);
	must(WIFSTOPPED(status), "child %d ended, status %x", (int)pid, status);
}

enum pinning { FREE, ONE_CPU, APART };

START_TEST(a_process_stopped_at_random_does_not_stop_the_others)
{
	static const uint64_t cap[] = { 200, 200, 4, 1000 };
	enum pinning how = (enum pinning)(_i % 3);
	struct traffic *t = traffic_new(P, C, LANES, UINT64_MAX);
	struct shmq *q = create_attach("q", LANES, cap[_i], 64);
	uint64_t least = SANITIZED || cap[_i] < 10 ? 500 : 2000;
	struct rng r;
	pid_t pid[P + C];
	long stops = counts(140);

	t->seed = seed("stops");
	t->batch = _i % 2 ? 6 : 1;
	t->timeout_ns = 3 * (int64_t)MS;
	r = rng_of(t->seed, 77);
	if (how == ONE_CPU)
		pin(0);
	traffic_spawn(t, pid, pid + P);
	if (how == APART)
		for (int i = 0; i < P + C; i++) {
			cpu_set_t s;

			CPU_ZERO(&s);
			CPU_SET(i % (int)sysconf(_SC_NPROCESSORS_ONLN), &s);
			sched_setaffinity(pid[i], sizeof(s), &s);
		}
	for (long i = 0; i < stops; i++) {
		int v = (int)rng_below(&r, P + C);
		struct worker *w = v < P ? &t->producer[v] : &t->consumer[v - P];
		uint64_t from, end;

		sleep_ns(rng_below(&r, 2 * MS));
		stop(pid[v]);
		from = progress(t, w);
		end = now_ns() + 20 * SECOND;
		while (progress(t, w) < from + least) {
			must(now_ns() < end,
			     "stop %ld of %s %d: others did only %" PRIu64, i,
			     v < P ? "producer" : "consumer", v,
			     progress(t, w) - from);
			sched_yield();
		}
		kill(pid[v], SIGCONT);
	}
	atomic_store(&t->quit, 1);
	reap_all(pid, P + C);
	traffic_check(t, q);
	shmq_close(q);
}
END_TEST

/* ---- no system call ----------------------------------------------------- */

enum { OPS = 100000 };

static int uncontended(void *arg)
{
	int what = *(int *)arg;
	struct shmq *q = attach("q");
	char buf[16][64];
	struct iovec v[16];

	for (int lap = 0; lap < 2; lap++) {
		/* The first lap maps what has to be mapped. */
		if (lap)
			trace_mark();
		for (int i = 0; i < OPS; i += 32) {
			for (int k = 0; k < 16; k++)
				v[k] = (struct iovec){ buf[k], 64 };
			if (what == 1) {
				must_eq(shmq_push_n(q, i / 32 % 3, v, 16, 0),
					16);
				must_eq(shmq_pop_n(q, SHMQ_ANY_LANE, v, NULL,
						   16, 0), 16);
			} else if (what == 2) {
				for (int k = 0; k < 32; k++)
					must_eq(shmq_pop(q, k % 4 - 1, buf[0],
							 64, NULL, 0),
						-EAGAIN);
			} else {
				for (int k = 0; k < 16; k++)
					must_eq(shmq_push(q, i / 32 % 3, buf[k],
							  64, SHMQ_FOREVER), 0);
				for (int k = 0; k < 16; k++)
					must_eq(shmq_pop(q, SHMQ_ANY_LANE,
							 buf[k], 64, NULL,
							 SHMQ_FOREVER), 64);
			}
		}
	}
	trace_mark();
	shmq_close(q);
	return 0;
}

START_TEST(a_hundred_thousand_calls_make_no_system_call)
{
	static int what[] = { 0, 1, 2 }; /* single, batches, of nothing */
	struct shmq *q = create_attach("q", 3, 50, 64);
	long n = 0, nr;
	pid_t pid;

	if (!trace_spawn(&pid, uncontended, &what[_i]))
		return;
	trace_to_mark(pid);
	while ((nr = trace_next(pid)) != TRACE_MARK) {
		must(nr != TRACE_GONE, "the child ended");
		if (n++ < 5)
			fprintf(stderr, "# system call %ld\n", nr);
	}
	trace_kill(pid);
	must_eq(n, 0);
	shmq_close(q);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("stop");
	TCase *t = suite_case(s, "stopped", 180);

	tcase_add_loop_test(
		t, a_process_stopped_at_random_does_not_stop_the_others, 0, 4);

	t = suite_case(s, "cost", 60);
	tcase_add_loop_test(t, a_hundred_thousand_calls_make_no_system_call, 0,
			    3);
	return s;
}

int main(void)
{
	return suite_run(suite());
}
