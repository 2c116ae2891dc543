/* SPDX-License-Identifier: MIT */
/*
 * test_signal.c - a signal handler may push and pop, on a handle that the interrupted
 * code does not use: wherever in a call it runs, both succeed and every item comes
 * once.
 *
 * First at every instruction that a call comes by: they are noted with the trap flag of
 * the processor, which makes a SIGTRAP of each; then one after the other is replaced by
 * a breakpoint, whose handler puts it back, and pushes and pops. Then by a timer, as fast
 * as it goes, while two such processes work on one queue.
 */
#include "common.h"

#include <sys/mman.h>
#include <sys/time.h>
#include <sys/ucontext.h>

/* ---- at every instruction ----------------------------------------------- */

enum op { PUSH, PUSH_N, COMMIT, ABORT, POP, POP_ANY, POP_N, RELEASE, REQUEUE, NR_OPS };

static const char *const op_name[] = { "push", "push_n", "reserve and commit",
				       "reserve and abort", "pop", "pop any", "pop_n",
				       "peek and release", "peek and requeue" };

enum { BATCH = 3, IDS = 128 };

static const struct scene {
	const char *name;
	uint64_t capacity;
	int waiting; /* items before the call */
	bool align;  /* the next ticket is the first of a segment */
} scenes[] = {
	{ "few", 8, 2, false },
	{ "full", 8, 8, false },
	{ "new segment", 64, 2, true },
};

struct sweep {
	enum op op;
	const struct scene *scene;
	bool noting;
	uintptr_t armed; /* where the breakpoint is, 0 none */
	uint8_t byte;    /* what belongs there */
	int nr_at;
	uintptr_t at[4096]; /* the instructions that the call comes by */
};

static struct sweep sweep;
static struct shmq *main_handle, *other_handle;

/* Since the scene was set; a number is an item. */
static uint64_t base, next;
static int pushed[IDS], popped[IDS];

static int push_one(struct shmq *q)
{
	uint64_t id = next++;
	int r = shmq_push(q, 1, &id, 8, SHMQ_NOWAIT);

	must(id - base < IDS);
	pushed[id - base] += r == 0;
	return r;
}

static void got(uint64_t id)
{
	must(id - base < IDS, "item %" PRIu64 " of long ago", id);
	popped[id - base]++;
}

static ssize_t pop_one(struct shmq *q, int lane)
{
	struct shmq_info info;
	uint64_t id;
	ssize_t n = shmq_pop(q, lane, &id, 8, &info, SHMQ_NOWAIT);

	if (n == 8)
		got(id);
	return n;
}

/* Where there is room for one more, or by making some. */
static void push_and_pop(void)
{
	if (sweep.scene->waiting < (int)sweep.scene->capacity) {
		must_eq(push_one(other_handle), 0);
		must_eq(pop_one(other_handle, 1), 8);
		return;
	}
	must_eq(pop_one(other_handle, SHMQ_ANY_LANE), 8);
	/* The interrupted call may have taken the room. */
	must(push_one(other_handle) == 0 || sweep.op <= ABORT);
}

#ifdef __x86_64__
enum { TRAP_FLAG = 0x100, CAN_BREAK = true };

static void trap_flag_set(void)
{
	__asm__ volatile("lea -128(%%rsp), %%rsp\n\t"
			 "pushfq\n\t"
			 "orq %0, (%%rsp)\n\t"
			 "popfq\n\t"
			 "lea 128(%%rsp), %%rsp" : : "i"(TRAP_FLAG) : "memory", "cc");
}

static void note(uintptr_t at)
{
	for (int i = 0; i < sweep.nr_at; i++)
		if (sweep.at[i] == at)
			return;
	must(sweep.nr_at < (int)ARRAY_LEN(sweep.at));
	sweep.at[sweep.nr_at++] = at;
}

/* Not in the code that the kernel maps. */
static bool breakpoint_possible(uintptr_t at)
{
	return mprotect((void *)(at & ~(uintptr_t)4095), 4096,
			PROT_READ | PROT_WRITE | PROT_EXEC) == 0;
}

static void breakpoint_set(uintptr_t at)
{
	sweep.byte = *(uint8_t *)at;
	sweep.armed = at;
	*(volatile uint8_t *)at = 0xcc;
}

