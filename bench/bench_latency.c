/* SPDX-License-Identifier: MIT */
/*
 * bench_latency.c - the round trip of an item through two queues between two processes that
 * poll, beside the ring. Runs alternate; of each percentile the median over the runs
 * is shown. For round trips of processes that sleep see waits.c.
 *
 *   bench_latency [--runs N] [--trips N] [--size BYTES] [CONTENDER...]
 */
#include <errno.h>
#include <getopt.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bench.h"

#define MAX_RUNS 101
#define NR       4
#define WARM_UP  1000

static const struct bench_contender *const all[NR] = {&bench_ring, &bench_shmq, &bench_mutex,
						      &bench_rte};
static const double percents[] = {50, 99, 99.9};
#define NR_PERCENTS 3

static double results[NR][NR_PERCENTS][MAX_RUNS];

static uint32_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint32_t)(t.tv_sec * INT64_C(1000000000) + t.tv_nsec); /* differences only */
}

static void pin_to(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	sched_setaffinity(0, sizeof set, &set);
}

static int ascending(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

static int ascending_double(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void send_to(const struct bench_contender *c, void *end, int lane, struct iovec *item)
{
	while (!c->push_n(end, lane, item, 1))
		;
}

static void get_from(const struct bench_contender *c, void *end, int lane, struct iovec *item)
{
	while (!c->pop_lane(end, lane, item))
		;
}

static void echo(const struct bench_contender *c, struct iovec *item, int trips)
{
	void *end = c->attach();

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	pin_to(1);
	if (!end)
		_exit(1);
	while (trips--) {
		get_from(c, end, 0, item);
		send_to(c, end, 1, item);
	}
	c->detach(end);
	_exit(0);
}

/* @trips round trips: *@times, sorted. 0, or -errno and *@why. */
static int round_trips(const struct bench_contender *c, size_t size, int trips, uint32_t *times,
		       const char **why)
{
	const struct bench_shape shape = {.producers = 2, .consumers = 2, .lanes = 2, .batch = 1,
					  .size = size, .capacity = 1024};
	uint64_t *buf = aligned_alloc(64, (size + 63) & ~(size_t)63);
	struct iovec item = {buf, size};
	int r = c->setup(&shape, why), status = 0;
	pid_t pid;
	void *end;

	if (r || !buf) {
		free(buf);
		return r ? r : -ENOMEM;
	}
	memset(buf, 0, size);
	pid = fork();
	if (pid == 0)
		echo(c, &item, trips + WARM_UP);
	pin_to(0);
	end = c->attach();
	for (int i = -WARM_UP; i < trips && end; i++) {
		uint32_t begin = now_ns();

		*buf = (uint64_t)(i + WARM_UP);
		send_to(c, end, 0, &item);
		*buf = UINT64_MAX;
		get_from(c, end, 1, &item);
		if (*buf != (uint64_t)(i + WARM_UP)) {
			*why = "another item came back";
			r = -EBADE;
			break;
		}
		if (i >= 0)
			times[i] = now_ns() - begin;
	}
	if (r || !end)
		kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	if (!r && (!end || status))
		r = -EBADE;
	if (end)
		c->detach(end);
	c->teardown();
	free(buf);
	qsort(times, (size_t)trips, sizeof *times, ascending);
	return r;
}

static int wanted(char **names, int n, const char *name)
{
	int i;

	for (i = 0; i < n && strcmp(names[i], name); i++)
		;
	return i < n || n == 0;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {{"runs", 1, NULL, 'r'}, {"trips", 1, NULL, 't'},
						{"size", 1, NULL, 'z'}, {0}};
	int runs = 9, trips = 100000, failed = 0, opt;
	size_t size = 64;
	uint32_t *times;

	while ((opt = getopt_long(argc, argv, "r:t:z:", options, NULL)) != -1)
		if (opt == 'r')
			runs = atoi(optarg);
		else if (opt == 't')
			trips = atoi(optarg);
		else if (opt == 'z')
			size = (size_t)atol(optarg);
		else
			return 64;
	if (runs < 1 || runs > MAX_RUNS || trips < 1000 || size < 8 || size % 8) {
		fprintf(stderr, "runs 1 to %d, trips from 1000, size a multiple of 8\n", MAX_RUNS);
		return 64;
	}
	if (sysconf(_SC_NPROCESSORS_ONLN) < 2) {
		fprintf(stderr, "two processes that poll need two processors\n");
		return 77;
	}
	times = malloc((size_t)trips * sizeof *times);
	if (!times)
		return 71;
	for (int run = 0; run < runs; run++)
		for (int c = 0; c < NR; c++) {
			const char *why = "";
			int r;

			if (!wanted(argv + optind, argc - optind, all[c]->name) ||
			    results[c][0][0] < 0)
				continue;
			r = round_trips(all[c], size, trips, times, &why);
			if (r) {
				printf("%s: %s: %s\n", all[c]->name,
				       r == -ENOTSUP ? "skipped" : "FAILED",
				       *why ? why : strerror(-r));
				failed |= r != -ENOTSUP;
				results[c][0][0] = -1;
			}
			for (int p = 0; p < NR_PERCENTS && !r; p++)
				results[c][p][run] = times[(int)(trips * percents[p] / 100)];
		}
	printf("round trip of %zu bytes, two queues, %d runs of %d, ns\n"
	       "contender   p50 (min..max)        p99 (min..max)        p99.9 (min..max)\n", size,
	       runs, trips);
	for (int c = 0; c < NR; c++) {
		if (!wanted(argv + optind, argc - optind, all[c]->name) || results[c][0][0] < 0)
			continue;
		printf("%-10s", all[c]->name);
		for (int p = 0; p < NR_PERCENTS; p++) {
			qsort(results[c][p], (size_t)runs, sizeof(double), ascending_double);
			printf("  %6.0f (%.0f..%.0f)", results[c][p][runs / 2], results[c][p][0],
			       results[c][p][runs - 1]);
			if (c && results[0][p][runs / 2] > 0)
				printf(" = %.2f", results[c][p][runs / 2] / results[0][p][runs / 2]);
		}
		printf("\n");
	}
	free(times);
	return failed;
}
