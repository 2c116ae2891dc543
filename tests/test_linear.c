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
#define LEASE(b, t, e, lane_, v)                                                   \
	{ .begin = b, .taken = t, .end = e, .kind = LINEAR_POP, .lane = lane_,     \
	  .asked = 1, .done = 1, .value = { v } }
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
	{ "lost after it was requeued", LINEAR_LOST, 0,
	  { PUSH(1, 2, 0, 1, 1), REQUEUE(3, 4, 0, 1) } },
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
	{ "full from an item that is held", LINEAR_FULL, 1,
	  { PUSH(1, 2, 0, 1, 1), LEASE(3, 4, 7, 0, 1), FULL(5, 6, 0, 2) } },
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
	{ "perhaps held by one who died while it came", LINEAR_FINE, 0,
	  { DEAD_POP(1, 3, 4, 0, 1, 0), PUSH(2, 7, 0, 1, 1), EMPTY(5, 6, 0),
	    POP_AGAIN(8, 9, 0, NO_INFO, 1) } },
	{ "requeued by one, overtaken meanwhile", LINEAR_FINE, 0,
	  { PUSH(1, 2, 0, 2, 1, 2), REQUEUE(3, 8, 0, 1), POP(4, 5, 0, 1, 2), EMPTY(6, 7, 0),
	    POP_AGAIN(9, 10, 0, 2, 1) } },
	{ "held while others come and go", LINEAR_FINE, 1,
	  { PUSH(1, 2, 0, 1, 1), LEASE(3, 4, 11, 0, 1), PUSH(5, 6, 0, 1, 2), FULL(7, 8, 0, 3),
	    POP(9, 10, 0, 1, 2) } },
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

		if (v == 0 || v != op->value[step] ||
		    (op->attempts[step] != NO_INFO && op->attempts[step] != s->tries[v]))
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
			uint32_t k = 0;

			for (; taken < values && k < most; k++) {
				op->attempts[k] = 1;
				op->value[k] = value[taken++];
			}
			op->asked = (uint8_t)k;
			op->done = op->asked;
			if (flavour == DEATHS && !rng_below(r, 3))
				op->attempts[0] = rng_below(r, 3) ? 2 : NO_INFO;
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

/* ---- real processes ---------------------------------------------------------------- */

enum { WORKERS_MAX = 8, QUOTA = 16000 };

enum habit { PRODUCER, CONSUMER, MIXED };

struct log {
	_Alignas(64) size_t n; /* operations begun; where a successor goes on */
	uint32_t pushed;       /* values used */
	atomic_int done;
	struct linear_op ops[QUOTA];
};

struct stage {
	_Alignas(64) atomic_ulong clock;
	_Alignas(64) unsigned workers, lanes;
	uint64_t seed;
	size_t quota;
	struct log log[WORKERS_MAX + 1]; /* the last is of the one who drains */
};

struct player {
	struct stage *s;
	struct log *log;
	struct shmq *q;
	unsigned me;
	struct rng r;
};

/* Sums over all histories, for the end. */
static struct totals {
	atomic_ulong histories, ops, items, empty, full, dead_ops, came_back, gone;
	atomic_ulong kills, requeued;
} *totals;

static uint64_t draw(struct stage *s)
{
	/* seq_cst: a barrier on both sides of every call, and one order of all. */
	return atomic_fetch_add(&s->clock, 1) + 1;
}

/* The next operation of the log. Dead before begin is stored: it does not count. */
static struct linear_op *op_new(struct player *p, enum linear_kind kind, int lane,
				unsigned asked)
{
	struct linear_op *op = &p->log->ops[p->log->n++];

	op->kind = (uint8_t)kind;
	op->lane = (int8_t)lane;
	op->asked = (uint8_t)asked;
	if (kind == LINEAR_PUSH)
		for (unsigned i = 0; i < asked; i++)
			op->value[i] = linear_value(p->log->pushed++ * p->s->workers +
						    p->me + 1);
	return op;
}

static void op_begin(struct player *p, struct linear_op *op)
{
	op->begin = draw(p->s);
}

static void op_end(struct player *p, struct linear_op *op, int64_t done)
{
	must(done >= 0 || done == -EAGAIN || done == -ETIMEDOUT, "%d", (int)done);
	op->done = done > 0 ? (uint8_t)done : 0;
	op->end = draw(p->s);
	if (done < 0 && rng_below(&p->r, 2))
		sched_yield();
}

static int64_t some_wait(struct player *p)
{
	return rng_below(&p->r, 16) ? SHMQ_NOWAIT : 20000 + (int64_t)rng_below(&p->r, 80000);
}

