/* SPDX-License-Identifier: MIT */
/*
 * bench_scenario.c - what most programs do with a queue: 8 producers offer 100,000 items
 * of 64 bytes a second, 4 consumers sleep until one comes. Through libshmq and through a
 * pipe: processor seconds of all twelve processes, and how long items waited. Runs
 * alternate; medians are compared.
 *
 *   bench_scenario [--runs N] [--seconds S] [--rate N] [--producers N] [--consumers N]
 *
 * A producer wakes up each millisecond and pushes what is due. Every item is counted, and
 * the sum of all numbers must be right.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include <shmq.h>

#define MS       INT64_C(1000000)
#define BUCKETS  100000 /* of 1 us; what waits longer is in the last one */
#define MAX_RUNS 101
#define MAX_PROCS 64

struct item {
	int64_t pushed_ns;
	uint64_t number;
	char rest[48];
};

struct result {
	double cpu, p50, p99;
};

/* What the processes of a run share. */
struct board {
	_Atomic uint64_t taken, sum, refused;
	_Atomic int failed;
	uint32_t waits[MAX_PROCS][BUCKETS];
};

/* A way to hand items over: 0, -EAGAIN full, -EPIPE the end, or another error. */
struct way {
	const char *name;
	int (*setup)(void);
	int (*open)(bool producer);
	int (*push)(const struct item *it);
	int (*pop)(struct item *it);
	void (*end)(void); /* the producers have gone */
	void (*teardown)(void);
};

static int producers = 8, consumers = 4, rate = 100000;
static double seconds = 5;

static int64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

/* ---- libshmq ---- */

static char name[40];
static struct shmq *q;

static int shmq_way_setup(void)
{
	struct shmq_config c;

	shmq_config_init(&c, sizeof c);
	c.nr_lanes = 1;
	c.lanes[0].capacity = 100000;
	c.item_size = sizeof(struct item);
	snprintf(name, sizeof name, "bench-scenario-%d", (int)getpid());
	return shmq_create(name, &c);
}

static int shmq_way_open(bool producer)
{
	(void)producer;
	return shmq_open(&q, name, 0);
}

static int shmq_way_push(const struct item *it)
{
	return shmq_push(q, 0, it, sizeof *it, SHMQ_NOWAIT);
}

static int shmq_way_pop(struct item *it)
{
	ssize_t n = shmq_pop(q, 0, it, sizeof *it, NULL, SHMQ_FOREVER);

	return n == 0 ? -EPIPE : n < 0 ? (int)n : 0;
}

/* An item of no bytes for each consumer. */
static void shmq_way_end(void)
{
	if (shmq_open(&q, name, 0))
		return;
	for (int i = 0; i < consumers; i++)
		shmq_push(q, 0, NULL, 0, SHMQ_FOREVER);
	shmq_close(q);
}

static void shmq_way_teardown(void)
{
	shmq_unlink(name);
}

/* ---- a pipe ---- */

static int fds[2];

static int pipe_way_setup(void)
{
	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	fcntl(fds[1], F_SETPIPE_SZ, 1 << 20);
	return 0;
}

static int pipe_way_open(bool producer)
{
	close(fds[!producer]);
	return 0;
}

static int pipe_way_push(const struct item *it)
{
	return write(fds[1], it, sizeof *it) == sizeof *it ? 0 : -errno;
}

static int pipe_way_pop(struct item *it)
{
	ssize_t n = read(fds[0], it, sizeof *it); /* whole items: all writes are */

	return n == 0 ? -EPIPE : n < 0 ? -errno : 0;
}

static void pipe_way_end(void)
{
	close(fds[1]);
	fds[1] = -1;
}

static void pipe_way_teardown(void)
{
	close(fds[0]);
	if (fds[1] >= 0)
		close(fds[1]);
}

static const struct way ways[] = {
	{"pipe", pipe_way_setup, pipe_way_open, pipe_way_push, pipe_way_pop, pipe_way_end,
	 pipe_way_teardown},
	{"shmq", shmq_way_setup, shmq_way_open, shmq_way_push, shmq_way_pop, shmq_way_end,
	 shmq_way_teardown},
};

/* ---- processes ---- */

static void produce(const struct way *w, struct board *b, int me, int64_t begin)
{
	struct item it = {0};
	uint64_t mine = (uint64_t)(rate * seconds / producers), n = 0;

	for (int64_t tick = 1; n < mine; tick++) {
		int64_t at = begin + tick * MS;
		struct timespec t = {at / 1000000000, at % 1000000000};
		uint64_t due = (uint64_t)((double)tick * rate / producers / 1000);

		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
		for (; n < due && n < mine; n++) {
			int r;

			it.number = n * (uint64_t)producers + (uint64_t)me;
			it.pushed_ns = now_ns();
			while ((r = w->push(&it)) == -EAGAIN) {
				atomic_fetch_add(&b->refused, 1);
				usleep(100);
			}
			if (r)
				atomic_store(&b->failed, 1);
		}
	}
}

