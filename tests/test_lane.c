/* SPDX-License-Identifier: MIT */
/*
 * test_lane.c - one process, one handle: the exact limit, order, priority,
 * lengths, batches and errors of push and pop.
 */
#include "common.h"

static const uint64_t capacities[] = { 1, 2, 3, 7, 8, 9, 63, 64, 65, 1000 };
static const uint64_t item_sizes[] = { 8, 9, 63, 64, 65, 4096, 1 << 20 };

/* ---- the limit ---------------------------------------------------------- */

/* One lane and the numbers that should be in it: [popped, pushed). */
struct belt {
	struct shmq *q;
	int lane;
	uint64_t capacity, pushed, popped;
};

static void belt_push(struct belt *b)
{
	must_eq(shmq_push(b->q, b->lane, &b->pushed, 8, SHMQ_NOWAIT), 0);
	b->pushed++;
}

static void belt_pop(struct belt *b, uint64_t n)
{
	uint64_t v;

	while (n-- > 0) {
		must_eq(shmq_pop(b->q, b->lane, &v, 8, NULL, SHMQ_NOWAIT), 8);
		must_eq(v, b->popped);
		b->popped++;
	}
}

static void belt_is_full(struct belt *b)
{
	struct shmq_pressure p;

	must_eq(b->pushed - b->popped, b->capacity);
	for (int i = 0; i < 3; i++)
		must_eq(shmq_push(b->q, b->lane, "rejected", 8, SHMQ_NOWAIT),
			-EAGAIN);
	must_eq(shmq_refused(b->q, &p), 0);
	must_eq(p.depth, b->capacity);
	must_eq(p.capacity, b->capacity);
	must_eq(depth_of(b->q, b->lane), b->capacity);
}

static void belt_fill(struct belt *b)
{
	while (b->pushed - b->popped < b->capacity)
		belt_push(b);
	belt_is_full(b);
}

/* Fill with batches of up to @most, each taken as far as it fits. */
static void belt_fill_n(struct belt *b, struct rng *r, int most)
{
	struct iovec v[100];
	uint64_t num[100];

	while (b->pushed - b->popped < b->capacity) {
		uint64_t room = b->capacity - (b->pushed - b->popped);
		int n = 1 + (int)rng_below(r, (uint64_t)most);

		for (int i = 0; i < n; i++) {
			num[i] = b->pushed + (uint64_t)i;
			v[i] = (struct iovec){ &num[i], 8 };
		}
		if ((uint64_t)n < room)
			room = (uint64_t)n;
		must_eq(shmq_push_n(b->q, b->lane, v, n, SHMQ_NOWAIT), room);
		b->pushed += room;
	}
	belt_is_full(b);
}

static void belt_pop_n(struct belt *b, struct rng *r, uint64_t n, int most)
{
	struct iovec v[100];
	uint64_t num[100];

	while (n > 0) {
		int k = 1 + (int)rng_below(r, (uint64_t)most);

		if ((uint64_t)k > n)
			k = (int)n;
		for (int i = 0; i < k; i++)
			v[i] = (struct iovec){ &num[i], 8 };
		must_eq(shmq_pop_n(b->q, b->lane, v, NULL, k, SHMQ_NOWAIT), k);
		for (int i = 0; i < k; i++) {
			must_eq(v[i].iov_len, 8);
			must_eq(num[i], b->popped);
			b->popped++;
		}
		n -= (uint64_t)k;
	}
}

static void belt_is_empty(struct belt *b)
{
	uint64_t v;

	must_eq(b->pushed, b->popped);
	must_eq(shmq_pop(b->q, b->lane, &v, 8, NULL, SHMQ_NOWAIT), -EAGAIN);
	must_eq(depth_of(b->q, b->lane), 0);
}

static int laps_of(uint64_t capacity)
{
	return (int)counts(capacity < 100 ? 2000 : 100);
}

START_TEST(a_lane_takes_exactly_its_capacity_on_every_lap)
{
	uint64_t c = capacities[_i];
	struct belt b = { create_attach("q", 3, c, 8), 1, c, 0, 0 };

	for (int lap = laps_of(c); lap > 0; lap--) {
		belt_fill(&b);
		belt_pop(&b, c);
		belt_is_empty(&b);
	}
	shmq_close(b.q);
}
END_TEST

START_TEST(a_lane_takes_exactly_its_capacity_after_partial_drains)
{
	uint64_t c = capacities[_i];
	struct belt b = { create_attach("q", 3, c, 8), 2, c, 0, 0 };
	struct rng r = rng_of(seed("partial drains"), c);

	for (int lap = laps_of(c); lap > 0; lap--) {
		belt_fill(&b);
		belt_pop(&b, rng_below(&r, c + 1));
	}
	belt_pop(&b, b.pushed - b.popped);
	belt_is_empty(&b);
	shmq_close(b.q);
}
END_TEST

START_TEST(a_lane_takes_exactly_its_capacity_in_batches)
{
	uint64_t c = capacities[_i];
	struct belt b = { create_attach("q", 3, c, 8), 0, c, 0, 0 };
	struct rng r = rng_of(seed("batches"), c);

	for (int lap = laps_of(c); lap > 0; lap--) {
		belt_fill_n(&b, &r, lap % 3 ? 5 : 100);
		if (lap % 2)
			belt_pop_n(&b, &r, rng_below(&r, c + 1), 100);
		else
			belt_pop(&b, rng_below(&r, c + 1));
	}
	belt_pop_n(&b, &r, b.pushed - b.popped, 7);
	belt_is_empty(&b);
	shmq_close(b.q);
}
END_TEST

