/* SPDX-License-Identifier: MIT */
/*
 * demo_overload.c - producers that never wait against one slow consumer. The depth
 * must stop at the capacity, exactly; what does not fit must be refused, with depth
 * and limit in numbers; no memory may grow; and after the storm everything that was
 * accepted must arrive, exactly once. Exit status 0: all of that was seen.
 */
#include <argp.h>
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "demo.h"

#define CAPACITY   10000
#define LOOK_NS    (DEMO_NS / 50)
#define LINE_EVERY 25               /* looks */
#define SLOW_NS    (DEMO_NS / 5000) /* the consumer's nap after each item */
#define IDLE_NS    (DEMO_NS / 4)
#define MOST       UINT64_C(20000000) /* items of one producer */

struct options {
	int producers, seconds;
};

struct board {
	_Atomic int storm; /* 1 while it lasts */
	_Atomic int pause; /* the consumer takes nothing */
	_Atomic int producers_left;
	_Atomic uint64_t refused;
	_Atomic uint64_t least_depth; /* that a refused push found */
	_Atomic uint64_t most_depth;
	_Atomic uint64_t limit;
};

/* What the looks of the parent have seen. */
struct seen {
	uint64_t depth_still; /* with the consumer at rest and the producers going on */
	bool over;            /* a depth above the capacity */
	uint64_t file_first, file_max; /* bytes the queue takes in memory */
	uint64_t anon_first, anon_max; /* private memory of all processes, once full */
};

static struct options opt = {.producers = 8, .seconds = 3};
static char queue[64];
static struct board *board;
static struct demo_ledger *ledger;
static pid_t pids[DEMO_MAX_PROCS + 1];

/* ---- children ------------------------------------------------------------- */

static void note_refusal(const struct shmq *q)
{
	struct shmq_pressure p;
	uint64_t depth;

	if (shmq_refused(q, &p))
		return;
	board->limit = p.capacity;
	depth = board->least_depth;
	while (p.depth < depth &&
	       !atomic_compare_exchange_weak(&board->least_depth, &depth, p.depth))
		;
	depth = board->most_depth;
	while (p.depth > depth &&
	       !atomic_compare_exchange_weak(&board->most_depth, &depth, p.depth))
		;
	atomic_fetch_add_explicit(&board->refused, 1, memory_order_relaxed);
}

static int produce(int number, void *arg)
{
	struct shmq *q = demo_open(queue, 0);
	struct demo_item it;
	uint64_t seq = 0;
	int err = 0;

	(void)arg;
	while (board->storm && seq < MOST && (!err || err == -EAGAIN)) {
		demo_fill(&it, number, 0, seq);
		err = shmq_push(q, 0, &it, sizeof it, SHMQ_NOWAIT);
		if (err == -EAGAIN) {
			note_refusal(q);
			sched_yield();
		} else if (!err) {
			atomic_store_explicit(&ledger->pushed[number], ++seq,
					      memory_order_relaxed);
		}
	}
	atomic_fetch_sub(&board->producers_left, 1);
	shmq_close(q);
	return err && err != -EAGAIN ? demo_fail("push", err) : 0;
}

/* Slow during the storm, then as fast as it goes, until nothing comes any more. */
static int consume(int number, void *arg)
{
	static uint64_t next[DEMO_MAX_PROCS][SHMQ_MAX_LANES];
	struct shmq *q = demo_open(queue, 0);
	struct demo_item it;
	struct shmq_info info;
	ssize_t n = 0;
	int last = 0;

	(void)number;
	(void)arg;
	while (n >= 0 || n == -EINTR || (n == -ETIMEDOUT && !last)) {
		while (board->pause)
			usleep(1000);
		last = !board->producers_left;
		n = shmq_pop(q, SHMQ_ANY_LANE, &it, sizeof it, &info, IDLE_NS);
		if (n >= 0 && !demo_receive(ledger, &it, n, info.lane, next))
			return 1;
		if (board->storm)
			demo_sleep_until(demo_now() + SLOW_NS);
	}
	shmq_close(q);
	return n == -ETIMEDOUT ? 0 : demo_fail("pop", (int)n);
}

