/* SPDX-License-Identifier: MIT */
/* scene.c - see scene.h. */
#include "scene.h"

#include "trace.h"

#include "queue.h"
#include "region.h"

#include <sys/ptrace.h>
#include <sys/wait.h>
#include <time.h>

enum { VICTIM = 10, FILLER = 20 }; /* producer of an item: lane, VICTIM + actor, ... */

#define QUEUE "q"
#define LAP_MAX 4096

static const struct {
	const char *name;
	unsigned tickets; /* it may have drawn and not published, while it stands */
	unsigned pushes;  /* items that may be there if it is killed */
	unsigned holds;   /* items it may have in hand, while it stands */
	unsigned loses;   /* items that may be gone if it is killed */
	bool prepares;    /* it reserves or peeks before the call */
} ops[NR_OPS] = {
	[OP_PUSH] = { "push", 1, 1, 0, 0, false },
	[OP_PUSH_N] = { "push_n", BATCH, BATCH, 0, 0, false },
	[OP_RESERVE] = { "reserve", 1, 0, 0, 0, false },
	[OP_COMMIT] = { "commit", 1, 1, 0, 0, true },
	[OP_ABORT] = { "abort", 1, 0, 0, 0, true },
	[OP_POP] = { "pop", 0, 0, 1, 1, false },
	[OP_POP_ANY] = { "pop any", 0, 0, 1, 1, false },
	[OP_POP_N] = { "pop_n", 0, 0, BATCH, BATCH, false },
	[OP_PEEK] = { "peek", 0, 0, 1, 0, false },
	[OP_RELEASE] = { "release", 0, 0, 1, 1, true },
	[OP_REQUEUE] = { "requeue", 0, 0, 1, 0, true },
	[OP_RECOVER] = { "recover", 0, 0, 0, 0, false },
	[OP_OPEN] = { "open", 0, 0, 0, 0, false },
	[OP_CLOSE] = { "close", 0, 0, 0, 0, false },
};

static bool pushes(enum op op)
{
	return ops[op].tickets > 0;
}

static bool pops(enum op op)
{
	return ops[op].holds > 0;
}

const char *op_name(enum op op)
{
	return ops[op].name;
}

bool op_prepares(enum op op)
{
	return ops[op].prepares;
}

/* Items in the lane before the call, one that it holds included. */
static unsigned items_of(const struct scene *s)
{
	unsigned n = s->capacity;

	switch (s->fill) {
	case EMPTY: n = 0; break;
	case ONE: n = 1; break;
	case SOME: n = 12; break;
	case ALL_BUT_ONE: n--; break;
	case FULL: break;
	}
	if (ops[s->op].prepares && pops(s->op) && n == 0)
		n = 1;
	if (s->trouble == HOLE && n == s->capacity)
		n--;
	if (ops[s->op].prepares && pushes(s->op) && n + (s->trouble == HOLE) == s->capacity)
		n--;
	return n;
}

static unsigned least(unsigned a, unsigned b)
{
	return a < b ? a : b;
}

unsigned scene_moves(const struct scene *s)
{
	unsigned here = items_of(s);

	/* One is held by a corpse, unless the pop looks first, or moved away. */
	if (pops(s->op))
		return least(ops[s->op].loses,
			     here - (s->trouble >= CORPSES && s->trouble != PROBE));
	return least(ops[s->op].pushes, s->capacity - here - (s->trouble == HOLE));
}

/* ---- items ---------------------------------------------------------------------- */

static size_t item_len(uint64_t seq)
{
	return STAMP_LEN + seq * 7 % (ITEM_SIZE - STAMP_LEN + 1);
}

static size_t item_make(char *buf, uint32_t producer, uint64_t seq)
{
	item_fill(buf, item_len(seq), producer, seq);
	return item_len(seq);
}

static struct stamp item_of(const char *buf, size_t len)
{
	struct stamp st;

	must(item_read(buf, len, &st), "an item of %zu bytes is damaged", len);
	must_eq(st.len, len);
	must_eq(len, item_len(st.seq));
	return st;
}

