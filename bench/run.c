/* SPDX-License-Identifier: MIT */
/*
 * run.c - one run: workers, start, measured window, drain, verification.
 *
 * Producers and consumers are processes forked before they attach (threads of one
 * process for what works only within one). The rate is what consumers took between two
 * looks of the parent, both under full traffic. Whoever finds the queue full or empty
 * tries again: with growing pauses, then it gives the processor away; the policy is the
 * same for every contender.
 *
 * The numbers of a producer are 0, 1, 2 ... without holes, so its count says what
 * must have arrived: as many, with the same sum, and the same sum of hashes.
 */
#include <errno.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"
#include "histogram.h"
#include "item.h"

#define WARMUP_NS INT64_C(100000000)
#define TICK_NS   INT64_C(1000000) /* a producer of a given rate wakes as often */
#define LINE_PAIR 128

struct tally {
	uint64_t count, sum, hash;
};

/* What one worker tells; nobody else writes it. */
struct report {
	_Alignas(LINE_PAIR) _Atomic uint64_t moved; /* so far */
	uint64_t idle;                              /* calls that moved nothing */
	double cpu_s;
	int failed;
	char why[160];
	struct tally from[BENCH_MAX_PROCS]; /* consumers: per producer */
	struct histogram waits;             /* consumers, with a given rate */
};

struct board {
	_Alignas(LINE_PAIR) _Atomic int ready;
	_Alignas(LINE_PAIR) _Atomic int go;
	_Atomic int stop;
	_Atomic int64_t counted_from; /* waits of what was pushed then or later count */
	_Alignas(LINE_PAIR) _Atomic int producers_done;
	struct report reports[BENCH_MAX_PROCS]; /* producers, then consumers */
	struct report idle;                     /* all others */
};

struct run {
	const struct bench_contender *c;
	const struct bench_shape *shape;
	void *queue;
	struct board *board;
};

struct worker {
	const struct bench_contender *c;
	const struct bench_shape *shape;
	struct board *board;
	struct report *report; /* of what it does, and why it failed */
	struct report *taken;  /* the same, but of who both pushes and pops */
	void *end;
	int number; /* among the producers or the consumers */
	int lane;   /* where the next batch goes */
	uint64_t seq, moved;
	uint64_t next[BENCH_MAX_PROCS][BENCH_MAX_LANES]; /* least that may come */
	struct iovec items[BENCH_MAX_BATCH];
};

static void nap_until(int64_t ns)
{
	struct timespec ts = {ns / 1000000000, ns % 1000000000};

	while (!bench_interrupted &&
	       clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL) == EINTR)
		;
}

/* ---- workers -------------------------------------------------------------- */

__attribute__((format(printf, 2, 3), noreturn)) static void give_up(struct worker *w,
								    const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(w->report->why, sizeof w->report->why, fmt, ap);
	va_end(ap);
	w->report->failed = 1;
	_exit(1);
}

static void attach(struct worker *w)
{
	size_t size = w->shape->size, all = size * (size_t)w->shape->batch;
	unsigned char *mem = aligned_alloc(64, (all + 63) & ~(size_t)63);
	int i;

	if (!mem)
		give_up(w, "out of memory");
	memset(mem, 0, all);
	for (i = 0; i < w->shape->batch; i++)
		w->items[i] = (struct iovec){mem + size * (size_t)i, size};
	if (!w->end)
		give_up(w, "attach failed");
}

static void await_go(struct worker *w)
{
	unsigned tries = 0;

	atomic_fetch_add(&w->board->ready, 1);
	while (!atomic_load(&w->board->go))
		bench_back_off(&tries);
}