START_TEST(a_full_lane_counts_what_it_refused)
{
	struct shmq *q = create_attach("q", 2, 10, 8);
	struct iovec v[16];
	struct shmq_stat st;
	uint64_t x = 7;

	for (int i = 0; i < 16; i++)
		v[i] = (struct iovec){ &x, 8 };
	must_eq(shmq_push_n(q, 1, v, 16, SHMQ_NOWAIT), 10);
	must_eq(shmq_push(q, 1, &x, 8, SHMQ_NOWAIT), -EAGAIN);
	must_eq(shmq_push_n(q, 1, v, 4, SHMQ_NOWAIT), -EAGAIN);
	stat_of(q, &st);
	must_eq(st.lanes[1].pushed, 10);
	must_eq(st.lanes[1].depth, 10);
	must_eq(st.lanes[1].rejected, 6 + 1 + 4);
	must_eq(st.lanes[0].rejected, 0);
	shmq_close(q);
}
END_TEST

START_TEST(refused_says_nothing_before_a_refusal)
{
	struct shmq *q = create_attach("q", 1, 2, 8);
	struct shmq_pressure p;

	must_eq(shmq_refused(q, &p), -ENODATA);
	must_eq(shmq_push(q, 0, "x", 1, 0), 0);
	must_eq(shmq_refused(q, &p), -ENODATA);
	must_eq(shmq_push(q, 0, "x", 1, 0), 0);
	must_eq(shmq_push(q, 0, "x", 1, (int64_t)MS), -ETIMEDOUT);
	must_eq(shmq_refused(q, &p), 0);
	must_eq(p.depth, 2);
	must_eq(p.capacity, 2);
	must_eq(p.level, SHMQ_LEVEL_OVERLOADED);
	shmq_close(q);
}
END_TEST

/* ---- order -------------------------------------------------------------- */

START_TEST(a_full_low_lane_does_not_refuse_a_push_to_high)
{
	struct shmq *q = create_attach("q", 3, 64, 8);
	struct shmq_info info;
	uint64_t v;

	for (int lap = 0; lap < 50; lap++) {
		uint64_t in = 0;

		while (shmq_push(q, 2, &in, 8, SHMQ_NOWAIT) == 0)
			in++;
		must(in == 64 || lap > 0);
		must_eq(depth_of(q, 2), 64);
		for (uint64_t i = 0; i < 64; i++)
			must_eq(shmq_push(q, 0, &i, 8, SHMQ_NOWAIT), 0);
		must_eq(shmq_push(q, 0, &in, 8, SHMQ_NOWAIT), -EAGAIN);
		for (uint64_t i = 0; i < 64; i++) {
			must_eq(shmq_pop(q, SHMQ_ANY_LANE, &v, 8, &info, 0), 8);
			must_eq(v, i);
			must_eq(info.lane, 0);
		}
		for (int i = lap % 64; i >= 0; i--)
			must_eq(shmq_pop(q, 2, &v, 8, NULL, 0), 8);
	}
	shmq_close(q);
}
END_TEST

/* Pop up to @n items of any lane, in one of the ways there are: how many. */
static int pop_some_way(struct shmq *q, struct rng *r, uint64_t *v, int n)
{
	struct shmq_info infos[8], *info = rng_below(r, 2) ? infos : NULL;
	struct iovec items[8];
	struct shmq_lease l;
	int got;

	for (int i = 0; i < n; i++)
		items[i] = (struct iovec){ &v[i], 8 };
	if (n > 1) {
		got = shmq_pop_n(q, SHMQ_ANY_LANE, items, info, n, 0);
	} else if (rng_below(r, 3)) {
		got = shmq_pop(q, SHMQ_ANY_LANE, v, 8, info, 0) == 8 ? 1 : -EAGAIN;
	} else {
		got = shmq_peek(q, SHMQ_ANY_LANE, &l, 0) ? -EAGAIN : 1;
		if (got == 1) {
			memcpy(v, l.data, 8);
			must_eq(shmq_release(q, &l), 0);
		}
		return got;
	}
	for (int i = 0; i < got && info; i++)
		must_eq(info[i].lane, v[i] % SHMQ_MAX_LANES);
	return got;
}

START_TEST(any_lane_takes_the_highest_lane_first)
{
	struct shmq *q = create_attach("q", SHMQ_MAX_LANES, 50, 8);
	uint64_t in[SHMQ_MAX_LANES] = { 0 }, out[SHMQ_MAX_LANES] = { 0 }, v[8];
	struct rng r = rng_of(seed("priority"), 0);

	for (long i = counts(200000); i > 0; i--) {
		int lane = (int)rng_below(&r, SHMQ_MAX_LANES), n, got;

		/* Now more goes in, now more comes out: lanes fill, and are empty for long. */
		if (rng_below(&r, 8) < (i / 1000 % 2 ? 3 : 5)) {
			int want = in[lane] - out[lane] < 50 ? 0 : -EAGAIN;

			v[0] = in[lane] * SHMQ_MAX_LANES + (uint64_t)lane;
			must_eq(shmq_push(q, lane, v, 8, 0), want);
			in[lane] += want == 0;
			continue;
		}
		n = rng_below(&r, 2) ? 1 : 2 + (int)rng_below(&r, 7);
		got = pop_some_way(q, &r, v, n);
		lane = 0;
		for (int k = 0; k < n; k++) {
			while (lane < SHMQ_MAX_LANES && in[lane] == out[lane])
				lane++;
			if (lane == SHMQ_MAX_LANES) {
				must_eq(got, k ? k : -EAGAIN);
				break;
			}
			must(k < got);
			must_eq(v[k], out[lane] * SHMQ_MAX_LANES + (uint64_t)lane);
			out[lane]++;
		}
		/* Who has found them empty lets everybody see it. */
		for (int k = 0; got < n && k < SHMQ_MAX_LANES; k++) {
			struct shmq_pressure p;

			must_eq(shmq_pressure(q, k, &p), 0);
			must_eq(p.depth, 0);
			must_eq(depth_of(q, k), 0);
		}
	}
	shmq_close(q);
}
END_TEST

