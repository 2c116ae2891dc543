/* SPDX-License-Identifier: MIT */
/*
 * waits.c - round trips between two processes that both wait, in each way of waiting,
 * beside a bare futex and a pair of eventfds.
 *
 *   bench_waits [--json] [RUNS [ROUNDS]]     default 15 runs of 2000 rounds
 *
 * One process sends an item of 8 bytes and waits for the answer, the other waits and
 * answers, each pinned to a processor of its own: at once, so that the answer may be there
 * before anybody has fallen asleep, and once more with a pause of 100 us before each item,
 * so that everybody sleeps; the pause is not counted. All ways take turns within a run, so
 * that a machine that changes changes for all of them; of each run counts the median and
 * the percentiles 99 and 99.9 of its rounds. Writes a line per run and way, and at the end
 * the median over the runs, with the least and the greatest; with --json only the latter.
 */
#include <errno.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifdef WITH_URING
#include <shmq-uring.h>
#endif
#include <shmq.h>

#include "bench.h"

enum { THERE, BACK };

enum { MAX_RUNS = 200 };

static const uint64_t pauses[] = { 0, 100000 }; /* ns */

enum { NR_PAUSES = sizeof pauses / sizeof pauses[0] };

/* One process, and what it waits with. */
struct side {
	struct shmq *q[2]; /* there, back */
	int ep;
#ifdef WITH_URING
	struct io_uring ring;
#endif
};

struct ground { /* shared by the two processes */
	_Alignas(128) _Atomic uint32_t word[2];
	_Alignas(128) atomic_int ready;
};

static struct ground *ground;
static int event[2];

_Noreturn static void die(const char *what, int err)
{
	char words[128];

	shmq_strerror(err, words, sizeof words);
	fprintf(stderr, "bench_waits: %s: %s\n", what, words);
	exit(1);
}

/* ---- the ways ------------------------------------------------------------------- */

static void futex_send(struct side *s, int dir)
{
	(void)s;
	atomic_fetch_add_explicit(&ground->word[dir], 1, memory_order_release);
	syscall(SYS_futex, &ground->word[dir], FUTEX_WAKE, 1, NULL, NULL, 0);
}

static void futex_receive(struct side *s, int dir, uint32_t round)
{
	uint32_t w;

	(void)s;
	while ((w = atomic_load_explicit(&ground->word[dir], memory_order_acquire)) <= round)
		syscall(SYS_futex, &ground->word[dir], FUTEX_WAIT, w, NULL, NULL, 0);
}

static void eventfd_send(struct side *s, int dir)
{
	(void)s;
	if (eventfd_write(event[dir], 1))
		die("eventfd", -errno);
}

static void eventfd_receive(struct side *s, int dir, uint32_t round)
{
	struct epoll_event ev;
	eventfd_t v;

	(void)round;
	while (eventfd_read(event[dir], &v))
		epoll_wait(s->ep, &ev, 1, -1);
}

static void queue_send(struct side *s, int dir)
{
	uint64_t v = 1;
	int r = shmq_push(s->q[dir], 0, &v, sizeof v, 0);

	if (r < 0)
		die("push", r);
}

/* Pop, and after -EAGAIN: not yet. */
static bool popped(struct side *s, int dir)
{
	uint64_t v;
	ssize_t r = shmq_pop(s->q[dir], 0, &v, sizeof v, NULL, SHMQ_NOWAIT);

	if (r < 0 && r != -EAGAIN)
		die("pop", (int)r);
	return r >= 0;
}

static void pop_receive(struct side *s, int dir, uint32_t round)
{
	uint64_t v;
	ssize_t r = shmq_pop(s->q[dir], 0, &v, sizeof v, NULL, SHMQ_FOREVER);

	(void)round;
	if (r < 0)
		die("pop", (int)r);
}

static void pollfd_receive(struct side *s, int dir, uint32_t round)
{
	struct epoll_event ev;

	(void)round;
	while (!popped(s, dir))
		epoll_wait(s->ep, &ev, 1, -1);
}

static void any_receive(struct side *s, int dir, uint32_t round)
{
	struct shmq_wait w = { s->q[dir], 0, SHMQ_READABLE, 0 };
	int r;

	(void)round;
	while (!popped(s, dir)) {
		r = shmq_wait_any(&w, 1, SHMQ_FOREVER);
		if (r < 0)
			die("wait_any", r);
	}
}

