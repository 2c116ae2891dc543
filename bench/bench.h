/* SPDX-License-Identifier: MIT */
/*
 * bench.h - what the throughput harness and its contenders share.
 *
 * A contender moves items of one fixed size from producer processes to consumer
 * processes, or threads if it knows nothing else. Its calls never wait: full and empty are returned, and what to do
 * then is the harness' decision, the same for everybody.
 */
#ifndef BENCH_H
#define BENCH_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#define BENCH_MAX_BATCH 256
#define BENCH_MAX_LANES 8
#define BENCH_MAX_PROCS 64

/* One measured situation. */
struct bench_shape {
	int producers, consumers;
	int lanes;
	int batch;
	size_t size;       /* bytes of every item, a multiple of 8 */
	uint64_t capacity; /* items per lane */
};

/*
 * One queue under test. setup and teardown run in the parent, before the
 * children are forked and after they have ended; attach runs in the child, which is
 * one process or thread for each end.
 */
struct bench_contender {
	const char *name;
	int threads; /* its ends are threads of one process */

	/* 0; -ENOTSUP or -ENOSYS: this machine or shape is not for it (skipped,
	 * *@why says so); any other negative errno is a failure. */
	int (*setup)(const struct bench_shape *shape, const char **why);
	void (*teardown)(void);

	/* A private end of the queue, NULL on failure. */
	void *(*attach)(void);
	void (*detach)(void *end);

	/* Items moved, a prefix of @items; 0 full or empty; or a negative errno.
	 * pop_n takes from the highest lane that has items first. */
	int (*push_n)(void *end, int lane, const struct iovec *items, int n);
	int (*pop_n)(void *end, struct iovec *items, int n);

	/* 1 an item of @lane, 0, or a negative errno. NULL: it can not choose. */
	int (*pop_lane)(void *end, int lane, struct iovec *item);
};

/* What one run of a contender gave. */
struct bench_result {
	double rate;          /* items per second that reached a consumer */
	double hop_ns;        /* bench_hop_ns() just before */
	uint64_t checked;     /* items, each verified */
	uint64_t full, empty; /* calls that moved nothing */
	char why[160];        /* why it failed or was skipped */
};

/*
 * bench_run - fork the processes of @shape, let them move items for @seconds after
 * a short warm-up, drain, and verify: every item intact, none lost, none twice, in
 * order per producer and lane at each consumer.
 * Returns 0; -ENOTSUP skipped; -EINTR interrupted; -EBADE the contender failed the
 * verification; or another negative errno. @res->why has the words.
 */
int bench_run(const struct bench_contender *c, const struct bench_shape *shape,
	      double seconds, int pin, struct bench_result *res);

/*
 * bench_hop_ns - time a cache line takes from one processor to another, now; 0 with
 * a single processor.
 */
double bench_hop_ns(void);

/* A contender whose package was not there when the benchmark was built. */
#define BENCH_NOT_BUILT(contender, package)                                            \
	static int contender##_setup(const struct bench_shape *shape, const char **why) \
	{                                                                               \
		(void)shape;                                                            \
		*why = "not built, it needs " package;                                  \
		return -95; /* ENOTSUP */                                               \
	}                                                                               \
	const struct bench_contender bench_##contender = {                              \
		.name = #contender, .setup = contender##_setup}

#ifdef __cplusplus
extern "C" {
#endif
extern const struct bench_contender bench_shmq, bench_ring, bench_pipe, bench_mqueue;
extern const struct bench_contender bench_shmq_in_push, bench_shmq_in_pop;
extern const struct bench_contender bench_mutex, bench_ck, bench_rte, bench_boost;
extern const struct bench_contender bench_moodycamel, bench_segqueue, bench_vecdeque;
#ifdef __cplusplus
}
#endif

#endif