START_TEST(pop_from_one_lane_leaves_the_others_alone)
{
	struct shmq *q = create_attach("q", 3, 8, 8);
	char buf[8];

	must_eq(shmq_push(q, 0, "high", 4, 0), 0);
	must_eq(shmq_push(q, 2, "low", 3, 0), 0);
	must_eq(shmq_pop(q, 1, buf, 8, NULL, 0), -EAGAIN);
	must_eq(shmq_pop(q, 2, buf, 8, NULL, 0), 3);
	must(memcmp(buf, "low", 3) == 0);
	must_eq(shmq_pop(q, 2, buf, 8, NULL, 0), -EAGAIN);
	must_eq(depth_of(q, 0), 1);
	shmq_close(q);
}
END_TEST

/*
 * Small lanes that take turns pass their segments among each other all the
 * time: a slot of the last life of a segment must never be seen again.
 */
START_TEST(segments_move_between_lanes_for_millions_of_items)
{
	static const uint64_t caps[] = { 1, 3, 7, 200 };
	struct shmq_config c = config(4, 1, 16);
	uint64_t in[4] = { 0 }, out[4] = { 0 };
	struct rng r = rng_of(seed("recycling"), 0);
	long items = counts(3000000);
	struct shmq *q;

	for (int i = 0; i < 4; i++)
		c.lanes[i].capacity = caps[i];
	must_eq(shmq_create("q", &c), 0);
	q = attach("q");
	while (items > 0) {
		/* One lane in a long run, then the next: segments wander. */
		int lane = (int)rng_below(&r, 4);
		long run = 1 + (long)rng_below(&r, 2000);

		for (; run > 0; run--, items--) {
			uint64_t v[2] = { in[lane], (uint64_t)lane }, got[2];
			uint64_t keep = rng_below(&r, caps[lane]);

			must_eq(shmq_push(q, lane, v, 16, 0),
				in[lane] - out[lane] < caps[lane] ? 0 : -EAGAIN);
			in[lane] += in[lane] - out[lane] < caps[lane];
			while (in[lane] - out[lane] > keep) {
				must_eq(shmq_pop(q, lane, got, 16, NULL, 0),
					16);
				must_eq(got[0], out[lane]);
				must_eq(got[1], lane);
				out[lane]++;
			}
		}
	}
	for (int i = 0; i < 4; i++)
		must_eq(depth_of(q, i), in[i] - out[i]);
	shmq_close(q);
}
END_TEST

/* ---- lengths ------------------------------------------------------------ */

START_TEST(every_length_up_to_the_item_size_arrives_whole)
{
	uint64_t size = item_sizes[_i];
	uint64_t lens[] = { 0, 1, 7, 8, size / 2, size - 1, size };
	struct shmq *q = create_attach("q", 2, 4, size);
	struct shmq_info info;

	for (int lap = 0; lap < 40; lap++)
		for (unsigned i = 0; i < ARRAY_LEN(lens); i++) {
			size_t n = lens[i];
			uint8_t *in = malloc(n + 1), *out = malloc(n + 1);

			must(in && out);
			for (size_t k = 0; k < n; k++)
				in[k] = (uint8_t)(k * 37 + i + (size_t)lap);
			out[n] = 0x5a;
			must_eq(shmq_push(q, lap % 2, in, n, 0), 0);
			must_eq(shmq_pop(q, lap % 2, out, n, &info, 0), n);
			must(memcmp(in, out, n) == 0, "length %zu", n);
			must(out[n] == 0x5a, "wrote behind %zu bytes", n);
			must_eq(info.len, n);
			must_eq(info.lane, lap % 2);
			must_eq(info.attempts, 1);
			must_eq(info.wait_ns, 0);
			free(in);
			free(out);
		}
	shmq_close(q);
}
END_TEST

START_TEST(an_item_longer_than_the_item_size_is_refused)
{
	uint64_t size = item_sizes[_i];
	struct shmq *q = create_attach("q", 1, 4, size);
	char *buf = calloc(1, size + 1);
	struct iovec v[3] = { { buf, 1 }, { buf, 2 }, { buf, size + 1 } };

	must_eq(shmq_push(q, 0, buf, size + 1, 0), -EMSGSIZE);
	must_eq(shmq_push(q, 0, buf, size + 1, SHMQ_FOREVER), -EMSGSIZE);
	must_eq(shmq_push(q, 0, buf, SIZE_MAX, 0), -EMSGSIZE);
	must_eq(shmq_push(q, 0, buf, (size_t)UINT32_MAX + 2, 0), -EMSGSIZE);
	/* All lengths are checked before anything is pushed. */
	must_eq(shmq_push_n(q, 0, v, 3, 0), -EMSGSIZE);
	must_eq(depth_of(q, 0), 0);
	must_eq(shmq_push_n(q, 0, v, 2, 0), 2);
	must_eq(depth_of(q, 0), 2);
	free(buf);
	shmq_close(q);
}
END_TEST

