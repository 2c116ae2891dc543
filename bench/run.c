/* SPDX-License-Identifier: MIT */
/*
 * run.c - one run: children, start, measured window, drain, verification.
 *
 * Producers and consumers are processes forked before they attach, or the threads of
 * one that is. The rate is what
 * consumers took between two looks of the parent, both under full traffic. Whoever
 * finds the queue full or empty tries again: with growing pauses, then it gives the
 * processor away; the policy is the same for every contender.
 *
 * The numbers of a producer are 0, 1, 2 ... without holes, so its count says what
 * must have arrived: as many, with the same sum, and the same sum of hashes.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bench.h"
#include "item.h"

#define WARMUP_NS     INT64_C(100000000)
#define GRACE_S       60 /* a run that is stuck this long is a failure */
#define PAUSING_TRIES 8  /* with 1, 2, 4 ... pauses; then the processor is given away */
#define LINE_PAIR     128

struct tally {
	uint64_t count, sum, hash;
};

/* What one process tells; nobody else writes it. */
struct report {
	_Alignas(LINE_PAIR) _Atomic uint64_t moved; /* so far */
	uint64_t idle;                              /* calls that moved nothing */
	int failed;
	char why[160];
	struct tally from[BENCH_MAX_PROCS]; /* consumers: per producer */
};

struct board {
	_Alignas(LINE_PAIR) _Atomic int ready;
	_Alignas(LINE_PAIR) _Atomic int go;
	_Atomic int stop;
	_Alignas(LINE_PAIR) _Atomic int producers_done;
	struct report reports[BENCH_MAX_PROCS]; /* producers, then consumers */
};

struct worker {
	const struct bench_contender *c;
	const struct bench_shape *shape;
	struct board *board;
	struct report *report;
	void *end;
	int index;  /* of its report, and of its processor */
	int number; /* among the producers or the consumers */
	int pin;
	uint64_t next[BENCH_MAX_PROCS][BENCH_MAX_LANES]; /* item that a consumer expects */
	struct iovec items[BENCH_MAX_BATCH];
};

static volatile sig_atomic_t interrupted;

static void on_signal(int sig)
{
	(void)sig;
	interrupted = 1;
}

static int64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * INT64_C(1000000000) + ts.tv_nsec;
}

static void nap_until(int64_t ns)
{
	struct timespec ts = {ns / 1000000000, ns % 1000000000};

	while (!interrupted &&
	       clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL) == EINTR)
		;
}

static void cpu_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("isb");
#endif
}

static void back_off(unsigned *tries)
{
	unsigned i;

	if (*tries >= PAUSING_TRIES) {
		sched_yield();
		return;
	}
	for (i = 1u << (*tries)++; i; i--)
		cpu_relax();
}

/* ---- in the children ------------------------------------------------------ */

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

static void *attach_and_wait(struct worker *w)
{
	unsigned tries = 0;
	int i;

	for (i = 0; i < w->shape->batch; i++) {
		w->items[i].iov_len = w->shape->size;
		w->items[i].iov_base =
			aligned_alloc(64, (w->shape->size + 63) & ~(size_t)63);
		if (!w->items[i].iov_base)
			give_up(w, "out of memory");
		memset(w->items[i].iov_base, 0, w->shape->size);
	}
	w->end = w->c->attach();
	if (!w->end)
		give_up(w, "attach failed");
	atomic_fetch_add(&w->board->ready, 1);
	while (!atomic_load(&w->board->go))
		back_off(&tries);
	return w->end;
}

/* Push the batch; after the stop only what is quick. Returns how many went in. */
static int push_all(struct worker *w, int lane)
{
	int n = w->shape->batch, done = 0, got;
	unsigned tries = 0;

	while (done < n) {
		got = w->c->push_n(w->end, lane, w->items + done, n - done);
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
		back_off(&tries);
	}
	return done;
}

static void produce(struct worker *w)
{
	const struct bench_shape *shape = w->shape;
	uint64_t seq = 0;
	int i, lane = w->number % shape->lanes;

	attach_and_wait(w);
	while (!atomic_load_explicit(&w->board->stop, memory_order_relaxed)) {
		for (i = 0; i < shape->batch; i++)
			item_fill(w->items[i].iov_base, shape->size, seq + (uint64_t)i,
				  w->number, lane);
		seq += (uint64_t)push_all(w, lane);
		lane = lane + 1 < shape->lanes ? lane + 1 : 0;
	}
	atomic_store(&w->report->moved, seq);
	atomic_fetch_add(&w->board->producers_done, 1);
	w->c->detach(w->end);
}

static void check_item(struct worker *w, const struct iovec *iov)
{
	const struct item *it = iov->iov_base;
	uint64_t *next;
	struct tally *t;

	if (iov->iov_len != w->shape->size || !item_intact(it, w->shape->size) ||
	    it->producer >= w->shape->producers || it->lane >= w->shape->lanes)
		give_up(w, "item %llu of producer %u is damaged",
			(unsigned long long)it->seq, it->producer);
	next = &w->next[it->producer][it->lane];
	if (it->seq < *next)
		give_up(w, "producer %u lane %u: item %llu after %llu", it->producer,
			it->lane, (unsigned long long)it->seq, (unsigned long long)*next - 1);
	*next = it->seq + 1;
	t = &w->report->from[it->producer];
	t->count++;
	t->sum += it->seq;
	t->hash += item_mix(it->seq);
}

