/* SPDX-License-Identifier: MIT */
/*
 * bench_scenario.c - a queue at work: 8 producers offer 100,000 items of 64 bytes a second
 * together, 4 consumers sleep in the queue's own waiting call. What it takes of the
 * processors, and how long items wait, from before the push to after the pop.
 *
 * Each producer wakes 1000 times a second and pushes, one by one, what is due. Every item
 * is verified.
 */
#include <argp.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "item.h"

enum { RATE, PRODUCERS_CPU, CONSUMERS_CPU, CPU, P50, P99, P999, NR_FIGURES };

struct options {
	int chosen[BENCH_MAX_ENTRIES];
	int runs, json;
	double seconds;
	struct bench_shape shape;
};

struct series {
	double v[NR_FIGURES][BENCH_MAX_RUNS];
	uint64_t checked;
	int n, err;
	char why[160];
};

static const struct argp_option option_list[] = {
	{"contender", 'c', "NAME,...", 0, "Of shmq, pipe, mqueue, boost (shmq,pipe,mqueue)", 0},
	{"shape", 's', "PxC", 0, "Producers x consumers (8x4)", 0},
	{"rate", 'q', "N", 0, "Items a second that all producers together offer (100000)", 0},
	{"size", 'z', "BYTES", 0, "Item size, a multiple of 8 (64)", 0},
	{"duration", 'd', "SECONDS", 0, "Measured time of a run (5)", 0},
	{"runs", 'r', "N", 0, "Runs of each contender (3)", 0},
	{"json", 'j', NULL, 0, "One JSON object a line instead of the table", 0},
	{0}};

static error_t parse(int key, char *arg, struct argp_state *st)
{
	struct options *o = st->input;

	switch (key) {
	case 'c':
		bench_parse_contenders(st, arg, o->chosen);
		return 0;
	case 's':
		bench_parse_shape(st, arg, &o->shape.producers, &o->shape.consumers);
		return 0;
	case 'q':
		o->shape.rate = bench_real(st, arg, 1, 1e9);
		return 0;
	case 'z':
		o->shape.size = bench_parse_size(st, arg, ITEM_SIZE_STAMP);
		return 0;
	case 'd':
		o->seconds = bench_real(st, arg, 0.01, 3600);
		return 0;
	case 'r':
		o->runs = (int)bench_number(st, arg, 1, BENCH_MAX_RUNS);
		return 0;
	case 'j':
		o->json = 1;
		return 0;
	case ARGP_KEY_ARG:
		argp_usage(st);
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

static int run_once(const struct options *o, const struct bench_entry *e, struct series *s)
{
	struct bench_result res;
	int i;

	s->err = bench_run(e, &o->shape, o->seconds, 0, &res);
	if (s->err) {
		memcpy(s->why, res.why, sizeof s->why);
		return s->err;
	}
	s->v[RATE][s->n] = res.rate;
	s->v[PRODUCERS_CPU][s->n] = res.cpu[0];
	s->v[CONSUMERS_CPU][s->n] = res.cpu[1];
	s->v[CPU][s->n] = res.cpu[0] + res.cpu[1];
	for (i = 0; i < 3; i++)
		s->v[P50 + i][s->n] = res.wait_us[i];
	s->checked += res.checked;
	s->n++;
	return 0;
}

static void print(const struct options *o, const char *name, struct series *s)
{
	static const char *const keys[NR_FIGURES] = {"rate", "producers_cpu", "consumers_cpu",
						     "cpu", "p50_us", "p99_us", "p999_us"};
	double m[NR_FIGURES];
	int i;

	if (s->err) {
		printf(o->json ? "{\"type\":\"scenario\",\"contender\":\"%s\",\"status\":\"%s\","
				 "\"why\":\"%s\"}\n" :
				 "%-10s  %s: %s\n",
		       name, s->err == -ENOTSUP ? "skipped" : "failed", s->why);
		return;
	}
	for (i = 0; i < NR_FIGURES; i++) {
		qsort(s->v[i], (size_t)s->n, sizeof(double), bench_ascending);
		m[i] = bench_median(s->v[i], s->n);
	}
	if (!o->json) {
		printf("%-10s %9.0f %9.3f %9.3f %9.3f  %6.3f .. %5.3f %9.1f %9.1f %9.1f\n", name,
		       m[RATE], m[PRODUCERS_CPU], m[CONSUMERS_CPU], m[CPU], s->v[CPU][0],
		       s->v[CPU][s->n - 1], m[P50], m[P99], m[P999]);
		return;
	}
	printf("{\"type\":\"scenario\",\"contender\":\"%s\",\"status\":\"ok\",\"producers\":%d,"
	       "\"consumers\":%d,\"size\":%zu,\"offered\":%.0f,\"seconds\":%g,\"runs\":%d,"
	       "\"checked\":%llu",
	       name, o->shape.producers, o->shape.consumers, o->shape.size, o->shape.rate,
	       o->seconds, s->n, (unsigned long long)s->checked);
	for (i = 0; i < NR_FIGURES; i++)
		printf(",\"%s\":%.3f", keys[i], m[i]);
	printf(",\"cpu_least\":%.3f,\"cpu_most\":%.3f}\n", s->v[CPU][0], s->v[CPU][s->n - 1]);
}

int main(int argc, char **argv)
{
	static const struct argp argp = {
		option_list, parse, NULL,
		"Measure what a queue at work takes of the processors, and how long items wait.",
		NULL, NULL, NULL};
	static struct series series[BENCH_MAX_ENTRIES];
	struct options o = {
		.runs = 3,
		.seconds = 5,
		.shape = {.producers = 8, .consumers = 4, .lanes = 1, .batch = 1, .size = 64,
			  .capacity = 65536, .rate = 100000},
	};
	char usual[] = "shmq,pipe,mqueue";
	int run, i, failed = 0;

	bench_choose(usual, o.chosen);
	argp_parse(&argp, argc, argv, 0, NULL, &o);
	bench_print_machine(o.json);
	for (run = 0; run < o.runs; run++)
		for (i = 0; i < bench_nr_entries; i++)
			if (o.chosen[i] && !series[i].err &&
			    run_once(&o, &bench_entries[i], &series[i]) == -EINTR)
				return 130;
	if (!o.json)
		printf("%dx%d, %g items a second of %zu bytes offered, %d runs of %g s; CPU "
		       "seconds per second, waits in microseconds\n\n"
		       "contender   per sec producers consumers   all CPU     min ..   max"
		       "       p50       p99     p99.9\n",
		       o.shape.producers, o.shape.consumers, o.shape.rate, o.shape.size, o.runs,
		       o.seconds);
	for (i = 0; i < bench_nr_entries; i++) {
		if (!o.chosen[i])
			continue;
		print(&o, bench_entries[i].name, &series[i]);
		failed |= series[i].err && series[i].err != -ENOTSUP;
	}
	return failed;
}
