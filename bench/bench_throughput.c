/* SPDX-License-Identifier: MIT */
/*
 * bench_throughput.c - items per second through libshmq and its rivals, between
 * processes, every item verified. Runs of the contenders alternate, so that a slow
 * minute of the machine hits all of them; medians are compared.
 */
#include <argp.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "bench.h"
#include "item.h"

#define MAX_RUNS   100
#define MAX_SHAPES 32
#define BASELINE   "ring"

static const struct bench_contender *const all[] = {&bench_shmq, &bench_ring, &bench_pipe,
						    &bench_mqueue, &bench_shmq_in_push,
						    &bench_shmq_in_pop, &bench_mutex, &bench_ck,
						    &bench_rte, &bench_boost, &bench_moodycamel,
						    &bench_segqueue, &bench_vecdeque};
#define NR_ALL (sizeof all / sizeof all[0])

struct options {
	struct bench_shape base;
	int producers[MAX_SHAPES], consumers[MAX_SHAPES], nr_shapes;
	int batches[MAX_SHAPES], nr_batches;
	int chosen[NR_ALL]; /* contenders */
	int runs, json, free_running;
	double seconds;
};

/* All runs of one contender in one shape. */
struct series {
	double rates[MAX_RUNS], hops[MAX_RUNS]; /* sorted at the end */
	int n;
	uint64_t checked, full, empty;
	int err;
	char why[160];
};

enum { OPT_LANES = 256, OPT_CAPACITY, OPT_RUNS, OPT_DURATION, OPT_JSON, OPT_FREE };

static const struct argp_option option_list[] = {
	{"shape", 's', "PxC,...", 0, "Producers x consumers (1x1,2x2,4x4,8x4)", 0},
	{"size", 'z', "BYTES", 0, "Item size, a multiple of 8 (64)", 0},
	{"batch", 'b', "N,...", 0, "Items per call (1,16)", 0},
	{"lanes", OPT_LANES, "N", 0, "Spread the items over N lanes (1)", 0},
	{"capacity", OPT_CAPACITY, "N", 0, "Items per lane (65536)", 0},
	{"runs", OPT_RUNS, "N", 0, "Runs of each contender (5)", 0},
	{"duration", OPT_DURATION, "SECONDS", 0, "Measured time of a run (1)", 0},
	{"contender", 'c', "NAME,...", 0,
	 "Of shmq, ring, mutex, ck, rte, boost, pipe, mqueue, between threads moodycamel, "
	 "segqueue and vecdeque, and shmq-in-push and shmq-in-pop: with a process stopped "
	 "there; or all (shmq,ring)", 0},
	{"free", OPT_FREE, NULL, 0,
	 "Never pin processes to processors (done where each can have its own)", 0},
	{"json", OPT_JSON, NULL, 0, "One JSON object a line instead of the table", 0},
	{0}};

static const char doc[] =
	"Measure the throughput of libshmq and rivals between processes.\v"
	"Examples:\n"
	"  bench_throughput --shape 1x1,8x4 --batch 1,16\n"
	"  bench_throughput -c shmq,ring,pipe,mqueue --runs 9 --json > result.jsonl\n";

/* ---- options -------------------------------------------------------------- */

static long number(struct argp_state *st, const char *arg, long least, long most)
{
	char *end;
	long n = strtol(arg, &end, 10);

	if (end == arg || *end || n < least || n > most)
		argp_error(st, "'%s': give a number from %ld to %ld", arg, least, most);
	return n;
}

static double seconds(struct argp_state *st, const char *arg)
{
	char *end;
	double s = strtod(arg, &end);

	if (end == arg || *end || !(s >= 0.01 && s <= 3600))
		argp_error(st, "'%s': give seconds from 0.01 to 3600", arg);
	return s;
}

static void parse_shapes(struct options *o, struct argp_state *st, char *arg)
{
	char *word, *save, over;

	for (o->nr_shapes = 0; (word = strtok_r(arg, ",", &save)); arg = NULL) {
		int *p = &o->producers[o->nr_shapes], *c = &o->consumers[o->nr_shapes];

		if (sscanf(word, "%dx%d%c", p, c, &over) != 2 || *p < 1 || *c < 1 ||
		    *p + *c > BENCH_MAX_PROCS || o->nr_shapes == MAX_SHAPES - 1)
			argp_error(st, "'%s': give shapes like 8x4, up to %d processes",
				   word, BENCH_MAX_PROCS);
		o->nr_shapes++;
	}
}

static void parse_batches(struct options *o, struct argp_state *st, char *arg)
{
	char *word, *save;

	for (o->nr_batches = 0; (word = strtok_r(arg, ",", &save)); arg = NULL) {
		if (o->nr_batches == MAX_SHAPES)
			argp_error(st, "too many batch sizes");
		o->batches[o->nr_batches++] = (int)number(st, word, 1, BENCH_MAX_BATCH);
	}
}