/* ---- watching ------------------------------------------------------------- */

/* Private memory of a process, 0 if it has gone. */
static uint64_t anon_bytes(pid_t pid)
{
	char path[64], line[128];
	unsigned long kib = 0;
	FILE *f;

	snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
	f = fopen(path, "r");
	while (f && fgets(line, sizeof line, f))
		if (sscanf(line, "RssAnon: %lu", &kib) == 1)
			break;
	if (f)
		fclose(f);
	return (uint64_t)kib * 1024;
}

static uint64_t all_anon_bytes(void)
{
	uint64_t sum = 0;
	int i;

	for (i = 0; i <= opt.producers; i++)
		sum += anon_bytes(pids[i]);
	return sum;
}

static uint64_t file_bytes(void)
{
	char path[4096];
	struct stat st;

	snprintf(path, sizeof path, "%s/shmq.%s", shmq_dir(), queue);
	return stat(path, &st) ? 0 : (uint64_t)st.st_blocks * 512;
}

static void raise_to(uint64_t *most, uint64_t value)
{
	if (value > *most)
		*most = value;
}

/*
 * Memory is compared with the first look after the queue was full. A look takes a
 * while: it may count an item and, if that was @popped meanwhile, its successor too.
 */
static void look(const struct shmq_lane_stat *lane, uint64_t popped, struct seen *seen)
{
	seen->over |= lane->depth > lane->capacity + popped;
	raise_to(&seen->file_max, file_bytes());
	if (!seen->file_first)
		seen->file_first = seen->file_max;
	if (!board->refused)
		return;
	raise_to(&seen->anon_max, all_anon_bytes());
	if (!seen->anon_first)
		seen->anon_first = seen->anon_max;
}

static void print_line(const struct shmq_lane_stat *lane, int64_t age,
		       const struct seen *seen)
{
	printf("  %4.1fs  %6llu  %9s  %10s  %9s  %9s  %9s\n", (double)age / 1e9,
	       (unsigned long long)lane->depth, demo_count(demo_pushed(ledger)),
	       demo_count(board->refused), demo_count(ledger->delivered),
	       demo_bytes(seen->file_max), demo_bytes(seen->anon_max));
	fflush(stdout);
}

/* One look after the other until the storm has lasted long enough, or a child fails. */
static int watch(struct shmq *q, struct seen *seen)
{
	struct shmq_stat st = {.sz = sizeof st};
	int64_t begin = demo_now(), now = begin;
	uint64_t delivered;
	int looks = 0, err = 0;

	printf("   time   depth   accepted     refused  delivered      queue    "
	       "private\n");
	while (now < begin + opt.seconds * DEMO_NS && !demo_interrupted() && !err) {
		now = begin + ++looks * LOOK_NS;
		demo_sleep_until(now);
		if (demo_check_children() < 0)
			return -1;
		delivered = ledger->delivered;
		err = shmq_stat(q, &st);
		look(&st.lanes[0], ledger->delivered + 1 - delivered, seen);
		if (looks % LINE_EVERY == 0)
			print_line(&st.lanes[0], now - begin, seen);
	}
	board->pause = 1;
	demo_sleep_until(demo_now() + DEMO_NS / 10);
	err = err ? err : shmq_stat(q, &st);
	seen->depth_still = st.lanes[0].depth;
	board->pause = 0;
	return err;
}

/* ---- result --------------------------------------------------------------- */

static bool complain(bool wrong, const char *what)
{
	if (wrong)
		printf("  WRONG     %s\n", what);
	return wrong;
}

