/* SPDX-License-Identifier: MIT */
/*
 * test_wait.c - calls that sleep: they wake when there is something for them,
 * return in time when there is not, and cost nothing meanwhile.
 *
 * Bounds on time are wide: they tell a hang or a loss that something else made
 * good from progress, not a fast machine from a busy one.
 */
#include "common.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>

static const int64_t minute = 60 * (int64_t)SECOND;

/* ---- waking ------------------------------------------------------------- */

struct sleeper {
	int lane;
	size_t room; /* of its buffer */
	int64_t timeout;
	atomic_int ready;
	atomic_llong result;    /* of its call */
	atomic_ullong woken_at; /* when it returned */
};

static int sleep_in_pop(void *arg)
{
	struct sleeper *s = arg;
	struct shmq *q = attach("q");
	uint64_t v;

	atomic_store(&s->ready, 1);
	atomic_store(&s->result,
		     shmq_pop(q, s->lane, &v, s->room, NULL, s->timeout));
	atomic_store(&s->woken_at, now_ns());
	shmq_close(q);
	return 0;
}

static int sleep_in_push(void *arg)
{
	struct sleeper *s = arg;
	struct shmq *q = attach("q");

	atomic_store(&s->ready, 1);
	atomic_store(&s->result,
		     shmq_push(q, s->lane, "waited", 6, s->timeout));
	atomic_store(&s->woken_at, now_ns());
	shmq_close(q);
	return 0;
}

static pid_t sleeping_with(int (*fn)(void *), struct sleeper *s, int lane, size_t room)
{
	pid_t pid;

	memset(s, 0, sizeof(*s));
	s->lane = lane;
	s->room = room;
	s->timeout = SHMQ_FOREVER;
	pid = spawn(fn, s);
	wait_asleep(pid, &s->ready);
	return pid;
}

static pid_t sleeping(int (*fn)(void *), struct sleeper *s, int lane)
{
	return sleeping_with(fn, s, lane, 8);
}

static void fill(struct shmq *q, int lane)
{
	while (shmq_push(q, lane, "filler", 6, SHMQ_NOWAIT) == 0)
		;
}

START_TEST(a_pop_that_sleeps_wakes_on_a_push)
{
	struct sleeper *s = shared(sizeof(*s));
	struct shmq *q = create_attach("q", 3, 8, 8);

	for (int i = 0; i < 60; i++) {
		pid_t pid = sleeping(sleep_in_pop, s,
				     i % 2 ? i % 3 : SHMQ_ANY_LANE);
		struct iovec v = { "batch", 5 };

		if (i % 4 < 2)
			must_eq(shmq_push(q, i % 3, "push", 4, 0), 0);
		else
			must_eq(shmq_push_n(q, i % 3, &v, 1, 0), 1);
		reap_ok(pid);
		must_eq(atomic_load(&s->result), i % 4 < 2 ? 4 : 5);
	}
	shmq_close(q);
}
END_TEST

START_TEST(a_push_that_sleeps_wakes_on_a_pop)
{
	struct sleeper *s = shared(sizeof(*s));
	struct shmq *q = create_attach("q", 3, 4, 8);
	char buf[8];

	fill(q, 1);
	for (int i = 0; i < 60; i++) {
		pid_t pid = sleeping(sleep_in_push, s, 1);
		struct iovec v = { buf, 8 };

		if (i % 3 == 0)
			must_eq(shmq_pop(q, 1, buf, 8, NULL, 0), 6);
		else if (i % 3 == 1)
			must_eq(shmq_pop(q, SHMQ_ANY_LANE, buf, 8, NULL, 0), 6);
		else
			must_eq(shmq_pop_n(q, 1, &v, NULL, 1, 0), 1);
		reap_ok(pid);
		must_eq(atomic_load(&s->result), 0);
		must_eq(depth_of(q, 1), 4);
	}
	shmq_close(q);
}
END_TEST