static void book_add(struct book *b)
{
	must(b->to - b->from < ARRAY_LEN(b->seq));
	b->seq[b->to++ % ARRAY_LEN(b->seq)] = b->next++;
}

void book_remove(struct book *b, uint64_t seq)
{
	uint64_t i = b->from, n = ARRAY_LEN(b->seq);

	while (i != b->to && b->seq[i % n] != seq)
		i++;
	must(i != b->to, "item %" PRIu64 " is not due: %s", seq,
	     seq < b->next ? "it has come before" : "it was never pushed");
	for (; i != b->from; i--)
		b->seq[i % n] = b->seq[(i - 1) % n];
	b->from++;
}

/* An item came out of @lane, in the hands of the helper or the checker. */
static void arrived(struct world *w, unsigned lane, const struct stamp *st, bool in_order)
{
	struct book *b = &w->book[lane];
	uint64_t i;

	if (st->producer < LANES) {
		if (w->doomed && lane == DEAD_LANE && st->producer != lane) {
			book_remove(&w->book[st->producer], st->seq);
			return;
		}
		must_eq(st->producer, lane);
		if (in_order)
			must(st->seq >= b->last, "item %" PRIu64 " of lane %u comes after %" PRIu64,
			     st->seq, lane, b->last - 1);
		if (in_order)
			b->last = st->seq + 1;
		book_remove(b, st->seq);
		return;
	}
	i = st->producer - VICTIM;
	must(i < ACTORS && w->actor[i].fate != ABSENT && pushes(w->actor[i].op) &&
	     (unsigned)w->actor[i].lane == lane && st->seq < ops[w->actor[i].op].tickets,
	     "item %" PRIu64 " of producer %u: nobody pushed it", st->seq, st->producer);
	must(!(atomic_load(&w->actor[i].seen) & 1u << st->seq), "the victim's item %" PRIu64
	     " comes twice", st->seq);
	must(!in_order || !(atomic_load(&w->actor[i].seen) >> st->seq), "the victim's item %"
	     PRIu64 " comes too late", st->seq);
	atomic_fetch_or(&w->actor[i].seen, 1u << st->seq);
}

/* ---- actors --------------------------------------------------------------------- */

struct part {
	struct world *w;
	int i;
};

#define CALL(expr)                                                                     \
	do {                                                                           \
		step_mark(); /* the queue is as the scene wants it */                  \
		a->result = (expr);                                                    \
		atomic_store(&a->done, 1);                                             \
		atomic_store(&a->ended, 1);                                            \
		step_mark();                                                           \
	} while (0)

/* Know the lane: have pushed to it and popped from it. */
static void warm_up(struct shmq *q, int lane)
{
	char buf[ITEM_SIZE];

	for (int i = 0; i < 2; i++) {
		must_eq(shmq_push(q, lane, buf, sizeof(buf), 0), 0);
		must_eq(shmq_pop(q, lane, buf, sizeof(buf), NULL, 0), sizeof(buf));
	}
}

static void act_push(struct actor *a, struct shmq *q, uint32_t me)
{
	char buf[BATCH][ITEM_SIZE];
	struct iovec v[BATCH];

	for (unsigned i = 0; i < BATCH; i++)
		v[i] = (struct iovec){ buf[i], item_make(buf[i], me, i) };
	if (a->op == OP_PUSH)
		CALL(shmq_push(q, a->lane, buf[0], v[0].iov_len, a->timeout_ns));
	else
		CALL(shmq_push_n(q, a->lane, v, BATCH, a->timeout_ns));
	a->nr_pushed = a->result < 0 ? 0 : a->op == OP_PUSH ? 1 : (int)a->result;
}

static void act_reserve(struct actor *a, struct shmq *q, uint32_t me)
{
	void *to = NULL;

	if (a->op == OP_RESERVE)
		CALL(shmq_reserve(q, a->lane, &to, a->timeout_ns));
	else
		must_eq(shmq_reserve(q, a->lane, &to, 0), 0);
	if (to)
		item_make(to, me, 0);
	if (a->op == OP_COMMIT)
		CALL(shmq_commit(q, item_len(0)));
	else if (a->op == OP_ABORT)
		CALL(shmq_abort(q));
	else if (a->result == 0)
		must_eq(shmq_commit(q, item_len(0)), 0);
	a->nr_pushed = a->result == 0 && a->op != OP_ABORT;
}