static void do_push(struct player *p, int lane)
{
	struct linear_op *op = op_new(p, LINEAR_PUSH, lane, 1);
	int64_t wait = some_wait(p);
	int r;

	op_begin(p, op);
	r = shmq_push(p->q, lane, &op->value[0], sizeof(op->value[0]), wait);
	op_end(p, op, r ? r : 1);
}

static void do_push_n(struct player *p, int lane)
{
	unsigned n = 1 + (unsigned)rng_below(&p->r, LINEAR_BATCH);
	struct linear_op *op = op_new(p, LINEAR_PUSH, lane, n);
	struct iovec v[LINEAR_BATCH];
	int64_t wait = some_wait(p);

	for (unsigned i = 0; i < n; i++)
		v[i] = (struct iovec){ &op->value[i], sizeof(op->value[i]) };
	op_begin(p, op);
	op_end(p, op, shmq_push_n(p->q, lane, v, (int)n, wait));
}

static void do_reserve(struct player *p, int lane, bool commit)
{
	struct linear_op *op = op_new(p, LINEAR_PUSH, lane, 1);
	void *buf;
	int r;

	op_begin(p, op);
	r = shmq_reserve(p->q, lane, &buf, SHMQ_NOWAIT);
	if (r == 0) {
		pause_randomly(&p->r);
		memcpy(buf, &op->value[0], sizeof(op->value[0]));
		if (commit) {
			must_eq(shmq_commit(p->q, sizeof(op->value[0])), 0);
		} else {
			op->kind = LINEAR_ABORT;
			atomic_signal_fence(memory_order_seq_cst);
			must_eq(shmq_abort(p->q), 0);
		}
	}
	op_end(p, op, r ? r : op->kind == LINEAR_PUSH);
}

static void popped(struct player *p, struct linear_op *op, int lane, int64_t n,
		   const struct shmq_info *info)
{
	for (int64_t i = 0; i < n; i++) {
		if (!info) { /* then the lane is known */
			op->from[i] = (uint8_t)lane;
			continue;
		}
		must(info[i].len == 8 && info[i].lane < p->s->lanes && info[i].attempts > 0);
		op->attempts[i] = (uint8_t)info[i].attempts;
		op->from[i] = (uint8_t)info[i].lane;
	}
	op_end(p, op, n);
}

static void do_pop(struct player *p, int lane)
{
	struct linear_op *op = op_new(p, LINEAR_POP, lane, 1);
	bool ask = lane < 0 || rng_below(&p->r, 2);
	struct shmq_info info;
	int64_t wait = some_wait(p);
	ssize_t r;

	op_begin(p, op);
	r = shmq_pop(p->q, lane, &op->value[0], sizeof(op->value[0]), ask ? &info : NULL,
		     wait);
	must(r < 0 || r == 8);
	popped(p, op, lane, r < 0 ? r : 1, ask ? &info : NULL);
}

static void do_pop_n(struct player *p, int lane)
{
	unsigned n = 1 + (unsigned)rng_below(&p->r, LINEAR_BATCH);
	struct linear_op *op = op_new(p, LINEAR_POP, lane, n);
	struct shmq_info info[LINEAR_BATCH];
	struct iovec v[LINEAR_BATCH];
	int64_t wait = some_wait(p);

	for (unsigned i = 0; i < n; i++)
		v[i] = (struct iovec){ &op->value[i], sizeof(op->value[i]) };
	op_begin(p, op);
	popped(p, op, lane, shmq_pop_n(p->q, lane, v, info, (int)n, wait), info);
}

static void do_peek(struct player *p, int lane, bool release)
{
	struct linear_op *op = op_new(p, release ? LINEAR_POP : LINEAR_REQUEUE, lane, 1);
	struct shmq_lease l;
	int r;

	op_begin(p, op);
	r = shmq_peek(p->q, lane, &l, SHMQ_NOWAIT);
	if (r == 0) {
		op->taken = draw(p->s);
		memcpy(&op->value[0], l.data, sizeof(op->value[0]));
		pause_randomly(&p->r);
		must_eq(release ? shmq_release(p->q, &l) : shmq_requeue(p->q, &l), 0);
	} else {
		op->kind = LINEAR_POP; /* that found nothing */
	}
	popped(p, op, lane, r < 0 ? r : 1, &l.info);
	if (op->kind == LINEAR_REQUEUE)
		op->over = op->end;
}

static void do_something(struct player *p, enum habit habit)
{
	int lane = (int)rng_below(&p->r, p->s->lanes);
	uint64_t x = rng_below(&p->r, 20);

	if (rng_below(&p->r, 100) < (habit == PRODUCER ? 85 : habit == MIXED ? 50 : 12)) {
		if (x < 9)
			do_push(p, lane);
		else if (x < 15)
			do_push_n(p, lane);
		else
			do_reserve(p, lane, x < 19);
		return;
	}
	if (rng_below(&p->r, 5) < 2)
		lane = SHMQ_ANY_LANE;
	if (x < 10)
		do_pop(p, lane);
	else if (x < 15)
		do_pop_n(p, lane);
	else
		do_peek(p, lane, x < 19);
}

