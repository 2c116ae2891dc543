/* SPDX-License-Identifier: MIT */
/*
 * linear.c - see linear.h.
 *
 * collect() brings the operations of each value together, windows() turns them
 * into bounds for the instants of its push and its takes, and the others look for
 * one kind of evidence each.
 */
#include "linear.h"

#include <stdarg.h>

const char *const linear_fault_name[LINEAR_NR_FAULTS] = {
	"fine", "unknown", "early", "twice", "lost", "moved", "order",
	"empty", "full", "overfull", "priority", "attempts", "prefix",
};

#define NEVER UINT64_MAX

/* What is known of a value. All bounds hold for every order that explains the
 * history: it was not pushed before in_begin, and so on. */
struct life {
	const struct linear_op *push, *pop;
	uint8_t push_at, pop_at;
	uint8_t lane, attempts;
	bool refused, here; /* not pushed; certainly pushed */
	bool again;         /* it may have been taken before */
	uint32_t named;     /* failed takes that have it in their buffer */
	bool consumable;    /* and one of them may have consumed it after all */
	uint64_t in_begin, in_end;
	uint64_t first_begin, first_end; /* the first take */
	uint64_t out_begin, out_end;     /* the last one, which consumed it */
	uint64_t back;                   /* it was back for that; NEVER unknown */
};

struct failed { /* a take that did not, or perhaps not, consume */
	const struct linear_op *op;
	uint64_t until; /* it was no take any more after that */
	int blanks;     /* items it may have held without a trace */
};

struct span {
	uint64_t from, to;
};

struct step { /* of the number of items over time */
	uint64_t at;
	int64_t by;
};

struct check {
	const struct linear_history *h;
	struct linear_result *r;
	struct life *life;
	struct failed *failed;
	size_t nr_failed;
	struct life **by_in_end, **by_in_begin; /* of one lane, newest first */
	size_t nr;
	struct span *span; /* when the lane was certainly not empty */
	size_t nr_spans;
	struct step *step;
	size_t nr_steps;
	int64_t *tree; /* maxima over steps */
};

/* ---- words -------------------------------------------------------------------- */

uint64_t linear_value(uint32_t number)
{
	return (uint64_t)(number * 2654435761u) << 32 | number;
}

/* 0 if it is none. */
static uint32_t number_of(const struct check *c, uint64_t value)
{
	uint32_t n = (uint32_t)value;

	return n < c->h->nr_values && value == linear_value(n) ? n : 0;
}

static const char *op_text(const struct linear_op *op, char *buf, size_t size)
{
	static const char *const name[] = { "?", "push", "abort", "pop", "requeue" };
	int n;

	if (!op)
		return "nothing";
	n = snprintf(buf, size, "%s lane %d [%" PRIu64 ", %" PRIu64 "]%s %u/%u:",
		     name[op->kind], op->lane, op->begin, op->end ? op->end : op->died,
		     op->end ? "" : " dead", op->done, op->asked);
	for (int i = 0; i < op->asked && n > 0 && (size_t)n < size; i++)
		n += snprintf(buf + n, size - (size_t)n, " %u", (uint32_t)op->value[i]);
	return buf;
}

static bool fault(struct check *c, enum linear_fault f, uint32_t number,
		  const struct linear_op *a, const struct linear_op *b)
{
	char ta[160], tb[160];

	if (c->r->fault == LINEAR_FINE) {
		c->r->fault = f;
		snprintf(c->r->text, sizeof(c->r->text), "%s, value %u: %s; %s",
			 linear_fault_name[f], number, op_text(a, ta, sizeof(ta)),
			 op_text(b, tb, sizeof(tb)));
	}
	return false;
}

static uint64_t last_of(const struct linear_op *op)
{
	return op->end ? op->end : op->died;
}

#define FOR_EACH_OP(c, op)                                                        \
	for (unsigned log_ = 0; log_ < (c)->h->nr_logs; log_++)                   \
		for (const struct linear_op *op = (c)->h->logs[log_].ops;         \
		     op < (c)->h->logs[log_].ops + (c)->h->logs[log_].n; op++)    \
			if (op->begin)

static uint32_t number_in(const struct check *c, const struct life *l)
{
	return (uint32_t)(l - c->life);
}