static void breakpoint_clear(void)
{
	*(volatile uint8_t *)sweep.armed = sweep.byte;
	sweep.armed = 0;
}

static void on_trap(int sig, siginfo_t *info, void *context)
{
	greg_t *reg = ((ucontext_t *)context)->uc_mcontext.gregs;

	(void)sig;
	(void)info;
	if (sweep.noting) {
		note((uintptr_t)reg[REG_RIP]);
	} else if (sweep.armed) {
		reg[REG_RIP] = (greg_t)sweep.armed;
		breakpoint_clear(); /* first: no function that is called may have it */
		push_and_pop();
	} else { /* noted enough */
		reg[REG_EFL] &= ~TRAP_FLAG;
	}
}
#else
enum { CAN_BREAK = false };

static void trap_flag_set(void) {}
static bool breakpoint_possible(uintptr_t at) { return !at; }
static void breakpoint_set(uintptr_t at) { sweep.armed = at; }
static void breakpoint_clear(void) {}
static void on_trap(int sig, siginfo_t *info, void *context)
{
	(void)sig;
	(void)info;
	(void)context;
	push_and_pop();
}
#endif

static void push_batch(struct shmq *q)
{
	uint64_t id[BATCH];
	struct iovec v[BATCH];
	int n;

	for (int i = 0; i < BATCH; i++) {
		id[i] = next++;
		v[i] = (struct iovec){ &id[i], 8 };
	}
	n = shmq_push_n(q, 1, v, BATCH, SHMQ_NOWAIT);
	must((n > 0 && n <= BATCH) || n == -EAGAIN, "%d", n);
	for (int i = 0; i < n; i++)
		pushed[id[i] - base]++;
}

static void pop_batch(struct shmq *q)
{
	uint64_t id[BATCH];
	struct iovec v[BATCH];
	int n;

	for (int i = 0; i < BATCH; i++)
		v[i] = (struct iovec){ &id[i], 8 };
	n = shmq_pop_n(q, 1, v, NULL, BATCH, SHMQ_NOWAIT);
	must(n > 0 && n <= BATCH, "%d", n);
	for (int i = 0; i < n; i++)
		got(id[i]);
}

static void write_in_place(struct shmq *q, bool commit)
{
	uint64_t id = next++;
	void *buf;
	int r = shmq_reserve(q, 1, &buf, SHMQ_NOWAIT);

	must(r == 0 || r == -EAGAIN, "%d", r);
	if (r < 0)
		return;
	memcpy(buf, &id, 8);
	if (commit) {
		must_eq(shmq_commit(q, 8), 0);
		pushed[id - base]++;
	} else {
		must_eq(shmq_abort(q), 0);
	}
}

static void read_in_place(struct shmq *q, bool release)
{
	struct shmq_lease l;

	must_eq(shmq_peek(q, 1, &l, SHMQ_NOWAIT), 0);
	if (release)
		got(*(const uint64_t *)l.data);
	must_eq(release ? shmq_release(q, &l) : shmq_requeue(q, &l), 0);
}

static void call(struct shmq *q, enum op op)
{
	int r;

	switch (op) {
	case PUSH:
		r = push_one(q);
		must(r == 0 || r == -EAGAIN, "%d", r);
		break;
	case PUSH_N: push_batch(q); break;
	case COMMIT: write_in_place(q, true); break;
	case ABORT: write_in_place(q, false); break;
	case POP: must_eq(pop_one(q, 1), 8); break;
	case POP_ANY: must_eq(pop_one(q, SHMQ_ANY_LANE), 8); break;
	case POP_N: pop_batch(q); break;
	case RELEASE: read_in_place(q, true); break;
	default: read_in_place(q, false);
	}
}

static void scene_set(const struct scene *s)
{
	struct shmq_stat st;
	uint64_t v;

	base = next;
	memset(pushed, 0, sizeof(pushed));
	memset(popped, 0, sizeof(popped));
	stat_of(main_handle, &st);
	/* So that the items that are put there end where a segment does. */
	for (uint64_t n = st.lanes[1].pushed + (uint64_t)s->waiting;
	     s->align && n % st.slots_per_segment; n++) {
		must_eq(shmq_push(main_handle, 1, &v, 8, SHMQ_NOWAIT), 0);
		must_eq(shmq_pop(main_handle, 1, &v, 8, NULL, SHMQ_NOWAIT), 8);
	}
	for (int i = 0; i < s->waiting; i++)
		must_eq(push_one(main_handle), 0);
}