START_TEST(a_short_buffer_leaves_the_item_and_tells_its_length)
{
	struct shmq *q = create_attach("q", 3, 4, 64);
	char buf[64];
	struct shmq_info info;
	struct iovec v[3] = { { buf, 9 }, { buf + 20, 9 }, { buf + 40, 9 } };
	struct shmq_info infos[3];

	must_eq(shmq_push(q, 1, "0123456789", 10, 0), 0);
	must_eq(shmq_push(q, 1, "next", 4, 0), 0);
	must_eq(shmq_push(q, 2, "low", 3, 0), 0);
	for (size_t room = 0; room < 10; room++) {
		memset(&info, 0, sizeof(info));
		memset(buf, '#', sizeof(buf));
		must_eq(shmq_pop(q, SHMQ_ANY_LANE, buf, room, &info, 0),
			-EMSGSIZE);
		must_eq(info.len, 10);
		must_eq(info.lane, 1);
		must(buf[room] == '#');
		must_eq(shmq_pop(q, 1, buf, room, NULL, SHMQ_FOREVER),
			-EMSGSIZE);
	}
	must_eq(shmq_pop(q, 1, NULL, 0, &info, 0), -EMSGSIZE);
	must_eq(info.len, 10);
	must_eq(shmq_pop_n(q, 1, v, infos, 3, 0), -EMSGSIZE);
	must_eq(infos[0].len, 10);
	must_eq(depth_of(q, 1), 2);
	must_eq(shmq_pop(q, SHMQ_ANY_LANE, buf, 10, &info, 0), 10);
	must(memcmp(buf, "0123456789", 10) == 0);
	must_eq(info.attempts, 1);
	must_eq(shmq_pop(q, SHMQ_ANY_LANE, buf, 64, NULL, 0), 4);
	must_eq(shmq_pop(q, SHMQ_ANY_LANE, buf, 64, NULL, 0), 3);
	shmq_close(q);
}
END_TEST

START_TEST(an_empty_item_needs_no_pointers)
{
	struct shmq *q = create_attach("q", 1, 4, 8);
	struct iovec v = { NULL, 0 };
	struct shmq_info info;

	must_eq(shmq_push(q, 0, NULL, 0, 0), 0);
	must_eq(shmq_push_n(q, 0, &v, 1, 0), 1);
	must_eq(depth_of(q, 0), 2);
	must_eq(shmq_pop(q, 0, NULL, 0, &info, 0), 0);
	must_eq(info.len, 0);
	must_eq(shmq_pop_n(q, 0, &v, NULL, 1, 0), 1);
	must_eq(shmq_pop(q, 0, NULL, 0, NULL, 0), -EAGAIN);
	shmq_close(q);
}
END_TEST

/* ---- batches ------------------------------------------------------------ */

START_TEST(a_batch_is_pushed_as_far_as_it_fits)
{
	struct shmq *q = create_attach("q", 2, 10, 8);
	struct iovec v[20];
	uint64_t num[20], x;
	struct shmq_pressure p;

	for (int i = 0; i < 20; i++) {
		num[i] = (uint64_t)i;
		v[i] = (struct iovec){ &num[i], 8 };
	}
	must_eq(shmq_push_n(q, 0, v, 0, 0), 0);
	must_eq(shmq_push_n(q, 0, v, 7, 0), 7);
	must_eq(shmq_push_n(q, 0, v + 7, 13, 0), 3);
	must_eq(shmq_push_n(q, 0, v + 10, 10, 0), -EAGAIN);
	must_eq(shmq_refused(q, &p), 0);
	must_eq(p.depth, 10);
	must_eq(shmq_push_n(q, 0, v + 10, 0, 0), 0);
	for (uint64_t i = 0; i < 10; i++) {
		must_eq(shmq_pop(q, 0, &x, 8, NULL, 0), 8);
		must_eq(x, i);
	}
	must_eq(shmq_pop(q, 0, &x, 8, NULL, 0), -EAGAIN);
	/* With room for the first item there is no waiting for the rest. */
	must_eq(shmq_push_n(q, 0, v, 20, SHMQ_FOREVER), 10);
	shmq_close(q);
}
END_TEST

START_TEST(a_batch_may_be_longer_than_any_segment)
{
	enum { N = 5000 };
	struct shmq *q = create_attach("q", 1, N, 16);
	struct iovec *v = calloc(N, sizeof(*v));
	uint64_t(*num)[2] = calloc(N, sizeof(*num));

	for (int lap = 0; lap < 4; lap++) {
		int at = 0;

		for (int i = 0; i < N; i++) {
			num[i][0] = num[i][1] = (uint64_t)(i * 4 + lap);
			v[i] = (struct iovec){ num[i], 16 };
		}
		must_eq(shmq_push_n(q, 0, v, N, 0), N);
		memset(num, 0, N * sizeof(*num));
		while (at < N) {
			int n = shmq_pop_n(q, 0, v + at, NULL, N - at, 0);

			must(n > 0, "%d", n);
			at += n;
		}
		for (int i = 0; i < N; i++) {
			must_eq(v[i].iov_len, 16);
			must_eq(num[i][0], i * 4 + lap);
			must_eq(num[i][1], i * 4 + lap);
		}
	}
	free(num);
	free(v);
	shmq_close(q);
}
END_TEST