static void act_pop(struct actor *a, struct shmq *q)
{
	char buf[BATCH][ITEM_SIZE];
	struct iovec v[BATCH];

	for (int i = 0; i < BATCH; i++)
		v[i] = (struct iovec){ buf[i], ITEM_SIZE };
	if (a->op == OP_POP_N)
		CALL(shmq_pop_n(q, a->lane, v, NULL, BATCH, a->timeout_ns));
	else
		CALL(shmq_pop(q, a->op == OP_POP_ANY ? SHMQ_ANY_LANE : a->lane, buf[0],
			      ITEM_SIZE, NULL, a->timeout_ns));
	if (a->op != OP_POP_N && a->result >= 0)
		v[0].iov_len = (size_t)a->result;
	a->nr_got = a->result < 0 ? 0 : a->op == OP_POP_N ? (int)a->result : 1;
	for (int i = 0; i < a->nr_got; i++)
		a->got[i] = item_of(buf[i], v[i].iov_len);
}

static void act_peek(struct actor *a, struct shmq *q)
{
	struct shmq_lease l;

	if (a->op == OP_PEEK)
		CALL(shmq_peek(q, a->lane, &l, a->timeout_ns));
	else
		must_eq(shmq_peek(q, a->lane, &l, 0), 0);
	if (a->op != OP_PEEK || a->result == 0)
		a->got[0] = item_of(l.data, l.info.len);
	if (a->op == OP_RELEASE)
		CALL(shmq_release(q, &l));
	else if (a->op == OP_REQUEUE)
		CALL(shmq_requeue(q, &l));
	else if (a->result == 0)
		must_eq(shmq_release(q, &l), 0);
	a->nr_got = a->result == 0 && a->op != OP_REQUEUE;
}

static void act(struct actor *a, struct shmq *q, uint32_t me)
{
	switch (a->op) {
	case OP_PUSH:
	case OP_PUSH_N: act_push(a, q, me); break;
	case OP_RESERVE:
	case OP_COMMIT:
	case OP_ABORT: act_reserve(a, q, me); break;
	case OP_POP:
	case OP_POP_ANY:
	case OP_POP_N: act_pop(a, q); break;
	case OP_PEEK:
	case OP_RELEASE:
	case OP_REQUEUE: act_peek(a, q); break;
	case OP_RECOVER: CALL(shmq_recover(q, NULL)); break;
	case OP_OPEN: CALL(shmq_open(&q, QUEUE, 0)); break;
	default: CALL((shmq_close(q), 0)); q = NULL;
	}
	shmq_close(q);
}

/* It has popped, and so the next pop has little to find out. */
static bool pops_before(enum op op, bool first_use)
{
	return pops(op) && !ops[op].prepares && !first_use;
}

/* Likewise, it has pushed the last item that waits, or one that is gone again. */
static bool pushes_before(enum op op, bool first_use)
{
	return pushes(op) && !ops[op].prepares && !first_use;
}

static int actor_main(void *arg)
{
	struct part *p = arg;
	struct actor *a = &p->w->actor[p->i];
	struct shmq *q = NULL;
	char buf[ITEM_SIZE];

	if (a->op != OP_OPEN)
		q = attach(QUEUE);
	if (a->polls)
		must(shmq_pollfd(q, SHMQ_READABLE | SHMQ_WRITABLE) >= 0);
	if (!a->first_use)
		do {
			q->slow = 0;
			q->came_by_ns = INT64_MAX; /* in a hurry: the short way opens */
			warm_up(q, a->lane);
		} while (q->slow);
	step_mark(); /* others make the scene */
	if (pops_before(a->op, a->first_use))
		must(shmq_pop(q, a->lane, buf, sizeof(buf), NULL, 0) > 0);
	if (pushes_before(a->op, a->first_use)) { /* in the name of the helper */
		struct book *b = &p->w->book[a->lane];

		must_eq(shmq_push(q, a->lane, buf,
				  item_make(buf, (uint32_t)a->lane, b->next), 0), 0);
		book_add(b);
	}
	if (a->reserving) {
		void *to;

		must_eq(shmq_reserve(q, RESERVED_LANE, &to, 0), 0);
	}
	act(a, q, (uint32_t)(VICTIM + p->i));
	return 0;
}

