/* SPDX-License-Identifier: MIT */
/*
 * test_stop.c - a process that is stopped anywhere in a call stops nobody else
 * and is robbed of nothing; and what calls cost when nobody sleeps.
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

/* ---- at every instruction ----------------------------------------------- */

enum op { PUSH, PUSH_N, POP, POP_ANY, POP_N, NR_OPS };

static const char *const op_name[] = { "push", "push_n", "pop", "pop any",
				       "pop_n" };

enum { VICTIM = 1, HELPER = 0, BATCH = 3 };

struct sweep {
	enum op op;
	atomic_int done;  /* the victim's call has returned */
	atomic_llong result;
	uint64_t got[BATCH]; /* numbers that the victim's pop took */
	uint64_t next;       /* number of the victim's next push */
};

static struct iovec *batch_of(uint64_t *num)
{
	static struct iovec v[BATCH];

	for (int i = 0; i < BATCH; i++)
		v[i] = (struct iovec){ num + i * 2, 16 };
	return v;
}

/* One call at a time, a mark before and after each. */
static int victim(void *arg)
{
	struct sweep *s = arg;
	struct shmq *q = attach("q");
	uint64_t num[BATCH * 2] = { 0 };
	struct iovec *v = batch_of(num);
	int64_t n = 0;

	for (;;) {
		for (uint64_t i = 0; i < BATCH; i++) {
			num[2 * i] = VICTIM;
			num[2 * i + 1] = s->next + i;
			v[i].iov_len = 16;
		}
		trace_mark();
		switch (s->op) {
		case PUSH: n = shmq_push(q, 1, num, 16, 0); break;
		case PUSH_N: n = shmq_push_n(q, 1, v, BATCH, 0); break;
		case POP: n = shmq_pop(q, 1, num, 16, NULL, 0); break;
		case POP_N: n = shmq_pop_n(q, 1, v, NULL, BATCH, 0); break;
		default: n = shmq_pop(q, SHMQ_ANY_LANE, num, 16, NULL, 0);
		}
		for (int i = 0; i < BATCH; i++)
			s->got[i] = num[2 * i + 1];
		atomic_store(&s->result, n);
		atomic_store(&s->done, 1);
		trace_mark();
	}
	return 0;
}

struct bench {
	struct sweep *s;
	struct shmq *q;
	uint64_t capacity;
	uint64_t in, out;     /* numbers of the helper's items */
	uint64_t missing[BATCH]; /* helper's items that did not come here */
	int nr_missing;
	uint64_t last_victim; /* order of its items */
	uint64_t victims;     /* how many of them have come */
};

/* Take one item; false if there is none. */
static bool bench_pop(struct bench *b)
{
	uint64_t v[2];
	struct shmq_info info;
	ssize_t n = shmq_pop(b->q, 1, v, 16, &info, SHMQ_NOWAIT);

	if (n == -EAGAIN)
		return false;
	must_eq(n, 16);
	must_eq(info.attempts, 1); /* nobody died */
	if (v[0] == VICTIM) {
		must(v[1] > b->last_victim || b->victims == 0);
		b->last_victim = v[1];
		b->victims++;
		return true;
	}
	/* The victim may hold some; all others come in order. */
	must(v[1] >= b->out && v[1] < b->in, "%" PRIu64 " after %" PRIu64, v[1],
	     b->out);
	for (; b->out < v[1]; b->out++) {
		must(b->nr_missing < BATCH, "item %" PRIu64 " is lost", b->out);
		b->missing[b->nr_missing++] = b->out;
	}
	b->out++;
	return true;
}

static bool bench_push(struct bench *b)
{
	uint64_t v[2] = { HELPER, b->in };
	int err = shmq_push(b->q, 1, v, 16, SHMQ_NOWAIT);

	must(err == 0 || err == -EAGAIN, "%d", err);
	b->in += err == 0;
	return err == 0;
}

/* Others go on while the victim stands still: laps from empty to full. */
static void bench_work(struct bench *b, int laps)
{
	while (laps-- > 0) {
		uint64_t n = 0;

		while (bench_push(b))
			n++;
		must(n <= b->capacity);
		n = 0;
		while (bench_pop(b))
			n++;
		/* Unfinished pushes of the victim may count, nothing else. */
		must(n + BATCH >= b->capacity && n <= b->capacity,
		     "only %" PRIu64 " of %" PRIu64 " fit", n, b->capacity);
	}
}

