/* SPDX-License-Identifier: MIT */
/*
 * bench.h - what the benchmarks and their contenders share.
 *
 * A contender moves items of one fixed size from producers to consumers. Its calls do
 * not wait, unless the shape asks for it: full and empty are returned, and what to do
 * then is the harness' decision, the same for everybody.
 */
#ifndef BENCH_H
#define BENCH_H

#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>

#ifdef __cplusplus
extern "C" {
#endif

#define BENCH_MAX_BATCH 256
#define BENCH_MAX_LANES 8
#define BENCH_MAX_PROCS 63  /* producers and consumers */
#define BENCH_MAX_IDLE  512
#define BENCH_MAX_RUNS  100

/* ---- contenders ----------------------------------------------------------- */

/* One measured situation. The first fields are known to contender_segqueue.rs, too. */
struct bench_shape {
	int producers, consumers;
	int lanes;
	int batch;
	size_t size;       /* bytes of every item, a multiple of 8 */
	uint64_t capacity; /* items per lane */
	uint64_t depth;    /* if not 0: items that stay in the queue; each producer is a
	                    * consumer too, and there are as many of them */
	int idle;          /* more ends that are attached and do nothing */
	double rate;       /* if not 0: items per second that all producers together
	                    * offer, and everybody waits in the queue's own way */
	int last_lane;     /* all items go into the last lane, the others stay empty */
};

/*
 * One queue under test. setup and teardown run in the parent, before the workers are
 * started and after they have ended; the other calls run in the workers.
 */
struct bench_contender {
	const char *name;

	/* Ends work within one process only: the workers are its threads. */
	int threads;

	/* With shape->rate push_n waits for room and pop_n for an item. */
	int waits;

	/* 0 and *@queue, of which there may be several; -ENOTSUP or -ENOSYS: this machine
	 * or shape is not for it (skipped, *@why says so); any other negative errno is a
	 * failure. */
	int (*setup)(void **queue, const struct bench_shape *shape, const char **why);
	void (*teardown)(void *queue);

	/* A private end of the queue, NULL on failure. */
	void *(*attach)(void *queue);
	void (*detach)(void *end);

	/* Items moved, a prefix of @items; 0 full or empty; or a negative errno. The
	 * items of a call lie one behind the other in memory. pop_n takes from the highest
	 * lane that has items first. */
	int (*push_n)(void *end, int lane, const struct iovec *items, int n);
	int (*pop_n)(void *end, struct iovec *items, int n);
};

/* All contenders, those included that were not built: they have no contender. */
struct bench_entry {
	const char *name;
	const struct bench_contender *contender;
	const char *needs; /* what it is built with, if more than a C compiler */
};

extern const struct bench_entry bench_entries[];
extern const int bench_nr_entries;

#define BENCH_MAX_ENTRIES 16

/* Mark in @chosen the entries of the comma-separated @names, which is cut into pieces;
 * NULL, or the name that there is not. */
const char *bench_choose(char *names, int chosen[BENCH_MAX_ENTRIES]);

/* ---- one run -------------------------------------------------------------- */

/* What one run of a contender gave. */
struct bench_result {
	double rate;          /* items per second that reached a consumer */
	double hop_ns;        /* bench_hop_ns() just before */
	uint64_t checked;     /* items, each verified */
	uint64_t full, empty; /* calls that moved nothing */
	double cpu[2];        /* processors busy with producers and with consumers */
	double wait_us[3];    /* with shape->rate, from before the push to after the pop:
	                       * percentiles 50, 99, 99.9 */
	char why[160];        /* why it failed or was skipped */
};

/*
 * bench_run - start the workers of @shape, let them move items for @seconds after a
 * short warm-up, drain, and verify: every item intact, none lost, none twice, in order
 * per producer and lane at each consumer.
 * Returns 0; -ENOTSUP skipped; -EINTR interrupted; -EBADE the contender failed the
 * verification; or another negative errno. @res->why has the words.
 */
int bench_run(const struct bench_entry *e, const struct bench_shape *shape, double seconds,
	      int pin, struct bench_result *res);

/*
 * bench_setup - @e's setup, after a look whether it is there and can do @shape. Puts the
 * words for any error to @why.
 */
int bench_setup(void **queue, const struct bench_entry *e, const struct bench_shape *shape,
		char why[160]);

/*
 * bench_hop_ns - time a cache line takes from one processor to another, now; 0 with
 * a single processor.
 */
double bench_hop_ns(void);

/* ---- workers -------------------------------------------------------------- */

/*
 * bench_start - run @work(@arg, index) for index 0 .. @n - 1, each in a process of its
 * own or, with @threads, all in threads of one process; with @pin the first workers each
 * on its own processor. They die with the caller. A worker fails by _exit(1).
 * Returns the number of processes, their numbers in @pids, or -errno.
 */
int bench_start(int threads, int n, int pin, void (*work)(void *arg, int index), void *arg,
		pid_t *pids);

/*
 * bench_reap - wait for all of @pids. One that failed, or is still there after
 * BENCH_GRACE_S, takes the others along. 0 or -EBADE.
 */
int bench_reap(const pid_t *pids, int n);

#define BENCH_GRACE_S 60

/* From now on SIGINT and SIGTERM only set bench_interrupted. */
void bench_catch_signals(void);
extern volatile sig_atomic_t bench_interrupted;

/* With a longer pause at each of *@tries, at last by giving the processor away. */
void bench_back_off(unsigned *tries);

static inline int64_t bench_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * INT64_C(1000000000) + ts.tv_nsec;
}

/* ---- options: values in range, or argp_error() ---------------------------- */

struct argp_state;
long bench_number(struct argp_state *st, const char *arg, long least, long most);
double bench_real(struct argp_state *st, const char *arg, double least, double most);
void bench_parse_shape(struct argp_state *st, const char *arg, int *producers, int *consumers);
size_t bench_parse_size(struct argp_state *st, const char *arg, size_t least);
/* Cuts @arg into pieces. */
void bench_parse_contenders(struct argp_state *st, char *arg, int chosen[BENCH_MAX_ENTRIES]);

/* ---- reports -------------------------------------------------------------- */

/* The processor, the kernel and the load: a line, or a JSON object. */
void bench_print_machine(int json);

int bench_ascending(const void *a, const void *b); /* doubles, for qsort */
double bench_median(const double *sorted, int n);

#ifdef __cplusplus
}
#endif
#endif
