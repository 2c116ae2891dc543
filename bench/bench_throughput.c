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
#include <unistd.h>

#include "bench.h"
#include "item.h"

#define MAX_SHAPES 32
#define MAX_CASES  64 /* the product of all other lists */
#define BASELINE   "ring"

struct list {
	uint64_t v[MAX_SHAPES];
	int n;
};

enum { SIZES, LANES, CAPACITIES, DEPTHS, IDLES, NR_SWEEPS };

struct options {
	int producers[MAX_SHAPES], consumers[MAX_SHAPES], nr_shapes;
	struct list batches, sweeps[NR_SWEEPS];
	int chosen[BENCH_MAX_ENTRIES];
	int runs, json, free_running, last_lane;
	double seconds;
};

/* All runs of one contender in one case. */
struct series {
	double rates[BENCH_MAX_RUNS], hops[BENCH_MAX_RUNS]; /* sorted at the end */
	int n;
	uint64_t checked, full, empty;
	int err;
	char why[160];
};

enum { OPT_LANES = 256, OPT_CAPACITY, OPT_DEPTH, OPT_IDLE, OPT_RUNS, OPT_DURATION, OPT_JSON,
       OPT_FREE, OPT_LAST_LANE };

static const struct argp_option option_list[] = {
	{"contender", 'c', "NAME,...", 0,
	 "Of shmq, ring, mutex, pipe, mqueue, ck, rte, boost, moodycamel, segqueue, vecdeque, "
	 "and shmq-in-push and shmq-in-pop: with one more process, stopped there (shmq,ring)",
	 0},
	{"shape", 's', "PxC,...", 0, "Producers x consumers (1x1,2x2,4x4,8x4)", 0},
	{"batch", 'b', "N,...", 0, "Items per call (1,16)", 0},
	{"size", 'z', "BYTES,...", 0, "Item sizes, multiples of 8 (64)", 0},
	{"lanes", OPT_LANES, "N,...", 0, "Spread the items over N lanes (1)", 0},
	{"last-lane", OPT_LAST_LANE, NULL, 0,
	 "All items into the last lane, which is looked at last", 0},
	{"capacity", OPT_CAPACITY, "N,...", 0, "Items per lane (65536)", 0},
	{"depth", OPT_DEPTH, "N,...", 0,
	 "Items that stay in the queue: who pushes also pops, as many (0: who pushes does not)",
	 0},
	{"idle", OPT_IDLE, "N,...", 0, "More processes that are attached and sleep (0)", 0},
	{"runs", OPT_RUNS, "N", 0, "Runs of each contender (5)", 0},
	{"duration", OPT_DURATION, "SECONDS", 0, "Measured time of a run (1)", 0},
	{"free", OPT_FREE, NULL, 0,
	 "Never pin processes to processors (done where each can have its own)", 0},
	{"json", OPT_JSON, NULL, 0, "One JSON object a line instead of the table", 0},
	{0}};

static const char doc[] =
	"Measure the throughput of libshmq and rivals between processes.\v"
	"Of sizes, lanes, capacities, depths and idle processes all combinations are measured, "
	"in turns.\n\n"
	"Examples:\n"
	"  bench_throughput --shape 1x1,8x4 --batch 1,16\n"
	"  bench_throughput -c shmq,ring,pipe,mqueue --runs 9 --json > result.jsonl\n"
	"  bench_throughput -c shmq --shape 2x2 --capacity 1000000 --depth 10,1000,900000\n";

/* ---- options -------------------------------------------------------------- */

static void numbers(struct list *l, struct argp_state *st, char *arg, long least, long most)
{
	char *word, *save;

	for (l->n = 0; (word = strtok_r(arg, ",", &save)); arg = NULL) {
		if (l->n == MAX_SHAPES)
			argp_error(st, "more than %d values", MAX_SHAPES);
		l->v[l->n++] = (uint64_t)bench_number(st, word, least, most);
	}
	if (!l->n)
		argp_error(st, "an empty list");
}

static void parse_shapes(struct options *o, struct argp_state *st, char *arg)
{
	char *word, *save;

	for (o->nr_shapes = 0; (word = strtok_r(arg, ",", &save)); arg = NULL) {
		if (o->nr_shapes == MAX_SHAPES)
			argp_error(st, "more than %d shapes", MAX_SHAPES);
		bench_parse_shape(st, word, &o->producers[o->nr_shapes],
				  &o->consumers[o->nr_shapes]);
		o->nr_shapes++;
	}
}

