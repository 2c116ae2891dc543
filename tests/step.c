/* SPDX-License-Identifier: MIT */
/* step.c - see step.h. */
#include "step.h"

#include "common.h"

#include <stddef.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>

#if defined(__x86_64__)
#define BREAKPOINTS 1
#else
#define BREAKPOINTS 0 /* every instruction is stepped */
#endif

/* ---- one step ----------------------------------------------------------------- */

static void stopped_by(pid_t pid, int status)
{
	must(WIFSTOPPED(status), "the traced child %d ended, status %x", (int)pid, status);
	must(WSTOPSIG(status) == SIGTRAP, "the traced child %d got signal %d", (int)pid,
	     WSTOPSIG(status));
}

static void await_stop(pid_t pid)
{
	int status;

	must_eq(waitpid(pid, &status, 0), pid);
	stopped_by(pid, status);
}

void step_to_mark(pid_t pid)
{
	must_eq(ptrace(PTRACE_CONT, pid, NULL, NULL), 0);
	await_stop(pid);
}

static bool asleep(pid_t pid)
{
	char path[64], line[256], *p;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	f = fopen(path, "r");
	must(f);
	p = fgets(line, sizeof(line), f);
	fclose(f);
	p = p ? strrchr(line, ')') : NULL;
	return p && p[2] == 'S';
}

/* False, only if @may_sleep: it does. */
static bool await_stop_or_sleep(pid_t pid, bool may_sleep)
{
	int status;

	if (!may_sleep) {
		await_stop(pid);
		return true;
	}
	for (int i = 0;; i++) {
		pid_t got = waitpid(pid, &status, WNOHANG);

		must(got >= 0);
		if (got == pid)
			break;
		if (i > 20 && asleep(pid))
			return false;
		sched_yield();
	}
	stopped_by(pid, status);
	return true;
}

bool step_one(pid_t pid, bool may_sleep)
{
	must_eq(ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL), 0);
	return await_stop_or_sleep(pid, may_sleep);
}

void step_wake(pid_t pid)
{
	await_stop(pid);
}