/* ---- the operations of each value ------------------------------------------------ */

static bool collect_push(struct check *c, const struct linear_op *op)
{
	for (uint8_t i = 0; i < op->asked; i++) {
		uint32_t n = number_of(c, op->value[i]);
		struct life *l = &c->life[n];

		if (n == 0 || l->push) /* the test is wrong, not the queue */
			return fault(c, LINEAR_UNKNOWN, n, op, l->push);
		l->push = op;
		l->push_at = i;
		l->lane = (uint8_t)op->lane;
		l->refused = op->kind == LINEAR_ABORT || (op->end && i >= op->done);
		l->here = !l->refused && op->end;
	}
	return true;
}

static bool collect_pop(struct check *c, const struct linear_op *op)
{
	for (uint8_t i = 0; i < op->done; i++) {
		uint32_t n = number_of(c, op->value[i]);
		struct life *l = &c->life[n];

		if (n == 0)
			return fault(c, LINEAR_UNKNOWN, (uint32_t)op->value[i], op, NULL);
		if (l->pop)
			return fault(c, LINEAR_TWICE, n, l->pop, op);
		l->pop = op;
		l->pop_at = i;
		l->attempts = op->attempts[i];
	}
	return true;
}

static bool collect_failed(struct check *c, const struct linear_op *op)
{
	struct failed *f = &c->failed[c->nr_failed++];

	*f = (struct failed){ .op = op, .until = last_of(op), .blanks = op->asked };
	for (uint8_t i = 0; i < op->asked && op->value[i]; i++) {
		uint32_t n = number_of(c, op->value[i]);

		if (n == 0) /* killed in the middle of the copy */
			continue;
		c->life[n].named++;
		c->life[n].consumable |= op->kind == LINEAR_POP;
		f->blanks--;
	}
	c->r->requeued += op->kind == LINEAR_REQUEUE && op->end;
	return true;
}

static bool collect(struct check *c)
{
	bool ok = true;

	FOR_EACH_OP(c, op) {
		bool push = op->kind == LINEAR_PUSH || op->kind == LINEAR_ABORT;

		c->r->ops++;
		c->r->dead_ops += !op->end;
		if (push)
			ok = collect_push(c, op) && ok;
		else if (op->end && op->kind == LINEAR_POP)
			ok = collect_pop(c, op) && ok;
		else
			ok = collect_failed(c, op) && ok;
	}
	return ok;
}

/* ---- bounds ---------------------------------------------------------------------- */

static bool names(const struct failed *f, uint64_t value)
{
	for (uint8_t i = 0; i < f->op->asked; i++)
		if (f->op->value[i] == value)
			return true;
	return false;
}

/* Could @f have held the value of @l without a trace? */
static bool may_hold(const struct failed *f, const struct life *l)
{
	return f->blanks > 0 && (f->op->lane < 0 || f->op->lane == l->lane) &&
	       f->op->begin < l->out_end && f->until > l->in_begin;
}

/* The takes of @l that failed, by name or perhaps. */
static bool holders(struct check *c, struct life *l)
{
	uint64_t value = linear_value(number_in(c, l));
	uint32_t may = 0, want = l->attempts ? l->attempts - 1u : UINT32_MAX;
	bool only_named = l->pop && l->named == want;
	uint64_t until = 0, back = 0;

	for (size_t i = 0; i < c->nr_failed; i++) {
		struct failed *f = &c->failed[i];
		bool named = l->named && names(f, value);

		if (named && l->pop && f->op->begin > l->out_end)
			return fault(c, LINEAR_TWICE, number_in(c, l), l->pop, f->op);
		if (!named && (only_named || !may_hold(f, l)))
			continue;
		may += named ? 1 : (uint32_t)f->blanks;
		if (f->op->begin < l->first_begin)
			l->first_begin = f->op->begin;
		if (f->until > until)
			until = f->until;
		if (!f->op->over || !l->pop)
			back = NEVER;
		else if (f->op->over > back)
			back = f->op->over;
	}
	if (l->pop && l->attempts && (l->named > want || want > may))
		return fault(c, LINEAR_ATTEMPTS, number_in(c, l), l->pop, l->push);
	l->again = may > 0;
	if (l->again && l->attempts > 1 && until < l->first_end)
		l->first_end = until;
	if (l->again)
		l->back = back;
	return true;
}