START_TEST(a_batch_of_any_lane_goes_down_the_lanes)
{
	struct shmq *q = create_attach("q", 3, 10, 8);
	char out[16][8];
	struct iovec v[16];
	struct shmq_info info[16];
	static const char *want[] = { "h1", "h2", "n1", "l1", "l2", "l3" };

	must_eq(shmq_push(q, 2, "l1", 2, 0), 0);
	must_eq(shmq_push(q, 0, "h1", 2, 0), 0);
	must_eq(shmq_push(q, 2, "l2", 2, 0), 0);
	must_eq(shmq_push(q, 1, "n1", 2, 0), 0);
	must_eq(shmq_push(q, 2, "l3", 2, 0), 0);
	must_eq(shmq_push(q, 0, "h2", 2, 0), 0);
	for (int i = 0; i < 16; i++)
		v[i] = (struct iovec){ out[i], 8 };
	must_eq(shmq_pop_n(q, SHMQ_ANY_LANE, v, info, 0, 0), 0);
	must_eq(shmq_pop_n(q, SHMQ_ANY_LANE, v, info, 16, 0), 6);
	for (int i = 0; i < 6; i++) {
		must(memcmp(out[i], want[i], 2) == 0, "item %d", i);
		must_eq(v[i].iov_len, 2);
		must_eq(info[i].len, 2);
		must_eq(info[i].lane, i < 2 ? 0 : i < 3 ? 1 : 2);
		must_eq(info[i].attempts, 1);
	}
	must_eq(v[6].iov_len, 8);
	must_eq(shmq_pop_n(q, SHMQ_ANY_LANE, v, info, 16, 0), -EAGAIN);
	shmq_close(q);
}
END_TEST

START_TEST(an_item_too_long_for_its_room_ends_the_batch_before_it)
{
	struct shmq *q = create_attach("q", 1, 10, 64);
	char out[5][8];
	struct iovec v[5];

	for (int i = 0; i < 5; i++)
		v[i] = (struct iovec){ out[i], 8 };
	must_eq(shmq_push(q, 0, "one", 3, 0), 0);
	must_eq(shmq_push(q, 0, "two", 3, 0), 0);
	must_eq(shmq_push(q, 0, "far too long", 12, 0), 0);
	must_eq(shmq_push(q, 0, "four", 4, 0), 0);
	must_eq(shmq_pop_n(q, 0, v, NULL, 5, 0), 2);
	must_eq(depth_of(q, 0), 2);
	v[0] = (struct iovec){ out[0], 8 };
	must_eq(shmq_pop_n(q, 0, v, NULL, 5, 0), -EMSGSIZE);
	v[0] = (struct iovec){ out, 16 };
	v[1] = (struct iovec){ out[3], 8 };
	must_eq(shmq_pop_n(q, 0, v, NULL, 5, 0), 2);
	must_eq(v[0].iov_len, 12);
	must_eq(v[1].iov_len, 4);
	must(memcmp(out, "far too long", 12) == 0);
	must(memcmp(out[3], "four", 4) == 0);
	shmq_close(q);
}
END_TEST

/* ---- errors ------------------------------------------------------------- */