struct part {
	struct stage *s;
	unsigned me;
};

static int work(void *arg)
{
	struct part *part = arg;
	struct player p = { .s = part->s, .me = part->me, .log = &part->s->log[part->me] };

	p.q = attach("q");
	p.r = rng_of(p.s->seed, p.me + 16 * p.log->n);
	while (p.log->n < p.s->quota) {
		do_something(&p, (enum habit)(p.me % 3));
		pause_randomly(&p.r);
	}
	shmq_close(p.q);
	atomic_store(&p.log->done, 1);
	return 0;
}

static const struct linear_op *call_of(const struct log *log)
{
	size_t n = __atomic_load_n(&log->n, __ATOMIC_RELAXED);
	const struct linear_op *op = &log->ops[n ? n - 1 : 0];

	return __atomic_load_n(&op->begin, __ATOMIC_RELAXED) &&
	       !__atomic_load_n(&op->end, __ATOMIC_RELAXED) ? op : NULL;
}

/* A victim, best one that lingers in a call: left to chance most are outside. */
static unsigned choose(const struct stage *s, struct rng *r)
{
	uint64_t end = now_ns() + MS / 2;
	unsigned i;

	do {
		const struct linear_op *op;

		i = (unsigned)rng_below(r, s->workers);
		op = call_of(&s->log[i]);
		for (volatile int k = 0; k < 1000; k++)
			;
		if (op && op == call_of(&s->log[i]))
			break;
	} while (now_ns() < end);
	return i;
}

/* Kill worker @i, unless it is through, and see to it that a successor goes on. */
static bool kill_one(struct stage *s, struct shmq *q, pid_t *pid, unsigned i)
{
	struct log *log = &s->log[i];
	struct linear_op *op;
	uint64_t died;

	if (atomic_load(&log->done))
		return false;
	kill(pid[i], SIGKILL);
	if (reap(pid[i]) != SIGNALLED + SIGKILL) {
		must(atomic_load(&log->done), "worker %u failed, see stderr", i);
		pid[i] = 0;
		return false;
	}
	died = draw(s);
	recover_dead(q);
	op = log->n ? &log->ops[log->n - 1] : NULL;
	if (op && op->begin && !op->end) {
		op->died = died;
		op->over = draw(s);
	}
	if (atomic_load(&log->done))
		pid[i] = 0;
	else
		pid[i] = spawn(work, &(struct part){ s, i });
	return true;
}

static bool all_done(struct stage *s)
{
	for (unsigned i = 0; i < s->workers; i++)
		if (!atomic_load(&s->log[i].done))
			return false;
	return true;
}

/* A worker that failed would be waited for without end. */
static void none_failed(struct stage *s, pid_t *pid)
{
	siginfo_t info = { 0 };

	if (waitid(P_ALL, 0, &info, WEXITED | WNOWAIT | WNOHANG) || info.si_pid == 0)
		return;
	for (unsigned i = 0; i < s->workers; i++)
		if (pid[i] == info.si_pid) {
			reap_ok(pid[i]);
			pid[i] = 0;
		}
}

static void drain(struct stage *s, struct shmq *q)
{
	struct player p = { .s = s, .q = q, .me = s->workers, .log = &s->log[s->workers] };
	struct shmq_stat st;

	recover_dead(q);
	for (unsigned lane = 0; lane < s->lanes; lane++)
		do {
			must(p.log->n < QUOTA);
			do_pop(&p, (int)lane);
		} while (p.log->ops[p.log->n - 1].done);
	stat_of(q, &st);
	for (unsigned lane = 0; lane < s->lanes; lane++) {
		must_eq(st.lanes[lane].depth, 0);
		must_eq(st.lanes[lane].held, 0);
		must_eq(st.lanes[lane].unfinished, 0);
	}
}

