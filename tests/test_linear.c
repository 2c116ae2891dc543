/* SPDX-License-Identifier: MIT */
/*
 * test_linear.c - what processes see of a queue, some of them killed and replaced
 * on the way, is what a FIFO queue with lanes and a limit could have shown them.
 *
 * First the checker itself: histories made by hand, each with one thing wrong or
 * with nothing wrong though it looks so, and small random ones about which a search
 * through all orders has the last word. Then histories of real processes. Each
 * keeps its log in memory that outlives it, and pops right into the log, so that
 * a death leaves what it had copied.
 */
#include "linear.h"

#include <sys/mman.h>
#include <sys/wait.h>

/* ---- by hand -------------------------------------------------------------------- */

#define NO_INFO 255 /* the pop did not ask for the attempts */

#define PUSH(b, e, lane_, n, ...)                                                  \
	{ .begin = b, .end = e, .kind = LINEAR_PUSH, .lane = lane_, .asked = n,    \
	  .done = n, .value = { __VA_ARGS__ } }
#define PUSHED_OF(b, e, lane_, n, d, ...)                                          \
	{ .begin = b, .end = e, .kind = LINEAR_PUSH, .lane = lane_, .asked = n,    \
	  .done = d, .value = { __VA_ARGS__ } }
#define DEAD_PUSH(b, d, lane_, n, ...)                                             \
	{ .begin = b, .died = d, .kind = LINEAR_PUSH, .lane = lane_, .asked = n,   \
	  .value = { __VA_ARGS__ } }
#define ABORT(b, e, lane_, v)                                                      \
	{ .begin = b, .end = e, .kind = LINEAR_ABORT, .lane = lane_, .asked = 1,   \
	  .value = { v } }
#define POP(b, e, lane_, n, ...)                                                   \
	{ .begin = b, .end = e, .kind = LINEAR_POP, .lane = lane_, .asked = n,     \
	  .done = n, .value = { __VA_ARGS__ } }
#define POPPED_OF(b, e, lane_, n, d, ...)                                          \
	{ .begin = b, .end = e, .kind = LINEAR_POP, .lane = lane_, .asked = n,     \
	  .done = d, .value = { __VA_ARGS__ } }
#define POP_AGAIN(b, e, lane_, tries, v)                                           \
	{ .begin = b, .end = e, .kind = LINEAR_POP, .lane = lane_, .asked = 1,     \
	  .done = 1, .attempts = { tries }, .value = { v } }
#define POP_ANY(b, e, from_, v)                                                    \
	{ .begin = b, .end = e, .kind = LINEAR_POP, .lane = -1, .asked = 1,        \
	  .done = 1, .from = { from_ }, .value = { v } }
#define EMPTY(b, e, lane_)                                                         \
	{ .begin = b, .end = e, .kind = LINEAR_POP, .lane = lane_, .asked = 1 }
#define FULL(b, e, lane_, v) PUSHED_OF(b, e, lane_, 1, 0, v)
#define DEAD_POP(b, d, o, lane_, n, ...)                                           \
	{ .begin = b, .died = d, .over = o, .kind = LINEAR_POP, .lane = lane_,     \
	  .asked = n, .value = { __VA_ARGS__ } }
#define REQUEUE(b, e, lane_, v)                                                    \
	{ .begin = b, .end = e, .over = e, .kind = LINEAR_REQUEUE, .lane = lane_,  \
	  .asked = 1, .done = 1, .value = { v } }

enum { MADE_OPS = 10, MADE_VALUES = 16 };

struct made {
	const char *name;
	enum linear_fault fault;
	uint64_t capacity; /* of both lanes; 0 no limit */
	struct linear_op op[MADE_OPS];
};