/* Make the next ticket the first of a segment, so that one has to be found. */
static void bench_align(struct bench *b)
{
	struct shmq_stat st;

	stat_of(b->q, &st);
	for (uint64_t n = st.lanes[1].pushed; n % st.slots_per_segment; n++) {
		must(bench_push(b));
		must(bench_pop(b));
	}
}

/* Stop the victim k instructions into its call. False: it was over before. */
static bool bench_point(struct bench *b, pid_t pid, long k, bool align)
{
	struct sweep *s = b->s;
	bool pops = s->op >= POP, over;
	uint64_t before = b->victims, first;
	int64_t n;

	while (bench_pop(b))
		;
	if (align)
		bench_align(b);
	first = b->in;
	for (uint64_t i = 0; pops && i < BATCH && i < b->capacity; i++)
		must(bench_push(b));
	b->out = first;
	b->nr_missing = 0;
	atomic_store(&s->done, 0);
	s->next = (uint64_t)k * BATCH + before * 100000 + 1;
	trace_to_mark(pid); /* one before the call */
	/* The call may be shorter than it was when fewer steps were tried: a look for the
	 * dead may be due or not. Do not step on into the next one. */
	for (long i = 0; i <= k && !atomic_load(&s->done); i++)
		trace_step(pid, 1);
	over = atomic_load(&s->done);
	/* Full and empty again, over several segments, whatever it holds. */
	bench_work(b, b->capacity > 100 ? 3 : 200);
	trace_to_mark(pid); /* and the one behind it */
	must_eq(atomic_load(&s->done), 1);
	n = atomic_load(&s->result);
	while (bench_pop(b))
		;
	if (pops) {
		/* Emptied by the others while it stood still, or its own. */
		must(n == -EAGAIN || (s->op == POP_N ? n > 0 : n == 16),
		     "%s: %" PRId64, op_name[s->op], n);
		/* What did not come here went there. */
		must_eq(b->nr_missing, n < 0 ? 0 : s->op == POP_N ? n : 1);
		for (int i = 0; i < b->nr_missing; i++)
			must_eq(b->missing[i], s->got[i]);
	} else {
		uint64_t pushed = s->op == PUSH ? n == 0
				  : n < 0	? 0
						: (uint64_t)n;

		must(n >= 0 || n == -EAGAIN, "%s: %" PRId64, op_name[s->op], n);
		must_eq(b->victims - before, pushed);
	}
	return !over;
}

START_TEST(a_process_stopped_at_any_instruction_holds_up_nobody)
{
	static const uint64_t cap[] = { 3, 64, 1000 };
	struct sweep *s = shared(sizeof(*s));
	struct bench b = { .s = s };
	bool align = _i / NR_OPS == 1;
	struct shmq_stat st;
	long points = 0;
	pid_t pid;

	if (SANITIZED) {
		skip("too many instructions under a sanitizer");
		return;
	}
	s->op = (enum op)(_i % NR_OPS);
	b.capacity = cap[_i / NR_OPS];
	b.q = create_attach("q", 2, b.capacity, 16);
	pin(_i);
	if (!trace_spawn(&pid, victim, s))
		return;
	for (long k = 0; bench_point(&b, pid, k, align); k++) {
		points++;
		if (k > 400) /* the long way through an installation */
			k += 6;
		must(k < 20000);
	}
	trace_kill(pid);
	fprintf(stderr, "# %s: stopped at %ld instructions\n", op_name[s->op],
		points);
	must(points > 20);
	stat_of(b.q, &st);
	must_eq(st.lanes[1].depth, 0);
	must_eq(st.lanes[1].redelivered, 0);
	must_eq(st.lanes[1].pushed, st.lanes[1].popped);
	shmq_close(b.q);
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
	tcase_add_loop_test(
		t, a_process_stopped_at_any_instruction_holds_up_nobody, 0,
		3 * NR_OPS);

	t = suite_case(s, "cost", 60);
	tcase_add_loop_test(t, a_hundred_thousand_calls_make_no_system_call, 0,
			    3);
	return s;
}

int main(void)
{
	return suite_run(suite());
}