static void consume(const struct way *w, struct board *b, int me)
{
	uint64_t taken = 0, sum = 0;
	struct item it;
	int r;

	while ((r = w->pop(&it)) == 0) {
		int64_t us = (now_ns() - it.pushed_ns) / 1000;

		b->waits[me][us < BUCKETS ? us : BUCKETS - 1]++;
		taken++;
		sum += it.number;
	}
	if (r != -EPIPE)
		atomic_store(&b->failed, 1);
	atomic_fetch_add(&b->taken, taken);
	atomic_fetch_add(&b->sum, sum);
}

static pid_t begin(const struct way *w, struct board *b, int i, int64_t at)
{
	pid_t pid = fork();

	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (w->open(i >= consumers))
		_exit(1);
	if (i < consumers)
		consume(w, b, i);
	else
		produce(w, b, i - consumers, at);
	_exit(atomic_load(&b->failed));
}

static double cpu_of_children(void)
{
	struct rusage u;

	getrusage(RUSAGE_CHILDREN, &u);
	return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
	       (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static double percentile(const struct board *b, uint64_t n, double p)
{
	uint64_t seen = 0;

	for (int us = 0; us < BUCKETS; us++)
		for (int i = 0; i < consumers; i++) {
			seen += b->waits[i][us];
			if (seen >= (uint64_t)((double)n * p))
				return us;
		}
	return BUCKETS;
}

static int run(const struct way *w, struct result *res)
{
	uint64_t each = (uint64_t)(rate * seconds / producers), all = each * (uint64_t)producers;
	double cpu = cpu_of_children();
	pid_t pids[2 * MAX_PROCS];
	int status, failed = 0, i;
	struct board *b = mmap(NULL, sizeof *b, PROT_READ | PROT_WRITE,
			       MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (b == MAP_FAILED || w->setup())
		return -1;
	for (i = 0; i < consumers + producers; i++)
		pids[i] = begin(w, b, i, now_ns() + 20 * MS);
	for (i = consumers; i < consumers + producers; i++)
		failed |= waitpid(pids[i], &status, 0) != pids[i] || status;
	w->end();
	for (i = 0; i < consumers; i++)
		failed |= waitpid(pids[i], &status, 0) != pids[i] || status;
	w->teardown();
	if (failed || b->taken != all || b->sum != all * (all - 1) / 2) {
		printf("%s: FAILED: %ju of %ju items arrived, sum %s\n", w->name,
		       (uintmax_t)b->taken, (uintmax_t)all,
		       b->sum == all * (all - 1) / 2 ? "right" : "wrong");
		return -1;
	}
	*res = (struct result){cpu_of_children() - cpu, percentile(b, all, 0.5),
			       percentile(b, all, 0.99)};
	munmap(b, sizeof *b);
	return 0;
}

static int ascending(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double print_spread(const char *what, double *v, int n)
{
	qsort(v, (size_t)n, sizeof *v, ascending);
	printf("  %s %.3g (%.3g..%.3g)", what, v[n / 2], v[0], v[n - 1]);
	return v[n / 2];
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{"runs", 1, NULL, 'r'},      {"seconds", 1, NULL, 's'},   {"rate", 1, NULL, 'a'},
		{"producers", 1, NULL, 'p'}, {"consumers", 1, NULL, 'c'}, {0}};
	static double v[2][3][MAX_RUNS];
	int runs = 5, opt;

	while ((opt = getopt_long(argc, argv, "r:s:a:p:c:", options, NULL)) != -1)
		switch (opt) {
		case 'r': runs = atoi(optarg); break;
		case 's': seconds = atof(optarg); break;
		case 'a': rate = atoi(optarg); break;
		case 'p': producers = atoi(optarg); break;
		case 'c': consumers = atoi(optarg); break;
		default: return 64;
		}
	if (runs < 1 || runs > MAX_RUNS || seconds <= 0 || rate < 1 || producers < 1 ||
	    producers > MAX_PROCS || consumers < 1 || consumers > MAX_PROCS) {
		fprintf(stderr, "runs 1 to %d, producers and consumers 1 to %d\n", MAX_RUNS,
			MAX_PROCS);
		return 64;
	}
	for (int i = 0; i < runs; i++)
		for (int w = 0; w < 2; w++) {
			struct result r;

			if (run(&ways[w], &r))
				return 1;
			v[w][0][i] = r.cpu;
			v[w][1][i] = r.p50;
			v[w][2][i] = r.p99;
		}
	printf("%d producers, %d consumers that sleep, %d items of %zu bytes a second, %d runs of "
	       "%g s; waits in us\n", producers, consumers, rate, sizeof(struct item), runs,
	       seconds);
	for (int w = 0; w < 2; w++) {
		double cpu, p50, p99;

		printf("%s", ways[w].name);
		cpu = print_spread("cpu s", v[w][0], runs);
		p50 = print_spread("p50", v[w][1], runs);
		p99 = print_spread("p99", v[w][2], runs);
		if (w)
			printf("  to pipe: cpu %.2f, p50 %.2f, p99 %.2f", cpu / v[0][0][runs / 2],
			       p50 / v[0][1][runs / 2], p99 / v[0][2][runs / 2]);
		printf("\n");
	}
	return 0;
}
