/* SPDX-License-Identifier: MIT */
/* bench.h - what the parts of shmq-bench share. */
#ifndef SHMQ_BENCH_H
#define SHMQ_BENCH_H

#include <stdatomic.h>

#include "histogram.h"
#include "tool.h"

enum { BENCH_PROCS_MAX = 512, BENCH_BATCH_MAX = 64, BENCH_MSG_MIN = 32 };

/* What is measured. */
struct bench {
	unsigned producers, consumers, lanes, batch;
	uint64_t msg_size, capacity; /* of each lane */
	uint64_t rate;               /* messages a second in all; 0: as fast as it goes */
	int64_t duration_ns;
	uint64_t seed;
	bool busy; /* consumers poll, and never sleep */
	bool pin;
	const char *json, *hgrm, *svg; /* files, "-" is stdout; or NULL */
	char queue[SHMQ_NAME_MAX + 1];
};

/* What one process says. A sum of a hash over the messages stands for their set. */
struct bench_worker {
	_Alignas(128) _Atomic uint64_t moved; /* messages pushed or popped */
	uint64_t hashes;
	uint64_t full, damaged, disordered;
	uint64_t first_ns, last_ns;
	int error;     /* -errno of the call that failed */
	int cpu;       /* it is pinned to, or -1 */
	struct histogram waits;
};

/* Shared by the command and its processes. */
struct bench_board {
	_Alignas(128) atomic_int ready, go, stop, producers_left;
	struct bench_worker worker[]; /* the producers, then the consumers */
};

struct bench_result {
	uint64_t pushed, popped, full, damaged, disordered;
	bool same;              /* what was popped is what was pushed, each once */
	double seconds, rate;   /* from the first push to the last pop */
	double cpu_producers, cpu_consumers; /* seconds */
	uint64_t timed_every;   /* one of so many messages was timed */
	struct histogram waits;
	int cpus;
	double load;
	char governor[32], kernel[72], cpu[96];
	bool interrupted;
};

/* bench_work - in a process of its own: producer or consumer number @i, to the end.
 * Its exit status. */
int bench_work(const struct bench *b, struct bench_board *board, unsigned i);

/* One of so many messages is timed. */
uint64_t bench_timed_every(const struct bench *b);

/* Write the files that were asked for. An exit code. */
int bench_files(const struct bench *b, const struct bench_result *r);

#endif
