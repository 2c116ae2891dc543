/* SPDX-License-Identifier: MIT */
/*
 * hop.c - how long a cache line takes from one processor to another, now.
 *
 * Every figure of a queue between processors is a multiple of this one, and on a
 * virtual machine it changes by the minute, when the host moves a processor to
 * another part of the chip. Runs with different hops cannot be compared.
 */
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"

#define ROUNDS 20
#define TRIPS  100 /* there and back, per round */

/* Pin to the @nth processor of @allowed. */
static void pin_nth(const cpu_set_t *allowed, int nth)
{
	cpu_set_t one;
	int cpu;

	for (cpu = 0; cpu < CPU_SETSIZE; cpu++)
		if (CPU_ISSET(cpu, allowed) && !nth--)
			break;
	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	sched_setaffinity(0, sizeof one, &one);
}

static void echo(_Atomic int *ball)
{
	int i;

	for (i = 1; i < 2 * ROUNDS * TRIPS; i += 2) {
		while (atomic_load_explicit(ball, memory_order_acquire) != i)
			;
		atomic_store_explicit(ball, i + 1, memory_order_release);
	}
}

/* The best round: the others were disturbed. */
static double play(_Atomic int *ball)
{
	int64_t best = INT64_MAX, begin, took;
	int round, i, n = 0;

	for (round = 0; round < ROUNDS; round++) {
		begin = bench_now_ns();
		for (i = 0; i < TRIPS; i++, n += 2) {
			atomic_store_explicit(ball, n + 1, memory_order_release);
			while (atomic_load_explicit(ball, memory_order_acquire) != n + 2)
				;
		}
		took = bench_now_ns() - begin;
		if (took < best)
			best = took;
	}
	return (double)best / (2 * TRIPS);
}

double bench_hop_ns(void)
{
	_Atomic int *ball;
	cpu_set_t allowed;
	double ns = 0;
	pid_t pid;

	if (sched_getaffinity(0, sizeof allowed, &allowed) < 0 || CPU_COUNT(&allowed) < 2)
		return 0;
	ball = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		    0);
	if (ball == MAP_FAILED)
		return 0;
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		pin_nth(&allowed, 1);
		echo(ball);
		_exit(0);
	}
	if (pid > 0) {
		pin_nth(&allowed, 0);
		ns = play(ball);
		sched_setaffinity(0, sizeof allowed, &allowed);
		waitpid(pid, NULL, 0);
	}
	munmap(ball, 4096);
	return ns;
}