/* What can not be together. */
static void check(const struct options *o, struct argp_state *st)
{
	const struct list *sizes = &o->sweeps[SIZES], *depths = &o->sweeps[DEPTHS];
	int i, cases = 1;

	for (i = 0; i < sizes->n; i++)
		if (sizes->v[i] % 8)
			argp_error(st, "sizes must be multiples of 8");
	for (i = 0; i < NR_SWEEPS; i++)
		cases *= o->sweeps[i].n;
	if (cases > MAX_CASES)
		argp_error(st, "more than %d combinations", MAX_CASES);
	for (i = 0; i < o->nr_shapes * depths->n; i++)
		if (depths->v[i / o->nr_shapes] &&
		    o->producers[i % o->nr_shapes] != o->consumers[i % o->nr_shapes])
			argp_error(st, "with a depth there are as many producers as consumers");
}

static error_t parse(int key, char *arg, struct argp_state *st)
{
	struct options *o = st->input;

	switch (key) {
	case 's':
		parse_shapes(o, st, arg);
		return 0;
	case 'b':
		numbers(&o->batches, st, arg, 1, BENCH_MAX_BATCH);
		return 0;
	case 'c':
		bench_parse_contenders(st, arg, o->chosen);
		return 0;
	case 'z':
		numbers(&o->sweeps[SIZES], st, arg, ITEM_SIZE_MIN, 1 << 20);
		return 0;
	case OPT_LANES:
		numbers(&o->sweeps[LANES], st, arg, 1, BENCH_MAX_LANES);
		return 0;
	case OPT_CAPACITY:
		numbers(&o->sweeps[CAPACITIES], st, arg, 1, 1 << 24);
		return 0;
	case OPT_DEPTH:
		numbers(&o->sweeps[DEPTHS], st, arg, 0, 1 << 24);
		return 0;
	case OPT_IDLE:
		numbers(&o->sweeps[IDLES], st, arg, 0, BENCH_MAX_IDLE);
		return 0;
	case OPT_RUNS:
		o->runs = (int)bench_number(st, arg, 1, BENCH_MAX_RUNS);
		return 0;
	case OPT_DURATION:
		o->seconds = bench_real(st, arg, 0.01, 3600);
		return 0;
	case OPT_FREE:
		o->free_running = 1;
		return 0;
	case OPT_LAST_LANE:
		o->last_lane = 1;
		return 0;
	case OPT_JSON:
		o->json = 1;
		return 0;
	case ARGP_KEY_ARG:
		argp_usage(st);
		return 0;
	case ARGP_KEY_END:
		check(o, st);
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

/* ---- results -------------------------------------------------------------- */

static void print_head(const struct options *o)
{
	bench_print_machine(o->json);
	if (o->json)
		return;
	printf("%d runs of %g s each; millions of items per second\n\n"
	       "shape  batch   size lanes capacity   depth idle  contender       median"
	       "       min ..     max   to %s   hop ns\n",
	       o->runs, o->seconds, BASELINE);
	fflush(stdout);
}

static void print_row(const struct bench_shape *shape, const char *name,
		      const struct series *s, double base)
{
	printf("%dx%-4d %5d %6zu %5d %8llu %7llu %4d  %-12s", shape->producers, shape->consumers,
	       shape->batch, shape->size, shape->lanes, (unsigned long long)shape->capacity,
	       (unsigned long long)shape->depth, shape->idle, name);
	if (s->err) {
		printf("  %s: %s\n", s->err == -ENOTSUP ? "skipped" : "FAILED", s->why);
		return;
	}
	printf("  %8.2f  %8.2f .. %7.2f", bench_median(s->rates, s->n) / 1e6, s->rates[0] / 1e6,
	       s->rates[s->n - 1] / 1e6);
	if (base > 0)
		printf("   %7.2f", bench_median(s->rates, s->n) / base);
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
	printf("{\"type\":\"throughput\",\"contender\":\"%s\",\"producers\":%d,"
	       "\"consumers\":%d,\"lanes\":%d,\"size\":%zu,\"batch\":%d,\"capacity\":%llu,"
	       "\"depth\":%llu,\"idle\":%d,\"last_lane\":%d",
	       name, shape->producers, shape->consumers, shape->lanes, shape->size,
	       shape->batch, (unsigned long long)shape->capacity,
	       (unsigned long long)shape->depth, shape->idle, shape->last_lane);
	if (s->err) {
		printf(",\"status\":\"%s\",\"why\":\"%s\"}\n",
		       s->err == -ENOTSUP ? "skipped" : "failed", s->why);
		return;
	}
	printf(",\"status\":\"ok\",\"median\":%.0f", bench_median(s->rates, s->n));
	print_list("rates", s->rates, s->n);
	print_list("hop_ns", s->hops, s->n);
	printf(",\"checked\":%llu,\"full\":%llu,\"empty\":%llu",
	       (unsigned long long)s->checked, (unsigned long long)s->full,
	       (unsigned long long)s->empty);
	if (base > 0)
		printf(",\"to_%s\":%.3f", BASELINE, bench_median(s->rates, s->n) / base);
	printf("}\n");
}

/* ---- running -------------------------------------------------------------- */

static int run_once(const struct options *o, const struct bench_entry *e,
		    const struct bench_shape *shape, struct series *s)
{
	int cpus = (int)sysconf(_SC_NPROCESSORS_ONLN);
	int pin = !o->free_running && shape->producers + shape->consumers <= cpus;
	struct bench_result res;

	s->err = bench_run(e, shape, o->seconds, pin, &res);
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

/* Print all contenders of one case. */
static int conclude(const struct options *o, const struct bench_shape *shape,
		    struct series series[BENCH_MAX_ENTRIES])
{
	double base = 0;
	int i, failed = 0;

	for (i = 0; i < bench_nr_entries; i++) {
		struct series *s = &series[i];

		qsort(s->rates, (size_t)s->n, sizeof(double), bench_ascending);
		qsort(s->hops, (size_t)s->n, sizeof(double), bench_ascending);
		if (!strcmp(bench_entries[i].name, BASELINE) && !s->err)
			base = bench_median(s->rates, s->n);
	}
	for (i = 0; i < bench_nr_entries; i++) {
		if (!o->chosen[i])
			continue;
		(o->json ? print_json : print_row)(shape, bench_entries[i].name, &series[i],
						   base);
		failed |= series[i].err && series[i].err != -ENOTSUP;
	}
	fflush(stdout);
	return failed;
}

/* The @nth combination of what is swept. */
static void choose_case(const struct options *o, int nth, struct bench_shape *shape)
{
	uint64_t v[NR_SWEEPS];
	int i;

	for (i = NR_SWEEPS - 1; i >= 0; i--) {
		v[i] = o->sweeps[i].v[nth % o->sweeps[i].n];
		nth /= o->sweeps[i].n;
	}
	shape->size = v[SIZES];
	shape->lanes = (int)v[LANES];
	shape->last_lane = o->last_lane;
	shape->capacity = v[CAPACITIES];
	shape->depth = v[DEPTHS];
	shape->idle = (int)v[IDLES];
}

/* All cases and contenders take turns. Who is skipped or fails is not run again in that
 * case. */
static int run_shape(const struct options *o, struct bench_shape *shape)
{
	static struct series series[MAX_CASES][BENCH_MAX_ENTRIES];
	int run, nth, i, cases = 1, failed = 0;

	memset(series, 0, sizeof series);
	for (i = 0; i < NR_SWEEPS; i++)
		cases *= o->sweeps[i].n;
	for (run = 0; run < o->runs; run++)
		for (nth = 0; nth < cases; nth++) {
			choose_case(o, nth, shape);
			for (i = 0; i < bench_nr_entries; i++)
				if (o->chosen[i] && !series[nth][i].err &&
				    run_once(o, &bench_entries[i], shape, &series[nth][i]) ==
					    -EINTR)
					return -EINTR;
		}
	for (nth = 0; nth < cases; nth++) {
		choose_case(o, nth, shape);
		failed |= conclude(o, shape, series[nth]);
	}
	return failed;
}

int main(int argc, char **argv)
{
	static const struct argp argp = {option_list, parse, NULL, doc, NULL, NULL, NULL};
	struct options o = {
		.producers = {1, 2, 4, 8},
		.consumers = {1, 2, 4, 4},
		.nr_shapes = 4,
		.batches = {{1, 16}, 2},
		.sweeps = {{{64}, 1}, {{1}, 1}, {{65536}, 1}, {{0}, 1}, {{0}, 1}},
		.chosen = {1, 1},
		.runs = 5,
		.seconds = 1,
	};
	struct bench_shape shape = {0};
	int i, j, err, failed = 0;

	argp_parse(&argp, argc, argv, 0, NULL, &o);
	print_head(&o);
	for (i = 0; i < o.nr_shapes; i++)
		for (j = 0; j < o.batches.n; j++) {
			shape.producers = o.producers[i];
			shape.consumers = o.consumers[i];
			shape.batch = (int)o.batches.v[j];
			err = run_shape(&o, &shape);
			if (err == -EINTR)
				return 130;
			failed |= err;
		}
	return failed;
}
