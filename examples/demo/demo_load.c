/* SPDX-License-Identifier: MIT */
/*
 * demo_load.c - a steady load: 8 producers offer 100,000 items of 64 bytes a second
 * together, over the three default lanes (20, 50 and 30 of 100); 4 consumers sleep
 * until something is there. A line a second, an account at the end. Exit status 0:
 * the rate was held, the depth stayed far below the limits, nothing was refused,
 * lost, delivered twice or out of order.
 *
 * Producers wake every millisecond and push what is due by the clock, whatever the
 * queue does. The wait of an item is from before its push until after its pop.
 */
#include <argp.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "demo.h"
#include "hist.h"

#define LANES   3
#define TICK_NS (DEMO_NS / 1000)
#define LOOK_NS (DEMO_NS / 100) /* how often the depth is sampled */
#define IDLE_NS (DEMO_NS / 4)

static const char *const lane_names[LANES] = {"high", "normal", "low"};
static const int lane_share[LANES] = {20, 50, 30}; /* of 100 */

struct options {
	int producers, consumers, seconds;
	long rate; /* items per second, all producers together */
};

struct board {
	_Alignas(128) _Atomic int64_t begin_ns; /* 0: not yet */
	_Atomic int stop;
	_Atomic int ready, producers_left;
	struct {
		_Alignas(128) _Atomic uint64_t refused;
	} producers[DEMO_MAX_PROCS];
	struct {
		_Alignas(128) _Atomic uint64_t popped;
		struct hist waits[LANES];
	} consumers[DEMO_MAX_PROCS];
};

static struct options opt = {
	.producers = 8, .consumers = 4, .seconds = 10, .rate = 100000};
static char queue[64];
static struct board *board;
static struct demo_ledger *ledger;

/* ---- children ------------------------------------------------------------- */

static int64_t await_begin(void)
{
	atomic_fetch_add(&board->ready, 1);
	while (!board->begin_ns)
		usleep(200);
	return board->begin_ns;
}

static int lane_of(uint64_t *random)
{
	int r, lane = 0;

	*random = *random * UINT64_C(6364136223846793005) + 1442695040888963407;
	r = (int)((*random >> 33) % 100);
	while (lane < LANES - 1 && r >= lane_share[lane])
		r -= lane_share[lane++];
	return lane;
}

/* Push until @due items were offered; a refused one is counted and dropped. */
static int push_due(struct shmq *q, int number, uint64_t *offered, uint64_t due,
		    uint64_t *random)
{
	struct demo_item it;
	int err, lane;

	for (; *offered < due; ++*offered) {
		lane = lane_of(random);
		demo_fill(&it, number, lane, ledger->pushed[number]);
		it.pushed_ns = demo_now();
		err = shmq_push(q, lane, &it, sizeof it, SHMQ_NOWAIT);
		if (err && err != -EAGAIN)
			return err;
		if (err)
			atomic_fetch_add(&board->producers[number].refused, 1);
		else
			atomic_store_explicit(&ledger->pushed[number],
					      ledger->pushed[number] + 1,
					      memory_order_relaxed);
	}
	return 0;
}

static int produce(int number, void *arg)
{
	struct shmq *q = demo_open(queue, 0);
	uint64_t offered = 0, due, random = (uint64_t)number + 1;
	long rate = opt.rate / opt.producers; /* a whole number for each */
	int64_t begin, now, tick, length = opt.seconds * DEMO_NS;
	int err = 0;

	(void)arg;
	prctl(PR_SET_TIMERSLACK, 1000UL);
	begin = await_begin();
	tick = begin + TICK_NS * number / opt.producers;
	while (!err && tick < begin + length && !board->stop) {
		demo_sleep_until(tick);
		now = demo_now() - begin;
		due = (uint64_t)((double)(now < length ? now : length) / 1e9 *
				 (double)rate);
		err = push_due(q, number, &offered, due, &random);
		tick += TICK_NS;
	}
	if (!err && !board->stop)
		err = push_due(q, number, &offered, (uint64_t)(rate * opt.seconds),
			       &random);
	atomic_fetch_sub(&board->producers_left, 1);
	shmq_close(q);
	return err ? demo_fail("push", err) : 0;
}

/* The first wait without a result that began after the last producer is the end. */
static int consume(int number, void *arg)
{
	static uint64_t next[DEMO_MAX_PROCS][SHMQ_MAX_LANES];
	struct shmq *q = demo_open(queue, 0);
	struct demo_item it;
	struct shmq_info info;
	uint64_t popped = 0;
	ssize_t n = 0;
	int last = 0;

	(void)arg;
	await_begin();
	while (n >= 0 || n == -EINTR || (n == -ETIMEDOUT && !last)) {
		last = !board->producers_left;
		n = shmq_pop(q, SHMQ_ANY_LANE, &it, sizeof it, &info, IDLE_NS);
		if (n < 0)
			continue;
		if (!demo_receive(ledger, &it, n, info.lane, next))
			return 1;
		hist_add(&board->consumers[number].waits[info.lane],
			 (uint64_t)(demo_now() - it.pushed_ns));
		atomic_store_explicit(&board->consumers[number].popped, ++popped,
				      memory_order_relaxed);
	}
	shmq_close(q);
	return n == -ETIMEDOUT ? 0 : demo_fail("pop", (int)n);
}

