/* SPDX-License-Identifier: MIT */
/*
 * common.h - what the tests share: a directory of their own, children, a seeded
 * generator, items that can be recognized byte by byte, clocks.
 *
 * must() and must_eq() are ck_assert() that also work in a child made by
 * spawn(): there they print and exit with status 1 instead of writing into the
 * pipe of the test. Everything that is printed goes to stderr; stdout is TAP.
 *
 * Environment: SHMQ_SEED=n repeats a random test, SHMQ_LONG=1 makes all counts
 * twenty times larger.
 */
#ifndef TESTS_COMMON_H
#define TESTS_COMMON_H

#include <check.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#include <shmq.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define MS UINT64_C(1000000)
#define SECOND UINT64_C(1000000000)

/* ---- running ------------------------------------------------------------ */

extern char test_dir[PATH_MAX]; /* SHMQ_DIR of the running test */

/* A case of @s whose tests have a directory of their own and @seconds each. */
TCase *suite_case(Suite *s, const char *name, double seconds);

/* Run and free @s, leave nothing in /dev/shm. Returns the exit status. */
int suite_run(Suite *s);

/* @n, or more of it in a long run and less under a sanitizer. */
long counts(long n);

/* Print why a test cannot run here. */
void skip(const char *why);

_Noreturn void must_fail(const char *file, int line, const char *what,
			 const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
void must_eq_at(const char *file, int line, const char *what, int64_t got,
		int64_t want);

/* What every failure begins with from now on. */
void must_about(const char *what);

#define must(cond, ...)                                                        \
	do {                                                                   \
		if (!(cond))                                                   \
			must_fail(__FILE__, __LINE__, #cond, " " __VA_ARGS__); \
	} while (0)
#define must_eq(expr, want)                                            \
	must_eq_at(__FILE__, __LINE__, #expr, (int64_t)(expr), (int64_t)(want))

/* ---- chance ------------------------------------------------------------- */

struct rng {
	uint64_t s;
};

/* The seed of this test, printed; SHMQ_SEED if that is set. */
uint64_t seed(const char *what);
struct rng rng_of(uint64_t s, uint64_t stream);
uint64_t rng_next(struct rng *r);
uint64_t rng_below(struct rng *r, uint64_t n);

/* Nothing, a few loops, a yield or (seldom) a short sleep. */
void pause_randomly(struct rng *r);

/* ---- processes ---------------------------------------------------------- */

#define SIGNALLED 256 /* reap(): SIGNALLED + signal number */

/* A child that exits with fn(arg) and dies with its parent. */
pid_t spawn(int (*fn)(void *arg), void *arg);
/* The same for who has forked in another way: what the child does. @parent is 0 if it
 * is the first of a pid namespace. */
_Noreturn void spawned(pid_t parent, int (*fn)(void *arg), void *arg);
int reap(pid_t pid);
void reap_ok(pid_t pid);
void reap_all(const pid_t *pid, int n);

/* Zeroed memory that children share. */
void *shared(size_t bytes);

/* Wait until @pid sleeps in the kernel; it must have raised *@ready before. */
void wait_asleep(pid_t pid, atomic_int *ready);
void pin(int cpu);
void barrier_init(pthread_barrier_t *b, unsigned n);

/* Become user and group @id for good, without supplementary groups. */
void become(unsigned id);

/* ---- time --------------------------------------------------------------- */

uint64_t now_ns(void);
void sleep_ns(uint64_t ns);

/* ---- files -------------------------------------------------------------- */

int dir_entries(const char *path);
void rm_tree(const char *path);
const char *queue_path(const char *name); /* valid until the next call */
void *file_read(const char *path, size_t *len);
void file_write(const char *path, const void *bytes, size_t len, int mode);

/* ---- items -------------------------------------------------------------- */

struct stamp { /* front of a recognizable item */
	uint32_t producer;
	uint32_t len;
	uint64_t seq;
};

#define STAMP_LEN sizeof(struct stamp)

void item_fill(void *buf, size_t len, uint32_t producer, uint64_t seq);
/* False if any byte is not what item_fill() wrote. */
bool item_read(const void *buf, size_t len, struct stamp *s);

/* Which of the items of some producers have arrived; for shared(). */
struct arrivals {
	uint32_t nr_producers;
	uint64_t each;
	atomic_ulong arrived;
	atomic_uchar seen[];
};

struct arrivals *arrivals_new(uint32_t nr_producers, uint64_t each);
void arrivals_got(struct arrivals *t, const struct stamp *s);
void arrivals_complete(struct arrivals *t);

/* ---- queues ------------------------------------------------------------- */

struct shmq_config config(unsigned lanes, uint64_t capacity,
			  uint64_t item_size);
void create(const char *name, unsigned lanes, uint64_t capacity,
	    uint64_t item_size);
struct shmq *attach(const char *name);
struct shmq *create_attach(const char *name, unsigned lanes, uint64_t capacity,
			   uint64_t item_size);
void stat_of(struct shmq *q, struct shmq_stat *st);
uint64_t depth_of(struct shmq *q, int lane);

/* All that the dead held is given back when this returns. */
void recover_dead(struct shmq *q);

/* Push until @lane is full: just @want items fit. */
void fill_exactly(struct shmq *q, int lane, uint64_t want);

#endif