/* ---- setting the stage ------------------------------------------------------------ */

static void helper_push(struct stage *g, unsigned lane)
{
	struct book *b = &g->w->book[lane];
	char buf[ITEM_SIZE];
	size_t len = item_make(buf, lane, b->next);

	must_eq(shmq_push(g->q, (int)lane, buf, len, 0), 0);
	book_add(b);
}

/* Items may come back, and then after newer ones that others took meanwhile. */
static bool returns(const struct world *w)
{
	for (int i = 0; i < ACTORS; i++)
		if ((pops(w->actor[i].op) && w->actor[i].fate == KILLED) ||
		    (w->actor[i].fate != ABSENT && w->actor[i].op == OP_REQUEUE))
			return true;
	return false;
}

/* False: the lane is empty. */
static bool helper_pop(struct stage *g, unsigned lane)
{
	char buf[ITEM_SIZE];
	struct shmq_info info;
	struct stamp st;
	/* Both ways through pop: with an info and without. */
	bool plain = g->w->book[lane].next % 2;
	ssize_t n = shmq_pop(g->q, (int)lane, buf, sizeof(buf), plain ? NULL : &info, 0);

	if (n == -EAGAIN)
		return false;
	must(n >= 0, "pop: %zd", n);
	st = item_of(buf, (size_t)n);
	if (!plain && !g->w->doomed)
		must(info.attempts == 1 || returns(g->w));
	arrived(g->w, lane, &st, !returns(g->w));
	return true;
}

static uint64_t tail_of(struct stage *g, unsigned lane)
{
	return atomic_load(&lane_of(g->q, lane)->tail);
}

/* Push and pop until the next ticket of the lane has place @slot in its segment. */
static void align(struct stage *g, unsigned lane, unsigned slot)
{
	while (tail_of(g, lane) % g->q->geo.slots != slot % g->q->geo.slots) {
		helper_push(g, lane);
		must(helper_pop(g, lane));
	}
}

static void enter(struct stage *g, int i, enum op op, int lane, bool first_use)
{
	struct actor *a = &g->w->actor[i];
	struct part p = { g->w, i };

	memset(a, 0, sizeof(*a));
	a->op = op;
	a->lane = lane;
	a->first_use = first_use;
	a->reserving = g->s->reserving && i == 0;
	a->polls = i == 0 && g->s->polls;
	a->timeout_ns = g->s->timeout_ns;
	a->fate = STANDING;
	must(trace_spawn(&g->pid[i], actor_main, &p));
	step_to_mark(g->pid[i]);
}

void stage_enter(struct stage *g, int i, enum op op, int lane, bool first_use)
{
	enter(g, i, op, lane, first_use);
	step_to_mark(g->pid[i]);
}

/* An actor on the way to where it has taken something. */
struct goal {
	struct stage *g;
	int i;
	uint64_t held, unfinished; /* in its lane */
	bool named;                /* its record must name the ticket */
};

/* Somebody's record names a ticket. */
static bool exact(struct stage *g)
{
	for (unsigned i = 0; i < g->s->participants; i++)
		if (record_kind(atomic_load(&participant_of(g->q, i)->record)) == RECORD_EXACT)
			return true;
	return false;
}

static bool reached(void *arg, long k)
{
	struct goal *t = arg;
	struct shmq_stat st;
	int lane = t->g->w->actor[t->i].lane;

	(void)k;
	stat_of(t->g->q, &st);
	return st.lanes[lane].held == t->held && st.lanes[lane].unfinished == t->unfinished &&
	       (!t->named || exact(t->g));
}