START_TEST(a_bad_argument_is_refused_with_its_own_error_and_loses_nothing)
{
	struct shmq *q = create_attach("q", 3, 2, 8), *none = NULL;
	char buf[16];
	struct iovec v[2] = { { buf, 8 }, { buf, 8 } }, bad = { NULL, 3 };
	struct shmq_info info;
	struct shmq_pressure p;
	struct shmq_stat st;
	static const int lanes[] = { -2, 3, 8, 9, 1000, INT_MAX, INT_MIN };
	static const int64_t times[] = { -2, -1000, INT64_MIN };

	must_eq(shmq_push(q, 1, "first", 5, 0), 0);
	must_eq(shmq_push(q, SHMQ_ANY_LANE, buf, 1, 0), -ECHRNG);
	must_eq(shmq_push_n(q, SHMQ_ANY_LANE, v, 2, 0), -ECHRNG);
	must_eq(shmq_pressure(q, SHMQ_ANY_LANE, &p), -ECHRNG);
	for (unsigned i = 0; i < ARRAY_LEN(lanes); i++) {
		must_eq(shmq_push(q, lanes[i], buf, 1, 0), -ECHRNG);
		must_eq(shmq_push_n(q, lanes[i], v, 2, 0), -ECHRNG);
		must_eq(shmq_pop(q, lanes[i], buf, 8, &info, 0), -ECHRNG);
		must_eq(shmq_pop_n(q, lanes[i], v, &info, 1, 0), -ECHRNG);
		must_eq(shmq_pressure(q, lanes[i], &p), -ECHRNG);
	}
	for (unsigned i = 0; i < ARRAY_LEN(times); i++) {
		must_eq(shmq_push(q, 0, buf, 1, times[i]), -ERANGE);
		must_eq(shmq_push_n(q, 0, v, 2, times[i]), -ERANGE);
		must_eq(shmq_pop(q, 1, buf, 8, &info, times[i]), -ERANGE);
		must_eq(shmq_pop_n(q, 1, v, &info, 1, times[i]), -ERANGE);
	}
	must_eq(shmq_push(q, 0, NULL, 1, 0), -EFAULT);
	must_eq(shmq_push_n(q, 0, NULL, 1, 0), -EFAULT);
	must_eq(shmq_push_n(q, 0, &bad, 1, 0), -EFAULT);
	must_eq(shmq_pop(q, 1, NULL, 8, &info, 0), -EFAULT);
	must_eq(shmq_pop_n(q, 1, NULL, &info, 1, 0), -EFAULT);
	must_eq(shmq_pop_n(q, 1, &bad, &info, 1, 0), -EFAULT);
	must_eq(shmq_push(NULL, 0, buf, 1, 0), -EFAULT);
	must_eq(shmq_push_n(NULL, 0, v, 1, 0), -EFAULT);
	must_eq(shmq_pop(NULL, 0, buf, 8, NULL, 0), -EFAULT);
	must_eq(shmq_pop_n(NULL, 0, v, NULL, 1, 0), -EFAULT);
	must_eq(shmq_pressure(q, 0, NULL), -EFAULT);
	must_eq(shmq_pressure(NULL, 0, &p), -EFAULT);
	must_eq(shmq_stat(q, NULL), -EFAULT);
	st.sz = sizeof(st);
	must_eq(shmq_stat(NULL, &st), -EFAULT);
	must_eq(shmq_dup(q, NULL), -EFAULT);
	must_eq(shmq_dup(NULL, &none), -EFAULT);
	must_eq(shmq_open(NULL, "q", 0), -EFAULT);
	must_eq(shmq_open(&none, NULL, 0), -EFAULT);
	must_eq(shmq_create(NULL, NULL), -EFAULT);
	must_eq(shmq_unlink(NULL), -EFAULT);
	must_eq(shmq_region_size(NULL, NULL), -EFAULT);
	must_eq(shmq_participants(q, NULL, 1), -EFAULT);
	shmq_close(NULL);

	stat_of(q, &st);
	for (int i = 0; i < 3; i++) {
		must_eq(st.lanes[i].depth, i == 1);
		must_eq(st.lanes[i].pushed, i == 1);
		must_eq(st.lanes[i].held, 0);
		must_eq(st.lanes[i].unfinished, 0);
	}
	must_eq(shmq_pop(q, SHMQ_ANY_LANE, buf, 16, &info, INT64_MAX), 5);
	must(memcmp(buf, "first", 5) == 0);
	must_eq(shmq_push(q, 1, buf, 8, INT64_MAX), 0);
	shmq_close(q);
}
END_TEST

START_TEST(errno_is_left_alone)
{
	struct shmq *q = create_attach("q", 1, 1, 8), *none;
	struct shmq_stat st;
	char buf[8];

	errno = ENOTTY;
	must_eq(shmq_pop(q, 0, buf, 8, NULL, 0), -EAGAIN);
	must_eq(shmq_pop(q, 0, buf, 8, NULL, (int64_t)MS), -ETIMEDOUT);
	must_eq(shmq_push(q, 0, buf, 8, 0), 0);
	must_eq(shmq_push(q, 0, buf, 8, (int64_t)MS), -ETIMEDOUT);
	must_eq(shmq_create("q", NULL), -EEXIST);
	must_eq(shmq_open(&none, "none", 0), -ENOENT);
	must_eq(shmq_unlink("none"), -ENOENT);
	stat_of(q, &st);
	shmq_close(q);
	must_eq(errno, ENOTTY);
}
END_TEST

/* ---- looking ------------------------------------------------------------ */

START_TEST(pressure_follows_the_fill_level)
{
	struct shmq *q = create_attach("q", 2, 100, 8);
	struct shmq_pressure p;

	for (unsigned n = 0; n <= 100; n++) {
		unsigned level = n < 50 ? SHMQ_LEVEL_NORMAL
			       : n < 80 ? SHMQ_LEVEL_WARNING
			       : n < 95 ? SHMQ_LEVEL_CRITICAL
					: SHMQ_LEVEL_OVERLOADED;
		static const unsigned batch[] = { 64, 16, 4, 1 };

		must_eq(shmq_pressure(q, 1, &p), 0);
		must_eq(p.depth, n);
		must_eq(p.capacity, 100);
		must_eq(p.level, level);
		must_eq(p.batch, batch[level]);
		must_eq(shmq_push(q, 1, "x", 1, 0), n < 100 ? 0 : -EAGAIN);
	}
	must_eq(shmq_pressure(q, 0, &p), 0);
	must_eq(p.depth, 0);
	shmq_close(q);
}
END_TEST

/* Long segments are faster, and cost memory: what is spare is little, or nothing to speak
 * of. */
START_TEST(segments_are_as_long_as_the_spare_memory_allows)
{
	static const struct {
		uint64_t capacity;
		uint32_t participants, slots;
		unsigned percent; /* of the payload, at most */
	} wants[] = {
		{ 16, 64, 8, 20000 },	  { 64, 64, 32, 14000 },  { 256, 64, 32, 3500 },
		{ 1024, 64, 64, 1750 },	  { 65536, 64, 64, 155 },
		{ 65536, 208, 16, 155 },  { 100000, 64, 32, 135 }, { 1000000, 64, 64, 130 },
	};

	for (size_t i = 0; i < ARRAY_LEN(wants); i++) {
		struct shmq_config c = config(1, wants[i].capacity, 64);
		struct shmq_stat st;
		struct shmq *q;

		c.max_participants = wants[i].participants;
		must_eq(shmq_create("q", &c), 0);
		q = attach("q");
		stat_of(q, &st);
		must_eq(st.slots_per_segment, wants[i].slots);
		must(st.region_bytes * 100 <= wants[i].capacity * 64 * wants[i].percent,
		     "%" PRIu64 " items: %" PRIu64 " bytes", wants[i].capacity, st.region_bytes);
		shmq_close(q);
		must_eq(shmq_unlink("q"), 0);
	}
}
END_TEST