START_TEST(a_push_sleeps_for_room_in_its_own_lane)
{
	struct sleeper *s = shared(2 * sizeof(*s));
	struct shmq *q = create_attach("q", 2, 2, 8);
	pid_t pid[2];
	char buf[8];

	fill(q, 0);
	fill(q, 1);
	pid[0] = sleeping(sleep_in_push, &s[0], 0);
	pid[1] = sleeping(sleep_in_push, &s[1], 1);
	must_eq(shmq_pop(q, 1, buf, 8, NULL, 0), 6);
	reap_ok(pid[1]);
	must_eq(atomic_load(&s[1].result), 0);
	must_eq(atomic_load(&s[0].woken_at), 0);
	must_eq(shmq_pop(q, 0, buf, 8, NULL, 0), 6);
	reap_ok(pid[0]);
	shmq_close(q);
}
END_TEST

static int compare_u64(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

/*
 * A wake that goes to the wrong sleeper is as good as lost. Sleeps are cut into
 * slices, so a loss shows as a delay of up to a slice: look at the median.
 */
static void must_be_prompt(uint64_t *late, int n)
{
	qsort(late, (size_t)n, sizeof(late[0]), compare_u64);
	fprintf(stderr, "# woken after %" PRIu64 " us (median)\n", late[n / 2] / 1000);
	must(late[n / 2] < 20 * MS, "median %" PRIu64 " us", late[n / 2] / 1000);
}

/* Who is woken wakes the next, so it is the last one that tells. */
static uint64_t last_woken(const struct sleeper *s, int n, uint64_t since)
{
	uint64_t last = 0;

	for (int i = 0; i < n; i++) {
		uint64_t late = atomic_load(&s[i].woken_at) - since;

		must(late < 5 * SECOND);
		last = late > last ? late : last;
	}
	return last;
}

START_TEST(each_of_many_sleepers_gets_one_of_as_many_items)
{
	enum { N = 8, LAPS = 24 };
	struct sleeper *s = shared(N * sizeof(*s));
	struct shmq *q = create_attach("q", 3, N, 8);
	uint64_t late[LAPS];
	struct iovec v[N];
	pid_t pid[N];

	for (int i = 0; i < N; i++)
		v[i] = (struct iovec){ "batch", 5 };
	for (int lap = 0; lap < LAPS; lap++) {
		uint64_t t0;

		for (int i = 0; i < N; i++)
			pid[i] = sleeping(sleep_in_pop, &s[i],
					  i % 2 ? SHMQ_ANY_LANE : 1);
		t0 = now_ns();
		if (lap % 2)
			must_eq(shmq_push_n(q, 1, v, N, 0), N);
		else
			for (int i = 0; i < N; i++)
				must_eq(shmq_push(q, 1, "item", 4, 0), 0);
		reap_all(pid, N);
		for (int i = 0; i < N; i++)
			must(atomic_load(&s[i].result) == 4 ||
			     atomic_load(&s[i].result) == 5);
		late[lap] = last_woken(s, N, t0);
		must_eq(depth_of(q, 1), 0);
	}
	must_be_prompt(late, LAPS);
	shmq_close(q);
}
END_TEST

START_TEST(each_of_many_pushers_gets_one_of_as_many_places)
{
	enum { N = 6, LAPS = 20 };
	struct sleeper *s = shared(N * sizeof(*s));
	struct shmq *q = create_attach("q", 1, N, 8);
	uint64_t late[LAPS];
	struct iovec v[N];
	char buf[N][8];
	pid_t pid[N];

	fill(q, 0);
	for (int lap = 0; lap < LAPS; lap++) {
		uint64_t t0;

		for (int i = 0; i < N; i++) {
			pid[i] = sleeping(sleep_in_push, &s[i], 0);
			v[i] = (struct iovec){ buf[i], sizeof(buf[i]) };
		}
		t0 = now_ns();
		if (lap % 2)
			must_eq(shmq_pop_n(q, 0, v, NULL, N, 0), N);
		else
			for (int i = 0; i < N; i++)
				must_eq(shmq_pop(q, 0, buf[i], 8, NULL, 0), 6);
		reap_all(pid, N);
		late[lap] = last_woken(s, N, t0);
		must_eq(depth_of(q, 0), N);
	}
	must_be_prompt(late, LAPS);
	shmq_close(q);
}
END_TEST

START_TEST(a_push_wakes_the_one_who_sleeps_on_its_lane)
{
	enum { OTHERS = 3, LAPS = 25 };
	struct sleeper *s = shared((OTHERS + 1) * sizeof(*s));
	struct shmq *q = create_attach("q", 3, 20, 8);
	uint64_t late[LAPS];

	for (int lap = 0; lap < LAPS; lap++) {
		pid_t pid[OTHERS + 1];
		uint64_t t0;

		/* Others first: who sleeps longest is woken first. */
		for (int i = 0; i < OTHERS; i++)
			pid[i] = sleeping(sleep_in_pop, &s[i], 2);
		pid[OTHERS] = sleeping(sleep_in_pop, &s[OTHERS], 0);
		t0 = now_ns();
		must_eq(shmq_push(q, 0, "high", 4, 0), 0);
		reap_ok(pid[OTHERS]);
		late[lap] = atomic_load(&s[OTHERS].woken_at) - t0;
		must(late[lap] < SECOND, "woken after %" PRIu64 " ms",
		     late[lap] / MS);
		for (int i = 0; i < OTHERS; i++)
			must_eq(shmq_push(q, 2, "low", 3, 0), 0);
		reap_all(pid, OTHERS);
	}
	must_be_prompt(late, LAPS);
	shmq_close(q);
}
END_TEST

START_TEST(who_has_no_room_for_the_item_wakes_the_next)
{
	enum { LAPS = 25 };
	struct sleeper *s = shared(2 * sizeof(*s));
	struct shmq *q = create_attach("q", 1, 20, 8);
	uint64_t late[LAPS];

	for (int lap = 0; lap < LAPS; lap++) {
		pid_t small = sleeping_with(sleep_in_pop, &s[0], 0, 4);
		pid_t pid = sleeping(sleep_in_pop, &s[1], 0);
		uint64_t t0 = now_ns();
		char buf[8];

		must_eq(shmq_push(q, 0, "longer", 6, 0), 0);
		reap_ok(pid);
		must_eq(atomic_load(&s[1].result), 6);
		late[lap] = atomic_load(&s[1].woken_at) - t0;
		/* The other has seen it too, unless its slice had just begun anew. */
		must_eq(shmq_push(q, 0, "longer", 6, 0), 0);
		reap_ok(small);
		must_eq(atomic_load(&s[0].result), -EMSGSIZE);
		must_eq(shmq_pop(q, 0, buf, 8, NULL, 0), 6);
	}
	must_be_prompt(late, LAPS);
	shmq_close(q);
}
END_TEST

START_TEST(items_of_high_reach_sleepers_on_high_and_on_any)
{
	enum { ANY = 3 };
	struct sleeper *s = shared((ANY + 1) * sizeof(*s));
	struct shmq *q = create_attach("q", 3, 20, 8);

	for (int lap = 0; lap < 15; lap++) {
		pid_t pid[ANY + 1];

		for (int i = 0; i < ANY; i++)
			pid[i] = sleeping(sleep_in_pop, &s[i], SHMQ_ANY_LANE);
		pid[ANY] = sleeping(sleep_in_pop, &s[ANY], 0);
		for (int i = 0; i <= ANY; i++)
			must_eq(shmq_push(q, 0, "high", 4, 0), 0);
		reap_all(pid, ANY + 1);
		for (int i = 0; i <= ANY; i++)
			must_eq(atomic_load(&s[i].result), 4);
		must_eq(depth_of(q, 0), 0);
	}
	shmq_close(q);
}
END_TEST

START_TEST(a_dead_sleeper_does_not_keep_a_wake_for_itself)
{
	struct sleeper *s = shared(2 * sizeof(*s));
	struct shmq *q = create_attach("q", 1, 20, 8);

	for (int lap = 0; lap < 30; lap++) {
		pid_t dead = sleeping(sleep_in_pop, &s[0], 0);
		pid_t pid = sleeping(sleep_in_pop, &s[1], 0);

		kill(dead, SIGKILL);
		if (lap % 2)
			must_eq(reap(dead), SIGNALLED + SIGKILL);
		must_eq(shmq_push(q, 0, "x", 1, 0), 0);
		reap_ok(pid);
		must_eq(atomic_load(&s[1].result), 1);
		if (lap % 2 == 0)
			must_eq(reap(dead), SIGNALLED + SIGKILL);
		must_eq(depth_of(q, 0), 0);
	}
	shmq_close(q);
}
END_TEST

/* ---- ping-pong ---------------------------------------------------------- */

struct pingpong {
	uint64_t rounds, seed;
	bool delays; /* meet the moment between the last look and the sleep */
};

static void linger(struct pingpong *p, struct rng *r)
{
	if (!p->delays)
		return;
	if (rng_below(r, 50) == 0)
		sleep_ns(rng_below(r, 60000));
	else
		for (volatile uint64_t i = rng_below(r, 20000); i > 0; i--)
			;
}

static int pong(void *arg)
{
	struct pingpong *p = arg;
	struct rng r = rng_of(p->seed, 1);
	struct shmq *in = attach("ping"), *out = attach("pong");
	uint64_t v;

	for (uint64_t i = 0; i < p->rounds; i++) {
		must_eq(shmq_pop(in, i / 2 % 2 ? SHMQ_ANY_LANE : (int)(i % 2),
				 &v, 8, NULL, minute), 8);
		must_eq(v, i);
		linger(p, &r);
		must_eq(shmq_push(out, (int)(i % 2), &v, 8, minute), 0);
	}
	shmq_close(in);
	shmq_close(out);
	return 0;
}

static void play(uint64_t rounds, bool delays)
{
	struct pingpong p = { rounds, seed("ping-pong"), delays };
	struct rng r = rng_of(p.seed, 0);
	struct shmq *out = create_attach("ping", 2, 1, 8);
	struct shmq *in = create_attach("pong", 2, 1, 8);
	uint64_t slow = 0, worst = 0, v;
	pid_t pid = spawn(pong, &p);

	for (uint64_t i = 0; i < rounds; i++) {
		uint64_t t = now_ns();

		must_eq(shmq_push(out, (int)(i % 2), &i, 8, minute), 0);
		linger(&p, &r);
		must_eq(shmq_pop(in, i / 3 % 2 ? SHMQ_ANY_LANE : (int)(i % 2),
				 &v, 8, NULL, minute), 8);
		must_eq(v, i);
		t = now_ns() - t;
		worst = t > worst ? t : worst;
		slow += t > 40 * MS;
		must(t < SECOND * (SANITIZED ? 10 : 1),
		     "round %" PRIu64 " took %" PRIu64 " ms", i, t / MS);
	}
	reap_ok(pid);
	fprintf(stderr,
		"# worst round %" PRIu64 " us, %" PRIu64 " above 40 ms\n",
		worst / 1000, slow);
	/* Each lost wake-up costs a slice; a busy machine costs a few too. */
	must(slow <= rounds / 200, "%" PRIu64 " rounds above 40 ms", slow);
	shmq_close(in);
	shmq_close(out);
}

START_TEST(a_hundred_thousand_rounds_lose_no_wake)
{
	play((uint64_t)counts(100000), false);
}
END_TEST

START_TEST(rounds_with_random_delays_lose_no_wake)
{
	play((uint64_t)counts(30000), true);
}
END_TEST

/* A lane of one: both sides sleep all the time, with several on each. */
struct narrow {
	uint64_t each;
	atomic_ulong got;
};

static int narrow_in(void *arg)
{
	struct narrow *n = arg;
	struct shmq *q = attach("q");

	for (uint64_t i = 0; i < n->each; i++)
		must_eq(shmq_push(q, 0, &i, 8, minute), 0);
	shmq_close(q);
	return 0;
}

static int narrow_out(void *arg)
{
	struct narrow *n = arg;
	struct shmq *q = attach("q");
	uint64_t v;

	for (uint64_t i = 0; i < n->each; i++) {
		must_eq(shmq_pop(q, 0, &v, 8, NULL, minute), 8);
		atomic_fetch_add(&n->got, 1);
	}
	shmq_close(q);
	return 0;
}

START_TEST(three_producers_and_three_consumers_sleep_on_a_lane_of_one)
{
	struct narrow *n = shared(sizeof(*n));
	struct shmq *q = create_attach("q", 1, 1, 8);
	uint64_t t0 = now_ns();
	pid_t pid[6];

	n->each = (uint64_t)counts(10000);
	for (int i = 0; i < 6; i++)
		pid[i] = spawn(i % 2 ? narrow_out : narrow_in, n);
	reap_all(pid, 6);
	must_eq(atomic_load(&n->got), 3 * n->each);
	must_eq(depth_of(q, 0), 0);
	/* Were each item to wait for the end of a slice: 1500 s. */
	t0 = now_ns() - t0;
	fprintf(stderr, "# %" PRIu64 " us per item\n",
		t0 / 1000 / (3 * n->each));
	must(t0 / (3 * n->each) < 5 * MS);
	shmq_close(q);
}
END_TEST

/* ---- time --------------------------------------------------------------- */

enum waiter { W_POP, W_POP_ANY, W_POP_N, W_PUSH, W_PUSH_N, NR_WAITERS };

/* Sleep in vain on a queue whose lane 0 is full and whose lane 1 is empty. */
static int64_t wait_in_vain(struct shmq *q, enum waiter w, int64_t timeout)
{
	char buf[8] = "";
	struct iovec v[2] = { { buf, 8 }, { buf, 8 } };

	switch (w) {
	case W_POP: return shmq_pop(q, 1, buf, 8, NULL, timeout);
	case W_POP_N: return shmq_pop_n(q, 1, v, NULL, 2, timeout);
	case W_PUSH: return shmq_push(q, 0, buf, 8, timeout);
	case W_PUSH_N: return shmq_push_n(q, 0, v, 2, timeout);
	default: return shmq_pop(q, SHMQ_ANY_LANE, buf, 8, NULL, timeout);
	}
}

static struct shmq *full_and_empty(enum waiter w)
{
	struct shmq *q = create_attach("q", 2, 2, 8);

	if (w != W_POP_ANY)
		fill(q, 0);
	return q;
}

START_TEST(a_timeout_lasts_as_long_as_it_says)
{
	enum waiter w = (enum waiter)_i;
	struct shmq *q = full_and_empty(w);
	uint64_t best = UINT64_MAX;

	for (int i = 0; i < 6; i++) {
		uint64_t t = now_ns();

		must_eq(wait_in_vain(q, w, 100 * (int64_t)MS), -ETIMEDOUT);
		t = now_ns() - t;
		must(t >= 100 * MS, "only %" PRIu64 " us", t / 1000);
		must(t < 5 * SECOND, "%" PRIu64 " ms", t / MS);
		best = t < best ? t : best;
	}
	must(best < 150 * MS, "%" PRIu64 " ms at best", best / MS);
	for (int64_t t = 1; t < 3 * (int64_t)MS; t = t * 7)
		must_eq(wait_in_vain(q, w, t), -ETIMEDOUT);
	must_eq(wait_in_vain(q, w, SHMQ_NOWAIT), -EAGAIN);
	shmq_close(q);
}
END_TEST

/* ---- signals ------------------------------------------------------------ */

static void on_signal(int sig)
{
	(void)sig;
}

static void handle(int sig, int flags)
{
	struct sigaction a = { .sa_handler = on_signal, .sa_flags = flags };

	must_eq(sigaction(sig, &a, NULL), 0);
}

struct interrupted {
	enum waiter w;
	int flags;
	int64_t timeout;
	atomic_int ready;
	atomic_llong result;
};

static int wait_for_signal(void *arg)
{
	struct interrupted *s = arg;
	struct shmq *q = attach("q");

	handle(SIGUSR1, s->flags);
	atomic_store(&s->ready, 1);
	atomic_store(&s->result, wait_in_vain(q, s->w, s->timeout));
	shmq_close(q);
	return 0;
}

static bool has_ended(pid_t pid)
{
	siginfo_t info = { 0 };

	must_eq(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT | WNOHANG),
		0);
	return info.si_pid == pid;
}

