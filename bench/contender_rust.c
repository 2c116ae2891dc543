/* SPDX-License-Identifier: MIT */
/*
 * contender_rust.c - what contender_rust.rs has: crossbeam's SegQueue and
 * Mutex<VecDeque>, between the threads of one process.
 */
#include "bench.h"

#ifdef HAVE_RUST
#include <errno.h>

struct seg;
struct deque;
struct seg *segqueue_new(size_t capacity);
void segqueue_free(struct seg *q);
int segqueue_push(const struct seg *q, const void *item);
int segqueue_pop(const struct seg *q, void *item);
struct deque *vecdeque_new(size_t capacity);
void vecdeque_free(struct deque *q);
int vecdeque_push(const struct deque *q, const void *item);
int vecdeque_pop(const struct deque *q, void *item);

/* The same for both: the names of the calls differ. */
#define CONTENDER(kind, type)                                                              \
	static struct type *kind;                                                          \
	static int kind##_setup(const struct bench_shape *shape, const char **why)         \
	{                                                                                  \
		if (shape->size != 64 || shape->lanes > 1) {                               \
			*why = "made for one lane of items of 64 bytes";                   \
			return -ENOTSUP;                                                   \
		}                                                                          \
		kind = kind##_new(shape->capacity);                                        \
		return 0;                                                                  \
	}                                                                                  \
	static void kind##_teardown(void)                                                  \
	{                                                                                  \
		kind##_free(kind);                                                         \
	}                                                                                  \
	static void *kind##_attach(void)                                                   \
	{                                                                                  \
		return kind;                                                               \
	}                                                                                  \
	static void kind##_detach(void *end)                                               \
	{                                                                                  \
		(void)end;                                                                 \
	}                                                                                  \
	static int kind##_push_n(void *end, int lane, const struct iovec *items, int n)    \
	{                                                                                  \
		int i = 0;                                                                 \
                                                                                           \
		(void)lane;                                                                \
		while (i < n && kind##_push(end, items[i].iov_base))                       \
			i++;                                                               \
		return i;                                                                  \
	}                                                                                  \
	static int kind##_pop_n(void *end, struct iovec *items, int n)                     \
	{                                                                                  \
		int i = 0;                                                                 \
                                                                                           \
		while (i < n && kind##_pop(end, items[i].iov_base))                        \
			i++;                                                               \
		return i;                                                                  \
	}                                                                                  \
	const struct bench_contender bench_##kind = {                                      \
		.name = #kind,                                                             \
		.threads = 1,                                                              \
		.setup = kind##_setup,                                                     \
		.teardown = kind##_teardown,                                               \
		.attach = kind##_attach,                                                   \
		.detach = kind##_detach,                                                   \
		.push_n = kind##_push_n,                                                   \
		.pop_n = kind##_pop_n,                                                     \
	}

CONTENDER(segqueue, seg);
CONTENDER(vecdeque, deque);
#else
BENCH_NOT_BUILT(segqueue, "rustc and librust-crossbeam-queue-dev");
BENCH_NOT_BUILT(vecdeque, "rustc and librust-crossbeam-queue-dev");
#endif