#ifdef WITH_URING
static void ring_receive(struct side *s, int dir, uint32_t round)
{
	(void)round;
	while (!popped(s, dir)) {
		struct io_uring_cqe *cqe;
		int r = shmq_uring_prep_wait(io_uring_get_sqe(&s->ring), s->q[dir], 0);

		if (r < 0)
			die("prep_wait", r);
		r = io_uring_submit_and_wait(&s->ring, 1);
		if (r < 0 && r != -EINTR)
			die("io_uring", r);
		if (io_uring_peek_cqe(&s->ring, &cqe) == 0)
			io_uring_cqe_seen(&s->ring, cqe);
	}
}
#endif

static const struct way {
	const char *name;
	void (*send)(struct side *s, int dir);
	void (*receive)(struct side *s, int dir, uint32_t round);
	bool poll_only; /* SHMQ_URING=poll */
} ways[] = {
	{ "futex", futex_send, futex_receive, false },
	{ "eventfd", eventfd_send, eventfd_receive, false },
	{ "pop", queue_send, pop_receive, false },
	{ "wait_any", queue_send, any_receive, false },
	{ "pollfd", queue_send, pollfd_receive, false },
#ifdef WITH_URING
	{ "ring", queue_send, ring_receive, false },
	{ "ring-poll", queue_send, ring_receive, true },
#endif
};

enum { NR_WAYS = sizeof ways / sizeof ways[0] };

/* ---- one run of one way ------------------------------------------------------------ */

/* Pin to the @nth processor that we may use, if there are so many. */
static void pin_nth(int nth)
{
	cpu_set_t allowed, one;
	int cpu;

	if (sched_getaffinity(0, sizeof allowed, &allowed))
		return;
	nth %= CPU_COUNT(&allowed);
	for (cpu = 0; cpu < CPU_SETSIZE; cpu++)
		if (CPU_ISSET(cpu, &allowed) && !nth--)
			break;
	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	sched_setaffinity(0, sizeof one, &one);
}

/* @dir is what this side waits for. */
static void side_open(struct side *s, const struct way *w, const char *const name[2], int dir)
{
	struct epoll_event ev = { .events = EPOLLIN };
	int i, r, fd = event[dir];

	memset(s, 0, sizeof *s);
	s->ep = epoll_create1(EPOLL_CLOEXEC);
	if (w->send == queue_send) {
		for (i = 0; i < 2; i++) {
			r = shmq_open(&s->q[i], name[i], 0);
			if (r < 0)
				die("open", r);
		}
		fd = -1;
	}
	if (w->receive == pollfd_receive)
		fd = shmq_pollfd(s->q[dir], SHMQ_READABLE);
	if (fd >= 0 && epoll_ctl(s->ep, EPOLL_CTL_ADD, fd, &ev))
		die("epoll", -errno);
#ifdef WITH_URING
	if (w->receive == ring_receive) {
		if (w->poll_only)
			setenv("SHMQ_URING", "poll", 1);
		r = io_uring_queue_init(8, &s->ring, 0);
		if (r < 0)
			die("io_uring", r);
	}
#endif
}

/* Busy, for a processor that sleeps takes time to wake. */
static void pass(uint64_t ns)
{
	uint64_t end = ns ? (uint64_t)bench_now_ns() + ns : 0;

	while (ns && (uint64_t)bench_now_ns() < end)
		;
}

static void answer(const struct way *w, const char *const name[2], uint32_t rounds,
		   uint64_t pause_ns)
{
	struct side s;
	uint32_t i;

	pin_nth(1);
	side_open(&s, w, name, THERE);
	atomic_store(&ground->ready, 1);
	for (i = 0; i < rounds; i++) {
		w->receive(&s, THERE, i);
		pass(pause_ns);
		w->send(&s, BACK);
	}
}

/* In a process of its own: the rounds, sorted, to @us. */
static void ask(const struct way *w, const char *const name[2], uint32_t rounds,
		uint64_t pause_ns, double *us)
{
	struct side s;
	uint32_t i;

	pin_nth(0);
	side_open(&s, w, name, BACK);
	while (!atomic_load(&ground->ready))
		sched_yield();
	for (i = 0; i < rounds; i++) {
		uint64_t begin;

		pass(pause_ns);
		begin = (uint64_t)bench_now_ns();
		w->send(&s, THERE);
		w->receive(&s, BACK, i);
		us[i] = ((double)((uint64_t)bench_now_ns() - begin) - (double)pause_ns) / 1000;
	}
	qsort(us, rounds, sizeof *us, bench_ascending);
}