START_TEST(a_signal_handler_ends_the_sleep_with_eintr)
{
	struct interrupted *s = shared(sizeof(*s));
	enum waiter w = (enum waiter)_i;
	struct shmq *q = full_and_empty(w);
	struct shmq_stat before, after;
	char buf[8];

	stat_of(q, &before);
	for (int i = 0; i < 10; i++) {
		pid_t pid;

		s->w = w;
		s->timeout = i % 2 ? SHMQ_FOREVER : minute;
		atomic_store(&s->ready, 0);
		pid = spawn(wait_for_signal, s);
		wait_asleep(pid, &s->ready);
		/* Again if it came just between two slices of the sleep. */
		do {
			kill(pid, SIGUSR1);
			sleep_ns(20 * MS);
		} while (!has_ended(pid));
		reap_ok(pid);
		must_eq(atomic_load(&s->result), -EINTR);
	}
	/* Nothing was done. */
	stat_of(q, &after);
	for (int i = 0; i < 2; i++) {
		must_eq(after.lanes[i].depth, before.lanes[i].depth);
		must_eq(after.lanes[i].pushed, before.lanes[i].pushed);
		must_eq(after.lanes[i].popped, before.lanes[i].popped);
		must_eq(after.lanes[i].unfinished, 0);
	}
	must_eq(shmq_push(q, 1, "after", 5, 0), 0);
	must_eq(shmq_pop(q, 1, buf, 8, NULL, 0), 5);
	shmq_close(q);
}
END_TEST

