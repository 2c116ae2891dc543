/* SPDX-License-Identifier: MIT */
/*
 * bench_latency.c - busy round trips: an item goes through one queue to the other side,
 * which sends it back through a second one. Both look all the time; nobody sleeps (for
 * that see bench_waits). Every item is verified at both ends.
 *
 * The contenders take turns; of each run count the percentiles of its round trips, and of
 * these the medians over the runs.
 */
#include <argp.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bench.h"
#include "item.h"

enum { THERE, BACK };
enum { P50, P99, P999, MOST, NR_FIGURES };

#define WARMUP     1000 /* round trips that are not counted */
#define MAX_ROUNDS 10000000

struct options {
	int chosen[BENCH_MAX_ENTRIES];
	int runs, json;
	uint32_t rounds;
	size_t size;
};

struct series {
	double us[NR_FIGURES][BENCH_MAX_RUNS], hops[BENCH_MAX_RUNS];
	int n, err;
	char why[160];
};

/* Shared by the two sides and the parent. */
struct table {
	_Atomic int failed; /* and the other side need not wait */
	char why[160];
	double us[]; /* of each round */
};

struct game {
	const struct bench_contender *c;
	const struct options *o;
	void *queues[2];
	struct table *table;
};

struct side {
	const struct game *g;
	void *ends[2];
	struct iovec item;
};

static const struct argp_option option_list[] = {
	{"contender", 'c', "NAME,...", 0,
	 "Of shmq, ring, mutex, pipe, mqueue, ck, rte, boost, moodycamel, segqueue, vecdeque "
	 "(shmq,ring)", 0},
	{"size", 'z', "BYTES", 0, "Item size, a multiple of 8 (64)", 0},
	{"rounds", 'n', "N", 0, "Round trips of a run (100000)", 0},
	{"runs", 'r', "N", 0, "Runs of each contender (5)", 0},
	{"json", 'j', NULL, 0, "One JSON object a line instead of the table", 0},
	{0}};