/* The way there is looked for once: scenes repeat themselves. */
static void go(struct goal *t)
{
	struct step_record *way = &t->g->way[t->i];
	const atomic_int *done = &t->g->w->actor[t->i].done;
	pid_t pid = t->g->pid[t->i];
	bool astray = false;

	if (way->n == 0)
		step_record(pid, way, done, reached, NULL, t);
	else if (step_to(pid, way, 0, way->n - 1, done, &astray))
		step_one(pid, false);
	must(!atomic_load(done) && reached(t, 0), "actor %d is not where it should be", t->i);
}

/* A producer is stopped with a ticket, its record complete: whatever dies meanwhile is
 * told from it. */
static void make_hole(struct stage *g, int i, int lane)
{
	stage_enter(g, i, OP_PUSH, lane, true);
	go(&(struct goal){ g, i, 0, 1, true });
}

static void make_corpses(struct stage *g)
{
	stage_enter(g, 2, OP_PEEK, g->s->lane, true);
	go(&(struct goal){ g, 2, 1, 0, false });
	stage_enter(g, 3, OP_PUSH, g->s->lane, true);
	go(&(struct goal){ g, 3, 1, 1, false });
	for (int i = 2; i < 4; i++) {
		stage_kill(g, i);
		stage_reap(g, i);
	}
}

static void make_queue(const struct scene *s)
{
	struct shmq_config c = config(LANES, s->capacity, ITEM_SIZE);

	c.max_participants = s->participants;
	if (s->trouble == DOOMED) {
		c.max_attempts = MAX_ATTEMPTS;
		c.dead_lane = DEAD_LANE;
	}
	must_eq(region_create(QUEUE, &c, SLOTS, s->first_number ? s->first_number : 1,
			      s->first_inc), 0);
}

static bool permitted(void)
{
	static int known; /* 1 yes, -1 no */
	pid_t pid;

	if (!known)
		known = trace_spawn(&pid, NULL, NULL) ? (trace_kill(pid), 1) : -1;
	return known > 0;
}

/* Nobody gets rid of the first item of the lane: the next who takes it moves it. */
static void doom(struct stage *g)
{
	for (int i = 0; i < MAX_ATTEMPTS; i++) {
		struct shmq_lease l;

		must_eq(shmq_peek(g->q, g->s->lane, &l, 0), 0);
		must_eq(shmq_requeue(g->q, &l), 0);
	}
}

void stage_quiet(struct stage *g)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
	atomic_store(&wakeup_of(g->q)->probed_ns,
		     (uint64_t)t.tv_sec * SECOND + (uint64_t)t.tv_nsec);
}

void stage_push(struct stage *g)
{
	helper_push(g, (unsigned)g->s->lane);
}

void stage_wake(struct stage *g)
{
	if (pushes(g->s->op))
		must(helper_pop(g, (unsigned)g->s->lane));
	else
		stage_push(g);
}

/* Everything but the actor's call is done. */
static void set(struct stage *g)
{
	const struct scene *s = g->s;
	unsigned lane = (unsigned)s->lane, n = items_of(s), k, i;
	bool popped = pops_before(s->op, s->first_use), hole = s->trouble == HOLE;
	bool pushed = pushes_before(s->op, s->first_use);
	char buf[ITEM_SIZE] = { 0 };

	k = s->slot + LAP_MAX - popped - hole;
	if (pushes(s->op))
		k -= pushed && n == 0 ? 1 : n;
	align(g, lane, k);
	if (popped) /* the actor's pop before the call */
		must_eq(shmq_push(g->q, s->lane, buf, sizeof(buf), 0), 0);
	if (hole)
		make_hole(g, 1, s->lane);
	for (i = popped || pushed; i < n; i++)
		helper_push(g, lane);
	if (s->trouble == DOOMED && !popped)
		doom(g);
	step_to_mark(g->pid[0]);
	if (pushed && n == 0)
		must(helper_pop(g, lane));
	if (popped && n)
		helper_push(g, lane);
	if (s->trouble == DOOMED && popped)
		doom(g);
	/* Bystanders; in lower lanes only, if all lanes are looked at. */
	for (k = 0; k < LANES; k++)
		for (i = 0; i < 2; i++)
			if (s->op == OP_POP_ANY ? k > lane && n : k != lane)
				helper_push(g, k);
	if (s->trouble == CORPSES || s->trouble == PROBE)
		make_corpses(g);
	if (s->polled) {
		struct shmq_futex f;

		must(shmq_arm(g->q, s->lane, SHMQ_READABLE, &f) >= 0);
		must(shmq_arm(g->q, s->lane, SHMQ_WRITABLE, &f) >= 0);
	}
	stage_quiet(g);
	if (s->trouble == PROBE)
		atomic_store(&wakeup_of(g->q)->probed_ns, 1);
}

