/* SPDX-License-Identifier: MIT */
/* traffic.c - see traffic.h. */
#include "traffic.h"

struct traffic *traffic_new(unsigned producers, unsigned consumers,
			    unsigned lanes, uint64_t each)
{
	struct traffic *t = shared(sizeof(*t));

	t->producers = producers;
	t->consumers = consumers;
	t->lanes = lanes;
	t->each = each;
	t->item_size = 64;
	t->batch = 1;
	return t;
}

static uint64_t hash_of(uint32_t producer, uint64_t seq)
{
	struct rng r = rng_of(seq, producer);

	return rng_next(&r);
}

static void count(struct worker *w, unsigned lane, uint64_t hash)
{
	/* Only this worker writes here. */
	atomic_store_explicit(&w->hash, w->hash + hash, memory_order_relaxed);
	atomic_store_explicit(&w->items[lane], w->items[lane] + 1,
			      memory_order_release);
}

static int64_t some_timeout(struct traffic *t, struct rng *r)
{
	return t->timeout_ns && rng_below(r, 4) ? t->timeout_ns : SHMQ_NOWAIT;
}

/* A refusal: the other side has to move. */
static void refused(struct worker *w, int64_t err)
{
	must(err == -EAGAIN || err == -ETIMEDOUT, "%d", (int)err);
	atomic_fetch_add(&w->refused, 1);
	sched_yield();
}

void traffic_produce(struct traffic *t, struct shmq *q, unsigned me)
{
	struct rng r = rng_of(t->seed, me);
	struct worker *w = &t->producer[me];
	uint8_t *buf = malloc(t->batch * t->item_size);
	struct iovec *v = malloc(t->batch * sizeof(*v));
	uint64_t seq = 0;

	must(buf && v);
	while (seq < t->each && !atomic_load(&t->quit)) {
		unsigned lane = (unsigned)rng_below(&r, t->lanes);
		uint64_t n = 1 + rng_below(&r, t->batch), at = 0;

		if (n > t->each - seq)
			n = t->each - seq;
		for (uint64_t i = 0; i < n; i++) {
			v[i].iov_base = buf + i * t->item_size;
			v[i].iov_len = STAMP_LEN +
				rng_below(&r, t->item_size - STAMP_LEN + 1);
			item_fill(v[i].iov_base, v[i].iov_len, me, seq + i);
		}
		while (at < n && !atomic_load(&t->quit)) {
			int64_t wait = some_timeout(t, &r);
			int got = 1;

			if (n == 1) {
				int err = shmq_push(q, (int)lane, v->iov_base,
						    v->iov_len, wait);

				if (err)
					got = err;
			} else {
				got = shmq_push_n(q, (int)lane, v + at,
						  (int)(n - at), wait);
			}
			if (got < 0) {
				refused(w, got);
				continue;
			}
			must(got > 0 && (uint64_t)got <= n - at);
			at += (uint64_t)got;
			for (; got > 0; got--)
				count(w, lane, hash_of(me, seq++));
			if (t->pauses)
				pause_randomly(&r);
		}
	}
	free(v);
	free(buf);
	atomic_store(&w->done, 1);
}

struct taker {
	struct traffic *t;
	struct worker *w;
	uint64_t next[SHMQ_MAX_LANES][TRAFFIC_WORKERS];
};

static void taken(struct taker *c, const void *buf, size_t len,
		  const struct shmq_info *info)
{
	struct stamp s;

	must(info->len == len && info->lane < c->t->lanes &&
	     info->attempts == 1, "len %u, lane %u, attempts %u", info->len,
	     info->lane, info->attempts);
	must(item_read(buf, len, &s), "%zu bytes nobody pushed", len);
	must(s.producer < c->t->producers);
	must(s.seq >= c->next[info->lane][s.producer],
	     "producer %u, lane %u: number %" PRIu64 " after %" PRIu64,
	     s.producer, info->lane, s.seq,
	     c->next[info->lane][s.producer] - 1);
	c->next[info->lane][s.producer] = s.seq + 1;
	if (c->t->arrivals)
		arrivals_got(c->t->arrivals, &s);
	count(c->w, info->lane, hash_of(s.producer, s.seq));
}