static double cpu_now(void)
{
	struct rusage u;

	getrusage(RUSAGE_THREAD, &u);
	return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
	       (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

/* Push what is in the items; after the stop only what is quick. Returns how many. */
static int push_all(struct worker *w, int n)
{
	int done = 0, got;
	unsigned tries = 0;

	while (done < n) {
		got = w->c->push_n(w->end, w->lane, w->items + done, n - done);
		if (got < 0)
			give_up(w, "push: %s", strerror(-got));
		done += got;
		if (got) {
			tries = 0;
			continue;
		}
		w->report->idle++;
		if (atomic_load_explicit(&w->board->stop, memory_order_relaxed))
			break;
		if (!atomic_load_explicit(&w->board->go, memory_order_relaxed))
			give_up(w, "full before it held %llu items",
				(unsigned long long)w->shape->depth);
		bench_back_off(&tries);
	}
	return done;
}

/* The next items of this producer. */
static int push_next(struct worker *w, int n)
{
	int i, done;

	for (i = 0; i < n; i++)
		item_fill(w->items[i].iov_base, w->shape->size, w->seq + (uint64_t)i,
			  (unsigned)w->number, (unsigned)w->lane);
	if (w->shape->rate > 0)
		item_stamp(w->items[0].iov_base, (uint64_t)bench_now_ns());
	done = push_all(w, n);
	w->seq += (uint64_t)done;
	if (!w->shape->last_lane)
		w->lane = w->lane + 1 < w->shape->lanes ? w->lane + 1 : 0;
	return done;
}

/* Who waits for an item is told that there will be none: by one of a producer that is
 * not there, for each consumer. */
static void push_end_marks(struct worker *w)
{
	int i;

	for (i = 0; i < w->shape->consumers; i++) {
		item_fill(w->items[0].iov_base, w->shape->size, 0,
			  (unsigned)w->shape->producers, 0);
		w->lane = w->shape->lanes - 1;
		while (!push_all(w, 1))
			;
	}
}

static void producer_done(struct worker *w)
{
	atomic_store(&w->report->moved, w->seq);
	if (atomic_fetch_add(&w->board->producers_done, 1) == w->shape->producers - 1 &&
	    w->shape->rate > 0)
		push_end_marks(w);
}

static int stopped(const struct worker *w)
{
	return atomic_load_explicit(&w->board->stop, memory_order_relaxed);
}

static void produce(struct worker *w)
{
	while (!stopped(w))
		push_next(w, w->shape->batch);
	producer_done(w);
}

/* What is due at each tick; the ticks of the producers are spread evenly. */
static void produce_at_rate(struct worker *w)
{
	double per_ns = w->shape->rate / w->shape->producers / 1e9;
	int64_t begin = bench_now_ns() + TICK_NS * w->number / w->shape->producers;
	int64_t tick = begin;

	while (!stopped(w)) {
		nap_until(tick += TICK_NS);
		while ((double)w->seq < (double)(bench_now_ns() - begin) * per_ns && !stopped(w))
			push_next(w, 1);
	}
	producer_done(w);
}

/* 0: it was an end mark. */
static int check_item(struct worker *w, const struct iovec *iov)
{
	struct item_id id;
	struct tally *t;
	int64_t from;

	if (iov->iov_len != w->shape->size || !item_read(iov->iov_base, w->shape->size, &id) ||
	    id.producer > (unsigned)w->shape->producers ||
	    id.lane >= (unsigned)w->shape->lanes)
		give_up(w, "a damaged item of %zu bytes", iov->iov_len);
	if (id.producer == (unsigned)w->shape->producers)
		return 0;
	if (id.seq < w->next[id.producer][id.lane])
		give_up(w, "producer %u lane %u: item %llu after %llu", id.producer, id.lane,
			(unsigned long long)id.seq,
			(unsigned long long)w->next[id.producer][id.lane] - 1);
	w->next[id.producer][id.lane] = id.seq + 1;
	t = &w->taken->from[id.producer];
	t->count++;
	t->sum += id.seq;
	t->hash += item_mix(id.seq);
	if (w->shape->rate > 0) {
		int64_t pushed = (int64_t)item_stamped(iov->iov_base);

		from = atomic_load_explicit(&w->board->counted_from, memory_order_relaxed);
		if (from && pushed >= from)
			histogram_add(&w->taken->waits, (uint64_t)(bench_now_ns() - pushed));
	}
	return 1;
}

/* Returns how many, or -1 after an end mark. */
static int pop_some(struct worker *w)
{
	int got = w->c->pop_n(w->end, w->items, w->shape->batch), i;

	if (got < 0)
		give_up(w, "pop: %s", strerror(-got));
	for (i = 0; i < got; i++)
		if (!check_item(w, &w->items[i]))
			return -1;
	if (got) {
		w->moved += (uint64_t)got;
		atomic_store_explicit(&w->taken->moved, w->moved, memory_order_relaxed);
	}
	return got;
}

/* The first empty answer after the last producer has gone is the end; or the mark. */
static void consume(struct worker *w)
{
	unsigned tries = 0;
	int got, last = 0;

	while ((got = pop_some(w)) >= 0) {
		if (got) {
			tries = 0;
			continue;
		}
		if (last)
			break;
		w->taken->idle++;
		last = atomic_load(&w->board->producers_done) == w->shape->producers;
		bench_back_off(&tries);
	}
}

/* This producer's part of the items that stay. */
static void fill(struct worker *w)
{
	uint64_t nr = (uint64_t)w->shape->producers, left = w->shape->depth / nr;
	int n;

	left += (uint64_t)w->number < w->shape->depth % nr;
	for (; left; left -= (uint64_t)n) {
		n = left < (uint64_t)w->shape->batch ? (int)left : w->shape->batch;
		n = push_next(w, n);
	}
}

/* Push a batch, pop as many: the depth stays. */
static void turn(struct worker *w)
{
	unsigned tries = 0;
	int owed = 0, got;

	while (!stopped(w)) {
		if (owed <= 0) {
			owed += push_next(w, w->shape->batch);
			continue;
		}
		got = pop_some(w);
		owed -= got;
		if (got)
			tries = 0;
		else
			bench_back_off(&tries);
	}
	producer_done(w);
	consume(w);
}

/* Attached, and nothing else. */
static void sleep_till_stop(struct worker *w)
{
	atomic_fetch_add(&w->board->ready, 1);
	while (!stopped(w))
		syscall(SYS_futex, &w->board->stop, FUTEX_WAIT, 0, NULL, NULL, 0);
}

static void work(void *arg, int index)
{
	const struct run *run = arg;
	const struct bench_shape *shape = run->shape;
	struct board *b = run->board;
	int both = shape->depth > 0, producing = index < shape->producers;
	int movers = shape->producers + (both ? 0 : shape->consumers);
	struct worker *w = calloc(1, sizeof *w);
	double cpu;

	if (!w)
		_exit(1);
	w->c = run->c;
	w->shape = shape;
	w->board = b;
	w->report = index < movers ? &b->reports[index] : &b->idle;
	w->taken = both ? &b->reports[shape->producers + index] : w->report;
	w->number = producing ? index : index - shape->producers;
	w->lane = shape->last_lane ? shape->lanes - 1 : w->number % shape->lanes;
	w->end = run->c->attach(run->queue);
	if (index >= movers) {
		if (!w->end)
			give_up(w, "attach failed");
		sleep_till_stop(w);
	} else {
		attach(w);
		if (both)
			fill(w);
		await_go(w);
		cpu = cpu_now();
		if (both)
			turn(w);
		else if (!producing)
			consume(w);
		else if (shape->rate > 0)
			produce_at_rate(w);
		else
			produce(w);
		w->report->cpu_s = cpu_now() - cpu;
	}
	run->c->detach(w->end);
	free(w->items[0].iov_base);
	free(w);
}

/* ---- in the parent -------------------------------------------------------- */

static uint64_t taken(const struct board *b, const struct bench_shape *shape)
{
	uint64_t sum = 0;
	int i;

	for (i = shape->producers; i < shape->producers + shape->consumers; i++)
		sum += atomic_load_explicit(&b->reports[i].moved, memory_order_relaxed);
	return sum;
}

/* A worker that dies is not waited for. */
static int await_ready(struct board *b, int n)
{
	int64_t limit = bench_now_ns() + BENCH_GRACE_S * INT64_C(1000000000);

	while (atomic_load(&b->ready) < n && bench_now_ns() < limit && !bench_interrupted) {
		siginfo_t dead = {0};

		if (!waitid(P_ALL, 0, &dead, WEXITED | WNOHANG | WNOWAIT) && dead.si_pid)
			break;
		usleep(200);
	}
	return atomic_load(&b->ready) == n ? 0 : -EBADE;
}

/* Returns for how long workers were at it. */
static double measure(struct board *b, const struct bench_shape *shape, double seconds,
		      double *rate)
{
	int64_t start = bench_now_ns(), begin, end;
	uint64_t before, after;

	atomic_store(&b->go, 1);
	nap_until(start + WARMUP_NS);
	before = taken(b, shape);
	begin = bench_now_ns();
	atomic_store(&b->counted_from, begin);
	nap_until(begin + (int64_t)(seconds * 1e9));
	after = taken(b, shape);
	end = bench_now_ns();
	atomic_store(&b->stop, 1);
	syscall(SYS_futex, &b->stop, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
	*rate = (double)(after - before) * 1e9 / (double)(end - begin);
	return (double)(end - start) / 1e9;
}

static int verify(const struct board *b, const struct bench_shape *shape,
		  struct bench_result *res)
{
	const struct report *consumers = b->reports + shape->producers;
	int p, i;

	for (p = 0; p < shape->producers; p++) {
		struct tally want = {.count = b->reports[p].moved}, got = {0};
		uint64_t seq;

		for (seq = 0; seq < want.count; seq++) {
			want.sum += seq;
			want.hash += item_mix(seq);
		}
		for (i = 0; i < shape->consumers; i++) {
			got.count += consumers[i].from[p].count;
			got.sum += consumers[i].from[p].sum;
			got.hash += consumers[i].from[p].hash;
		}
		if (memcmp(&want, &got, sizeof want)) {
			snprintf(res->why, sizeof res->why,
				 "producer %d: %llu pushed, %llu arrived, %s", p,
				 (unsigned long long)want.count,
				 (unsigned long long)got.count,
				 want.count == got.count ? "not the same ones"
							 : "lost or twice");
			return -EBADE;
		}
		res->checked += got.count;
		res->full += b->reports[p].idle;
	}
	for (i = 0; i < shape->consumers; i++)
		res->empty += consumers[i].idle;
	return 0;
}

static void account(const struct board *b, const struct bench_shape *shape, double seconds,
		    struct bench_result *res)
{
	static const double shares[] = {0.5, 0.99, 0.999};
	static struct histogram all;
	int i;

	memset(&all, 0, sizeof all);
	for (i = 0; i < shape->producers + shape->consumers; i++) {
		res->cpu[i >= shape->producers] += b->reports[i].cpu_s / seconds;
		histogram_merge(&all, &b->reports[i].waits);
	}
	for (i = 0; i < 3; i++)
		res->wait_us[i] = (double)histogram_at(&all, shares[i]) / 1000;
}

static void first_complaint(const struct board *b, int n, struct bench_result *res)
{
	int i;

	snprintf(res->why, sizeof res->why, "a worker was killed or is stuck");
	for (i = 0; i < n; i++)
		if (b->reports[i].failed) {
			snprintf(res->why, sizeof res->why, "%s", b->reports[i].why);
			return;
		}
	if (b->idle.failed)
		snprintf(res->why, sizeof res->why, "%s", b->idle.why);
}

static int run_workers(struct run *run, double seconds, int pin, struct bench_result *res)
{
	const struct bench_shape *shape = run->shape;
	pid_t pids[BENCH_MAX_PROCS + BENCH_MAX_IDLE];
	int i, nr, err, movers = shape->producers + shape->consumers;
	int workers = (shape->depth ? shape->producers : movers) + shape->idle;
	double took = 0;

	nr = bench_start(run->c->threads, workers, pin, work, run, pids);
	if (nr < 0) {
		snprintf(res->why, sizeof res->why, "fork: %s", strerror(-nr));
		return nr;
	}
	err = await_ready(run->board, workers);
	if (err)
		for (i = 0; i < nr; i++)
			kill(pids[i], SIGKILL);
	else
		took = measure(run->board, shape, seconds, &res->rate);
	if (bench_reap(pids, nr) || err) {
		first_complaint(run->board, movers, res);
		return -EBADE;
	}
	account(run->board, shape, took, res);
	return verify(run->board, shape, res);
}

int bench_setup(void **queue, const struct bench_entry *e, const struct bench_shape *shape,
		char why[160])
{
	const char *words = "";
	int err;

	if (!e->contender) {
		snprintf(why, 160, "not built (needs %s)", e->needs);
		return -ENOTSUP;
	}
	if (shape->rate > 0 && !e->contender->waits) {
		snprintf(why, 160, "has no waiting calls, or none that are measured");
		return -ENOTSUP;
	}
	err = e->contender->setup(queue, shape, &words);
	if (err)
		snprintf(why, 160, "%s", *words ? words : strerror(-err));
	return err == -ENOSYS ? -ENOTSUP : err;
}

int bench_run(const struct bench_entry *e, const struct bench_shape *shape, double seconds,
	      int pin, struct bench_result *res)
{
	struct run run = {.c = e->contender, .shape = shape};
	int err;

	memset(res, 0, sizeof *res);
	res->hop_ns = bench_hop_ns();
	bench_catch_signals();
	err = bench_setup(&run.queue, e, shape, res->why);
	if (err)
		return err;
	run.board = mmap(NULL, sizeof *run.board, PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (run.board == MAP_FAILED) {
		err = -errno;
		snprintf(res->why, sizeof res->why, "%s", strerror(errno));
	} else {
		err = run_workers(&run, seconds, pin, res);
		munmap(run.board, sizeof *run.board);
	}
	e->contender->teardown(run.queue);
	return bench_interrupted ? -EINTR : err;
}