static const struct made bad[] = {
	{ "a value from nowhere", LINEAR_UNKNOWN, 0,
	  { PUSH(1, 2, 0, 1, 1), POP(3, 4, 0, 1, 1), POP(5, 6, 0, 1, 2) } },
	{ "a value that was refused", LINEAR_UNKNOWN, 1,
	  { PUSH(1, 2, 0, 1, 1), FULL(3, 4, 0, 2), POP(5, 6, 0, 2, 1, 2) } },
	{ "a value that was given up", LINEAR_UNKNOWN, 0,
	  { ABORT(1, 2, 0, 1), POP(3, 4, 0, 1, 1) } },
	{ "popped before it was pushed", LINEAR_EARLY, 0,
	  { POP(1, 2, 0, 1, 1), PUSH(3, 4, 0, 1, 1) } },
	{ "popped twice", LINEAR_TWICE, 0,
	  { PUSH(1, 2, 0, 1, 1), POP(3, 6, 0, 1, 1), POP(4, 5, 0, 1, 1) } },
	{ "held by the dead after it was consumed", LINEAR_TWICE, 0,
	  { PUSH(1, 2, 0, 1, 1), POP_AGAIN(3, 4, 0, 2, 1), DEAD_POP(5, 6, 7, 0, 1, 1) } },
	{ "lost", LINEAR_LOST, 0,
	  { PUSH(1, 2, 0, 1, 1), PUSH(3, 4, 0, 1, 2), POP(5, 6, 0, 1, 2) } },
	{ "lost with one who died before the copy", LINEAR_LOST, 0,
	  { PUSH(1, 2, 0, 1, 1), DEAD_POP(3, 4, 5, 0, 1, 0) } },
	{ "out of another lane", LINEAR_MOVED, 0,
	  { PUSH(1, 2, 1, 1, 1), POP_ANY(3, 4, 0, 1) } },
	{ "overtaken", LINEAR_ORDER, 0,
	  { PUSH(1, 2, 0, 1, 1), PUSH(3, 4, 0, 1, 2), POP(5, 6, 0, 1, 2),
	    POP(7, 8, 0, 1, 1) } },
	{ "overtaken, with calls in between that overlap all", LINEAR_ORDER, 0,
	  { PUSH(1, 3, 0, 1, 1), PUSH(2, 12, 0, 1, 3), PUSH(4, 5, 0, 1, 2),
	    POP(6, 8, 0, 1, 2), POP(7, 13, 0, 1, 3), POP(9, 10, 0, 1, 1) } },
	{ "out of order within a pop", LINEAR_ORDER, 0,
	  { PUSH(1, 2, 0, 1, 1), PUSH(3, 4, 0, 1, 2), POP(5, 6, 0, 2, 2, 1) } },
	{ "out of order within a push", LINEAR_ORDER, 0,
	  { PUSH(1, 2, 0, 2, 1, 2), POP(3, 4, 0, 1, 2), POP(5, 6, 0, 1, 1) } },
	{ "out of order within a push and a pop", LINEAR_ORDER, 0,
	  { PUSH(1, 2, 0, 2, 1, 2), POP(3, 4, 0, 2, 2, 1) } },
	{ "a batch whose end was popped before a later push", LINEAR_ORDER, 0,
	  { PUSH(1, 20, 0, 2, 1, 2), POP(2, 3, 0, 1, 2), PUSH(4, 5, 0, 1, 3),
	    POP(6, 7, 0, 1, 3), POP(8, 9, 0, 1, 1) } },
	{ "overtaken by what the dead took", LINEAR_ORDER, 0,
	  { PUSH(1, 2, 0, 1, 1), PUSH(3, 4, 0, 1, 2), DEAD_POP(5, 6, 7, 0, 1, 2),
	    POP(8, 9, 0, 1, 1), POP_AGAIN(10, 11, 0, 2, 2) } },
	{ "overtaken although it was back", LINEAR_ORDER, 0,
	  { PUSH(1, 2, 0, 1, 1), DEAD_POP(3, 4, 5, 0, 1, 0), PUSH(6, 7, 0, 1, 2),
	    POP(8, 9, 0, 1, 2), POP_AGAIN(10, 11, 0, 2, 1) } },
	{ "overtaken although it was requeued", LINEAR_ORDER, 0,
	  { PUSH(1, 2, 0, 1, 1), PUSH(3, 4, 0, 1, 2), REQUEUE(5, 6, 0, 1),
	    POP(7, 8, 0, 1, 2), POP_AGAIN(9, 10, 0, 2, 1) } },
	{ "empty with a value in it", LINEAR_EMPTY, 0,
	  { PUSH(1, 2, 0, 1, 1), EMPTY(3, 4, 0), POP(5, 6, 0, 1, 1) } },
	{ "empty while one value always covers for the next", LINEAR_EMPTY, 0,
	  { PUSH(1, 2, 0, 1, 1), EMPTY(3, 12, 0), PUSH(4, 5, 0, 1, 2),
	    POP(6, 7, 0, 1, 1), PUSH(8, 9, 0, 1, 3), POP(10, 11, 0, 1, 2),
	    POP(13, 14, 0, 1, 3) } },
	{ "empty although it was back", LINEAR_EMPTY, 0,
	  { PUSH(1, 2, 0, 1, 1), DEAD_POP(3, 4, 5, 0, 1, 0), EMPTY(6, 7, 0),
	    POP_AGAIN(8, 9, 0, 2, 1) } },
	{ "a short batch and a value left", LINEAR_EMPTY, 0,
	  { PUSH(1, 2, 0, 2, 1, 2), POPPED_OF(3, 4, 0, 2, 1, 1), POP(5, 6, 0, 1, 2) } },
	{ "full with room", LINEAR_FULL, 2,
	  { PUSH(1, 2, 0, 1, 1), FULL(3, 4, 0, 2), POP(5, 6, 0, 1, 1) } },
	{ "full after the pop", LINEAR_FULL, 1,
	  { PUSH(1, 2, 0, 1, 1), POP(3, 4, 0, 1, 1), FULL(5, 6, 0, 2) } },
	{ "full for want of itself", LINEAR_FULL, 2,
	  { PUSH(1, 2, 0, 1, 1), PUSHED_OF(3, 4, 0, 3, 0, 2, 3, 4), POP(5, 6, 0, 1, 1) } },
	{ "a short push and room", LINEAR_FULL, 3,
	  { PUSHED_OF(1, 2, 0, 3, 2, 1, 2, 3), POP(3, 4, 0, 2, 1, 2) } },
	{ "more than fits", LINEAR_OVERFULL, 2,
	  { PUSH(1, 2, 0, 2, 1, 2), PUSH(3, 4, 0, 1, 3), POP(5, 6, 0, 3, 1, 2, 3) } },
	{ "a low lane before a high one", LINEAR_PRIORITY, 0,
	  { PUSH(1, 2, 0, 1, 1), PUSH(3, 4, 1, 1, 2), POP_ANY(5, 6, 1, 2),
	    POP_ANY(7, 8, 0, 1) } },
	{ "a low lane while the high one was always covered", LINEAR_PRIORITY, 0,
	  { PUSH(1, 2, 0, 1, 1), PUSH(3, 4, 1, 1, 3), POP_ANY(5, 10, 1, 3),
	    PUSH(6, 7, 0, 1, 2), POP(8, 9, 0, 1, 1), POP_ANY(11, 12, 0, 2) } },
	{ "a flag and nobody died", LINEAR_ATTEMPTS, 0,
	  { PUSH(1, 2, 0, 1, 1), POP_AGAIN(3, 4, 0, 2, 1) } },
	{ "a flag and the dead was at another lane", LINEAR_ATTEMPTS, 0,
	  { PUSH(1, 2, 0, 1, 1), DEAD_POP(3, 4, 5, 1, 1, 0), POP_AGAIN(6, 7, 0, 2, 1) } },
	{ "more flags than deaths", LINEAR_ATTEMPTS, 0,
	  { PUSH(1, 2, 0, 1, 1), DEAD_POP(3, 4, 5, 0, 1, 0), POP_AGAIN(6, 7, 0, 3, 1) } },
	{ "copied by the dead and no flag", LINEAR_ATTEMPTS, 0,
	  { PUSH(1, 2, 0, 1, 1), DEAD_POP(3, 4, 5, 0, 1, 1), POP(6, 7, 0, 1, 1) } },
	{ "the end of a dead batch", LINEAR_PREFIX, 0,
	  { DEAD_PUSH(1, 2, 0, 3, 1, 2, 3), POP(3, 4, 0, 2, 1, 3) } },
};

