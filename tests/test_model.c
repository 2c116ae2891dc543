/* SPDX-License-Identifier: MIT */
/*
 * test_model.c - random operations of several handles against a queue of thirty
 * lines. After each step the result, the bytes and the depths must agree. A
 * failing sequence is cut down by halving before it is printed.
 */
#include "common.h"

enum { HANDLES = 4, MOST = 12, STEPS = 1500 };

enum kind { PUSH, PUSH_N, POP, POP_N, POP_SHORT, REOPEN, PRESSURE, NR_KINDS };

static const char *const kind_name[] = {
	"push", "push_n", "pop", "pop_n", "pop_short", "reopen", "pressure",
};

struct op {
	uint8_t kind, handle, n;
	int8_t lane;
	uint32_t len; /* of the items of a push; they differ a little */
	bool keep;    /* for shrinking */
};

/* ---- the model ---------------------------------------------------------- */

struct entry {
	size_t len;
	uint8_t fill;
};

struct model {
	unsigned nr_lanes;
	uint64_t capacity[SHMQ_MAX_LANES];
	struct entry *e[SHMQ_MAX_LANES]; /* [head, tail) of an endless array */
	uint64_t head[SHMQ_MAX_LANES], tail[SHMQ_MAX_LANES];
	uint64_t rejected[SHMQ_MAX_LANES];
};

static bool model_push(struct model *m, int lane, struct entry e)
{
	if (m->tail[lane] - m->head[lane] == m->capacity[lane]) {
		m->rejected[lane]++;
		return false;
	}
	m->e[lane][m->tail[lane]++] = e;
	return true;
}

/* The lane whose item comes next, or -1. */
static int model_next(const struct model *m, int lane)
{
	if (lane >= 0)
		return m->tail[lane] > m->head[lane] ? lane : -1;
	for (unsigned i = 0; i < m->nr_lanes; i++)
		if (m->tail[i] > m->head[i])
			return (int)i;
	return -1;
}

/* ---- one step ----------------------------------------------------------- */

struct world {
	struct shmq *h[HANDLES];
	struct model m;
	uint64_t item_size;
	uint8_t fill;
	char why[200];
};

static bool differ(struct world *w, const char *what, int64_t got, int64_t want)
{
	if (got == want)
		return false;
	snprintf(w->why, sizeof(w->why), "%s is %" PRId64 ", not %" PRId64,
		 what, got, want);
	return true;
}

static bool bytes_differ(struct world *w, const uint8_t *p, struct entry e,
			 size_t room)
{
	for (size_t i = 0; i < room; i++)
		if (p[i] != (i < e.len ? e.fill : 0xee)) {
			snprintf(w->why, sizeof(w->why),
				 "byte %zu of %zu is %d, not %d", i, e.len,
				 p[i], e.fill);
			return true;
		}
	return false;
}

static bool push_fails(struct world *w, const struct op *o, uint8_t *buf)
{
	struct iovec v[MOST] = { { 0 } };
	int n = o->kind == PUSH ? 1 : o->n, fit = 0, got;

	for (int i = 0; i < n; i++) {
		size_t len = (o->len + (uint32_t)i * 3) % (w->item_size + 1);
		struct entry e = { len, (uint8_t)(w->fill++ | 1) };

		v[i].iov_base = memset(buf + (size_t)i * w->item_size, e.fill,
				       len);
		v[i].iov_len = len;
		fit += model_push(&w->m, o->lane, e);
	}
	if (o->kind == PUSH) {
		got = shmq_push(w->h[o->handle], o->lane, v[0].iov_base,
				v[0].iov_len, SHMQ_NOWAIT);
		return differ(w, "push", got, fit ? 0 : -EAGAIN);
	}
	got = shmq_push_n(w->h[o->handle], o->lane, v, n, SHMQ_NOWAIT);
	return differ(w, "push_n", got, fit ? fit : -EAGAIN);
}

static bool pop_fails(struct world *w, const struct op *o, uint8_t *buf)
{
	int lane = model_next(&w->m, o->lane);
	struct shmq_info info = { 0 };
	size_t room = w->item_size;
	struct entry e = { 0 };
	ssize_t got;

	memset(buf, 0xee, room);
	if (lane >= 0)
		e = w->m.e[lane][w->m.head[lane]];
	if (o->kind == POP_SHORT && lane >= 0 && e.len > 0)
		room = e.len - 1;
	got = shmq_pop(w->h[o->handle], o->lane, buf, room, &info, SHMQ_NOWAIT);
	if (lane < 0)
		return differ(w, "pop", got, -EAGAIN);
	if (room < e.len)
		return differ(w, "pop", got, -EMSGSIZE) ||
		       differ(w, "info.len", info.len, (int64_t)e.len);
	w->m.head[lane]++;
	return differ(w, "pop", got, (int64_t)e.len) ||
	       differ(w, "info.len", info.len, (int64_t)e.len) ||
	       differ(w, "info.lane", info.lane, lane) ||
	       differ(w, "info.attempts", info.attempts, 1) ||
	       bytes_differ(w, buf, e, w->item_size);
}

