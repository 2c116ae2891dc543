/* SPDX-License-Identifier: MIT */
/*
 * step.h - leave a traced child at any instruction of one call, cheaply.
 *
 * The child stands at a step_mark() directly before the call, and raises a flag in
 * shared memory directly after it: so the tracer knows which instructions are the
 * call, all of them and no others. The first run is recorded, instruction by
 * instruction. To come to instruction k of a later run, a breakpoint goes to an address
 * shortly before k that has not run often, and only the rest is stepped: the cost of a
 * point hardly grows with k. That the same instruction is reached, at the same depth of
 * calls, is checked, not assumed: a run that takes another way is found and counted.
 */
#ifndef TESTS_STEP_H
#define TESTS_STEP_H

#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* In the child: stand still here until the tracer says go. */
static inline void step_mark(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__asm__ volatile("int3" ::: "memory");
#else
	raise(SIGTRAP);
#endif
}

/* Where the instructions of a call lie, in the order in which they ran. */
struct step_record {
	long n;          /* instructions from the mark to the flag */
	uintptr_t *at;   /* address of each */
	uintptr_t *stack; /* the stack pointer there: which call of a function it is */
	long *times;     /* how often the same address ran before */
	long room;
	long slept;      /* the instruction in which it slept, or -1 */
};

void step_record_free(struct step_record *r);

/* Run to the next step_mark(). */
void step_to_mark(pid_t pid);

/* The address of the next instruction. */
uintptr_t step_where(pid_t pid);

/* Does the instruction at @at call the kernel? True if that cannot be told. */
bool step_calls_kernel(uintptr_t at);

/* Run one instruction. False, only if @may_sleep: it sleeps in a system call, and
 * step_wake() has to be called later. */
bool step_one(pid_t pid, bool may_sleep);
void step_wake(pid_t pid);

/* Step on until @done is raised or @look says so, and add each instruction to @r.
 * @look(arg, k) is called before instruction k and returns true to stop there;
 * @wake(arg) is called when it sleeps, and may be NULL. */
void step_record(pid_t pid, struct step_record *r, const atomic_int *done,
		 bool (*look)(void *arg, long k), void (*wake)(void *arg), void *arg);

/*
 * From instruction @from of the record to instruction @to, none of which sleeps.
 * False: @done was raised before. Sets *@astray if it is not the instruction of the
 * record; false too then means that it has ended or sleeps.
 */
bool step_to(pid_t pid, const struct step_record *r, long from, long to,
	     const atomic_int *done, bool *astray);

/* What step_to() costs, in steps. */
long step_cost(const struct step_record *r, long from, long to);

/* SIGKILL, and wait until the kernel has let go of everything but the zombie. */
void step_kill(pid_t pid);

#endif