static const struct made good[] = {
	{ "one after the other", LINEAR_FINE, 2,
	  { EMPTY(1, 2, 0), PUSH(3, 4, 0, 2, 1, 2), FULL(5, 6, 0, 3), POP(7, 8, 0, 1, 1),
	    POP(9, 10, 0, 1, 2), EMPTY(11, 12, 0) } },
	{ "popped while it is pushed", LINEAR_FINE, 1,
	  { PUSH(1, 8, 0, 1, 1), FULL(2, 5, 0, 2), POP(3, 4, 0, 1, 1), EMPTY(6, 7, 0) } },
	{ "pushes that overlap, popped the other way", LINEAR_FINE, 0,
	  { PUSH(1, 4, 0, 1, 1), PUSH(2, 3, 0, 1, 2), POP(5, 6, 0, 1, 2),
	    POP(7, 8, 0, 1, 1) } },
	{ "pops that overlap", LINEAR_FINE, 0,
	  { PUSH(1, 2, 0, 1, 1), PUSH(3, 4, 0, 1, 2), POP(5, 8, 0, 1, 2),
	    POP(6, 7, 0, 1, 1) } },
	{ "a gap between two values", LINEAR_FINE, 0,
	  { PUSH(1, 2, 0, 1, 1), EMPTY(3, 8, 0), POP(4, 6, 0, 1, 1), PUSH(5, 7, 0, 1, 2),
	    POP(9, 10, 0, 1, 2) } },
	{ "empty at the very end of the call", LINEAR_FINE, 0,
	  { PUSH(1, 2, 0, 1, 1), EMPTY(3, 5, 0), POP(4, 6, 0, 1, 1) } },
	{ "full from a push that was refused itself", LINEAR_FINE, 1,
	  { PUSH(1, 4, 0, 1, 1), FULL(2, 3, 0, 2), POP(5, 6, 0, 1, 1) } },
	{ "full for one instant", LINEAR_FINE, 2,
	  { PUSH(1, 2, 0, 1, 1), FULL(3, 8, 0, 3), PUSH(4, 5, 0, 1, 2), POP(6, 7, 0, 1, 1),
	    POP(9, 10, 0, 1, 2) } },
	{ "never more than fits, by a hair", LINEAR_FINE, 1,
	  { PUSH(1, 2, 0, 1, 1), POP(3, 6, 0, 1, 1), PUSH(4, 5, 0, 1, 2),
	    POP(7, 8, 0, 1, 2) } },
	{ "a high lane that was taken meanwhile", LINEAR_FINE, 0,
	  { PUSH(1, 2, 0, 1, 1), PUSH(3, 4, 1, 1, 2), POP_ANY(5, 7, 1, 2),
	    POP(6, 8, 0, 1, 1) } },
	{ "a high lane that was filled meanwhile", LINEAR_FINE, 0,
	  { PUSH(1, 2, 1, 1, 1), POP_ANY(3, 6, 1, 1), PUSH(4, 5, 0, 1, 2),
	    POP(7, 8, 0, 1, 2) } },
	{ "a dead push that happened", LINEAR_FINE, 0,
	  { DEAD_PUSH(1, 4, 0, 3, 1, 2, 3), POP(2, 3, 0, 1, 1), EMPTY(5, 6, 0) } },
	{ "a dead push that did not", LINEAR_FINE, 0,
	  { DEAD_PUSH(1, 2, 0, 1, 1), EMPTY(3, 4, 0) } },
	{ "a dead push keeps its place until it is found", LINEAR_FINE, 1,
	  { DEAD_PUSH(1, 2, 0, 1, 1), FULL(3, 4, 0, 2) } },
	{ "consumed by the dead", LINEAR_FINE, 0,
	  { PUSH(1, 2, 0, 2, 1, 2), DEAD_POP(3, 6, 7, 0, 1, 1), POP(4, 5, 0, 1, 2),
	    EMPTY(8, 9, 0) } },
	{ "consumed by the second of two dead", LINEAR_FINE, 0,
	  { PUSH(1, 2, 0, 1, 1), DEAD_POP(3, 4, 5, 0, 1, 0), EMPTY(6, 7, 0),
	    DEAD_POP(8, 9, 10, 0, 1, 1), EMPTY(11, 12, 0) } },
	{ "held by the dead and overtaken", LINEAR_FINE, 0,
	  { PUSH(1, 2, 0, 2, 1, 2), DEAD_POP(3, 4, 9, 0, 1, 0), POP(5, 6, 0, 1, 2),
	    EMPTY(7, 8, 0), POP_AGAIN(10, 11, 0, 2, 1), EMPTY(12, 13, 0) } },
	{ "held by the dead, popped without asking", LINEAR_FINE, 0,
	  { PUSH(1, 2, 0, 2, 1, 2), DEAD_POP(3, 4, 9, 0, 1, 0), POP(5, 6, 0, 1, 2),
	    POP_AGAIN(7, 8, 0, NO_INFO, 1) } },
	{ "requeued by one, overtaken meanwhile", LINEAR_FINE, 0,
	  { PUSH(1, 2, 0, 2, 1, 2), REQUEUE(3, 8, 0, 1), POP(4, 5, 0, 1, 2), EMPTY(6, 7, 0),
	    POP_AGAIN(9, 10, 0, 2, 1) } },
	{ "given up, and full meanwhile", LINEAR_FINE, 1,
	  { ABORT(1, 4, 0, 1), FULL(2, 3, 0, 2), PUSH(5, 6, 0, 1, 3), POP(7, 8, 0, 1, 3) } },
	{ "back above the limit", LINEAR_FINE, 1,
	  { PUSH(1, 2, 0, 1, 1), DEAD_POP(3, 4, 7, 0, 1, 0), PUSH(5, 6, 0, 1, 2),
	    FULL(8, 9, 0, 3), POP_AGAIN(10, 11, 0, 2, 1), POP(12, 13, 0, 1, 2) } },
};

