/* SPDX-License-Identifier: MIT */
/* trace.c - see trace.h. */
#include "trace.h"

#include "common.h"

#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define MARK 0x7e571234 /* a process group that nobody has */

void trace_mark(void)
{
	syscall(SYS_getpgid, MARK);
}

struct body {
	int (*fn)(void *arg);
	void *arg;
};

static int traced(void *arg)
{
	struct body *b = arg;

	if (ptrace(PTRACE_TRACEME, 0, NULL, NULL))
		return 77;
	raise(SIGSTOP);
	return b->fn(b->arg);
}

bool trace_spawn(pid_t *pid, int (*fn)(void *arg), void *arg)
{
	struct body b = { fn, arg };
	int status;

	*pid = spawn(traced, &b);
	must_eq(waitpid(*pid, &status, 0), *pid);
	if (!WIFSTOPPED(status)) {
		must(!getenv("SHMQ_NEED_PTRACE"), "ptrace is not permitted");
		skip("ptrace is not permitted");
		return false;
	}
	must_eq(ptrace(PTRACE_SETOPTIONS, *pid, NULL,
		       PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL), 0);
	return true;
}

long trace_next(pid_t pid)
{
	struct __ptrace_syscall_info info;
	int status;
	long sig = 0;

	for (;;) {
		must_eq(ptrace(PTRACE_SYSCALL, pid, NULL, sig), 0);
		must_eq(waitpid(pid, &status, 0), pid);
		if (!WIFSTOPPED(status))
			return TRACE_GONE;
		sig = 0;
		if (WSTOPSIG(status) != (SIGTRAP | 0x80)) {
			if (WSTOPSIG(status) != SIGTRAP)
				sig = WSTOPSIG(status);
			continue;
		}
		must(ptrace(PTRACE_GET_SYSCALL_INFO, pid, sizeof(info),
			    &info) > 0);
		if (info.op != PTRACE_SYSCALL_INFO_ENTRY)
			continue;
		if (info.entry.nr == SYS_getpgid && info.entry.args[0] == MARK)
			return TRACE_MARK;
		return (long)info.entry.nr;
	}
}

void trace_to_mark(pid_t pid)
{
	long nr;

	do {
		nr = trace_next(pid);
		must(nr != TRACE_GONE, "the traced child ended");
	} while (nr != TRACE_MARK);
}

void trace_kill(pid_t pid)
{
	kill(pid, SIGKILL);
	must_eq(reap(pid), SIGNALLED + SIGKILL);
}