START_TEST(stat_says_what_the_queue_is_made_of)
{
	struct shmq_config c = config(2, 77, 100);
	struct shmq *q;
	struct shmq_stat st;
	struct timespec t;
	uint64_t bytes, now;

	c.mode = 0640;
	c.max_participants = 5;
	strcpy(c.lanes[1].name, "slow-lane_1.xyz");
	c.lanes[1].capacity = 3;
	must_eq(shmq_region_size(&c, &bytes), 0);
	must_eq(shmq_create("q", &c), 0);
	q = attach("q");
	stat_of(q, &st);
	clock_gettime(CLOCK_REALTIME, &t);
	now = (uint64_t)t.tv_sec * SECOND + (uint64_t)t.tv_nsec;
	ck_assert_str_eq(st.name, "q");
	must_eq(st.region_bytes, bytes);
	must_eq(st.item_size, 100);
	must_eq(st.max_participants, 5);
	must_eq(st.nr_participants, 1);
	must_eq(st.nr_dead, 0);
	must_eq(st.flags, 0);
	must_eq(st.mode & 07777, 0640);
	must_eq(st.uid, geteuid());
	must_eq(st.gid, getegid());
	must_eq(st.creator_pid, getpid());
	must(memchr(st.creator, 0, sizeof(st.creator)) && st.creator[0]);
	must(st.created_ns <= now && st.created_ns > now - 60 * SECOND);
	must(st.format_major > 0 || st.format_minor > 0);
	must(st.segments >= 2 && st.slots_per_segment > 0);
	must(st.segments_free <= st.segments);
	must_eq(st.nr_lanes, 2);
	ck_assert_str_eq(st.lanes[0].name, "lane0");
	ck_assert_str_eq(st.lanes[1].name, "slow-lane_1.xyz");
	must_eq(st.lanes[0].capacity, 77);
	must_eq(st.lanes[1].capacity, 3);
	must_eq(st.lanes[0].oldest_ns, 0);
	st.sz = 0;
	must_eq(shmq_stat(q, &st), -EINVAL);
	st.sz = sizeof(size_t);
	must_eq(shmq_stat(q, &st), -EINVAL);
	shmq_close(q);
}
END_TEST

START_TEST(stamps_tell_how_long_an_item_waited)
{
	struct shmq_config c = config(2, 10, 8);
	struct shmq *q;
	struct shmq_stat st;
	struct shmq_info info;
	uint64_t t0, t1;
	char buf[8];

	c.flags = SHMQ_STAMP;
	must_eq(shmq_create("q", &c), 0);
	q = attach("q");
	t0 = now_ns();
	must_eq(shmq_push(q, 1, "old", 3, 0), 0);
	t1 = now_ns();
	sleep_ns(30 * MS);
	must_eq(shmq_push(q, 1, "young", 5, 0), 0);
	t1 = now_ns() - t1;
	stat_of(q, &st);
	must_eq(st.flags, SHMQ_STAMP);
	must(st.lanes[1].oldest_ns >= t1 &&
	     st.lanes[1].oldest_ns <= now_ns() - t0);
	must_eq(st.lanes[0].oldest_ns, 0);
	must_eq(shmq_pop(q, 1, buf, 8, &info, 0), 3);
	must(info.wait_ns >= t1 && info.wait_ns <= now_ns() - t0);
	must_eq(shmq_pop(q, 1, buf, 8, &info, 0), 5);
	must(info.wait_ns > 0 && info.wait_ns <= now_ns() - t0 - 30 * MS);
	stat_of(q, &st);
	must_eq(st.lanes[1].oldest_ns, 0);
	shmq_close(q);
}
END_TEST

START_TEST(participants_come_and_go)
{
	struct shmq_config c = config(1, 10, 8);
	struct shmq *h[5];
	struct shmq_participant p[8];
	struct shmq_stat st;
	unsigned roles[3] = { 0 };
	char buf[8];

	c.max_participants = 4;
	must_eq(shmq_create("q", &c), 0);
	for (int lap = 0; lap < 20; lap++) {
		for (int i = 0; i < 4; i++)
			if (i % 2)
				must_eq(shmq_dup(h[0], &h[i]), 0);
			else
				h[i] = attach("q");
		must_eq(shmq_open(&h[4], "q", 0), -EUSERS);
		must_eq(shmq_dup(h[0], &h[4]), -EUSERS);
		must_eq(shmq_open(&h[4], "q", SHMQ_OBSERVE), 0);
		must_eq(shmq_participants(h[4], p, 8), 4);
		shmq_close(h[4]);
		stat_of(h[0], &st);
		must_eq(st.nr_participants, 4);
		for (int i = 0; i < 4; i++)
			shmq_close(h[i]);
	}
	h[0] = attach("q");
	h[1] = attach("q");
	h[2] = attach("q");
	must_eq(shmq_push(h[0], 0, "x", 1, 0), 0);
	must_eq(shmq_pop(h[1], 0, buf, 8, NULL, 0), 1);
	must_eq(shmq_participants(h[0], NULL, 0), 3);
	memset(p, 0x5a, sizeof(p));
	must_eq(shmq_participants(h[0], p, 2), 3);
	must_eq(p[2].pid, 0x5a5a5a5a);
	must_eq(shmq_participants(h[2], p, 8), 3);
	for (int i = 0; i < 3; i++) {
		must_eq(p[i].pid, getpid());
		must_eq(p[i].alive, 1);
		must_eq(p[i].held, 0);
		must(p[i].index < 4 && p[i].command[0] && p[i].since_ns > 0);
		must(p[i].role <= SHMQ_ROLE_CONSUMER);
		must_eq(p[i].pushed, p[i].role == SHMQ_ROLE_PRODUCER);
		must_eq(p[i].popped, p[i].role == SHMQ_ROLE_CONSUMER);
		roles[p[i].role]++;
	}
	must(roles[0] == 1 && roles[1] == 1 && roles[2] == 1);
	for (int i = 0; i < 3; i++)
		shmq_close(h[i]);
}
END_TEST