/* @l was pushed, by a call that may not have returned, and consumed. */
static bool window(struct check *c, struct life *l)
{
	l->in_begin = l->push->begin;
	l->in_end = last_of(l->push);
	l->back = NEVER;
	if (l->pop) {
		l->out_begin = l->pop->begin;
		l->out_end = l->pop->taken ? l->pop->taken : l->pop->end;
		if (l->pop->from[l->pop_at] != l->lane ||
		    (l->pop->lane >= 0 && l->pop->lane != l->lane))
			return fault(c, LINEAR_MOVED, number_in(c, l), l->push, l->pop);
		c->r->came_back += l->attempts > 1;
	} else { /* by one of the dead that have it in their buffers */
		l->out_begin = NEVER;
		for (size_t i = 0; i < c->nr_failed; i++) {
			struct failed *f = &c->failed[i];

			if (f->op->kind != LINEAR_POP ||
			    !names(f, linear_value(number_in(c, l))))
				continue;
			if (f->op->begin < l->out_begin)
				l->out_begin = f->op->begin;
			if (f->until > l->out_end)
				l->out_end = f->until;
		}
		c->r->gone++;
	}
	l->first_begin = l->out_begin;
	l->first_end = l->out_end;
	if (l->out_end < l->in_begin)
		return fault(c, LINEAR_EARLY, number_in(c, l), l->push, l->pop);
	if ((l->attempts != 1 || l->named) && !holders(c, l))
		return false;
	if (l->first_begin < l->in_begin)
		l->first_begin = l->in_begin;
	if (l->out_begin < l->in_begin)
		l->out_begin = l->in_begin;
	if (l->in_end > l->first_end)
		l->in_end = l->first_end;
	if (l->back < l->in_end) /* perhaps they died before it came */
		l->back = l->in_end;
	return true;
}

/* The items of a push came in their order, and so did those of a pop. */
static bool tighten(struct check *c, const struct linear_op *op)
{
	uint64_t bound = op->kind == LINEAR_PUSH ? NEVER : 0;

	if (op->kind == LINEAR_PUSH) {
		for (int i = op->asked - 1; i >= 0; i--) {
			struct life *l = &c->life[number_of(c, op->value[i])];

			if (!l->here && bound != NEVER && !l->refused)
				return fault(c, LINEAR_PREFIX, number_in(c, l), op, NULL);
			if (!l->here)
				continue;
			if (l->in_end > bound)
				l->in_end = bound;
			bound = l->in_end;
		}
	} else if (op->kind == LINEAR_POP && op->end) {
		for (int i = 0; i < op->done; i++) {
			struct life *l = &c->life[number_of(c, op->value[i])];

			if (l->out_begin < bound)
				l->out_begin = bound;
			if (!l->again)
				l->first_begin = l->out_begin;
			bound = l->out_begin;
		}
	}
	return true;
}

static bool windows(struct check *c)
{
	bool ok = true;

	for (uint32_t n = 1; n < c->h->nr_values; n++) {
		struct life *l = &c->life[n];

		if (!l->push || l->refused) {
			if (l->pop || l->named)
				ok = fault(c, LINEAR_UNKNOWN, n, l->pop, l->push);
			continue;
		}
		l->here |= l->pop || l->named;
		if (!l->here)
			continue;
		if (!l->pop && !l->consumable)
			ok = fault(c, LINEAR_LOST, n, l->push, NULL);
		else
			ok = window(c, l) && ok;
		c->r->items++;
	}
	if (ok)
		FOR_EACH_OP(c, op)
			ok = tighten(c, op) && ok;
	return ok;
}

/* ---- order ------------------------------------------------------------------------ */

static int newest_in_end(const void *a, const void *b)
{
	uint64_t x = (*(struct life *const *)a)->in_end, y = (*(struct life *const *)b)->in_end;

	return (x < y) - (x > y);
}

static int newest_in_begin(const void *a, const void *b)
{
	uint64_t x = (*(struct life *const *)a)->in_begin,
		 y = (*(struct life *const *)b)->in_begin;

	return (x < y) - (x > y);
}