bool stage_open(struct stage *g, const struct scene *s, bool fresh)
{
	if (!permitted())
		return false;
	g->s = s;
	if (!g->w)
		g->w = shared(sizeof(*g->w));
	if (fresh) {
		memset(g->w, 0, sizeof(*g->w));
		make_queue(s);
		g->q = attach(QUEUE);
	} else {
		memset(g->w->actor, 0, sizeof(g->w->actor));
		atomic_store(&g->w->again, 0);
	}
	g->w->doomed = s->trouble == DOOMED;
	g->lapped = false;
	enter(g, 0, s->op, s->lane, s->first_use);
	set(g);
	return true;
}

/* ---- what becomes of actors --------------------------------------------------------- */

void stage_kill(struct stage *g, int i)
{
	step_kill(g->pid[i]);
	g->w->actor[i].fate = KILLED;
}

void stage_reap(struct stage *g, int i)
{
	must_eq(reap(g->pid[i]), SIGNALLED + SIGKILL);
}

void stage_finish(struct stage *g, int i)
{
	struct actor *a = &g->w->actor[i];

	if (!atomic_load(&a->ended)) /* else it stands at that mark */
		step_to_mark(g->pid[i]);
	must_eq(ptrace(PTRACE_DETACH, g->pid[i], NULL, NULL), 0);
	reap_ok(g->pid[i]);
	a->fate = FINISHED;
	if (a->result == -EAGAIN)
		must((pushes(a->op) || pops(a->op)) &&
		     (g->lapped || i > 0 || scene_moves(g->s) == 0),
		     "%s was refused, though nothing was in its way", ops[a->op].name);
	else
		must(a->result >= 0, "%s returned %d", ops[a->op].name, (int)a->result);
	for (int k = 0; k < a->nr_got; k++) {
		uint32_t from = a->got[k].producer;

		arrived(g->w, from < LANES ? from : (unsigned)a->lane, &a->got[k], false);
	}
}

/* ---- the helper's work ---------------------------------------------------------------- */

/* Fill the lane up, then empty it. */
static unsigned helper_lap(struct stage *g, unsigned lane)
{
	struct book *b = &g->w->book[lane];
	unsigned in = 0, out = 0, waiting = 0, stuck = 0, due = (unsigned)(b->to - b->from);
	char buf[ITEM_SIZE];
	int i, r;

	for (i = 0; i < ACTORS; i++) {
		const struct actor *a = &g->w->actor[i];

		if (a->fate == ABSENT)
			continue;
		stuck += a->reserving && lane == RESERVED_LANE;
		if (a->op != OP_POP_ANY && (unsigned)a->lane != lane)
			continue;
		stuck += ops[a->op].tickets;
		waiting += ops[a->op].holds;
	}
	while ((r = shmq_push(g->q, (int)lane, buf, item_make(buf, lane, b->next), 0)) == 0) {
		book_add(b);
		must(++in <= g->s->capacity);
	}
	must_eq(r, -EAGAIN);
	must(in + due + stuck >= g->s->capacity, "lane %u takes only %u beside %u", lane, in,
	     due);
	while (helper_pop(g, lane))
		out++;
	must(out <= g->s->capacity + waiting, "%u items in lane %u", out, lane);
	must(out + stuck + waiting >= g->s->capacity, "only %u items in lane %u", out, lane);
	return in;
}

void stage_work(struct stage *g, unsigned n)
{
	unsigned done = 0, lane = (unsigned)g->s->lane;

	g->lapped = true;
	while (done < n) {
		done += helper_lap(g, lane) + helper_lap(g, (lane + 1) % LANES);
		/* And close to empty, if the actors leave room for that. */
		for (unsigned i = 0; i < 20 && g->s->capacity > BATCH; i++, done++) {
			helper_push(g, lane);
			must(helper_pop(g, lane));
		}
	}
}