static int pop_in_a_storm(void *arg)
{
	atomic_int *ready = arg;
	struct itimerval t = { { 0, 500 }, { 0, 500 } }; /* 2 kHz */
	struct shmq *q = attach("q");
	uint64_t v, interrupted = 0, want = 0;

	handle(SIGALRM, 0);
	must_eq(setitimer(ITIMER_REAL, &t, NULL), 0);
	atomic_store(ready, 1);
	while (want < 300) {
		uint64_t t0 = now_ns();
		ssize_t n = shmq_pop(q, 0, &v, 8, NULL, 100 * (int64_t)MS);

		if (n == -EINTR) {
			interrupted++;
			continue;
		}
		if (n == -ETIMEDOUT) {
			must(now_ns() - t0 >= 100 * MS, "too early");
			continue;
		}
		must_eq(n, 8);
		must_eq(v, want);
		want++;
	}
	must(interrupted > 0);
	shmq_close(q);
	return 0;
}

START_TEST(a_storm_of_signals_loses_no_item)
{
	atomic_int *ready = shared(sizeof(*ready));
	struct shmq *q = create_attach("q", 1, 8, 8);
	pid_t pid = spawn(pop_in_a_storm, ready);

	wait_asleep(pid, ready);
	for (uint64_t i = 0; i < 300; i++) {
		must_eq(shmq_push(q, 0, &i, 8, minute), 0);
		sleep_ns(3 * MS);
	}
	reap_ok(pid);
	must_eq(depth_of(q, 0), 0);
	shmq_close(q);
}
END_TEST