/* Numbers become values, and what the table leaves out is filled in. */
static bool judge(struct linear_op *op, size_t n, uint64_t capacity, uint32_t nr_values,
		  struct linear_result *r)
{
	struct linear_log log = { op, n };
	struct linear_history h = { .logs = &log, .nr_logs = 1, .nr_lanes = 2,
				    .capacity = { capacity, capacity },
				    .nr_values = nr_values };

	for (size_t i = 0; i < n; i++)
		for (int k = 0; k < op[i].asked; k++) {
			if (op[i].value[k])
				op[i].value[k] = linear_value((uint32_t)op[i].value[k]);
			if (op[i].lane >= 0)
				op[i].from[k] = (uint8_t)op[i].lane;
			op[i].attempts[k] = op[i].attempts[k] == 0	 ? 1 :
					    op[i].attempts[k] == NO_INFO ? 0 :
									   op[i].attempts[k];
		}
	return linear_check(&h, r);
}

static enum linear_fault verdict(const struct made *m, char *text, size_t size)
{
	struct linear_op op[MADE_OPS];
	struct linear_result r;
	bool ok;

	memcpy(op, m->op, sizeof(op));
	ok = judge(op, MADE_OPS, m->capacity, MADE_VALUES, &r);
	must_eq(ok, r.fault == LINEAR_FINE);
	snprintf(text, size, "%s", r.text);
	return r.fault;
}