void step_kill(pid_t pid)
{
	siginfo_t info = { 0 };

	must_eq(kill(pid, SIGKILL), 0);
	must_eq(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
	must_eq(info.si_status, SIGKILL);
}

/* ---- the record ------------------------------------------------------------------ */

uintptr_t step_where(pid_t pid)
{
#if BREAKPOINTS
	return (uintptr_t)ptrace(PTRACE_PEEKUSER, pid, offsetof(struct user, regs.rip), NULL);
#else
	(void)pid;
	return 0;
#endif
}

bool step_calls_kernel(uintptr_t at)
{
#if BREAKPOINTS
	/* The child is a copy of this process: its text reads the same. */
	return !memcmp((const void *)at, "\x0f\x05", 2); /* syscall */
#else
	(void)at;
	return true;
#endif
}

static uintptr_t depth(pid_t pid)
{
#if BREAKPOINTS
	return (uintptr_t)ptrace(PTRACE_PEEKUSER, pid, offsetof(struct user, regs.rsp), NULL);
#else
	(void)pid;
	return 0;
#endif
}

static void record_add(struct step_record *r, uintptr_t at, uintptr_t stack)
{
	long i = r->n - 1;

	if (r->n == r->room) {
		r->room = r->room ? 2 * r->room : 1024;
		r->at = realloc(r->at, (size_t)r->room * sizeof(*r->at));
		r->stack = realloc(r->stack, (size_t)r->room * sizeof(*r->stack));
		r->times = realloc(r->times, (size_t)r->room * sizeof(*r->times));
		must(r->at && r->stack && r->times);
	}
	while (i >= 0 && r->at[i] != at)
		i--;
	r->at[r->n] = at;
	r->stack[r->n] = stack;
	r->times[r->n++] = i < 0 ? 0 : r->times[i] + 1;
}

void step_record_free(struct step_record *r)
{
	free(r->at);
	free(r->stack);
	free(r->times);
	*r = (struct step_record){ 0 };
}

void step_record(pid_t pid, struct step_record *r, const atomic_int *done,
		 bool (*look)(void *arg, long k), void (*wake)(void *arg), void *arg)
{
	r->slept = -1;
	while (!atomic_load(done) && !look(arg, r->n)) {
		record_add(r, step_where(pid), depth(pid));
		must(r->n < 200000, "the call does not end");
		if (step_one(pid, wake))
			continue;
		must(r->slept < 0, "it sleeps a second time");
		r->slept = r->n - 1;
		wake(arg);
		step_wake(pid);
	}
}

/* ---- going there ----------------------------------------------------------------- */

enum { HIT = 6 }; /* steps that take as long as it takes to run over a breakpoint */

/* How a breakpoint helps from instruction @from to @to: it goes to where @at was, and is
 * hit there for the @hits-th time. */
struct jump {
	long at, hits, cost;
};

static struct jump jump(const struct step_record *r, long from, long to)
{
	struct jump best = { from, 0, to - from };
	long last = to < r->n ? to : r->n - 1;

	for (long j = last; BREAKPOINTS && j > from && last - j < best.cost; j--) {
		long hits = r->times[j] + 1, cost;

		for (long i = from - 1; i >= 0 && hits > r->times[j]; i--)
			if (r->at[i] == r->at[j]) /* what ran before @from does not count */
				hits -= r->times[i] + 1;
		if (r->at[from] == r->at[j])
			hits--; /* there we stand */
		cost = hits * HIT + to - j;
		if (cost < best.cost)
			best = (struct jump){ j, hits, cost };
	}
	return best;
}

long step_cost(const struct step_record *r, long from, long to)
{
	return jump(r, from, to).cost;
}

#if BREAKPOINTS
enum arrival { THERE, ELSEWHERE, NO_WAY };

/* Run to @at, for the @hits-th time. ELSEWHERE: it ran into the next mark instead, or
 * fell asleep. */
static enum arrival run_to(pid_t pid, uintptr_t at, long hits, bool may_sleep)
{
	/* The child is a copy of this process: its text reads the same. */
	uintptr_t word = at & ~(sizeof(long) - 1);
	unsigned shift = 8 * (unsigned)(at - word);
	unsigned long was = *(const unsigned long *)word;
	unsigned long trap = (was & ~(0xfful << shift)) | 0xccul << shift;

	if (step_where(pid) == at) /* off it first */
		if (!step_one(pid, may_sleep))
			return ELSEWHERE;
	for (;;) {
		if (ptrace(PTRACE_POKETEXT, pid, word, trap))
			return NO_WAY; /* as in the vdso */
		must_eq(ptrace(PTRACE_CONT, pid, NULL, NULL), 0);
		if (!await_stop_or_sleep(pid, may_sleep))
			return ELSEWHERE;
		must_eq(ptrace(PTRACE_POKETEXT, pid, word, was), 0);
		if (step_where(pid) != at + 1)
			return ELSEWHERE;
		must_eq(ptrace(PTRACE_POKEUSER, pid, offsetof(struct user, regs.rip), at), 0);
		if (--hits == 0)
			return THERE;
		if (!step_one(pid, may_sleep))
			return ELSEWHERE;
	}
}
#endif

bool step_to(pid_t pid, const struct step_record *r, long from, long to,
	     const atomic_int *done, bool *astray)
{
	struct jump near = r->n ? jump(r, from, to) : (struct jump){ from, 0, 0 };
	bool may_sleep = r->n && r->slept >= 0;

#if BREAKPOINTS
	/* How far the stack is from that of the record, here and so there. */
	uintptr_t off = from < r->n ? depth(pid) - r->stack[from] : 0;

	if (near.hits) {
		enum arrival a = run_to(pid, r->at[near.at], near.hits, may_sleep);

		if (a == ELSEWHERE) {
			*astray = true;
			return false;
		}
		from = a == THERE ? near.at : from;
	}
#else
	(void)near;
#endif
	for (; from < to && !atomic_load(done); from++)
		if (!step_one(pid, may_sleep)) {
			*astray = true;
			return false;
		}
	if (atomic_load(done))
		return false;
#if BREAKPOINTS
	*astray |= r->n && (to >= r->n || step_where(pid) != r->at[to] ||
			    depth(pid) - r->stack[to] != off);
#endif
	return true;
}