/* ---- watching ------------------------------------------------------------- */

/* What the lines are differences of. */
struct totals {
	uint64_t in, out, refused;
	struct hist waits;
};

static uint64_t depth_max, depth_sum, looks;

static void get_totals(struct totals *t)
{
	int i, lane;

	memset(t, 0, sizeof *t);
	t->in = demo_pushed(ledger);
	for (i = 0; i < opt.producers; i++)
		t->refused += board->producers[i].refused;
	for (i = 0; i < opt.consumers; i++) {
		t->out += board->consumers[i].popped;
		for (lane = 0; lane < LANES; lane++)
			hist_merge(&t->waits, &board->consumers[i].waits[lane]);
	}
}

static void print_line(struct shmq *q, int second, struct totals *before)
{
	struct shmq_stat st = {.sz = sizeof st};
	uint64_t depth = 0, held = 0;
	struct totals *now = malloc(sizeof *now);
	uint32_t i;

	if (!now || shmq_stat(q, &st)) {
		free(now);
		return;
	}
	for (i = 0; i < st.nr_lanes; i++) {
		depth += st.lanes[i].depth;
		held += st.lanes[i].held;
	}
	get_totals(now);
	hist_take_off(&now->waits, &before->waits);
	printf("  %4ds  %6llu  %4llu  %7llu  %7llu  %6llu  %9s  %s\n", second,
	       (unsigned long long)depth, (unsigned long long)held,
	       (unsigned long long)(now->in - before->in),
	       (unsigned long long)(now->out - before->out),
	       (unsigned long long)(now->refused - before->refused),
	       demo_time(hist_quantile(&now->waits, 0.5)),
	       demo_time(hist_quantile(&now->waits, 0.99)));
	fflush(stdout);
	get_totals(before);
	free(now);
}

static void look(struct shmq *q)
{
	struct shmq_pressure p;
	uint64_t depth = 0;
	int lane;

	for (lane = 0; lane < LANES; lane++)
		if (!shmq_pressure(q, lane, &p))
			depth += p.depth;
	if (depth > depth_max)
		depth_max = depth;
	depth_sum += depth;
	looks++;
}

/* Until the children have ended. Returns 0, or -1 if one failed. */
static int watch(struct shmq *q)
{
	struct totals *before = calloc(1, sizeof *before);
	int64_t begin = board->begin_ns, next = begin;
	int left, second = 1, every = opt.seconds > 60 ? 10 : 1;

	printf("   time   depth  held     in/s    out/s  full/s   wait p50  p99\n");
	while (before && (left = demo_check_children()) > 0) {
		next += LOOK_NS;
		demo_sleep_until(next);
		if (demo_interrupted()) {
			board->stop = 1;
			usleep(10000);
		}
		if (board->producers_left)
			look(q);
		if (next - begin >= second * DEMO_NS && second <= opt.seconds) {
			if (second == 1 || second % every == 0 || second == opt.seconds)
				print_line(q, second, before);
			else
				get_totals(before);
			second++;
		}
	}
	free(before);
	return before ? left : -1;
}

/* ---- result --------------------------------------------------------------- */

static bool complain(bool wrong, const char *what)
{
	if (wrong)
		printf("  WRONG     %s\n", what);
	return wrong;
}

static void print_waits(void)
{
	struct hist *h;
	int i, lane;

	for (lane = 0; lane < LANES; lane++) {
		h = calloc(1, sizeof *h);
		for (i = 0; h && i < opt.consumers; i++)
			hist_merge(h, &board->consumers[i].waits[lane]);
		if (h)
			printf("  wait      %-7s p50 %s, p99 %s, p99.9 %s  (%s items)\n",
			       lane_names[lane], demo_time(hist_quantile(h, 0.5)),
			       demo_time(hist_quantile(h, 0.99)),
			       demo_time(hist_quantile(h, 0.999)),
			       demo_count(hist_total(h)));
		free(h);
	}
}

static void print_cost(const struct shmq_stat *st, double took)
{
	struct rusage ru;

	getrusage(RUSAGE_CHILDREN, &ru);
	printf("  cpu       %.2f s user + %.2f s system in %.1f s, all %d processes "
	       "together\n",
	       (double)ru.ru_utime.tv_sec + (double)ru.ru_utime.tv_usec / 1e6,
	       (double)ru.ru_stime.tv_sec + (double)ru.ru_stime.tv_usec / 1e6, took,
	       opt.producers + opt.consumers);
	printf("  memory    queue %s; largest process %s resident, the queue's pages it "
	       "touched included\n",
	       demo_bytes(st->region_bytes), demo_bytes((uint64_t)ru.ru_maxrss * 1024));
}