static bool pop_n_fails(struct world *w, const struct op *o, uint8_t *buf)
{
	struct shmq_info info[MOST] = { 0 };
	struct iovec v[MOST];
	int got, want = 0;

	memset(buf, 0xee, MOST * w->item_size);
	for (int i = 0; i < o->n; i++)
		v[i] = (struct iovec){ buf + (size_t)i * w->item_size,
				       w->item_size };
	got = shmq_pop_n(w->h[o->handle], o->lane, v, info, o->n, SHMQ_NOWAIT);
	for (int lane; want < o->n && (lane = model_next(&w->m, o->lane)) >= 0;
	     want++) {
		struct entry e = w->m.e[lane][w->m.head[lane]++];

		if (want >= got)
			continue; /* the count differs, see below */
		if (differ(w, "iov_len", (int64_t)v[want].iov_len,
			   (int64_t)e.len) ||
		    differ(w, "infos.lane", info[want].lane, lane) ||
		    differ(w, "infos.len", info[want].len, (int64_t)e.len) ||
		    bytes_differ(w, v[want].iov_base, e, w->item_size))
			return true;
	}
	return differ(w, "pop_n", got, want ? want : -EAGAIN);
}

static bool reopen_fails(struct world *w, const struct op *o)
{
	struct shmq **h = &w->h[o->handle];
	int from = (o->handle + 1) % HANDLES;

	shmq_close(*h);
	*h = NULL;
	return differ(w, "open or dup",
		      o->n % 2 ? shmq_open(h, "q", 0) : shmq_dup(w->h[from], h),
		      0);
}

static bool pressure_fails(struct world *w, const struct op *o)
{
	struct shmq_pressure p;
	int got = shmq_pressure(w->h[o->handle], o->lane, &p);
	uint64_t depth = w->m.tail[o->lane] - w->m.head[o->lane];

	if (differ(w, "pressure", got, 0) ||
	    differ(w, "capacity", (int64_t)p.capacity,
		   (int64_t)w->m.capacity[o->lane]))
		return true;
	return p.depth < depth &&
	       differ(w, "pressure depth", (int64_t)p.depth, (int64_t)depth);
}

static bool stat_fails(struct world *w, const struct op *o)
{
	struct shmq_stat st = { .sz = sizeof(st) };

	if (differ(w, "stat", shmq_stat(w->h[o->handle], &st), 0) ||
	    differ(w, "participants", st.nr_participants, HANDLES))
		return true;
	for (unsigned i = 0; i < w->m.nr_lanes; i++) {
		const struct shmq_lane_stat *l = &st.lanes[i];

		if (differ(w, "depth", (int64_t)l->depth,
			   (int64_t)(w->m.tail[i] - w->m.head[i])) ||
		    differ(w, "pushed", (int64_t)l->pushed,
			   (int64_t)w->m.tail[i]) ||
		    differ(w, "popped", (int64_t)l->popped,
			   (int64_t)w->m.head[i]) ||
		    differ(w, "rejected", (int64_t)l->rejected,
			   (int64_t)w->m.rejected[i]) ||
		    differ(w, "held", (int64_t)l->held, 0) ||
		    differ(w, "unfinished", (int64_t)l->unfinished, 0))
			return true;
	}
	return false;
}

static bool step_fails(struct world *w, const struct op *o, uint8_t *buf)
{
	switch (o->kind) {
	case PUSH:
	case PUSH_N:
		return push_fails(w, o, buf);
	case POP:
	case POP_SHORT:
		return pop_fails(w, o, buf);
	case POP_N:
		return pop_n_fails(w, o, buf);
	case REOPEN:
		return reopen_fails(w, o);
	default:
		return pressure_fails(w, o);
	}
}

/* ---- a sequence --------------------------------------------------------- */

