/* SPDX-License-Identifier: MIT */
/*
 * sched.h - explores how participants can be interleaved.
 *
 * A participant is a coroutine. Before each access to a shared word it comes by
 * access_point(), and there the scheduler may go on, or run another participant (a
 * preemption), or kill this one, or stop it until all others have ended. One pass
 * through all participants is an execution; its decisions are on a stack, and the
 * last one that has an alternative left is changed for the next execution, so that
 * all of them are visited: depth first, with at most so many preemptions, kills and
 * stops. A switch from one that has ended, sleeps, died or was stopped is free.
 *
 * Three reductions, all of executions that can not differ from others:
 *
 * - One that was preempted before an access and, when it goes on, finds that nobody
 *   came near that word meanwhile, might as well have been preempted after the
 *   access. Such an execution is given up: the other one is visited anyway, as the
 *   points between two calls are never given up.
 * - There is no preemption before an access to a word that one participant alone has
 *   used in all executions so far. When another one is met at such a word, all are
 *   visited anew; it is met, for what leads it there does not depend on that word.
 * - Deaths are tried after each write, between calls, and where a participant goes on
 *   after others ran: what the dead have read makes no difference.
 */
#ifndef SCHED_H
#define SCHED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SCHED_PARTICIPANTS 3
#define SCHED_STEPS 20000 /* accesses in an execution; more is a livelock */

struct bounds {
	int preemptions, kills, stops;
};

enum outcome { RUN_COMPLETE, RUN_GIVEN_UP, RUN_LIVELOCK };

/* A word as the scheduler knows it: -1 it is private. */
extern int (*sched_word_of)(const volatile void *p);
#define SCHED_WORDS (1 << 16)
#define SCHED_KERNEL 0 /* all that the kernel knows is one word */

/* All executions of @n participants within @b, beginning with the first. */
void sched_begin(int n, void (*body)(int self), struct bounds b);
/* Run one execution. */
enum outcome sched_run(void);
/* Step to the next: false if that was the last. */
bool sched_next(void);
/* Were words met that more than one uses? Then begin anew: see above. */
bool sched_learnt(void);
/* What the last execution has not used up of its bounds. */
struct bounds sched_left(void);

/* The decisions of the present execution, to repeat it: valid until the next call. */
const char *sched_trace(void);
/* Repeat that one: false if @trace is malformed. Every access is printed. */
bool sched_repeat(const char *trace);
extern bool sched_verbose;
void sched_say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* ---- for the participants --------------------------------------------------- */

/* Who runs, or -1: then nothing is scheduled. */
int sched_self(void);
bool sched_killed(int i);
uint32_t sched_killed_at(int i);
/* Every time another: counts from the begin of the execution. */
uint32_t sched_time(void);
/* Between two calls. */
void sched_between(void);
/* The kernel is asked, or told something. */
void sched_kernel(bool write, const char *what);
/* Sleep until somebody wakes @self, or everybody else has ended or sleeps too: false. */
bool sched_sleep(uint64_t deadline_ns);
void sched_wake(int i);

extern uint64_t sched_clock_ns;
#define SCHED_DEATH_NS 100000000 /* so much later it is when somebody was killed */

#endif
