/* SPDX-License-Identifier: MIT */
/*
 * sim.c - what lib/sys.c is to the library, where the exhaustive test wants another
 * answer than the kernel's: access.h gives the functions these names.
 *
 * A participant that was killed is a coroutine that never runs again; its locks are
 * free from then on. Private memory comes from an arena, so that it can be set back.
 */
#include "access.h"
#include "sched.h"
#include "sim.h"
#include "sys.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

/* The real ones. */
#undef sys_close
#undef sys_fstat
#undef sys_map
#undef sys_unmap
int sys_close(int fd);
int sys_fstat(int fd, struct stat *st);
int sys_map(int fd, size_t bytes, bool writable, void **out);
void sys_unmap(void *p, size_t bytes);

#define TOKENS 16
#define TOKEN_FD 1000000 /* token i is opened as descriptor TOKEN_FD + i */
#define ARENA (1 << 20)
#define OUTSIDE (-1)

struct token {
	bool open, locked;
	int owner;
	uint64_t byte;
	char page; /* its address stands for the mapping */
};

struct sleeper {
	_Atomic uint32_t *word; /* NULL: none */
	uint32_t bits;
};

static struct kernel {
	struct token token[TOKENS];
	struct sleeper sleeper[SCHED_PARTICIPANTS];
	uint64_t clock_ns;
	size_t used;
} kernel, kept;
static char arena[ARENA], kept_arena[ARENA];
static int outside_owner = OUTSIDE;

void sim_owner(int participant)
{
	outside_owner = participant;
}

void sim_keep(void)
{
	kernel.clock_ns = sched_clock_ns;
	kept = kernel;
	(__builtin_memcpy)(kept_arena, arena, kernel.used);
}

void sim_restore(void)
{
	kernel = kept;
	sched_clock_ns = kernel.clock_ns;
	(__builtin_memcpy)(arena, kept_arena, kept.used);
}

static bool alive(const struct token *t)
{
	return t->owner == OUTSIDE || !sched_killed(t->owner);
}

int sim_reopen(int fd, int flags)
{
	int i;

	(void)fd;
	(void)flags;
	for (i = 0; i < TOKENS; i++) {
		if (kernel.token[i].open)
			continue;
		kernel.token[i] = (struct token){
			.open = true, .owner = sched_self() < 0 ? outside_owner : sched_self()
		};
		return TOKEN_FD + i;
	}
	return -EMFILE;
}

int sim_close(int fd)
{
	return fd >= TOKEN_FD ? 0 : sys_close(fd);
}

/* Nobody touches the file during an execution: one look will do. */
int sim_fstat(int fd, struct stat *st)
{
	static struct stat seen;
	static int seen_fd = -1;

	if (seen_fd != fd) {
		int r = sys_fstat(fd, &seen);

		if (r < 0)
			return r;
		seen_fd = fd;
	}
	*st = seen;
	return 0;
}

int sim_map(int fd, size_t bytes, bool writable, void **out)
{
	if (fd < TOKEN_FD)
		return sys_map(fd, bytes, writable, out);
	*out = &kernel.token[fd - TOKEN_FD].page;
	return 0;
}

static struct token *token_of(void *page)
{
	int i;

	for (i = 0; i < TOKENS; i++)
		if (page == &kernel.token[i].page)
			return &kernel.token[i];
	return NULL;
}

void sim_unmap(void *p, size_t bytes)
{
	struct token *t = token_of(p);

	if (t) {
		sched_kernel(true, "drops its lock");
		t->open = t->locked = false;
	} else if ((char *)p < arena || (char *)p >= arena + ARENA) {
		sys_unmap(p, bytes);
	}
}

int sim_map_private(size_t bytes, void **out)
{
	bytes = (bytes + 63) & ~(size_t)63;
	if (kernel.used + bytes > ARENA)
		return -ENOMEM;
	*out = arena + kernel.used;
	memset(*out, 0, bytes);
	kernel.used += bytes;
	return 0;
}

static bool locked_by_other(const struct token *but, uint64_t off)
{
	int i;

	for (i = 0; i < TOKENS; i++) {
		const struct token *t = &kernel.token[i];

		if (t != but && t->locked && t->byte == off && alive(t))
			return true;
	}
	return false;
}

int sim_lock_byte(int fd, uint64_t off)
{
	struct token *t = &kernel.token[fd - TOKEN_FD];

	sched_kernel(true, "locks");
	if (locked_by_other(t, off))
		return -EAGAIN;
	t->locked = true; /* the lock of a byte tried before stays, and does no harm */
	t->byte = off;
	return 0;
}

int sim_byte_locked(int fd, uint64_t off)
{
	bool locked;

	(void)fd;
	sched_kernel(false, "asks who lives");
	locked = locked_by_other(NULL, off);
	sched_say("      %s", locked ? "alive" : "dead");
	return locked;
}

int sim_futex_wait(_Atomic uint32_t *word, uint32_t expected, uint32_t bits,
		   uint64_t deadline_ns)
{
	struct sleeper *s;

	if (sched_self() < 0)
		return -EAGAIN;
	/* The kernel compares and goes to sleep in one step. */
	access_point(word, ACCESS_WRITE, __FILE__ ":futex_wait");
	if (*word != expected)
		return -EAGAIN;
	s = &kernel.sleeper[sched_self()];
	*s = (struct sleeper){ word, bits };
	if (sched_sleep(deadline_ns))
		return 0;
	s->word = NULL;
	return -ETIMEDOUT;
}

int sim_futex_wake(_Atomic uint32_t *word, int n, uint32_t bits)
{
	int i, woken = 0;

	access_point(word, ACCESS_WRITE, __FILE__ ":futex_wake");
	for (i = 0; i < SCHED_PARTICIPANTS && woken < n; i++) {
		struct sleeper *s = &kernel.sleeper[i];

		if (s->word != word || !(s->bits & bits) || sched_killed(i))
			continue;
		s->word = NULL;
		sched_wake(i);
		woken++;
	}
	return woken;
}

int sim_membarrier(void)
{
	return 0; /* accesses are in order here */
}

uint64_t sim_now_ns(void)
{
	sched_kernel(false, "asks the time"); /* a death moves it */
	return sched_clock_ns + 1; /* no clock reads 0, which stands for never */
}

uint64_t sim_zero(void)
{
	return 0;
}

void sim_command(char out[16])
{
	snprintf(out, 16, "sim");
}

int sim_usable_cpus(void)
{
	return 1; /* sleep at once, without polling before */
}