/* What went in came out, once; nothing is held and there is room for all again. */
static void scene_check(const struct scene *s)
{
	struct shmq_stat st;
	uint64_t v = 0;

	while (pop_one(main_handle, 1) == 8)
		;
	for (uint64_t i = 0; i < next - base; i++)
		must(popped[i] == pushed[i], "item %" PRIu64 ": pushed %d times, popped %d",
		     i, pushed[i], popped[i]);
	stat_of(main_handle, &st);
	must_eq(st.lanes[1].held, 0);
	must_eq(st.lanes[1].unfinished, 0);
	for (uint64_t i = 0; i < s->capacity; i++)
		must_eq(shmq_push(main_handle, 1, &v, 8, SHMQ_NOWAIT), 0);
	must_eq(shmq_push(main_handle, 1, &v, 8, SHMQ_NOWAIT), -EAGAIN);
	while (shmq_pop(main_handle, 1, &v, 8, NULL, SHMQ_NOWAIT) == 8)
		;
}

/* Which instructions are there? The first calls of a handle take ways of their own. */
static void note_all(void)
{
	for (int i = 0; i < 4; i++) {
		scene_set(sweep.scene);
		sweep.noting = true;
		trap_flag_set();
		call(main_handle, sweep.op);
		sweep.noting = false;
		scene_check(sweep.scene);
	}
}

/* A handle that has not worked yet takes the long ways. */
static bool anew(void)
{
	shmq_close(main_handle);
	main_handle = attach("q");
	return false;
}

/* True if the call came by @at. */
static bool interrupt(uintptr_t at)
{
	bool hit;

	if (!breakpoint_possible(at))
		return false;
	scene_set(sweep.scene);
	breakpoint_set(at);
	call(main_handle, sweep.op);
	hit = !sweep.armed;
	if (!hit)
		breakpoint_clear();
	scene_check(sweep.scene);
	return hit;
}

START_TEST(a_handler_may_push_and_pop_at_any_instruction_of_a_call)
{
	struct sigaction a = { .sa_sigaction = on_trap, .sa_flags = SA_SIGINFO };
	long hits = 0;

	if (SANITIZED || !CAN_BREAK) {
		skip("needs x86-64, and no sanitizer");
		return;
	}
	sweep.op = (enum op)(_i % NR_OPS);
	sweep.scene = &scenes[_i / NR_OPS];
	create("q", 2, sweep.scene->capacity, 8);
	main_handle = attach("q");
	must_eq(shmq_dup(main_handle, &other_handle), 0);
	must_eq(sigaction(SIGTRAP, &a, NULL), 0);
	note_all();
	/* Not all ways are taken each time. */
	for (int i = 0; i < sweep.nr_at; i++)
		hits += interrupt(sweep.at[i]) || interrupt(sweep.at[i]) || anew() ||
			interrupt(sweep.at[i]);
	fprintf(stderr, "# %s, %s: interrupted at %ld of %d instructions\n",
		op_name[sweep.op], sweep.scene->name, hits, sweep.nr_at);
	must(hits > 50);
	must(hits > sweep.nr_at / 2);
	shmq_close(other_handle);
	shmq_close(main_handle);
}
END_TEST

/* ---- a storm ------------------------------------------------------------ */

enum { PROCS = 2, EACH = 1000000 };

struct storm {
	struct arrivals *arrivals;
	atomic_ulong sent[2 * PROCS]; /* by main and by handler of each */
	atomic_ulong signals, in_handler, slept;
	long want;
	unsigned nr;
};

static struct storm *storm;
static unsigned my_number; /* 0, 2, ... */

static void storm_push(struct shmq *q, unsigned producer)
{
	struct stamp s = { producer, sizeof s, atomic_load(&storm->sent[producer]) };
	int r = -EAGAIN;

	if (s.seq < EACH)
		r = shmq_push(q, (int)(s.seq % 2), &s, sizeof s, SHMQ_NOWAIT);
	must(r == 0 || r == -EAGAIN, "%d", r);
	if (r == 0)
		atomic_fetch_add(&storm->sent[producer], 1);
}