static int report(struct shmq *q, double took)
{
	struct shmq_stat st = {.sz = sizeof st};
	uint64_t capacity = 0, left = 0, in = 0, out = 0, refused = 0;
	uint64_t offered = (uint64_t)(opt.rate / opt.producers) * (uint64_t)opt.seconds *
			   (uint64_t)opt.producers;
	double rate = (double)ledger->delivered / opt.seconds;
	uint32_t i;
	bool wrong;
	int err = shmq_stat(q, &st);

	if (err)
		return demo_fail("stat", err);
	for (i = 0; i < st.nr_lanes; i++) {
		capacity += st.lanes[i].capacity;
		left += st.lanes[i].depth + st.lanes[i].held + st.lanes[i].unfinished;
		in += st.lanes[i].pushed;
		out += st.lanes[i].popped;
		refused += st.lanes[i].rejected;
	}
	printf("  rate      %s items/s delivered of %s/s offered, for %d s\n",
	       demo_count((uint64_t)rate), demo_count((uint64_t)opt.rate), opt.seconds);
	printf("  depth     at most %s, %s on average, of %s; refused %s\n",
	       demo_count(depth_max), demo_count(looks ? depth_sum / looks : 0),
	       demo_count(capacity), demo_count(refused));
	print_waits();
	print_cost(&st, took);
	wrong = !demo_account(ledger);
	wrong |= complain(refused > 0, "pushes were refused");
	wrong |= complain(ledger->delivered != offered,
			  "not all that was offered arrived");
	wrong |= complain(depth_max > capacity / 2, "the queue was more than half full");
	wrong |= complain(took > opt.seconds * 1.1 + 1, "the rate was not held");
	wrong |= complain(left > 0, "the queue is not empty at the end");
	wrong |= complain(in != ledger->delivered || out != in,
			  "the queue's own counters say otherwise");
	return wrong;
}

static int run(void)
{
	struct shmq *q;
	int64_t begin;
	int i, err;

	demo_create(queue, NULL);
	for (i = 0; i < opt.consumers; i++)
		demo_start(consume, i, NULL);
	for (i = 0; i < opt.producers; i++)
		demo_start(produce, i, NULL);
	q = demo_open(queue, SHMQ_OBSERVE);
	while (board->ready < opt.producers + opt.consumers)
		if (demo_check_children() < 0 || usleep(1000) < 0)
			return 1;
	begin = demo_now();
	atomic_store(&board->begin_ns, begin);
	err = watch(q);
	if (demo_interrupted())
		return 130;
	err = err ? 1
		  : report(q, (double)(demo_now() - begin) / 1e9 - (double)IDLE_NS / 1e9);
	shmq_close(q);
	return err;
}

/* ---- options -------------------------------------------------------------- */

static const struct argp_option option_list[] = {
	{"seconds", 's', "N", 0, "How long (10)", 0},
	{"long", 'l', NULL, 0, "Ten minutes", 0},
	{"rate", 'r', "N", 0, "Items per second of all producers together (100000)", 0},
	{"producers", 'p', "N", 0, "Producer processes (8)", 0},
	{"consumers", 'c', "N", 0, "Consumer processes (4)", 0},
	{0}};

static long number(struct argp_state *st, const char *arg, long most)
{
	char *end;
	long n = strtol(arg, &end, 10);

	if (end == arg || *end || n < 1 || n > most)
		argp_error(st, "'%s': give a number from 1 to %ld", arg, most);
	return n;
}

static error_t parse(int key, char *arg, struct argp_state *st)
{
	switch (key) {
	case 's':
		opt.seconds = (int)number(st, arg, 86400);
		return 0;
	case 'l':
		opt.seconds = 600;
		return 0;
	case 'r':
		opt.rate = number(st, arg, 10000000);
		return 0;
	case 'p':
		opt.producers = (int)number(st, arg, DEMO_MAX_PROCS / 2);
		return 0;
	case 'c':
		opt.consumers = (int)number(st, arg, DEMO_MAX_PROCS / 2 - 1);
		return 0;
	case ARGP_KEY_ARG:
		argp_usage(st);
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

int main(int argc, char **argv)
{
	static const struct argp argp = {
		option_list,
		parse,
		NULL,
		"Run a steady load through a queue of default shape and "
		"account for every item.",
		NULL,
		NULL,
		NULL};

	argp_parse(&argp, argc, argv, 0, NULL, NULL);
	demo_catch_signals();
	snprintf(queue, sizeof queue, "demo-load-%d", (int)getpid());
	board = demo_shared(sizeof *board);
	board->producers_left = opt.producers;
	ledger = demo_ledger(opt.producers, ((uint64_t)(opt.rate / opt.producers) + 1) *
						    (uint64_t)opt.seconds);
	return run();
}