/* ---- words -------------------------------------------------------------- */

START_TEST(every_error_has_words)
{
	static const int all[] = {
		EAGAIN, ETIMEDOUT, EINTR, EMSGSIZE, ECHRNG, ERANGE, EFAULT,
		EBADMSG, EPROTONOSUPPORT, ECHILD, EROFS, EUSERS, EDOM, ENODATA,
		EOPNOTSUPP, ENOENT, EEXIST, EINVAL, ENAMETOOLONG, ENOSPC, EPERM,
	};
	char text[ARRAY_LEN(all)][200], buf[200], tiny[4];

	for (unsigned i = 0; i < ARRAY_LEN(all); i++) {
		must_eq(shmq_strerror(-all[i], text[i], sizeof(text[i])), 0);
		must_eq(shmq_strerror(all[i], buf, sizeof(buf)), 0);
		ck_assert_str_eq(text[i], buf);
		must(strlen(buf) > 3 && !strchr(buf, '\n'));
		for (unsigned k = 0; k < i; k++)
			ck_assert_str_ne(text[k], text[i]);
	}
	memset(tiny, '#', sizeof(tiny));
	must_eq(shmq_strerror(-EAGAIN, tiny, 3), 0);
	must(memchr(tiny, 0, 3) && tiny[3] == '#');
	must_eq(shmq_strerror(-EAGAIN, tiny, 0), -EINVAL);
	must_eq(shmq_strerror(0, buf, sizeof(buf)), 0);
	must_eq(shmq_strerror(123456, buf, sizeof(buf)), 0);
	must_eq(shmq_strerror(INT_MIN, buf, sizeof(buf)), 0);
	ck_assert_str_eq(shmq_version(), "0.1.0");
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("lane");
	TCase *t = suite_case(s, "limit", 60);

	tcase_add_loop_test(t, a_lane_takes_exactly_its_capacity_on_every_lap,
			    0, ARRAY_LEN(capacities));
	tcase_add_loop_test(
		t, a_lane_takes_exactly_its_capacity_after_partial_drains, 0,
		ARRAY_LEN(capacities));
	tcase_add_loop_test(t, a_lane_takes_exactly_its_capacity_in_batches, 0,
			    ARRAY_LEN(capacities));
	tcase_add_test(t, a_full_lane_counts_what_it_refused);
	tcase_add_test(t, refused_says_nothing_before_a_refusal);

	t = suite_case(s, "order", 60);
	tcase_add_test(t, a_full_low_lane_does_not_refuse_a_push_to_high);
	tcase_add_test(t, any_lane_takes_the_highest_lane_first);
	tcase_add_test(t, pop_from_one_lane_leaves_the_others_alone);
	tcase_add_test(t, segments_move_between_lanes_for_millions_of_items);

	t = suite_case(s, "length", 60);
	tcase_add_loop_test(t, every_length_up_to_the_item_size_arrives_whole,
			    0, ARRAY_LEN(item_sizes));
	tcase_add_loop_test(t, an_item_longer_than_the_item_size_is_refused, 0,
			    ARRAY_LEN(item_sizes));
	tcase_add_test(t, a_short_buffer_leaves_the_item_and_tells_its_length);
	tcase_add_test(t, an_empty_item_needs_no_pointers);

	t = suite_case(s, "batch", 60);
	tcase_add_test(t, a_batch_is_pushed_as_far_as_it_fits);
	tcase_add_test(t, a_batch_may_be_longer_than_any_segment);
	tcase_add_test(t, a_batch_of_any_lane_goes_down_the_lanes);
	tcase_add_test(t,
		       an_item_too_long_for_its_room_ends_the_batch_before_it);

	t = suite_case(s, "errors", 60);
	tcase_add_test(
		t,
		a_bad_argument_is_refused_with_its_own_error_and_loses_nothing);
	tcase_add_test(t, errno_is_left_alone);
	tcase_add_test(t, every_error_has_words);

	t = suite_case(s, "looking", 60);
	tcase_add_test(t, pressure_follows_the_fill_level);
	tcase_add_test(t, segments_are_as_long_as_the_spare_memory_allows);
	tcase_add_test(t, stat_says_what_the_queue_is_made_of);
	tcase_add_test(t, stamps_tell_how_long_an_item_waited);
	tcase_add_test(t, participants_come_and_go);
	return s;
}

int main(void)
{
	return suite_run(suite());
}