static void lane_of_values(struct check *c, unsigned lane)
{
	c->nr = 0;
	for (uint32_t n = 1; n < c->h->nr_values; n++)
		if (c->life[n].here && c->life[n].lane == lane)
			c->by_in_end[c->nr++] = &c->life[n];
	memcpy(c->by_in_begin, c->by_in_end, c->nr * sizeof(*c->by_in_begin));
	qsort(c->by_in_end, c->nr, sizeof(*c->by_in_end), newest_in_end);
	qsort(c->by_in_begin, c->nr, sizeof(*c->by_in_begin), newest_in_begin);
}

/* Of all that were pushed after @a: was one certainly taken before? */
static bool order_first(struct check *c)
{
	struct life *soonest = NULL;
	size_t k = 0;

	for (size_t i = 0; i < c->nr; i++) {
		struct life *a = c->by_in_end[i];

		for (; k < c->nr && c->by_in_begin[k]->in_begin > a->in_end; k++)
			if (!soonest || c->by_in_begin[k]->first_end < soonest->first_end)
				soonest = c->by_in_begin[k];
		if (soonest && soonest->first_end < a->first_begin)
			return fault(c, LINEAR_ORDER, number_in(c, a), a->push,
				     soonest->pop);
	}
	return true;
}

/* The same for what came back, while it was certainly back. There are few. */
static bool order_again(struct check *c)
{
	for (size_t i = 0; i < c->nr; i++) {
		struct life *a = c->by_in_end[i];

		if (!a->again || a->back >= a->out_begin)
			continue;
		for (size_t k = 0; k < c->nr && c->by_in_begin[k]->in_begin > a->in_end; k++) {
			struct life *b = c->by_in_begin[k];

			if (b->out_begin > a->back && b->out_end < a->out_begin)
				return fault(c, LINEAR_ORDER, number_in(c, a), a->pop,
					     b->pop);
		}
	}
	return true;
}

/* Was @a certainly pushed before @b? */
static bool pushed_before(const struct life *a, const struct life *b)
{
	return a->lane == b->lane && (a->push == b->push ? a->push_at < b->push_at :
						 a->in_end < b->in_begin);
}

/* Within one call the positions tell more than the intervals. */
static bool order_batch(struct check *c, const struct linear_op *op)
{
	for (int i = 0; i < op->asked; i++)
		for (int k = i + 1; k < op->asked; k++) {
			struct life *a = &c->life[number_of(c, op->value[i])];
			struct life *b = &c->life[number_of(c, op->value[k])];

			if (op->kind == LINEAR_PUSH && a->here && b->here &&
			    b->first_end < a->first_begin)
				return fault(c, LINEAR_ORDER, number_in(c, a), op, b->pop);
			if (op->kind == LINEAR_POP && op->end && k < op->done &&
			    !b->again && pushed_before(b, a))
				return fault(c, LINEAR_ORDER, number_in(c, b), b->push, op);
		}
	return true;
}

/* ---- empty ------------------------------------------------------------------------- */

static int by_from(const void *a, const void *b)
{
	const struct span *x = a, *y = b;

	return (x->from > y->from) - (x->from < y->from);
}

static void span_add(struct check *c, uint64_t from, uint64_t to)
{
	if (from < to)
		c->span[c->nr_spans++] = (struct span){ from, to };
}

/* When was the lane certainly not empty? Spans that do not touch, in order. */
static void spans_of_lane(struct check *c)
{
	size_t n = 0;

	c->nr_spans = 0;
	for (size_t i = 0; i < c->nr; i++) {
		struct life *l = c->by_in_end[i];

		span_add(c, l->in_end, l->first_begin);
		if (l->again && l->back != NEVER)
			span_add(c, l->back, l->out_begin);
	}
	qsort(c->span, c->nr_spans, sizeof(*c->span), by_from);
	for (size_t i = 0; i < c->nr_spans; i++) {
		if (n && c->span[i].from <= c->span[n - 1].to) {
			if (c->span[i].to > c->span[n - 1].to)
				c->span[n - 1].to = c->span[i].to;
		} else {
			c->span[n++] = c->span[i];
		}
	}
	c->nr_spans = n;
}

static bool never_empty(const struct check *c, const struct linear_op *op)
{
	size_t low = 0, high = c->nr_spans;

	while (low < high) { /* the last span that starts before the call */
		size_t mid = (low + high) / 2;

		if (c->span[mid].from < op->begin)
			low = mid + 1;
		else
			high = mid;
	}
	return low > 0 && c->span[low - 1].to > op->end;
}

