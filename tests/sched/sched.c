/* SPDX-License-Identifier: MIT */
/* sched.c - see sched.h. */
#include "sched.h"
#include "access.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <ucontext.h>

#define STACK (128 * 1024)
#define DECISIONS 8192

enum state { READY, SLEEPING, STOPPED, ENDED, KILLED };

struct coroutine {
	ucontext_t context;
	enum state state;
	uint64_t parked_at;	/* time when it was interrupted */
	uint64_t deadline_ns;
	uint32_t killed_at;
	bool woken;
	bool wrote;		/* since a death was last tried */
	int last_word, rereads; /* the same word read over and over */
	uint64_t last_at;
	_Alignas(16) char stack[STACK];
};

enum kind { GO = 'g', SWITCH = 's', KILL = 'k', STOP = 'x' };

struct decision {
	int asked; /* how many were asked for before, also where there was no choice */
	uint8_t taken, nr;
	struct choice {
		char kind;
		uint8_t to;
	} choice[SCHED_PARTICIPANTS + 3];
};

int (*sched_word_of)(const volatile void *p);
bool sched_verbose;
uint64_t sched_clock_ns;

static struct coroutine all[SCHED_PARTICIPANTS];
static int nr_all, current = -1;
static void (*body_of_all)(int self);
static ucontext_t home;
static enum outcome outcome;

static struct bounds bounds, left;
static struct decision decisions[DECISIONS];
static int depth, nr_decisions; /* reached now; on the stack */
static int asked;
static const char *script;	/* decisions to repeat, or NULL */
static int steps;

/* Accesses are numbered through all executions: no need to reset anything. */
static uint64_t now, began;
static uint64_t touched_at[SCHED_WORDS], written_at[SCHED_WORDS];
/* By whom, a bit each, in any execution so far. */
static uint8_t touched_by[SCHED_WORDS], written_by[SCHED_WORDS];
static bool learnt;

void sched_say(const char *format, ...)
{
	va_list ap;

	if (!sched_verbose)
		return;
	fprintf(stderr, "%*s%d ", 4 * (current + 1), "", current);
	va_start(ap, format);
	vfprintf(stderr, format, ap);
	va_end(ap);
	fputc('\n', stderr);
}

/* ---- decisions ---------------------------------------------------------------- */

static void add(struct decision *d, enum kind kind, int to)
{
	d->choice[d->nr++] = (struct choice){ (char)kind, (uint8_t)to };
}

/* The script says "when asked for the Nth time, this": 17s1,30k0. */
static int scripted(const struct decision *d)
{
	char *rest;
	long at;
	int i;

	at = strtol(script, &rest, 10);
	if (rest == script || at != asked)
		return 0;
	for (i = 0; i < d->nr; i++)
		if (d->choice[i].kind == rest[0] && d->choice[i].to == rest[1] - '0')
			break;
	if (i == d->nr) {
		fprintf(stderr, "sched: no such choice at %d: %s\n", asked, script);
		exit(2);
	}
	script = rest + 2;
	script += *script == ',';
	return i;
}

static struct choice decide(const struct decision *d)
{
	struct decision *at = &decisions[depth];

	assert(d->nr > 0 && depth < DECISIONS);
	asked++;
	if (d->nr == 1)
		return d->choice[0];
	if (depth == nr_decisions) {
		*at = *d;
		at->asked = asked;
		at->taken = script ? (uint8_t)scripted(d) : 0;
		nr_decisions++;
	}
	/* What is repeated must repeat itself, or nothing here means anything. */
	assert(at->nr == d->nr && !memcmp(at->choice, d->choice, d->nr * sizeof *d->choice));
	depth++;
	return at->choice[at->taken];
}

bool sched_next(void)
{
	while (nr_decisions > 0) {
		struct decision *d = &decisions[nr_decisions - 1];

		if (++d->taken < d->nr)
			return true;
		nr_decisions--;
	}
	return false;
}

const char *sched_trace(void)
{
	static char text[DECISIONS];
	int i, n = 0;

	text[0] = 0;
	for (i = 0; i < depth && n < (int)sizeof text - 16; i++) {
		const struct decision *d = &decisions[i];

		if (d->taken)
			n += snprintf(text + n, sizeof text - (size_t)n, "%s%d%c%d",
				      n ? "," : "", d->asked, d->choice[d->taken].kind, d->choice[d->taken].to);
	}
	return text;
}