/*
 * Who may only read a queue can still wake everybody who sleeps on it: that may
 * end no call before its time and lose nothing.
 */
static int wake_everything(void *arg)
{
	atomic_int *quit = arg;
	int fd = open(queue_path("q"), O_RDONLY | O_CLOEXEC);
	struct stat st;
	char *p;

	must(fd >= 0 && !fstat(fd, &st));
	p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
	must(p != MAP_FAILED);
	while (!atomic_load(quit))
		for (off_t at = 0; at < st.st_size && at < 65536; at += 4)
			syscall(SYS_futex, p + at, FUTEX_WAKE, INT_MAX, NULL,
				NULL, 0);
	return 0;
}

START_TEST(a_storm_of_foreign_wakes_ends_no_call_early)
{
	atomic_int *quit = shared(sizeof(*quit));
	struct narrow *n = shared(sizeof(*n));
	struct shmq *q = create_attach("q", 2, 1, 8);
	pid_t storm = spawn(wake_everything, quit), pid[4];

	fill(q, 1);
	for (int i = 0; i < 10; i++) {
		uint64_t t0 = now_ns(), v;

		if (i % 2)
			must_eq(shmq_pop(q, 0, &v, 8, NULL, 100 * (int64_t)MS),
				-ETIMEDOUT);
		else
			must_eq(shmq_push(q, 1, "x", 1, 100 * (int64_t)MS),
				-ETIMEDOUT);
		must(now_ns() - t0 >= 100 * MS, "ended early");
	}
	n->each = (uint64_t)counts(5000);
	for (int i = 0; i < 4; i++)
		pid[i] = spawn(i % 2 ? narrow_out : narrow_in, n);
	reap_all(pid, 4);
	must_eq(atomic_load(&n->got), 2 * n->each);
	must_eq(depth_of(q, 0), 0);
	atomic_store(quit, 1);
	reap_ok(storm);
	shmq_close(q);
}
END_TEST