/* Does @op say that @lane was empty at one of its instants? A pop from any lane says
 * it of each lane above one that it took from. */
static enum linear_fault says_empty(const struct linear_op *op, unsigned lane)
{
	if (op->kind != LINEAR_POP || !op->end)
		return LINEAR_FINE;
	if (op->done < op->asked && (op->lane < 0 || (unsigned)op->lane == lane))
		return LINEAR_EMPTY;
	if (op->lane >= 0)
		return LINEAR_FINE;
	for (int i = 0; i < op->done; i++)
		if (op->from[i] > lane)
			return LINEAR_PRIORITY;
	return LINEAR_FINE;
}

static bool there_during(const struct life *l, const struct linear_op *op)
{
	return (l->in_end < op->end && l->first_begin > op->begin) ||
	       (l->again && l->back < op->end && l->out_begin > op->begin);
}

/* Name one of those that were there. */
static bool fault_empty(struct check *c, enum linear_fault f, const struct linear_op *op)
{
	for (size_t i = 0; i < c->nr; i++) {
		const struct life *l = c->by_in_end[i];

		if (there_during(l, op))
			return fault(c, f, number_in(c, l), op, l->pop ? l->pop : l->push);
	}
	return fault(c, f, 0, op, NULL);
}

static bool empty_claims(struct check *c, unsigned lane)
{
	spans_of_lane(c);
	FOR_EACH_OP(c, op) {
		enum linear_fault f = says_empty(op, lane);

		if (f == LINEAR_FINE)
			continue;
		c->r->empty++;
		if (never_empty(c, op))
			return fault_empty(c, f, op);
	}
	return true;
}

/* ---- full --------------------------------------------------------------------------- */

static void step_add(struct check *c, uint64_t from, uint64_t to, int64_t by)
{
	if (from >= to)
		return;
	c->step[c->nr_steps++] = (struct step){ from, by };
	if (to != NEVER)
		c->step[c->nr_steps++] = (struct step){ to, -by };
}

static int up_first(const void *a, const void *b)
{
	const struct step *x = a, *y = b;

	return x->at != y->at ? (x->at > y->at) - (x->at < y->at) :
				(x->by < y->by) - (x->by > y->by);
}

static int down_first(const void *a, const void *b)
{
	const struct step *x = a, *y = b;

	return x->at != y->at ? (x->at > y->at) - (x->at < y->at) :
				(x->by > y->by) - (x->by < y->by);
}

/* Name one that is certainly there from @at on. */
static bool fault_overfull(struct check *c, uint64_t at)
{
	const struct life *l = c->by_in_end[0];

	for (size_t i = 0; i < c->nr; i++)
		if (c->by_in_end[i]->in_end == at)
			l = c->by_in_end[i];
	return fault(c, LINEAR_OVERFULL, number_in(c, l), l->push, l->pop);
}

/* Were more items certainly there than fit? What comes back is above the limit. */
static bool never_overfull(struct check *c, unsigned lane)
{
	int64_t n = 0;

	c->nr_steps = 0;
	for (size_t i = 0; i < c->nr; i++)
		step_add(c, c->by_in_end[i]->in_end, c->by_in_end[i]->first_begin, 1);
	qsort(c->step, c->nr_steps, sizeof(*c->step), down_first);
	for (size_t i = 0; i < c->nr_steps; i++) {
		n += c->step[i].by;
		if (n > (int64_t)c->h->capacity[lane])
			return fault_overfull(c, c->step[i].at);
	}
	return true;
}

static int refused_items(const struct linear_op *op)
{
	return op->kind == LINEAR_PUSH && op->end ? op->asked - op->done : 0;
}

