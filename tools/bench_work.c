/* SPDX-License-Identifier: MIT */
/*
 * bench_work.c - what a producer and a consumer of shmq-bench do.
 *
 * A message carries who pushed it, its number in its lane, when it was pushed, and a
 * pattern that follows from these and the seed. A consumer checks the pattern and that
 * the numbers of each producer and lane only grow. That each message came exactly once
 * is told by two sums over all of them, the number and a hash: for what was pushed and
 * what was popped both must be the same.
 */
#include <errno.h>
#include <sched.h>
#include <string.h>
#include <time.h>

#include "bench.h"

enum { TIMED_EVERY = 16, POP_SLICE_MS = 20 };

struct message {
	uint32_t producer, lane;
	uint64_t number; /* in the lane, from 1 */
	uint64_t sent_ns; /* 0: not timed */
	uint64_t word[];  /* the rest, which may end in the middle of one */
};

_Static_assert(sizeof(struct message) <= BENCH_MSG_MIN, "the head fits");

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* The finalizer of SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number
 * generators, 2014). */
static uint64_t mix(uint64_t x)
{
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
	x = (x ^ x >> 27) * 0x94d049bb133111ebu;
	return x ^ x >> 31;
}

static uint64_t message_hash(const struct bench *b, const struct message *m)
{
	return mix(m->number * BENCH_PROCS_MAX * SHMQ_MAX_LANES + m->producer * SHMQ_MAX_LANES +
		   m->lane + mix(b->seed));
}

static void message_fill(const struct bench *b, struct message *m, uint64_t hash)
{
	size_t n = (b->msg_size - sizeof(*m)) / 8;

	for (size_t i = 0; i < n; i++)
		m->word[i] = hash + i;
}

static bool message_intact(const struct bench *b, const struct message *m, uint64_t hash)
{
	size_t n = (b->msg_size - sizeof(*m)) / 8;
	uint64_t wrong = 0;

	for (size_t i = 0; i < n; i++)
		wrong |= m->word[i] ^ (hash + i);
	return !wrong;
}

uint64_t bench_timed_every(const struct bench *b)
{
	return b->rate ? 1 : TIMED_EVERY;
}

/* ---- a producer ---- */

struct producer {
	const struct bench *b;
	struct bench_board *board;
	struct bench_worker *w;
	unsigned i;
	uint64_t numbers[SHMQ_MAX_LANES];
	uint64_t sent;
	uint64_t begin_ns;
};

/* When message number @n of this producer is due; 0 at once. */
static uint64_t due_ns(const struct producer *p, uint64_t n)
{
	double every = p->b->rate ? 1e9 * p->b->producers / (double)p->b->rate : 0;

	return every > 0 ? p->begin_ns + (uint64_t)(every * ((double)n + (double)p->i /
								 p->b->producers)) : 0;
}

static bool stopped(struct bench_board *board)
{
	return atomic_load_explicit(&board->stop, memory_order_relaxed);
}

/* False: it is time to stop. */
static bool wait_until(struct producer *p, uint64_t due)
{
	struct timespec t = {(time_t)(due / 1000000000u), (long)(due % 1000000000u)};

	while (!stopped(p->board) && now_ns() < due)
		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
	return !stopped(p->board);
}

/* Push the batch whole, unless it is time to stop: how many, or -errno. */
static int push_batch(struct producer *p, struct shmq *q, int lane, struct iovec *v, int n)
{
	int done = 0;

	while (done < n && !stopped(p->board)) {
		int r = n == 1 ? shmq_push(q, lane, v->iov_base, v->iov_len, SHMQ_NOWAIT)
			       : shmq_push_n(q, lane, v + done, n - done, SHMQ_NOWAIT);

		if (n == 1 && r == 0)
			r = 1;
		if (r == -EAGAIN) {
			p->w->full++;
			r = shmq_push_n(q, lane, v + done, n - done,
					POP_SLICE_MS * INT64_C(1000000));
		}
		if (r == -EAGAIN || r == -ETIMEDOUT || r == -EINTR)
			continue;
		if (r < 0)
			return r;
		done += r;
	}
	return done;
}

static int produce(struct producer *p, struct shmq *q)
{
	const struct bench *b = p->b;
	static _Alignas(64) char buf[BENCH_BATCH_MAX][1 << 20];
	struct iovec v[BENCH_BATCH_MAX];
	uint64_t every = bench_timed_every(b), hash[BENCH_BATCH_MAX];
	int r = 0;

	p->begin_ns = now_ns();
	while (!stopped(p->board)) {
		unsigned lane = (unsigned)(p->sent / b->batch % b->lanes);
		uint64_t due = due_ns(p, p->sent);

		if (due && !wait_until(p, due))
			break;
		for (unsigned k = 0; k < b->batch; k++) {
			struct message *m = (struct message *)buf[k];

			m->producer = p->i;
			m->lane = lane;
			m->number = p->numbers[lane] + k + 1;
			hash[k] = message_hash(b, m);
			message_fill(b, m, hash[k]);
			/* When it was to be pushed: a producer that is late hides nothing. */
			m->sent_ns = due ? due_ns(p, p->sent + k)
					 : (p->sent + k) % every ? 0 : now_ns();
			v[k] = (struct iovec){m, b->msg_size};
		}
		r = push_batch(p, q, (int)lane, v, (int)b->batch);
		if (r < 0)
			break;
		for (int k = 0; k < r; k++)
			p->w->hashes += hash[k];
		p->numbers[lane] += (uint64_t)r;
		p->sent += (uint64_t)r;
		atomic_store_explicit(&p->w->moved, p->sent, memory_order_relaxed);
	}
	p->w->first_ns = p->begin_ns;
	return r < 0 ? r : 0;
}