static void run_way(const struct way *w, uint32_t rounds, uint64_t pause_ns, double *us)
{
	char there[64], back[64];
	const char *const name[2] = { there, back };
	struct shmq_config c;
	pid_t pid[2];
	int i, status, r;

	shmq_config_init(&c, sizeof c);
	c.nr_lanes = 1;
	c.lanes[0].capacity = 64;
	snprintf(there, sizeof there, "bench_waits.%d.there", getpid());
	snprintf(back, sizeof back, "bench_waits.%d.back", getpid());
	for (i = 0; i < 2; i++) {
		r = shmq_create(name[i], &c);
		if (r < 0)
			die("create", r);
		atomic_store(&ground->word[i], 0);
		event[i] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	}
	atomic_store(&ground->ready, 0);
	for (i = 0; i < 2; i++) {
		pid[i] = fork();
		if (pid[i] < 0)
			die("fork", -errno);
		if (pid[i] == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			if (i)
				ask(w, name, rounds, pause_ns, us);
			else
				answer(w, name, rounds, pause_ns);
			_exit(0);
		}
	}
	for (i = 0; i < 2; i++) {
		if (waitpid(pid[1 - i], &status, 0) < 0 || status) {
			kill(pid[i], SIGKILL);
			fprintf(stderr, "bench_waits: %s failed\n", w->name);
			exit(1);
		}
	}
	for (i = 0; i < 2; i++) {
		shmq_unlink(name[i]);
		close(event[i]);
	}
}

/* ---- all of them --------------------------------------------------------------------- */

enum { P50, P99, P999, NR_FIGURES };

/* Over all runs. */
static void print(const char *name, uint64_t pause_ns, double us[NR_FIGURES][MAX_RUNS], int runs,
		  bool json)
{
	double m[NR_FIGURES];
	int i;

	for (i = 0; i < NR_FIGURES; i++) {
		qsort(us[i], (size_t)runs, sizeof *us[i], bench_ascending);
		m[i] = bench_median(us[i], runs);
	}
	printf(json ? "{\"type\":\"wait\",\"way\":\"%s\",\"pause_us\":%u,\"p50_us\":%.2f,"
		      "\"p50_least_us\":%.2f,\"p50_most_us\":%.2f,\"p99_us\":%.2f,"
		      "\"p999_us\":%.2f}\n" :
		      "%-10s %8u %10.2f %10.2f .. %8.2f %10.2f %10.2f\n",
	       name, (unsigned)(pause_ns / 1000), m[P50], us[P50][0], us[P50][runs - 1], m[P99],
	       m[P999]);
}

int main(int argc, char **argv)
{
	static double figures[NR_PAUSES][NR_WAYS][NR_FIGURES][MAX_RUNS];
	bool json = argc > 1 && !strcmp(argv[1], "--json");
	int runs = argc > 1 + json ? atoi(argv[1 + json]) : 15, i, k, p, run;
	uint32_t rounds = argc > 2 + json ? (uint32_t)atoi(argv[2 + json]) : 2000;
	double *us;

	if (runs < 1 || runs > MAX_RUNS || rounds < 1 || rounds > 10000000) {
		fprintf(stderr, "usage: bench_waits [--json] [RUNS, 1 to %d [ROUNDS]]\n",
			MAX_RUNS);
		return 64;
	}
	ground = mmap(NULL, sizeof *ground, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
		      -1, 0);
	us = mmap(NULL, rounds * sizeof *us, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
		  -1, 0);
	if (ground == MAP_FAILED || us == MAP_FAILED)
		die("memory", -errno);
	bench_print_machine(json);
	for (run = 0; run < runs; run++)
		for (i = 0; i < NR_WAYS * NR_PAUSES; i++) {
			k = (i / NR_PAUSES + run) % NR_WAYS; /* each of them is first in turn */
			p = i % NR_PAUSES;
			run_way(&ways[k], rounds, pauses[p], us);
			figures[p][k][P50][run] = us[rounds / 2];
			figures[p][k][P99][run] = us[rounds - 1 - rounds / 100];
			figures[p][k][P999][run] = us[rounds - 1 - rounds / 1000];
			if (json)
				continue;
			printf("run=%d way=%s pause_us=%u rounds=%u p50_us=%.2f p99_us=%.2f\n",
			       run, ways[k].name, (unsigned)(pauses[p] / 1000), rounds,
			       us[rounds / 2], us[rounds - 1 - rounds / 100]);
			fflush(stdout);
		}
	if (!json)
		printf("\n%-10s %8s %10s %10s .. %8s %10s %10s\n", "way", "pause us", "p50 us",
		       "min", "max", "p99 us", "p99.9 us");
	for (p = 0; p < NR_PAUSES; p++)
		for (i = 0; i < NR_WAYS; i++)
			print(ways[i].name, pauses[p], figures[p][i], runs, json);
	return 0;
}