/* ---- the oracle --------------------------------------------------------------------- */

struct inspection {
	struct stage *g;
	enum check how;
	unsigned stuck;
};

static ssize_t look_at_item(struct inspection *c, struct shmq *q, unsigned lane, int64_t timeout)
{
	struct world *w = c->g->w;
	char buf[ITEM_SIZE];
	struct shmq_info info;
	struct stamp st;
	ssize_t n = shmq_pop(q, (int)lane, buf, sizeof(buf), &info, timeout);

	if (n < 0)
		return n;
	st = item_of(buf, (size_t)n);
	must_eq(info.lane, lane);
	if (!w->doomed || (st.producer == lane && lane != DEAD_LANE))
		must(info.attempts > 0 && info.attempts < ACTORS, "%u attempts", info.attempts);
	if (info.attempts > 1)
		atomic_fetch_add(&w->again, 1);
	/* What comes back is first, unless somebody was at work meanwhile. */
	arrived(w, lane, &st, info.attempts == 1 || (c->how == CHECK_RECOVER && !c->g->lapped));
	return n;
}

static void drain(struct inspection *c, struct shmq *q)
{
	bool none_dead = false;
	struct shmq_stat st;
	ssize_t n;

	stat_of(q, &st);
	for (unsigned i = 0; i < LANES; i++) { /* last the one that others move items to */
		unsigned lane = (DEAD_LANE + 1 + i) % LANES;
		uint64_t got = 0;

		while ((n = look_at_item(c, q, lane, 0)) >= 0)
			got++;
		must_eq(n, -EAGAIN);
		if (c->how == CHECK_RECOVER && !c->g->w->doomed)
			must_eq(got, st.lanes[lane].depth);
	}
	/* Of the dead, if nobody asked: a slice or two. */
	for (int i = 0; c->how == CHECK_WAIT && i < 40; i++) {
		for (unsigned lane = 0; lane < LANES; lane++)
			while ((n = look_at_item(c, q, lane, 5 * (int64_t)MS)) >= 0)
				;
		if (none_dead)
			return;
		stat_of(q, &st);
		none_dead = st.nr_dead == 0; /* and once more */
	}
}

/* Tickets of lane @lane that those who stand have drawn. */
static unsigned stuck_in(const struct inspection *c, unsigned lane)
{
	unsigned n = lane == (unsigned)c->g->s->lane ? c->stuck : 0;

	for (int i = 0; lane == RESERVED_LANE && i < ACTORS; i++)
		n += c->g->w->actor[i].reserving && c->g->w->actor[i].fate == STANDING;
	return n;
}

static void stat_check(struct inspection *c, struct shmq *q, uint64_t depth)
{
	struct shmq_stat st;
	unsigned standing = 2; /* the helper and this process */

	for (int i = 0; i < ACTORS; i++)
		standing += c->g->w->actor[i].fate == STANDING;
	stat_of(q, &st);
	must_eq(st.nr_dead, 0);
	must_eq(st.nr_participants, standing);
	for (unsigned lane = 0; lane < LANES; lane++) {
		unsigned stuck = stuck_in(c, lane);

		must_eq(st.lanes[lane].held, 0);
		must_eq(st.lanes[lane].unfinished, stuck);
		must_eq(st.lanes[lane].depth, depth ? depth - stuck : 0);
		must_eq(st.lanes[lane].redelivered, 0);
	}
}

/* Nobody installs a segment, so nobody owns one. */
static void segments_check(struct inspection *c, struct shmq *q)
{
	for (int i = 0; i < ACTORS; i++)
		if (c->g->w->actor[i].fate == STANDING)
			return;
	for (uint32_t s = 0; s < q->geo.nr_segments; s++)
		must(segment_state(atomic_load(&segment_of(q, s)->hdr)) != SEGMENT_OWNED,
		     "segment %u is still owned", s);
}