static int report(const struct shmq_stat *st, const struct seen *seen)
{
	const struct shmq_lane_stat *lane = &st->lanes[0];
	bool wrong;

	printf("  depth     %s of %s with the consumer at rest; refused pushes found %s "
	       "to %s "
	       "of %s\n",
	       demo_count(seen->depth_still), demo_count(lane->capacity),
	       demo_count(board->least_depth), demo_count(board->most_depth),
	       demo_count(board->limit));
	printf("  refused   %s pushes, while %s were accepted\n",
	       demo_count(board->refused), demo_count(demo_pushed(ledger)));
	printf("  memory    queue %s all the time; private memory of all processes %s "
	       "when "
	       "full, %s at most after\n",
	       demo_bytes(seen->file_max), demo_bytes(seen->anon_first),
	       demo_bytes(seen->anon_max));
	wrong = !demo_account(ledger);
	wrong |= complain(seen->over, "the depth was above the capacity");
	wrong |= complain(seen->depth_still != lane->capacity,
			  "the depth did not stop at the capacity");
	wrong |= complain(!board->refused, "nothing was refused");
	wrong |= complain(board->limit != lane->capacity ||
				  board->least_depth != lane->capacity ||
				  board->most_depth != lane->capacity,
			  "a push was refused with another depth than the limit");
	wrong |= complain(lane->rejected != board->refused,
			  "the queue has counted other refusals");
	wrong |= complain(seen->file_max != seen->file_first ||
				  seen->file_max < st->region_bytes,
			  "the queue has grown, or was not all reserved");
	wrong |= complain(seen->anon_max > seen->anon_first +
						   (UINT64_C(64) << 10) *
							   (uint64_t)(opt.producers + 1),
			  "processes have grown");
	wrong |= complain(lane->depth || lane->held || lane->unfinished,
			  "the queue is not empty at the end");
	return wrong;
}

static void create(void)
{
	struct shmq_config cfg;

	shmq_config_init(&cfg, sizeof cfg);
	cfg.nr_lanes = 1;
	cfg.item_size = sizeof(struct demo_item);
	strcpy(cfg.lanes[0].name, "work");
	cfg.lanes[0].capacity = CAPACITY;
	demo_create(queue, &cfg);
}

static int run(void)
{
	struct shmq_stat st = {.sz = sizeof st};
	struct seen seen = {0};
	struct shmq *q;
	int i, left, err;

	create();
	q = demo_open(queue, SHMQ_OBSERVE);
	pids[opt.producers] = demo_start(consume, 0, NULL);
	for (i = 0; i < opt.producers; i++)
		pids[i] = demo_start(produce, i, NULL);
	err = watch(q, &seen);
	board->storm = 0;
	while (!err && (left = demo_check_children()) != 0) {
		err = left < 0;
		usleep(1000);
	}
	if (demo_interrupted())
		return 130;
	err = err ? err : shmq_stat(q, &st);
	shmq_close(q);
	if (err < -1)
		return demo_fail("stat", err);
	return err ? 1 : report(&st, &seen);
}

/* ---- options -------------------------------------------------------------- */

static const struct argp_option option_list[] = {
	{"seconds", 's', "N", 0, "How long the storm lasts (3)", 0},
	{"producers", 'p', "N", 0, "Producer processes (8)", 0},
	{0}};

static int number(struct argp_state *st, const char *arg, int most)
{
	char *end;
	long n = strtol(arg, &end, 10);

	if (end == arg || *end || n < 1 || n > most)
		argp_error(st, "'%s': give a number from 1 to %d", arg, most);
	return (int)n;
}

static error_t parse(int key, char *arg, struct argp_state *st)
{
	switch (key) {
	case 's':
		opt.seconds = number(st, arg, 3600);
		return 0;
	case 'p':
		opt.producers = number(st, arg, DEMO_MAX_PROCS / 2);
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
		"Flood a queue with one slow consumer and check that its "
		"limit holds.",
		NULL,
		NULL,
		NULL};

	argp_parse(&argp, argc, argv, 0, NULL, NULL);
	demo_catch_signals();
	snprintf(queue, sizeof queue, "demo-overload-%d", (int)getpid());
	board = demo_shared(sizeof *board);
	board->storm = 1;
	board->least_depth = UINT64_MAX;
	board->producers_left = opt.producers;
	ledger = demo_ledger(opt.producers, MOST);
	return run();
}
