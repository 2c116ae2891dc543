/* SPDX-License-Identifier: MIT */
/*
 * bench_flat.c - does the cost of a push and a pop stay the same, whatever else the queue
 * holds? One process, one pair of calls after the other, while one thing is varied: items
 * that wait, participants that do nothing, lanes, capacity. Nanoseconds per pair, the
 * median of the runs; the settings of a row alternate.
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <shmq.h>

enum { RUNS = 9, PAIRS = 1000000, SETTINGS = 6, ITEM = 64 };

struct setting {
	uint64_t depth, capacity;
	int idle, lanes;
	bool lower_busy; /* something waits in each lower lane */
	double ns[RUNS];
	struct shmq *q, **others;
	char name[40];
};

static void fail(const char *what, int err)
{
	char words[200];

	shmq_strerror(err, words, sizeof words);
	fprintf(stderr, "%s: %s %s\n", what, words, shmq_detail());
	exit(1);
}

static double now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static void make(struct setting *s, int number)
{
	char item[ITEM] = {0};
	struct shmq_config c;
	int r;

	shmq_config_init(&c, sizeof c);
	c.item_size = ITEM;
	c.nr_lanes = (uint32_t)s->lanes;
	c.max_participants = (uint32_t)s->idle + 8;
	for (int i = 0; i < s->lanes; i++) {
		snprintf(c.lanes[i].name, sizeof c.lanes[i].name, "lane%d", i);
		c.lanes[i].capacity = s->capacity;
	}
	snprintf(s->name, sizeof s->name, "bench-flat-%d-%d", (int)getpid(), number);
	r = shmq_create(s->name, &c);
	if (r)
		fail("create", r);
	r = shmq_open(&s->q, s->name, SHMQ_PREFAULT);
	if (r)
		fail("open", r);
	s->others = calloc((size_t)s->idle + 1, sizeof(struct shmq *));
	for (int i = 0; i < s->idle; i++) {
		r = shmq_open(&s->others[i], s->name, 0);
		if (r)
			fail("open another", r);
	}
	for (uint64_t i = 0; i < s->depth; i++)
		if ((r = shmq_push(s->q, 0, item, ITEM, SHMQ_NOWAIT)))
			fail("push", r);
	for (int lane = 1; s->lower_busy && lane < s->lanes; lane++)
		for (int i = 0; i < 100; i++)
			if ((r = shmq_push(s->q, lane, item, ITEM, SHMQ_NOWAIT)))
				fail("push", r);
}

static void drop(struct setting *s)
{
	for (int i = 0; i < s->idle; i++)
		shmq_close(s->others[i]);
	free(s->others);
	shmq_close(s->q);
	shmq_unlink(s->name);
}

static double pairs(struct setting *s)
{
	char item[ITEM] = {0};
	double begin = now_ns();

	for (int i = 0; i < PAIRS; i++) {
		int r = shmq_push(s->q, 0, item, ITEM, SHMQ_NOWAIT);
		ssize_t n;

		if (r)
			fail("push", r);
		n = shmq_pop(s->q, SHMQ_ANY_LANE, item, ITEM, NULL, SHMQ_NOWAIT);
		if (n != ITEM)
			fail("pop", (int)n);
	}
	return (now_ns() - begin) / PAIRS;
}

static int ascending(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void row(const char *what, struct setting *s, int n, const char *const *labels)
{
	double least = 0, most = 0;

	for (int i = 0; i < n; i++) {
		make(&s[i], i);
		pairs(&s[i]); /* once round, all pages are there */
	}
	for (int run = 0; run < RUNS; run++)
		for (int i = 0; i < n; i++)
			s[i].ns[run] = pairs(&s[i]);
	printf("%-12s", what);
	for (int i = 0; i < n; i++) {
		double m;

		qsort(s[i].ns, RUNS, sizeof(double), ascending);
		m = s[i].ns[RUNS / 2];
		least = i == 0 || m < least ? m : least;
		most = m > most ? m : most;
		printf("  %s: %.1f (%.1f..%.1f)", labels[i], m, s[i].ns[0], s[i].ns[RUNS - 1]);
		drop(&s[i]);
	}
	printf("  spread %.2f\n", most / least);
	fflush(stdout);
}

int main(void)
{
	struct setting depth[SETTINGS] = {
		{.depth = 10, .capacity = 1100000, .lanes = 1}, {.depth = 1000, .capacity = 1100000, .lanes = 1},
		{.depth = 100000, .capacity = 1100000, .lanes = 1},
		{.depth = 1000000, .capacity = 1100000, .lanes = 1}};
	struct setting idle[SETTINGS] = {{.capacity = 10000, .lanes = 1, .idle = 2},
					 {.capacity = 10000, .lanes = 1, .idle = 20},
					 {.capacity = 10000, .lanes = 1, .idle = 200}};
	struct setting lanes[SETTINGS] = {
		{.capacity = 10000, .lanes = 1, .lower_busy = true},
		{.capacity = 10000, .lanes = 3, .lower_busy = true},
		{.capacity = 10000, .lanes = 8, .lower_busy = true}};
	struct setting capacity[SETTINGS] = {{.capacity = 64, .lanes = 1}, {.capacity = 1000, .lanes = 1},
					     {.capacity = 100000, .lanes = 1},
					     {.capacity = 1000000, .lanes = 1}};

	printf("ns for a push and a pop of %d bytes, one process, %d runs of %d\n", ITEM, RUNS, PAIRS);
	row("items", depth, 4, (const char *[]){"10", "1,000", "100,000", "1,000,000"});
	row("idle", idle, 3, (const char *[]){"2", "20", "200"});
	row("lanes", lanes, 3, (const char *[]){"1", "3", "8"});
	row("capacity", capacity, 4, (const char *[]){"64", "1,000", "100,000", "1,000,000"});
	return 0;
}