/* Empty, each lane takes its capacity and gives it back in order. */
static void capacity_check(struct inspection *c, struct shmq *q, bool with_info)
{
	struct shmq_info info;
	char buf[ITEM_SIZE];
	uint64_t seq;
	ssize_t n;

	for (unsigned lane = 0; lane < LANES; lane++) {
		for (seq = 0; shmq_push(q, (int)lane, buf, item_make(buf, FILLER + lane, seq),
					0) == 0; seq++)
			;
		must_eq(seq, c->g->s->capacity - stuck_in(c, lane));
	}
	stat_check(c, q, c->g->s->capacity);
	for (unsigned lane = 0; lane < LANES; lane++) {
		for (seq = 0; (n = shmq_pop(q, (int)lane, buf, sizeof(buf),
					    with_info ? &info : NULL, 0)) >= 0; seq++) {
			struct stamp st = item_of(buf, (size_t)n);

			must_eq(st.producer, FILLER + lane);
			must_eq(st.seq, seq);
		}
		must_eq(n, -EAGAIN);
		must_eq(seq, c->g->s->capacity - stuck_in(c, lane));
	}
	stat_check(c, q, 0);
}

/* Of the batch of actor @a as much has come out as may have: how far, with *@gaps items
 * before that, or before what its call returned, that have not. */
static unsigned account_pushed(const struct actor *a, unsigned *gaps)
{
	unsigned seen = atomic_load(&a->seen), n = 0;

	while (seen >> n)
		n++;
	if (a->fate == KILLED)
		must(n <= ops[a->op].pushes, "an item that was never committed");
	if (a->fate == FINISHED) {
		must((int)n <= a->nr_pushed, "%u items of %d pushed", n, a->nr_pushed);
		n = (unsigned)a->nr_pushed;
	}
	*gaps = n - (unsigned)__builtin_popcount(seen);
	return n;
}

/* What is missing must be in the hands of the dead or of those who stand. */
static void account(struct inspection *c)
{
	struct world *w = c->g->w;
	unsigned may_miss = 0, may_repeat = w->doomed, moved = 0, gaps, n;

	w->missing = 0;
	for (int i = 0; i < ACTORS; i++) {
		const struct actor *a = &w->actor[i];

		may_miss += a->fate == KILLED ? ops[a->op].loses :
			    a->fate == STANDING ? ops[a->op].holds : 0;
		may_repeat += pops(a->op) && (a->fate == KILLED || a->op == OP_REQUEUE);
		if (!pushes(a->op))
			continue;
		n = account_pushed(a, &gaps);
		w->missing += gaps;
		moved = i == 0 ? n : moved;
	}
	for (unsigned lane = 0; lane < LANES; lane++)
		w->missing += (unsigned)(w->book[lane].to - w->book[lane].from);
	must(w->missing <= may_miss, "%u items are lost", w->missing);
	must(atomic_load(&w->again) <= may_repeat, "%u items come again",
	     atomic_load(&w->again));
	w->moved = pushes(w->actor[0].op) ? moved : w->missing;
}

void stage_check(struct stage *g, enum check how, unsigned stuck, const char *what)
{
	struct inspection c = { g, how, stuck };
	char about[256];
	struct shmq *q;

	snprintf(about, sizeof(about), "%s: %s: ", g->s->name, what);
	must_about(about);
	q = attach(QUEUE);
	if (how == CHECK_RECOVER)
		must_eq(shmq_recover(q, NULL), 0);
	drain(&c, q);
	account(&c);
	stat_check(&c, q, 0);
	segments_check(&c, q);
	capacity_check(&c, q, false);
	capacity_check(&c, q, true);
	shmq_close(q);
	must_about("");
	for (unsigned lane = 0; lane < LANES; lane++) { /* what is lost is lost */
		struct book *b = &g->w->book[lane];

		if (g->w->actor[0].fate != STANDING)
			b->from = b->to;
	}
}

void stage_close(struct stage *g, bool last)
{
	for (int i = 0; i < ACTORS; i++)
		if (g->w->actor[i].fate == STANDING) {
			trace_kill(g->pid[i]);
			g->w->actor[i].fate = ABSENT;
		}
	if (!last)
		return;
	shmq_close(g->q);
	must_eq(shmq_unlink(QUEUE), 0);
}