/* The first empty answer after the last producer has gone is the end. */
static void consume(struct worker *w)
{
	uint64_t moved = 0;
	unsigned tries = 0;
	int got, i, last = 0;

	attach_and_wait(w);
	for (;;) {
		got = w->c->pop_n(w->end, w->items, w->shape->batch);
		if (got < 0)
			give_up(w, "pop: %s", strerror(-got));
		for (i = 0; i < got; i++)
			check_item(w, &w->items[i]);
		if (got) {
			moved += (uint64_t)got;
			atomic_store_explicit(&w->report->moved, moved,
					      memory_order_relaxed);
			tries = 0;
			continue;
		}
		if (last)
			break;
		w->report->idle++;
		last = atomic_load(&w->board->producers_done) == w->shape->producers;
		back_off(&tries);
	}
	w->c->detach(w->end);
}

static void pin_to(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	sched_setaffinity(0, sizeof set, &set);
}

static void *work(void *arg)
{
	struct worker *w = arg;
	int producers = w->shape->producers;

	if (w->pin)
		pin_to(w->index);
	w->report = &w->board->reports[w->index];
	w->number = w->index < producers ? w->index : w->index - producers;
	if (w->index < producers)
		produce(w);
	else
		consume(w);
	return NULL;
}

static void work_in_threads(const struct worker *proto)
{
	int i, n = proto->shape->producers + proto->shape->consumers;
	pthread_t threads[2 * BENCH_MAX_PROCS];

	for (i = 0; i < n; i++) {
		struct worker *w = malloc(sizeof *w);

		if (!w)
			_exit(1);
		*w = *proto;
		w->index = i;
		if (pthread_create(&threads[i], NULL, work, w))
			_exit(1);
	}
	for (i = 0; i < n; i++)
		pthread_join(threads[i], NULL);
}

/* A process: of one end, or of all if they are threads. */
static pid_t start(const struct worker *proto, int index)
{
	struct worker w = *proto;
	pid_t pid = fork();

	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGINT, SIG_IGN); /* the parent ends the run in order */
	signal(SIGTERM, SIG_DFL);
	w.index = index;
	if (w.c->threads)
		work_in_threads(&w);
	else
		work(&w);
	_exit(0);
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

/* The first child that failed, or 0. A child that dies is not waited for. */
static int await_ready(struct board *b, int n)
{
	int64_t limit = now_ns() + GRACE_S * INT64_C(1000000000);

	while (atomic_load(&b->ready) < n && now_ns() < limit && !interrupted)
		if (waitpid(-1, NULL, WNOHANG | WNOWAIT) > 0 || usleep(200) < 0)
			break;
	return atomic_load(&b->ready) == n ? 0 : -EBADE;
}

static double measure(struct board *b, const struct bench_shape *shape, double seconds)
{
	int64_t begin, end;
	uint64_t before, after;

	atomic_store(&b->go, 1);
	nap_until(now_ns() + WARMUP_NS);
	before = taken(b, shape);
	begin = now_ns();
	nap_until(begin + (int64_t)(seconds * 1e9));
	after = taken(b, shape);
	end = now_ns();
	atomic_store(&b->stop, 1);
	return (double)(after - before) * 1e9 / (double)(end - begin);
}

/* All children are reaped; one that failed or is stuck takes the others along. */
static int reap(const pid_t *pids, int n)
{
	int64_t limit = now_ns() + GRACE_S * INT64_C(1000000000);
	int i, status, left = n, err = 0;

	while (left) {
		pid_t pid = waitpid(-1, &status, WNOHANG);

		if (pid > 0)
			left--;
		if (pid > 0 && status == 0)
			continue;
		if (pid < 0 || (pid > 0 && status) || now_ns() > limit) {
			err = -EBADE;
			for (i = 0; i < n; i++)
				kill(pids[i], SIGKILL);
			limit = INT64_MAX;
		}
		if (pid < 0)
			break;
		usleep(200);
	}
	return err;
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

static void first_complaint(const struct board *b, int n, struct bench_result *res)
{
	int i;

	snprintf(res->why, sizeof res->why, "a process was killed or is stuck");
	for (i = 0; i < n; i++)
		if (b->reports[i].failed) {
			snprintf(res->why, sizeof res->why, "%s", b->reports[i].why);
			return;
		}
}

static int run_children(const struct bench_contender *c, const struct bench_shape *shape,
			double seconds, int pin, struct board *b,
			struct bench_result *res)
{
	struct worker proto = {.c = c, .shape = shape, .board = b, .pin = pin};
	pid_t pids[BENCH_MAX_PROCS];
	int ends = shape->producers + shape->consumers, n = c->threads ? 1 : ends;
	int i, err;

	for (i = 0; i < n; i++) {
		pids[i] = start(&proto, i);
		if (pids[i] < 0)
			break;
	}
	err = i < n ? -EAGAIN : await_ready(b, ends);
	if (err)
		while (i--)
			kill(pids[i], SIGKILL);
	else
		res->rate = measure(b, shape, seconds);
	if (reap(pids, n) || err) {
		first_complaint(b, ends, res);
		return -EBADE;
	}
	return verify(b, shape, res);
}

static void catch_signals(void)
{
	struct sigaction sa = {.sa_handler = on_signal};

	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
}

int bench_run(const struct bench_contender *c, const struct bench_shape *shape,
	      double seconds, int pin, struct bench_result *res)
{
	const char *why = "";
	struct board *b;
	int err;

	memset(res, 0, sizeof *res);
	res->hop_ns = bench_hop_ns();
	catch_signals();
	err = c->setup(shape, &why);
	if (err) {
		snprintf(res->why, sizeof res->why, "%s", *why ? why : strerror(-err));
		return err == -ENOSYS ? -ENOTSUP : err;
	}
	b = mmap(NULL, sizeof *b, PROT_READ | PROT_WRITE,
		 MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (b == MAP_FAILED)
		err = -errno;
	else
		err = run_children(c, shape, seconds, pin, b, res);
	if (b != MAP_FAILED)
		munmap(b, sizeof *b);
	c->teardown();
	return interrupted ? -EINTR : err;
}