START_TEST(the_checker_finds_what_is_wrong)
{
	bool seen[LINEAR_NR_FAULTS] = { false };
	char text[400];

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		enum linear_fault f = verdict(&bad[i], text, sizeof(text));

		must(f == bad[i].fault, "%s: %s %s", bad[i].name, linear_fault_name[f],
		     text);
		seen[f] = true;
	}
	for (int f = LINEAR_FINE + 1; f < LINEAR_NR_FAULTS; f++)
		must(seen[f], "no history for '%s'", linear_fault_name[f]);
	fprintf(stderr, "# %zu bad histories, all found\n", ARRAY_LEN(bad));
}
END_TEST

START_TEST(the_checker_accepts_what_only_looks_wrong)
{
	char text[400];

	for (size_t i = 0; i < ARRAY_LEN(good); i++)
		must(verdict(&good[i], text, sizeof(text)) == LINEAR_FINE, "%s: %s",
		     good[i].name, text);
	fprintf(stderr, "# %zu good histories, all accepted\n", ARRAY_LEN(good));
}
END_TEST

/* ---- by search ------------------------------------------------------------------- */

/*
 * A history is right if its operations can be put in an order that respects theirs
 * and that a queue in one thread would show. Try all. A call with several items is
 * a step for each, with one more for the EMPTY or FULL of a short one. A dead pop
 * takes what is next, or not, and keeps it, or puts it back where it was.
 */
enum { SEARCH_OPS = 9, STEPS = LINEAR_BATCH + 1 };

struct search {
	struct linear_op op[SEARCH_OPS];
	int n;
	uint64_t capacity;
	int at[SEARCH_OPS];       /* steps done; STEPS: all */
	uint32_t queue[2 * SEARCH_OPS];
	int depth;
	int order[64], pushes;    /* number of a value in the order of the pushes */
	int tries[64];
	uint32_t held[SEARCH_OPS]; /* by a dead pop */
	long left;                /* steps before giving up */
};

static bool search(struct search *s);

/* When must operation @k have done its next step? */
static uint64_t last_moment(const struct search *s, int k)
{
	const struct linear_op *op = &s->op[k];

	if (op->end)
		return op->end;
	if (op->kind == LINEAR_PUSH || s->at[k] == 0)
		return op->died;
	return op->over ? op->over : UINT64_MAX; /* of what a dead pop gives back */
}

