/* SPDX-License-Identifier: MIT */
/*
 * trace.h - a child under ptrace: count its system calls, end it at one of
 * them, or leave it stopped after any number of instructions.
 */
#ifndef TESTS_TRACE_H
#define TESTS_TRACE_H

#include <stdbool.h>
#include <sys/types.h>

enum { TRACE_MARK = -1, TRACE_GONE = -2 };

/* In the child: a place that the tracer can run it to. */
void trace_mark(void);

/* A child that runs fn(arg), stopped before it. False: not permitted here. */
bool trace_spawn(pid_t *pid, int (*fn)(void *arg), void *arg);

/* Run to the entry of the next system call. Returns its number or the above. */
long trace_next(pid_t pid);

/* Run to the next trace_mark(). */
void trace_to_mark(pid_t pid);

/* End it and reap it. */
void trace_kill(pid_t pid);

#endif