bool sched_repeat(const char *trace)
{
	static char copy[DECISIONS];

	if (strlen(trace) >= sizeof copy || trace[strspn(trace, "0123456789,skxg")])
		return false;
	strcpy(copy, trace);
	script = copy;
	sched_verbose = true;
	return true;
}

/* ---- switching ------------------------------------------------------------------ */

static void leave(enum outcome how)
{
	outcome = how;
	current = -1;
	setcontext(&home);
	abort();
}

/* Who runs when @current does not: -1 all have ended. */
static int another(void)
{
	struct decision d = { 0 };
	struct coroutine *first = NULL;
	int i;

	for (i = 0; i < nr_all; i++)
		if (all[i].state == READY)
			add(&d, SWITCH, i);
	if (d.nr)
		return decide(&d).to;
	/* Nobody can wake them: time passes. */
	for (i = 0; i < nr_all; i++)
		if (all[i].state == SLEEPING &&
		    (!first || all[i].deadline_ns < first->deadline_ns))
			first = &all[i];
	if (first) {
		if (sched_clock_ns < first->deadline_ns)
			sched_clock_ns = first->deadline_ns;
		first->state = READY;
		return (int)(first - all);
	}
	for (i = 0; i < nr_all; i++)
		if (all[i].state == STOPPED) {
			all[i].state = READY;
			return i;
		}
	return -1;
}

static void run(int next)
{
	struct coroutine *me = &all[current];

	if (next < 0)
		leave(RUN_COMPLETE);
	if (next == current)
		return;
	current = next;
	swapcontext(&me->context, &all[next].context);
}

static void trampoline(int self)
{
	body_of_all(self);
	all[self].state = ENDED;
	sched_say("ends");
	run(another());
	abort();
}

/* ---- points ----------------------------------------------------------------------- */

#define ANY_WORD (-2)

/* Nobody came near @word while we were away: this point is like the next one. */
static bool like_the_next(const struct coroutine *me, int word, enum access_kind kind)
{
	if (word == ANY_WORD || script)
		return false;
	return (kind == ACCESS_READ ? written_at : touched_at)[word] <= me->parked_at;
}

static bool contended(int word)
{
	uint8_t by = touched_by[word];

	return written_by[word] && (by & (by - 1));
}

static void note(int word, bool write)
{
	bool was = contended(word);

	touched_by[word] |= (uint8_t)(1 << current);
	if (write)
		written_by[word] |= (uint8_t)(1 << current);
	learnt |= contended(word) != was;
}

static void choices(struct decision *d, bool between, bool mine, bool back)
{
	struct coroutine *me = &all[current];
	int i, others = 0;

	add(d, GO, current);
	for (i = 0; i < nr_all; i++) {
		if (i == current || all[i].state != READY)
			continue;
		others++;
		if (left.preemptions && !back && !mine)
			add(d, SWITCH, i);
	}
	if (left.kills && (me->wrote || back || between))
		add(d, KILL, current);
	if (left.stops && others && !back && !mine)
		add(d, STOP, current);
}

static void point(int word, enum access_kind kind)
{
	struct coroutine *me = &all[current];
	bool back = false;
	/* Nobody else cares when it happens; but those who come later may find it dead. */
	bool mine = word != ANY_WORD && !script && !contended(word) &&
		    !(left.kills && me->wrote);

	for (;;) {
		struct decision d = { 0 };
		struct choice c;

		choices(&d, word == ANY_WORD, mine, back);
		c = decide(&d);
		switch (c.kind) {
		case GO:
			me->wrote = false;
			if (back && like_the_next(me, word, kind))
				leave(RUN_GIVEN_UP);
			return;
		case SWITCH:
			left.preemptions--;
			me->parked_at = now;
			run(c.to);
			break;
		case KILL:
			left.kills--;
			sched_say("is killed");
			me->killed_at = sched_time();
			me->state = KILLED;
			sched_clock_ns += SCHED_DEATH_NS;
			touched_at[SCHED_KERNEL] = written_at[SCHED_KERNEL] = ++now;
			note(SCHED_KERNEL, true);
			run(another());
			break;
		case STOP:
			left.stops--;
			sched_say("is stopped");
			me->state = STOPPED;
			me->parked_at = now;
			run(another());
			break;
		}
		back = true;
	}
}