static void parse_contenders(struct options *o, struct argp_state *st, char *arg)
{
	char *word, *save;
	size_t i;

	memset(o->chosen, 0, sizeof o->chosen);
	for (; (word = strtok_r(arg, ",", &save)); arg = NULL) {
		if (!strcmp(word, "all")) {
			for (i = 0; i < NR_ALL; i++)
				o->chosen[i] = 1;
			continue;
		}
		for (i = 0; i < NR_ALL && strcmp(word, all[i]->name); i++)
			;
		if (i == NR_ALL)
			argp_error(st, "no contender '%s'", word);
		o->chosen[i] = 1;
	}
}

static error_t parse(int key, char *arg, struct argp_state *st)
{
	struct options *o = st->input;

	switch (key) {
	case 's':
		parse_shapes(o, st, arg);
		return 0;
	case 'b':
		parse_batches(o, st, arg);
		return 0;
	case 'c':
		parse_contenders(o, st, arg);
		return 0;
	case 'z':
		o->base.size = (size_t)number(st, arg, ITEM_SIZE_MIN, 1 << 20);
		if (o->base.size % 8)
			argp_error(st, "the size must be a multiple of 8");
		return 0;
	case OPT_LANES:
		o->base.lanes = (int)number(st, arg, 1, BENCH_MAX_LANES);
		return 0;
	case OPT_CAPACITY:
		o->base.capacity = (uint64_t)number(st, arg, 1, 1 << 24);
		return 0;
	case OPT_RUNS:
		o->runs = (int)number(st, arg, 1, MAX_RUNS);
		return 0;
	case OPT_DURATION:
		o->seconds = seconds(st, arg);
		return 0;
	case OPT_FREE:
		o->free_running = 1;
		return 0;
	case OPT_JSON:
		o->json = 1;
		return 0;
	case ARGP_KEY_ARG:
		argp_usage(st);
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

/* ---- results -------------------------------------------------------------- */

static void cpu_model(char *buf, size_t size)
{
	char line[256];
	FILE *f = fopen("/proc/cpuinfo", "r");

	snprintf(buf, size, "unknown");
	while (f && fgets(line, sizeof line, f))
		if (!strncmp(line, "model name", 10) && strchr(line, ':')) {
			snprintf(buf, size, "%s", strchr(line, ':') + 2);
			break;
		}
	if (f)
		fclose(f);
	for (; *buf; buf++) /* a word for JSON without escapes */
		if (*buf == '"' || *buf == '\\' || (unsigned char)*buf < ' ')
			*buf = *buf == '\n' ? '\0' : ' ';
}

static void print_machine(const struct options *o)
{
	struct utsname un;
	char model[128];
	double load = 0;

	uname(&un);
	cpu_model(model, sizeof model);
	if (getloadavg(&load, 1) != 1)
		load = -1;
	if (o->json)
		printf("{\"type\":\"machine\",\"cpu\":\"%s\",\"cpus\":%ld,\"kernel\":\"%"
		       "s\","
		       "\"arch\":\"%s\",\"load\":%.2f}\n",
		       model, sysconf(_SC_NPROCESSORS_ONLN), un.release, un.machine,
		       load);
	else
		printf("machine  %s, %ld cpus, kernel %s, load %.2f\n"
		       "%d runs of %g s each, %zu-byte items, %d lane%s of %llu; "
		       "millions of items per second\n\n"
		       "shape  batch  contender       median       min ..     max   to %s   "
		       "hop ns\n",
		       model, sysconf(_SC_NPROCESSORS_ONLN), un.release, load, o->runs,
		       o->seconds, o->base.size, o->base.lanes,
		       o->base.lanes > 1 ? "s" : "", (unsigned long long)o->base.capacity,
		       BASELINE);
}

static int ascending(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(const double *sorted, int n)
{
	return n ? (sorted[(n - 1) / 2] + sorted[n / 2]) / 2 : 0;
}

static void print_row(const struct bench_shape *shape, const char *name,
		      const struct series *s, double base)
{
	printf("%dx%-4d %5d  %-12s", shape->producers, shape->consumers, shape->batch,
	       name);
	if (s->err) {
		printf("  %s: %s\n", s->err == -ENOTSUP ? "skipped" : "FAILED", s->why);
		return;
	}
	printf("  %8.2f  %8.2f .. %7.2f", median(s->rates, s->n) / 1e6, s->rates[0] / 1e6,
	       s->rates[s->n - 1] / 1e6);
	if (base > 0)
		printf("   %7.2f", median(s->rates, s->n) / base);
	else
		printf("   %7s", "-");
	printf("   %3.0f .. %.0f\n", s->hops[0], s->hops[s->n - 1]);
}

static void print_list(const char *name, const double *list, int n)
{
	int i;

	printf(",\"%s\":[", name);
	for (i = 0; i < n; i++)
		printf("%s%.0f", i ? "," : "", list[i]);
	printf("]");
}

/* @why is ours or a system's, without quotes. */
static void print_json(const struct bench_shape *shape, const char *name,
		       const struct series *s, double base)
{
	printf("{\"type\":\"result\",\"contender\":\"%s\",\"producers\":%d,\"consumers\":"
	       "%d,"
	       "\"lanes\":%d,\"size\":%zu,\"batch\":%d,\"capacity\":%llu",
	       name, shape->producers, shape->consumers, shape->lanes, shape->size,
	       shape->batch, (unsigned long long)shape->capacity);
	if (s->err) {
		printf(",\"status\":\"%s\",\"why\":\"%s\"}\n",
		       s->err == -ENOTSUP ? "skipped" : "failed", s->why);
		return;
	}
	printf(",\"status\":\"ok\",\"median\":%.0f", median(s->rates, s->n));
	print_list("rates", s->rates, s->n);
	print_list("hop_ns", s->hops, s->n);
	printf(",\"checked\":%llu,\"full\":%llu,\"empty\":%llu",
	       (unsigned long long)s->checked, (unsigned long long)s->full,
	       (unsigned long long)s->empty);
	if (base > 0)
		printf(",\"to_%s\":%.3f", BASELINE, median(s->rates, s->n) / base);
	printf("}\n");
}

/* ---- running -------------------------------------------------------------- */

static int run_once(const struct options *o, const struct bench_contender *c,
		    const struct bench_shape *shape, struct series *s)
{
	int cpus = (int)sysconf(_SC_NPROCESSORS_ONLN);
	int pin = !o->free_running && shape->producers + shape->consumers <= cpus;
	struct bench_result res;

	s->err = bench_run(c, shape, o->seconds, pin, &res);
	if (s->err) {
		memcpy(s->why, res.why, sizeof s->why);
		return s->err;
	}
	s->hops[s->n] = res.hop_ns;
	s->rates[s->n++] = res.rate;
	s->checked += res.checked;
	s->full += res.full;
	s->empty += res.empty;
	return 0;
}

/* A contender that is skipped or fails is not run again in this shape. */
static int run_shape(const struct options *o, const struct bench_shape *shape)
{
	struct series series[NR_ALL] = {0};
	double base = 0;
	int run, failed = 0;
	size_t i;

	for (run = 0; run < o->runs; run++)
		for (i = 0; i < NR_ALL; i++)
			if (o->chosen[i] && !series[i].err &&
			    run_once(o, all[i], shape, &series[i]) == -EINTR)
				return -EINTR;
	for (i = 0; i < NR_ALL; i++) {
		qsort(series[i].rates, (size_t)series[i].n, sizeof(double), ascending);
		qsort(series[i].hops, (size_t)series[i].n, sizeof(double), ascending);
		if (!strcmp(all[i]->name, BASELINE) && !series[i].err)
			base = median(series[i].rates, series[i].n);
	}
	for (i = 0; i < NR_ALL; i++) {
		if (!o->chosen[i])
			continue;
		(o->json ? print_json : print_row)(shape, all[i]->name, &series[i], base);
		failed |= series[i].err && series[i].err != -ENOTSUP;
	}
	fflush(stdout);
	return failed ? -EBADE : 0;
}

int main(int argc, char **argv)
{
	static const struct argp argp = {option_list, parse, NULL, doc, NULL, NULL, NULL};
	struct options o = {
		.base = {.lanes = 1, .size = 64, .capacity = 65536},
		.producers = {1, 2, 4, 8},
		.consumers = {1, 2, 4, 4},
		.nr_shapes = 4,
		.batches = {1, 16},
		.nr_batches = 2,
		.chosen = {1, 1},
		.runs = 5,
		.seconds = 1,
	};
	int i, j, err, failed = 0;

	argp_parse(&argp, argc, argv, 0, NULL, &o);
	print_machine(&o);
	fflush(stdout); /* or the children print it again */
	for (i = 0; i < o.nr_shapes; i++)
		for (j = 0; j < o.nr_batches; j++) {
			o.base.producers = o.producers[i];
			o.base.consumers = o.consumers[i];
			o.base.batch = o.batches[j];
			err = run_shape(&o, &o.base);
			if (err == -EINTR)
				return 130;
			failed |= err;
		}
	return failed ? 1 : 0;
}
