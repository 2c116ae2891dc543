/* SPDX-License-Identifier: MIT */
/*
 * demo.h - what the demo programs share: child processes, the ledger that shows
 * that every item arrived exactly once, and words for numbers.
 */
#ifndef DEMO_H
#define DEMO_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <shmq.h>

#define DEMO_MAX_PROCS 64
#define DEMO_NS        INT64_C(1000000000)

/* ---- time and words ------------------------------------------------------- */

int64_t demo_now(void); /* CLOCK_MONOTONIC, ns */
void demo_sleep_until(int64_t ns);

/* The words stay valid for the next eight calls. */
const char *demo_count(uint64_t n); /* 1,234,567 */
const char *demo_time(uint64_t ns); /* 1.9 us */
const char *demo_bytes(uint64_t n); /* 15.3 MiB */

/* ---- processes ------------------------------------------------------------ */

/* Zeroed memory that this process and its children share; exits if there is none. */
void *demo_shared(size_t size);

/* demo_start - run @fn(@number, @arg) in a child; its result is the exit status. */
pid_t demo_start(int (*fn)(int number, void *arg), int number, void *arg);

/*
 * demo_check_children - reap children that have ended. Returns how many still run,
 * or -1 after one has failed; the others are then killed.
 */
int demo_check_children(void);

/* True after SIGINT or SIGTERM: stop in order. Only the parent is told. */
bool demo_interrupted(void);
void demo_catch_signals(void);

/* ---- queue ---------------------------------------------------------------- */

/* demo_fail - say that @what failed with @err (negative errno), and return 1. */
int demo_fail(const char *what, int err);

/* Make the queue; it is removed when the parent exits. Exits on failure. */
void demo_create(const char *name, const struct shmq_config *cfg);

/* Open it, or exit with the reason. */
struct shmq *demo_open(const char *name, unsigned flags);

/* ---- exactly once --------------------------------------------------------- */

/* 64 bytes: as many as the default item size. */
struct demo_item {
	uint64_t seq; /* of its producer, over all lanes: 0, 1, 2 ... */
	uint32_t producer;
	uint32_t lane;
	int64_t pushed_ns;
	uint64_t fill[5]; /* follows from seq and producer */
};

/*
 * One bit for each item that may be pushed. A consumer sets it, so an item that
 * arrives twice is seen at once and one that is lost is seen at the end.
 */
struct demo_ledger {
	uint64_t most; /* items of one producer */
	int producers;
	_Atomic uint64_t pushed[DEMO_MAX_PROCS]; /* accepted, by producer */
	_Atomic uint64_t delivered, twice, damaged, disordered;
	_Atomic uint64_t bits[];
};

struct demo_ledger *demo_ledger(int producers, uint64_t most);

void demo_fill(struct demo_item *it, int producer, int lane, uint64_t seq);

/*
 * demo_receive - check an item of @len bytes that was popped from @lane, and enter
 * it. @next is this consumer's own: the least number it may still see, per producer
 * and lane. Returns false, and counts, if the item is damaged.
 */
bool demo_receive(struct demo_ledger *l, const struct demo_item *it, ssize_t len,
		  int lane, uint64_t next[][SHMQ_MAX_LANES]);

uint64_t demo_pushed(const struct demo_ledger *l);

/* Pushed and never delivered; the traffic must have ended. */
uint64_t demo_lost(const struct demo_ledger *l);

/* Print the account. Returns true if nothing is wrong in it. */
bool demo_account(const struct demo_ledger *l);

#endif