/* A word read again that nobody has written: once is interesting, to see it change. */
static bool rereads(struct coroutine *me, int word, enum access_kind kind)
{
	if (kind != ACCESS_READ || me->last_word != word || written_at[word] > me->last_at) {
		me->last_word = word;
		me->rereads = 0;
	} else {
		me->rereads++;
	}
	me->last_at = now;
	return me->rereads > 1;
}

static void access(int word, enum access_kind kind)
{
	struct coroutine *me = &all[current];

	if (++steps > SCHED_STEPS)
		leave(RUN_LIVELOCK);
	note(word, kind != ACCESS_READ);
	if (!rereads(me, word, kind))
		point(word, kind);
	touched_at[word] = ++now;
	if (kind == ACCESS_WRITE) {
		written_at[word] = now;
		me->wrote = true;
	}
}

void access_point(const volatile void *word, enum access_kind kind, const char *where)
{
	static const char *const names[] = { "reads", "writes", "updates" };
	int w;

	if (current < 0 || (w = sched_word_of(word)) < 0)
		return;
	access(w, kind);
	if (sched_verbose)
		sched_say("%-5d %s %d %s %llx", asked, strrchr(where, '/') + 1, w, names[kind],
			  (unsigned long long)*(const volatile uint64_t *)word);
}

void access_wrote(const volatile void *word)
{
	int w;

	if (current < 0 || (w = sched_word_of(word)) < 0)
		return;
	written_at[w] = now;
	all[current].wrote = true;
}

int sched_self(void)
{
	return current;
}

bool sched_killed(int i)
{
	return all[i].state == KILLED;
}

uint32_t sched_killed_at(int i)
{
	return all[i].killed_at;
}

uint32_t sched_time(void)
{
	return (uint32_t)(++now - began);
}

void sched_between(void)
{
	point(ANY_WORD, ACCESS_UPDATE);
}

void sched_kernel(bool write, const char *what)
{
	if (current < 0)
		return;
	access(SCHED_KERNEL, write ? ACCESS_WRITE : ACCESS_READ);
	sched_say("%-5d %s", asked, what);
}

bool sched_sleep(uint64_t deadline_ns)
{
	struct coroutine *me = &all[current];

	if (++steps > SCHED_STEPS)
		leave(RUN_LIVELOCK);
	me->state = SLEEPING;
	me->deadline_ns = deadline_ns;
	me->woken = false;
	sched_say("sleeps");
	run(another());
	sched_say("%s", me->woken ? "is woken" : "has slept");
	return me->woken;
}

void sched_wake(int i)
{
	all[i].state = READY;
	all[i].woken = true;
}

/* ---- executions -------------------------------------------------------------------- */

void sched_begin(int n, void (*body)(int self), struct bounds b)
{
	assert(n <= SCHED_PARTICIPANTS);
	nr_all = n;
	body_of_all = body;
	bounds = b;
	nr_decisions = 0;
}

bool sched_learnt(void)
{
	bool was = learnt;

	learnt = false;
	return was;
}

struct bounds sched_left(void)
{
	return left;
}

enum outcome sched_run(void)
{
	volatile bool started = false;
	int i;

	for (i = 0; i < nr_all; i++) {
		struct coroutine *c = &all[i];

		c->state = READY;
		c->wrote = true; /* may die before it has done anything */
		c->last_word = -1;
		getcontext(&c->context);
		c->context.uc_stack.ss_sp = c->stack;
		c->context.uc_stack.ss_size = STACK;
		c->context.uc_link = NULL;
		makecontext(&c->context, (void (*)(void))trampoline, 1, i);
	}
	left = bounds;
	began = now;
	depth = steps = asked = 0;
	getcontext(&home);
	if (!started) {
		started = true;
		current = another();
		setcontext(&all[current].context);
	}
	return outcome;
}