static bool storm_pop(struct shmq *q, int64_t timeout)
{
	struct shmq_info info;
	struct stamp s = { 0 };
	ssize_t n = shmq_pop(q, SHMQ_ANY_LANE, &s, sizeof s, &info, timeout);

	must(n == sizeof s || n == -EAGAIN || n == -ETIMEDOUT || n == -EINTR, "%zd", n);
	if (n < 0)
		return false;
	must_eq(info.attempts, 1);
	arrivals_got(storm->arrivals, &s);
	return true;
}

static void storm_handler(int sig)
{
	(void)sig;
	storm_push(other_handle, my_number + 1);
	if (storm_pop(other_handle, SHMQ_NOWAIT))
		atomic_fetch_add(&storm->in_handler, 1);
	atomic_fetch_add(&storm->signals, 1);
}

static void storm_lease(struct shmq *q)
{
	struct shmq_lease l;
	struct stamp s;

	if (shmq_peek(q, SHMQ_ANY_LANE, &l, SHMQ_NOWAIT) < 0)
		return;
	memcpy(&s, l.data, sizeof s);
	must_eq(shmq_release(q, &l), 0);
	arrivals_got(storm->arrivals, &s);
}

static int in_a_storm(void *arg)
{
	struct itimerval t = { { 0, 50 }, { 0, 50 } }, off = { 0 };
	struct sigaction a = { .sa_handler = storm_handler };
	struct shmq *q = attach("q");
	struct rng r = rng_of(seed("storm"), *(unsigned *)arg);

	my_number = 2 * *(unsigned *)arg;
	must_eq(shmq_dup(q, &other_handle), 0);
	must_eq(sigaction(SIGALRM, &a, NULL), 0);
	must_eq(setitimer(ITIMER_REAL, &t, NULL), 0);
	while (atomic_load(&storm->signals) < (unsigned long)storm->want) {
		uint64_t what = rng_below(&r, 100);

		if (what < 45)
			storm_push(q, my_number);
		else if (what < 90)
			storm_pop(q, SHMQ_NOWAIT);
		else if (what < 99)
			storm_lease(q);
		else if (!storm_pop(q, (int64_t)MS))
			atomic_fetch_add(&storm->slept, 1);
	}
	must_eq(setitimer(ITIMER_REAL, &off, NULL), 0);
	shmq_close(other_handle);
	shmq_close(q);
	return 0;
}

START_TEST(a_handler_that_pushes_and_pops_loses_nothing_in_a_storm_of_signals)
{
	struct shmq *q = create_attach("q", 2, 40, sizeof(struct stamp));
	unsigned number[PROCS];
	struct shmq_stat st;
	uint64_t sent = 0, from = now_ns();
	pid_t pid[PROCS];

	storm = shared(sizeof(*storm));
	storm->arrivals = arrivals_new(2 * PROCS, EACH);
	storm->want = counts(40000);
	for (unsigned i = 0; i < PROCS; i++) {
		number[i] = i;
		pid[i] = spawn(in_a_storm, &number[i]);
	}
	reap_all(pid, PROCS);
	while (storm_pop(q, SHMQ_NOWAIT))
		;
	for (int i = 0; i < 2 * PROCS; i++)
		sent += atomic_load(&storm->sent[i]);
	must_eq(atomic_load(&storm->arrivals->arrived), sent);
	must(atomic_load(&storm->in_handler) > 0);
	fprintf(stderr, "# %lu signals in %" PRIu64 " ms, %" PRIu64 " items, %lu popped in "
		"handlers, %lu vain waits\n", atomic_load(&storm->signals),
		(now_ns() - from) / MS, sent, atomic_load(&storm->in_handler),
		atomic_load(&storm->slept));
	stat_of(q, &st);
	for (int i = 0; i < 2; i++) {
		must_eq(st.lanes[i].depth, 0);
		must_eq(st.lanes[i].held, 0);
		must_eq(st.lanes[i].unfinished, 0);
		must_eq(st.lanes[i].pushed, st.lanes[i].popped);
	}
	shmq_close(q);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("signal");
	TCase *t = suite_case(s, "signals", 60);

	tcase_add_loop_test(t, a_handler_may_push_and_pop_at_any_instruction_of_a_call, 0,
			    NR_OPS * (int)ARRAY_LEN(scenes));
	tcase_add_test(t, a_handler_that_pushes_and_pops_loses_nothing_in_a_storm_of_signals);
	return s;
}

int main(void)
{
	return suite_run(suite());
}