/* ---- a consumer ---- */

static void check(const struct bench *b, struct bench_worker *w, const struct message *m,
		  size_t len, uint64_t (*last)[SHMQ_MAX_LANES], uint64_t now)
{
	uint64_t hash;

	if (len != b->msg_size || m->producer >= b->producers || m->lane >= b->lanes) {
		w->damaged++;
		return;
	}
	hash = message_hash(b, m);
	w->damaged += !message_intact(b, m, hash);
	w->hashes += hash;
	w->disordered += m->number <= last[m->producer][m->lane];
	last[m->producer][m->lane] = m->number;
	if (m->sent_ns)
		histogram_add(&w->waits, now > m->sent_ns ? now - m->sent_ns : 0);
}

static int consume(const struct bench *b, struct bench_board *board, struct bench_worker *w,
		   struct shmq *q)
{
	static _Alignas(64) char buf[BENCH_BATCH_MAX][1 << 20];
	static uint64_t last[BENCH_PROCS_MAX][SHMQ_MAX_LANES];
	int64_t timeout = b->busy ? SHMQ_NOWAIT : POP_SLICE_MS * INT64_C(1000000);
	struct iovec v[BENCH_BATCH_MAX];
	uint64_t moved = 0;

	for (;;) {
		/* Read before the queue is found empty: then nothing comes any more. */
		bool over = !atomic_load(&board->producers_left);
		bool timed = false;
		int r;

		for (unsigned k = 0; k < b->batch; k++)
			v[k] = (struct iovec){buf[k], sizeof(buf[k])};
		if (b->batch == 1) {
			ssize_t len = shmq_pop(q, SHMQ_ANY_LANE, buf[0], sizeof(buf[0]), NULL,
					       over ? SHMQ_NOWAIT : timeout);

			r = len < 0 ? (int)len : 1;
			v[0].iov_len = len < 0 ? 0 : (size_t)len;
		} else {
			r = shmq_pop_n(q, SHMQ_ANY_LANE, v, NULL, (int)b->batch,
				       over ? SHMQ_NOWAIT : timeout);
		}
		if (r == -EAGAIN && over)
			return 0;
		if (r == -EAGAIN || r == -ETIMEDOUT || r == -EINTR)
			continue;
		if (r < 0)
			return r;
		for (int k = 0; k < r; k++)
			timed |= ((const struct message *)buf[k])->sent_ns != 0;
		if (timed)
			w->last_ns = now_ns();
		for (int k = 0; k < r; k++)
			check(b, w, (const struct message *)buf[k], v[k].iov_len, last, w->last_ns);
		moved += (uint64_t)r;
		atomic_store_explicit(&w->moved, moved, memory_order_relaxed);
	}
}

/* ---- both ---- */

static void pin_to(struct bench_worker *w, unsigned i)
{
	cpu_set_t all, one;
	int cpu, n = 0;

	w->cpu = -1;
	if (sched_getaffinity(0, sizeof(all), &all))
		return;
	for (cpu = 0; cpu < CPU_SETSIZE; cpu++)
		if (CPU_ISSET(cpu, &all) && n++ == (int)i)
			break;
	CPU_ZERO(&one);
	if (cpu == CPU_SETSIZE)
		return;
	CPU_SET(cpu, &one);
	if (!sched_setaffinity(0, sizeof(one), &one))
		w->cpu = cpu;
}

int bench_work(const struct bench *b, struct bench_board *board, unsigned i)
{
	struct bench_worker *w = &board->worker[i];
	struct producer p = {.b = b, .board = board, .w = w, .i = i};
	struct shmq *q;

	w->cpu = -1;
	if (b->pin)
		pin_to(w, i);
	w->error = shmq_open(&q, b->queue, SHMQ_PREFAULT);
	atomic_fetch_add(&board->ready, 1);
	while (!w->error && !atomic_load(&board->go))
		sched_yield();
	if (!w->error) {
		w->error = i < b->producers ? produce(&p, q) : consume(b, board, w, q);
		shmq_close(q);
	}
	if (i < b->producers)
		atomic_fetch_sub(&board->producers_left, 1);
	return w->error ? 1 : 0;
}