/* ---- cost --------------------------------------------------------------- */

static uint64_t cpu_ns(const struct rusage *u)
{
	return (uint64_t)(u->ru_utime.tv_sec + u->ru_stime.tv_sec) * SECOND +
	       (uint64_t)(u->ru_utime.tv_usec + u->ru_stime.tv_usec) * 1000;
}

static int idle(void *arg)
{
	enum waiter w = *(enum waiter *)arg;
	struct shmq *q = attach("q");
	struct rusage a, b;
	uint64_t used;

	getrusage(RUSAGE_SELF, &a);
	must_eq(wait_in_vain(q, w, 2 * (int64_t)SECOND), -ETIMEDOUT);
	getrusage(RUSAGE_SELF, &b);
	used = cpu_ns(&b) - cpu_ns(&a);
	fprintf(stderr, "# %" PRIu64 " us of CPU, %ld sleeps in 2 s\n",
		used / 1000, b.ru_nvcsw - a.ru_nvcsw);
	must(used < 20 * MS, "%" PRIu64 " us of CPU in 2 s", used / 1000);
	must(b.ru_nvcsw - a.ru_nvcsw < 200);
	shmq_close(q);
	return 0;
}

START_TEST(an_idle_sleeper_uses_less_than_one_percent_of_a_cpu)
{
	static enum waiter w[] = { W_POP, W_POP_ANY, W_PUSH };
	struct shmq *q = full_and_empty(w[_i]);

	reap_ok(spawn(idle, &w[_i]));
	shmq_close(q);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("wait");
	TCase *t = suite_case(s, "waking", 60);

	tcase_add_test(t, a_pop_that_sleeps_wakes_on_a_push);
	tcase_add_test(t, a_push_that_sleeps_wakes_on_a_pop);
	tcase_add_test(t, a_push_sleeps_for_room_in_its_own_lane);
	tcase_add_test(t, each_of_many_sleepers_gets_one_of_as_many_items);
	tcase_add_test(t, each_of_many_pushers_gets_one_of_as_many_places);
	tcase_add_test(t, a_push_wakes_the_one_who_sleeps_on_its_lane);
	tcase_add_test(t, who_has_no_room_for_the_item_wakes_the_next);
	tcase_add_test(t, items_of_high_reach_sleepers_on_high_and_on_any);
	tcase_add_test(t, a_dead_sleeper_does_not_keep_a_wake_for_itself);

	t = suite_case(s, "ping-pong", 120);
	tcase_add_test(t, a_hundred_thousand_rounds_lose_no_wake);
	tcase_add_test(t, rounds_with_random_delays_lose_no_wake);
	tcase_add_test(
		t, three_producers_and_three_consumers_sleep_on_a_lane_of_one);

	t = suite_case(s, "time", 60);
	tcase_add_loop_test(t, a_timeout_lasts_as_long_as_it_says, 0,
			    NR_WAITERS);
	tcase_add_loop_test(t, a_signal_handler_ends_the_sleep_with_eintr, 0,
			    NR_WAITERS);
	tcase_add_test(t, a_storm_of_signals_loses_no_item);
	tcase_add_test(t, a_storm_of_foreign_wakes_ends_no_call_early);
	tcase_add_loop_test(
		t, an_idle_sleeper_uses_less_than_one_percent_of_a_cpu, 0, 3);
	return s;
}

int main(void)
{
	return suite_run(suite());
}