/* Play what is kept of the sequence. Returns the step that failed, or -1. */
static int play(const struct shmq_config *c, const struct op *op, int n,
		char *why)
{
	struct world w = { .item_size = c->item_size };
	uint8_t *buf = malloc(MOST * c->item_size);
	int failed = -1;

	w.m.nr_lanes = c->nr_lanes;
	for (unsigned i = 0; i < c->nr_lanes; i++) {
		w.m.capacity[i] = c->lanes[i].capacity;
		w.m.e[i] = malloc(sizeof(struct entry) * MOST * (size_t)n);
	}
	must_eq(shmq_create("q", c), 0);
	for (int i = 0; i < HANDLES; i++)
		w.h[i] = attach("q");
	for (int i = 0; i < n && failed < 0; i++)
		if (op[i].keep &&
		    (step_fails(&w, &op[i], buf) || stat_fails(&w, &op[i])))
			failed = i;
	for (int i = 0; i < HANDLES; i++)
		shmq_close(w.h[i]);
	must_eq(shmq_unlink("q"), 0);
	for (unsigned i = 0; i < c->nr_lanes; i++)
		free(w.m.e[i]);
	free(buf);
	strcpy(why, w.why);
	return failed;
}

/* Leave out ever smaller pieces as long as the rest still fails. */
static int shrink(const struct shmq_config *c, struct op *op, int n, char *why)
{
	for (int piece = n / 2; piece > 0; piece /= 2)
		for (int at = 0; at < n; at += piece) {
			int end = at + piece < n ? at + piece : n, last;
			bool was[STEPS];
			char text[200];

			for (int i = at; i < end; i++) {
				was[i] = op[i].keep;
				op[i].keep = false;
			}
			last = play(c, op, n, text);
			if (last >= 0) {
				n = last + 1;
				strcpy(why, text);
				continue;
			}
			for (int i = at; i < end; i++)
				op[i].keep = was[i];
		}
	return n;
}

static void print(const struct shmq_config *c, const struct op *op, int n)
{
	fprintf(stderr, "# item_size %" PRIu64 ", capacities", c->item_size);
	for (unsigned i = 0; i < c->nr_lanes; i++)
		fprintf(stderr, " %" PRIu64, c->lanes[i].capacity);
	fprintf(stderr, "\n");
	for (int i = 0; i < n; i++)
		if (op[i].keep)
			fprintf(stderr, "# %s handle %d lane %d n %d len %u\n",
				kind_name[op[i].kind], op[i].handle, op[i].lane,
				op[i].n, op[i].len);
}

static struct shmq_config random_config(struct rng *r)
{
	static const uint64_t sizes[] = { 8, 9, 30, 64, 65, 200 };
	struct shmq_config c = config(1 + (unsigned)rng_below(r, SHMQ_MAX_LANES),
				      1, sizes[rng_below(r, 6)]);

	for (unsigned i = 0; i < c.nr_lanes; i++)
		c.lanes[i].capacity =
			1 + rng_below(r, rng_below(r, 4) ? 12 : 150);
	return c;
}

static struct op random_op(struct rng *r, const struct shmq_config *c,
			   uint64_t bias)
{
	struct op o = { .keep = true };
	uint64_t x = rng_below(r, 100);

	o.kind = x < 4		? REOPEN
		 : x < 8	? PRESSURE
		 : x < 14	? POP_SHORT
		 : x < 14 + bias ? (rng_below(r, 2) ? PUSH : PUSH_N)
				: (rng_below(r, 2) ? POP : POP_N);
	o.handle = (uint8_t)rng_below(r, HANDLES);
	o.n = (uint8_t)(1 + rng_below(r, MOST));
	o.lane = (int8_t)rng_below(r, c->nr_lanes);
	if ((o.kind == POP || o.kind == POP_N || o.kind == POP_SHORT) &&
	    rng_below(r, 2))
		o.lane = SHMQ_ANY_LANE;
	o.len = (uint32_t)rng_below(r, c->item_size + 1);
	return o;
}

START_TEST(random_operations_agree_with_the_model)
{
	static struct op op[STEPS];
	uint64_t sd = seed("model");
	char why[200];

	for (long run = 0; run < counts(250); run++) {
		struct rng r = rng_of(sd, (uint64_t)run);
		struct shmq_config c = random_config(&r);
		int n = STEPS, failed;

		for (int i = 0; i < n; i++) /* tides: mostly full, then empty */
			op[i] = random_op(&r, &c, i / 200 % 2 ? 33 : 53);
		failed = play(&c, op, n, why);
		if (failed < 0)
			continue;
		n = shrink(&c, op, failed + 1, why);
		print(&c, op, n);
		ck_abort_msg("run %ld, step %d: %s; SHMQ_SEED=%" PRIu64
			     "; the shortest sequence is on stderr",
			     run, failed, why, sd);
	}
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("model");
	TCase *t = suite_case(s, "model", 120);

	tcase_add_test(t, random_operations_agree_with_the_model);
	return s;
}

int main(void)
{
	return suite_run(suite());
}