static void judge_stage(struct stage *s, const struct shmq_config *cfg)
{
	struct linear_log logs[WORKERS_MAX + 1];
	struct linear_history h = { .logs = logs, .nr_logs = s->workers + 1,
				    .nr_lanes = s->lanes, .nr_values = 1 };
	struct linear_result r;

	for (unsigned i = 0; i <= s->workers; i++) {
		uint32_t top = s->log[i].pushed * s->workers + i + 1;

		logs[i] = (struct linear_log){ s->log[i].ops, s->log[i].n };
		h.nr_values = top > h.nr_values ? top : h.nr_values;
	}
	for (unsigned i = 0; i < s->lanes; i++)
		h.capacity[i] = cfg->lanes[i].capacity;
	must(linear_check(&h, &r), "%s", r.text);
	atomic_fetch_add(&totals->histories, 1);
	atomic_fetch_add(&totals->ops, r.ops);
	atomic_fetch_add(&totals->items, r.items);
	atomic_fetch_add(&totals->empty, r.empty);
	atomic_fetch_add(&totals->full, r.full);
	atomic_fetch_add(&totals->dead_ops, r.dead_ops);
	atomic_fetch_add(&totals->came_back, r.came_back);
	atomic_fetch_add(&totals->gone, r.gone);
	atomic_fetch_add(&totals->requeued, r.requeued);
}

struct shape {
	unsigned workers, lanes;
	uint64_t capacity[3];
	unsigned flags; /* enum shmq_config_flags */
};

static const struct shape shapes[] = {
	{ 2, 1, { 64 }, 0 },	  { 2, 2, { 1, 2 }, 0 },
	{ 3, 3, { 64, 3, 1 }, 0 }, { 4, 1, { 1 }, 0 },
	{ 4, 3, { 1, 2, 64 }, 0 }, { 5, 2, { 3, 64 }, SHMQ_STAMP },
	{ 6, 1, { 3 }, 0 },	  { 6, 3, { 2, 64, 64 }, 0 },
	{ 8, 2, { 2, 3 }, 0 },	  { 8, 3, { 3, 1, 200 }, 0 },
};

static void play(struct stage *s, const struct shape *sh, bool kills)
{
	struct shmq_config cfg = config(sh->lanes, 1, 8);
	pid_t pid[WORKERS_MAX];
	struct rng r = rng_of(s->seed, 99);
	struct shmq *q;

	memcpy(cfg.lanes[0].name, "high", 5);
	for (unsigned i = 0; i < sh->lanes; i++)
		cfg.lanes[i].capacity = sh->capacity[i];
	cfg.flags = sh->flags;
	s->workers = sh->workers;
	s->lanes = sh->lanes;
	must_eq(shmq_create("q", &cfg), 0);
	q = attach("q");
	for (unsigned i = 0; i < s->workers; i++)
		pid[i] = spawn(work, &(struct part){ s, i });
	while (!all_done(s)) {
		sleep_ns(kills ? 100000 + rng_below(&r, 2 * MS) : MS);
		none_failed(s, pid);
		if (kills && kill_one(s, q, pid, choose(s, &r)))
			atomic_fetch_add(&totals->kills, 1);
	}
	for (unsigned i = 0; i < s->workers; i++)
		if (pid[i])
			reap_ok(pid[i]);
	drain(s, q);
	judge_stage(s, &cfg);
	for (unsigned i = 0; i < s->lanes; i++)
		fill_exactly(q, (int)i, cfg.lanes[i].capacity);
	shmq_close(q);
	must_eq(shmq_unlink("q"), 0);
}

static void stage_clear(struct stage *s)
{
	for (unsigned i = 0; i <= WORKERS_MAX; i++)
		memset(&s->log[i], 0, offsetof(struct log, ops) +
					      s->log[i].n * sizeof(struct linear_op));
}

static void play_all(bool kills)
{
	struct stage *s = shared(sizeof(*s));
	long n = counts(2 * (long)ARRAY_LEN(shapes));

	s->seed = seed(kills ? "kills" : "no kills");
	s->quota = QUOTA;
	for (long i = 0; i < n; i++) {
		play(s, &shapes[(size_t)i % ARRAY_LEN(shapes)], kills);
		stage_clear(s);
		s->seed++;
	}
}

START_TEST(what_processes_see_is_a_queue)
{
	play_all(false);
}
END_TEST

START_TEST(what_processes_see_is_a_queue_while_some_are_killed)
{
	play_all(true);
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

	t = suite_case(s, "histories", 120);
	tcase_add_test(t, what_processes_see_is_a_queue);
	tcase_add_test(t, what_processes_see_is_a_queue_while_some_are_killed);
	return s;
}

static void report(void)
{
	fprintf(stderr,
		"# %lu histories, %lu operations, %lu values, EMPTY judged %lu times, "
		"FULL %lu times\n"
		"# %lu kills, %lu in a call, %lu values delivered again (%lu requeued), "
		"%lu gone with the dead\n",
		totals->histories, totals->ops, totals->items, totals->empty, totals->full,
		totals->kills, totals->dead_ops, totals->came_back, totals->requeued,
		totals->gone);
}

int main(void)
{
	int status;

	totals = shared(sizeof(*totals));
	status = suite_run(suite());
	report();
	return status;
}