/* Items and unfinished pushes that may have counted, over time. */
static void steps_of_lane(struct check *c, unsigned lane)
{
	c->nr_steps = 0;
	for (size_t i = 0; i < c->nr; i++)
		step_add(c, c->by_in_end[i]->in_begin, c->by_in_end[i]->out_end, 1);
	FOR_EACH_OP(c, op) {
		int64_t n = refused_items(op);

		if ((unsigned)op->lane != lane)
			continue;
		if (op->kind == LINEAR_ABORT && op->end)
			n = op->asked;
		if (n)
			step_add(c, op->begin, op->end, n);
		if (op->end || op->kind > LINEAR_ABORT)
			continue;
		for (int i = 0; i < op->asked; i++)
			n += !c->life[number_of(c, op->value[i])].here;
		if (n)
			step_add(c, op->begin, op->over ? op->over : NEVER, n);
	}
	qsort(c->step, c->nr_steps, sizeof(*c->step), up_first);
}

/* tree[nr_steps + i]: the number after step i; tree[i]: the larger of two below. */
static void tree_of_steps(struct check *c)
{
	int64_t n = 0;

	for (size_t i = 0; i < c->nr_steps; i++)
		c->tree[c->nr_steps + i] = n += c->step[i].by;
	for (size_t i = c->nr_steps; i-- > 1;)
		c->tree[i] = c->tree[2 * i] > c->tree[2 * i + 1] ? c->tree[2 * i] :
								     c->tree[2 * i + 1];
}

/* How many steps are at or before @at? */
static size_t steps_until(const struct check *c, uint64_t at)
{
	size_t low = 0, high = c->nr_steps;

	while (low < high) {
		size_t mid = (low + high) / 2;

		if (c->step[mid].at <= at)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

/* The most that may have been there at an instant of @op. */
static int64_t most_during(const struct check *c, const struct linear_op *op)
{
	size_t from = steps_until(c, op->begin), to = steps_until(c, op->end);
	int64_t most = 0; /* before the first step */

	for (from += c->nr_steps - (from > 0), to += c->nr_steps; from < to;
	     from /= 2, to /= 2) {
		if (from & 1) {
			most = c->tree[from] > most ? c->tree[from] : most;
			from++;
		}
		if (to & 1) {
			to--;
			most = c->tree[to] > most ? c->tree[to] : most;
		}
	}
	return most;
}

static bool full_claims(struct check *c, unsigned lane)
{
	if (c->h->capacity[lane] == 0)
		return true;
	if (!never_overfull(c, lane))
		return false;
	steps_of_lane(c, lane);
	tree_of_steps(c);
	FOR_EACH_OP(c, op) {
		int64_t own = refused_items(op);

		if (own == 0 || (unsigned)op->lane != lane)
			continue;
		c->r->full++;
		if (most_during(c, op) - own < (int64_t)c->h->capacity[lane])
			return fault(c, LINEAR_FULL, number_of(c, op->value[op->done]), op, NULL);
	}
	return true;
}

/* ---- all ---------------------------------------------------------------------------- */

static void *array(size_t n, size_t size)
{
	void *p = calloc(n + 1, size);

	must(p, "out of memory");
	return p;
}

static bool look(struct check *c)
{
	if (!collect(c) || !windows(c))
		return false;
	FOR_EACH_OP(c, op)
		if (!order_batch(c, op))
			return false;
	for (unsigned lane = 0; lane < c->h->nr_lanes; lane++) {
		lane_of_values(c, lane);
		if (!order_first(c) || !order_again(c) || !empty_claims(c, lane) ||
		    !full_claims(c, lane))
			return false;
	}
	return true;
}

bool linear_check(const struct linear_history *h, struct linear_result *r)
{
	struct check c = { .h = h, .r = r };
	size_t ops = 0;
	bool ok;

	*r = (struct linear_result){ 0 };
	for (unsigned i = 0; i < h->nr_logs; i++)
		ops += h->logs[i].n;
	c.life = array(h->nr_values, sizeof(*c.life));
	c.failed = array(ops, sizeof(*c.failed));
	c.by_in_end = array(h->nr_values, sizeof(*c.by_in_end));
	c.by_in_begin = array(h->nr_values, sizeof(*c.by_in_begin));
	c.span = array(2 * (size_t)h->nr_values, sizeof(*c.span));
	c.step = array(2 * (h->nr_values + 2 * ops), sizeof(*c.step));
	c.tree = array(4 * (h->nr_values + 2 * ops), sizeof(*c.tree));
	ok = look(&c);
	free(c.life);
	free(c.failed);
	free(c.by_in_end);
	free(c.by_in_begin);
	free(c.span);
	free(c.step);
	free(c.tree);
	return ok;
}