static error_t parse(int key, char *arg, struct argp_state *st)
{
	struct options *o = st->input;

	switch (key) {
	case 'c':
		bench_parse_contenders(st, arg, o->chosen);
		return 0;
	case 'z':
		o->size = bench_parse_size(st, arg, ITEM_SIZE_MIN);
		return 0;
	case 'n':
		o->rounds = (uint32_t)bench_number(st, arg, 1, MAX_ROUNDS);
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

/* ---- the two sides -------------------------------------------------------- */

static _Noreturn void give_up(const struct side *s, const char *why)
{
	snprintf(s->g->table->why, sizeof s->g->table->why, "%s", why);
	atomic_store(&s->g->table->failed, 1);
	_exit(1);
}

static void await(const struct side *s, unsigned *tries)
{
	if (atomic_load_explicit(&s->g->table->failed, memory_order_relaxed))
		_exit(0);
	bench_back_off(tries);
}

static void send(struct side *s, int dir)
{
	unsigned tries = 0;
	int r;

	while ((r = s->g->c->push_n(s->ends[dir], 0, &s->item, 1)) == 0)
		await(s, &tries);
	if (r < 0)
		give_up(s, strerror(-r));
}

/* Item number @seq, and no other. */
static void receive(struct side *s, int dir, uint64_t seq)
{
	struct item_id id;
	unsigned tries = 0;
	int r;

	while ((r = s->g->c->pop_n(s->ends[dir], &s->item, 1)) == 0)
		await(s, &tries);
	if (r < 0)
		give_up(s, strerror(-r));
	if (s->item.iov_len != s->g->o->size ||
	    !item_read(s->item.iov_base, s->g->o->size, &id) || id.seq != seq ||
	    id.producer != (unsigned)dir)
		give_up(s, "not the item that was sent");
}

static void ask(struct side *s, uint32_t rounds)
{
	uint32_t i;

	for (i = 0; i < WARMUP + rounds; i++) {
		int64_t begin = bench_now_ns();

		item_fill(s->item.iov_base, s->g->o->size, i, THERE, 0);
		send(s, THERE);
		receive(s, BACK, i);
		if (i >= WARMUP)
			s->g->table->us[i - WARMUP] = (double)(bench_now_ns() - begin) / 1000;
	}
}

static void answer(struct side *s, uint32_t rounds)
{
	uint32_t i;

	for (i = 0; i < WARMUP + rounds; i++) {
		receive(s, THERE, i);
		item_fill(s->item.iov_base, s->g->o->size, i, BACK, 0);
		send(s, BACK);
	}
}

static void work(void *arg, int index)
{
	const struct game *g = arg;
	struct side s = {.g = g};
	int i;

	s.item.iov_len = g->o->size;
	s.item.iov_base = aligned_alloc(64, (g->o->size + 63) & ~(size_t)63);
	for (i = 0; i < 2; i++) {
		s.ends[i] = g->c->attach(g->queues[i]);
		if (!s.ends[i] || !s.item.iov_base)
			give_up(&s, "attach failed");
	}
	(index ? answer : ask)(&s, g->o->rounds);
	for (i = 0; i < 2; i++)
		g->c->detach(s.ends[i]);
	free(s.item.iov_base);
}

/* ---- runs ----------------------------------------------------------------- */

static int play(struct game *g, struct series *s)
{
	static const double shares[] = {0.5, 0.99, 0.999, 1};
	int i, nr, cpus = (int)sysconf(_SC_NPROCESSORS_ONLN);
	uint32_t rounds = g->o->rounds;
	size_t bytes = sizeof *g->table + rounds * sizeof(double);
	pid_t pids[2];

	g->table = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (g->table == MAP_FAILED)
		return -errno;
	nr = bench_start(g->c->threads, 2, cpus > 1, work, g, pids);
	if (nr > 0 && bench_reap(pids, nr)) {
		snprintf(s->why, sizeof s->why, "%s",
			 *g->table->why ? g->table->why : "a worker was killed or is stuck");
		nr = -EBADE;
	}
	if (nr > 0) {
		qsort(g->table->us, rounds, sizeof(double), bench_ascending);
		for (i = 0; i < NR_FIGURES; i++)
			s->us[i][s->n] = g->table->us[(uint32_t)((rounds - 1) * shares[i])];
		s->n++;
	}
	munmap(g->table, bytes);
	return nr < 0 ? nr : 0;
}

static void run_once(const struct options *o, const struct bench_entry *e, struct series *s)
{
	static const struct bench_shape proto = {
		.producers = 1, .consumers = 1, .lanes = 1, .batch = 1, .capacity = 64};
	struct bench_shape shape = proto;
	struct game g = {.c = e->contender, .o = o};
	int made = 0;

	shape.size = o->size;
	s->hops[s->n] = bench_hop_ns();
	for (; made < 2 && !s->err; made += !s->err)
		s->err = bench_setup(&g.queues[made], e, &shape, s->why);
	if (!s->err)
		s->err = play(&g, s);
	if (s->err && !*s->why)
		snprintf(s->why, sizeof s->why, "%s", strerror(-s->err));
	while (made--)
		e->contender->teardown(g.queues[made]);
}

static void print(const struct options *o, const char *name, struct series *s)
{
	static const char *const keys[] = {"p50_us", "p99_us", "p999_us", "max_us"};
	int i;

	if (s->err) {
		printf(o->json ? "{\"type\":\"latency\",\"contender\":\"%s\",\"status\":\"%s\","
				 "\"why\":\"%s\"}\n" :
				 "%-12s  %s: %s\n",
		       name, s->err == -ENOTSUP ? "skipped" : "failed", s->why);
		return;
	}
	for (i = 0; i < NR_FIGURES; i++)
		qsort(s->us[i], (size_t)s->n, sizeof(double), bench_ascending);
	qsort(s->hops, (size_t)s->n, sizeof(double), bench_ascending);
	if (o->json) {
		printf("{\"type\":\"latency\",\"contender\":\"%s\",\"status\":\"ok\",\"size\":%zu,"
		       "\"runs\":%d,\"checked\":%llu",
		       name, o->size, s->n, (unsigned long long)(WARMUP + o->rounds) * s->n);
		for (i = 0; i < NR_FIGURES; i++)
			printf(",\"%s\":%.3f", keys[i], bench_median(s->us[i], s->n));
		printf(",\"p50_least_us\":%.3f,\"p50_most_us\":%.3f,\"hop_ns\":[%.0f,%.0f]}\n",
		       s->us[P50][0], s->us[P50][s->n - 1], s->hops[0], s->hops[s->n - 1]);
		return;
	}
	printf("%-12s %9.3f %8.3f .. %8.3f %9.3f %9.3f %10.3f   %3.0f .. %.0f\n", name,
	       bench_median(s->us[P50], s->n), s->us[P50][0], s->us[P50][s->n - 1],
	       bench_median(s->us[P99], s->n), bench_median(s->us[P999], s->n),
	       bench_median(s->us[MOST], s->n), s->hops[0], s->hops[s->n - 1]);
}

int main(int argc, char **argv)
{
	static const struct argp argp = {
		option_list, parse, NULL,
		"Measure busy round trips through libshmq and rivals.", NULL, NULL, NULL};
	static struct series series[BENCH_MAX_ENTRIES];
	struct options o = {.chosen = {1, 1}, .runs = 5, .rounds = 100000, .size = 64};
	int run, i, failed = 0;

	argp_parse(&argp, argc, argv, 0, NULL, &o);
	bench_catch_signals();
	bench_print_machine(o.json);
	for (run = 0; run < o.runs; run++)
		for (i = 0; i < bench_nr_entries; i++) {
			if (!o.chosen[i] || series[i].err)
				continue;
			run_once(&o, &bench_entries[i], &series[i]);
			if (bench_interrupted)
				return 130;
		}
	if (!o.json)
		printf("busy round trips, %zu bytes, %d runs of %u; microseconds\n\n"
		       "contender      median      min ..      max       p99     p99.9        max"
		       "   hop ns\n",
		       o.size, o.runs, o.rounds);
	for (i = 0; i < bench_nr_entries; i++) {
		if (!o.chosen[i])
			continue;
		print(&o, bench_entries[i].name, &series[i]);
		failed |= series[i].err && series[i].err != -ENOTSUP;
	}
	return failed;
}