static bool may_start(const struct search *s, int i)
{
	for (int k = 0; k < s->n; k++)
		if (k != i && s->at[k] < STEPS && last_moment(s, k) < s->op[i].begin)
			return false;
	return true;
}

static void queue_insert(struct search *s, uint32_t v)
{
	int i = s->depth++;

	for (; i > 0 && s->order[s->queue[i - 1]] > s->order[v]; i--)
		s->queue[i] = s->queue[i - 1];
	s->queue[i] = v;
}

static void queue_take(struct search *s)
{
	memmove(s->queue, s->queue + 1, (size_t)--s->depth * sizeof(*s->queue));
}

static bool search_push(struct search *s, int i, int step)
{
	struct search was = *s;
	const struct linear_op *op = &s->op[i];
	bool dead = !op->end;

	if (dead) { /* ends here, */
		s->at[i] = STEPS;
		if (search(s))
			return true;
		was.left = s->left;
		*s = was; /* or goes on */
	}
	if (dead ? step == op->asked : step == op->done) {
		bool short_of = op->done < op->asked;

		if (dead || (short_of && (uint64_t)s->depth < s->capacity))
			return false;
		s->at[i] = STEPS;
	} else {
		uint32_t v = (uint32_t)op->value[step];

		if ((uint64_t)s->depth >= s->capacity)
			return false;
		s->order[v] = s->pushes++;
		s->tries[v] = 1;
		queue_insert(s, v);
		s->at[i] = step + 1;
	}
	if (search(s))
		return true;
	was.left = s->left;
	*s = was;
	return false;
}

static bool search_pop(struct search *s, int i, int step)
{
	struct search was = *s;
	const struct linear_op *op = &s->op[i];

	if (step == op->done) {
		if (op->done < op->asked && s->depth)
			return false;
		s->at[i] = STEPS;
	} else {
		uint32_t v = s->depth ? s->queue[0] : 0;

		if (v == 0 || v != op->value[step] || s->tries[v] != op->attempts[step])
			return false;
		queue_take(s);
		s->at[i] = step + 1;
	}
	if (search(s))
		return true;
	was.left = s->left;
	*s = was;
	return false;
}

/* Step 0: take, or not. Step 1: put back, or not, before op.over. */
static bool search_dead_pop(struct search *s, int i, int step)
{
	struct search was = *s;
	const struct linear_op *op = &s->op[i];

	if (step == 0) {
		uint32_t v = s->depth ? s->queue[0] : 0;

		if (!op->value[0]) {
			s->at[i] = STEPS;
			if (search(s))
				return true;
			was.left = s->left;
			*s = was;
		}
		if (v == 0 || (op->value[0] && op->value[0] != v))
			return false;
		queue_take(s);
		s->held[i] = v;
		s->at[i] = 1;
	} else {
		s->at[i] = STEPS;
		if (op->value[0] && search(s)) /* consumed */
			return true;
		was.left = s->left;
		*s = was;
		s->at[i] = STEPS;
		s->tries[s->held[i]]++;
		queue_insert(s, s->held[i]);
	}
	if (search(s))
		return true;
	was.left = s->left;
	*s = was;
	return false;
}

static bool search(struct search *s)
{
	bool all = true;

	if (s->left-- <= 0)
		return true; /* not known to be wrong */
	for (int i = 0; i < s->n; i++) {
		const struct linear_op *op = &s->op[i];
		int step = s->at[i];

		if (step == STEPS)
			continue;
		all = false;
		if (step == 0 && !may_start(s, i))
			continue;
		if (op->kind == LINEAR_PUSH ? search_push(s, i, step) :
		    op->end		    ? search_pop(s, i, step) :
					      search_dead_pop(s, i, step))
			return true;
	}
	return all && s->depth == 0;
}

/* Two different numbers of 1 .. 2 n that nobody has had. */
static void interval(struct rng *r, uint64_t *left, int *n, uint64_t *from, uint64_t *to)
{
	uint64_t x[2];

	for (int i = 0; i < 2; i++) {
		int k = (int)rng_below(r, (uint64_t)*n);

		x[i] = left[k];
		left[k] = left[--*n];
	}
	*from = x[0] < x[1] ? x[0] : x[1];
	*to = x[0] < x[1] ? x[1] : x[0];
}