static bool all_arrived(struct traffic *t)
{
	/* In this order: what is done pushes no more. */
	for (unsigned i = 0; i < t->producers; i++)
		if (!atomic_load(&t->producer[i].done))
			return false;
	return traffic_items(t->consumer, t->consumers, -1) ==
	       traffic_items(t->producer, t->producers, -1);
}

void traffic_consume(struct traffic *t, struct shmq *q, unsigned me)
{
	struct rng r = rng_of(t->seed, 1000 + me);
	struct taker *c = calloc(1, sizeof(*c));
	uint8_t *buf = malloc(t->batch * t->item_size);
	struct iovec *v = malloc(t->batch * sizeof(*v));
	struct shmq_info *info = malloc(t->batch * sizeof(*info));

	must(c && buf && v && info);
	c->t = t;
	c->w = &t->consumer[me];
	for (;;) {
		/* Each lane for itself too: a full high lane hides the low. */
		int lane = (int)rng_below(&r, t->lanes * 2);
		uint64_t n = 1 + rng_below(&r, t->batch);
		int64_t wait = some_timeout(t, &r);
		ssize_t got;

		if ((unsigned)lane >= t->lanes)
			lane = SHMQ_ANY_LANE;
		for (uint64_t i = 0; i < n; i++)
			v[i] = (struct iovec){ buf + i * t->item_size,
					       t->item_size };
		if (n == 1) {
			got = shmq_pop(q, lane, buf, t->item_size, info, wait);
			if (got >= 0)
				taken(c, buf, (size_t)got, info);
		} else {
			got = shmq_pop_n(q, lane, v, info, (int)n, wait);
			must(got != 0 && got <= (ssize_t)n);
			for (ssize_t i = 0; i < got; i++)
				taken(c, v[i].iov_base, v[i].iov_len, &info[i]);
		}
		if (got < 0) {
			if (all_arrived(t))
				break;
			refused(c->w, got);
		}
		if (t->pauses)
			pause_randomly(&r);
	}
	free(info);
	free(v);
	free(buf);
	free(c);
	atomic_store(&t->consumer[me].done, 1);
}

uint64_t traffic_items(const struct worker *w, unsigned n, int lane)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < n; i++)
		for (int k = 0; k < SHMQ_MAX_LANES; k++)
			if (lane < 0 || lane == k)
				sum += atomic_load(&w[i].items[k]);
	return sum;
}

void traffic_check(struct traffic *t, struct shmq *q)
{
	struct shmq_stat st;
	uint64_t in = 0, out = 0;

	for (unsigned i = 0; i < t->producers; i++)
		in += atomic_load(&t->producer[i].hash);
	for (unsigned i = 0; i < t->consumers; i++)
		out += atomic_load(&t->consumer[i].hash);
	must(in == out, "other items came than went in");
	if (t->arrivals)
		arrivals_complete(t->arrivals);
	stat_of(q, &st);
	for (unsigned i = 0; i < t->lanes; i++) {
		struct shmq_lane_stat *l = &st.lanes[i];
		uint64_t n = traffic_items(t->producer, t->producers, (int)i);

		must_eq(traffic_items(t->consumer, t->consumers, (int)i), n);
		must_eq(l->pushed, n);
		must_eq(l->popped, n);
		must_eq(l->depth, 0);
		must_eq(l->held, 0);
		must_eq(l->unfinished, 0);
		must_eq(l->redelivered, 0);
	}
}

struct role {
	struct traffic *t;
	unsigned me;
};

static int producer(void *arg)
{
	struct role *r = arg;
	struct shmq *q = attach("q");

	traffic_produce(r->t, q, r->me);
	shmq_close(q);
	return 0;
}

static int consumer(void *arg)
{
	struct role *r = arg;
	struct shmq *q = attach("q");

	traffic_consume(r->t, q, r->me);
	shmq_close(q);
	return 0;
}

void traffic_spawn(struct traffic *t, pid_t *producers, pid_t *consumers)
{
	for (unsigned i = 0; i < t->consumers; i++)
		consumers[i] = spawn(consumer, &(struct role){ t, i });
	for (unsigned i = 0; i < t->producers; i++)
		producers[i] = spawn(producer, &(struct role){ t, i });
}