enum flavour { PLAIN, BATCHES, LIMITED, DEATHS, NR_FLAVOURS };

static void random_history(struct search *s, struct rng *r, enum flavour flavour)
{
	uint64_t left[2 * SEARCH_OPS + 1];
	uint32_t value[8], v = 0, taken = 0, values = 2 + (uint32_t)rng_below(r, 3);
	int n = 2 * SEARCH_OPS;

	*s = (struct search){ .capacity = UINT64_MAX, .left = 3000 };
	if (flavour == LIMITED)
		s->capacity = 1 + rng_below(r, 2);
	for (int i = 0; i < n; i++)
		left[i] = (uint64_t)i + 1;
	for (uint32_t i = 0; i < values; i++)
		value[i] = i + 1;
	for (uint32_t i = values; i-- > 1;) { /* mostly in order */
		uint32_t k = rng_below(r, 3) ? i : (uint32_t)rng_below(r, i + 1), t = value[i];

		value[i] = value[k];
		value[k] = t;
	}
	while (s->n < SEARCH_OPS) {
		struct linear_op *op = &s->op[s->n++];
		uint32_t most = flavour == BATCHES ? 1 + (uint32_t)rng_below(r, 2) : 1;

		*op = (struct linear_op){ .kind = LINEAR_POP, .asked = 1 };
		interval(r, left, &n, &op->begin, &op->end);
		if (v < values) {
			op->kind = LINEAR_PUSH;
			op->asked = 0;
			while (v < values && op->asked < most)
				op->value[op->asked++] = ++v;
			op->done = op->asked;
		} else if (taken < values) {
			op->asked = 0;
			while (taken < values && op->asked < most) {
				op->attempts[op->asked] = 1;
				op->value[op->asked++] = value[taken++];
			}
			op->done = op->asked;
			if (flavour == DEATHS && !rng_below(r, 3))
				op->attempts[0] = 2;
			if (flavour == BATCHES && !rng_below(r, 4))
				op->asked++;
		} else if (flavour == DEATHS && rng_below(r, 2)) {
			op->died = op->end;
			op->end = 0;
			op->over = rng_below(r, 2) ? op->died : 0;
			if (rng_below(r, 2))
				op->value[0] = 1 + rng_below(r, values);
		} else if (flavour == LIMITED && rng_below(r, 2)) {
			op->kind = LINEAR_PUSH;
			op->value[0] = ++v + 8; /* a number of its own */
		} else if (rng_below(r, 3) == 0) {
			s->n--;
			break;
		}
	}
}

/* The searched order is the last word: whatever it finds, the checker must accept;
 * and where the four kinds of evidence are all there is, the other way round too. */
START_TEST(the_checker_agrees_with_a_search_through_all_orders)
{
	static const char *const name[] = { "plain", "batches", "limited", "deaths" };
	struct rng r = rng_of(seed("histories"), (uint64_t)_i);
	long n = counts(30000), right = 0, found = 0, missed = 0, gave_up = 0;

	for (long i = 0; i < n; i++) {
		struct search s;
		struct linear_op op[SEARCH_OPS];
		struct linear_result res;
		bool ok, fine;

		random_history(&s, &r, (enum flavour)_i);
		memcpy(op, s.op, sizeof(op));
		fine = judge(op, (size_t)s.n, _i == LIMITED ? s.capacity : 0, 32, &res);
		ok = search(&s);
		if (s.left <= 0) {
			gave_up++;
			continue;
		}
		must(!ok || fine, "history %ld is right: %s", i, res.text);
		right += ok;
		found += !fine;
		missed += !ok && fine;
	}
	fprintf(stderr,
		"# %s: %ld histories, %ld right, %ld found wrong, %ld missed, "
		"%ld not searched through\n",
		name[_i], n, right, found, missed, gave_up);
	must(right > n / 100 && found > n / 10, "a lopsided sample");
	if (_i == PLAIN)
		must_eq(missed, 0);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("linear");
	TCase *t = suite_case(s, "the checker", 60);

	tcase_add_test(t, the_checker_finds_what_is_wrong);
	tcase_add_test(t, the_checker_accepts_what_only_looks_wrong);
	tcase_add_loop_test(t, the_checker_agrees_with_a_search_through_all_orders, 0,
			    NR_FLAVOURS);
	return s;
}

int main(void)
{
	return suite_run(suite());
}
