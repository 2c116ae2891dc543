/* SPDX-License-Identifier: MIT */
/* hold.c - see hold.h. */
#include "hold.h"

#include <dirent.h>
#include <sys/wait.h>

void hold_item(struct shmq *q, struct shmq_lease *lease)
{
	must_eq(shmq_peek(q, 0, lease, SHMQ_NOWAIT), 0);
	must_eq(*(const uint64_t *)lease->data, ITEM);
	must_eq(lease->info.attempts, 1);
}

void hold_ready(struct hold *h)
{
	atomic_store(&h->ready, 1);
	while (!atomic_exchange(&h->go, 0))
		sleep_ns(MS);
}

void hold_finish(struct shmq *q, struct shmq_lease *lease)
{
	must_eq(*(const uint64_t *)lease->data, ITEM);
	must_eq(shmq_release(q, lease), 0);
}

_Noreturn void hold_on(void)
{
	alarm(120);
	for (;;)
		pause();
}

struct shmq *hold_queue(uint64_t capacity)
{
	struct shmq *q = create_attach("q", 3, capacity, 8);
	uint64_t v = ITEM;

	must_eq(shmq_push(q, 0, &v, 8, SHMQ_NOWAIT), 0);
	return q;
}

void hold_wait(struct hold *h, pid_t pid)
{
	uint64_t end = now_ns() + 30 * SECOND;
	siginfo_t info = { 0 };

	while (!atomic_load(&h->ready)) {
		must_eq(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT | WNOHANG), 0);
		must(info.si_pid == 0, "the holder has ended");
		must(now_ns() < end, "the holder does not come on");
		sleep_ns(MS);
	}
}

void hold_go(struct hold *h)
{
	atomic_store(&h->ready, 0);
	atomic_store(&h->go, 1);
}

pid_t hold_start(struct hold *h, int (*fn)(void *), void *arg)
{
	pid_t pid;

	atomic_store(&h->ready, 0);
	atomic_store(&h->go, 0);
	pid = spawn(fn, arg);
	hold_wait(h, pid);
	return pid;
}

void hold_lasts(struct shmq *q, uint64_t ns)
{
	struct shmq_info info;
	struct shmq_stat st;
	uint64_t v;

	must_eq(shmq_pop(q, 0, &v, 8, &info, (int64_t)ns), -ETIMEDOUT);
	stat_of(q, &st);
	must_eq(st.nr_dead, 0);
	must_eq(st.lanes[0].held, 1);
	must_eq(st.lanes[0].redelivered, 0);
}

uint64_t hold_ends(struct shmq *q, const char *what)
{
	uint64_t from = now_ns(), v = 0;
	struct shmq_info info;

	must_eq(shmq_pop(q, 0, &v, 8, &info, 20 * (int64_t)SECOND), 8);
	from = now_ns() - from;
	must_eq(v, ITEM);
	must_eq(info.attempts, 2);
	fprintf(stderr, "# %s: found dead after %" PRIu64 " ms\n", what, from / MS);
	/* It is promised in 100 ms; a busy machine may be late, a minute is a hang. */
	must(from < 2 * SECOND * (SANITIZED ? 5 : 1), "%s: %" PRIu64 " ms", what, from / MS);
	return from;
}

void hold_over(struct shmq *q, unsigned participants)
{
	struct shmq_stat st;
	uint64_t v;

	must_eq(shmq_recover(q, NULL), 0);
	must_eq(shmq_pop(q, 0, &v, 8, NULL, SHMQ_NOWAIT), -EAGAIN);
	stat_of(q, &st);
	must_eq(st.nr_participants, participants);
	must_eq(st.nr_dead, 0);
	for (unsigned i = 0; i < st.nr_lanes; i++) {
		must_eq(st.lanes[i].held, 0);
		must_eq(st.lanes[i].unfinished, 0);
	}
	must_eq(st.lanes[0].popped, st.lanes[0].pushed);
}

int uses_of(const char *pid, int *maps)
{
	char path[64], line[2 * PATH_MAX];
	struct dirent *e;
	int n = 0;
	ssize_t len;
	DIR *d;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%s/fd", pid);
	d = opendir(path);
	must(d, "%s", path);
	while ((e = readdir(d))) {
		len = readlinkat(dirfd(d), e->d_name, line, sizeof(line) - 1);
		line[len > 0 ? len : 0] = '\0';
		n += strstr(line, "/shmq.q") != NULL;
	}
	closedir(d);
	snprintf(path, sizeof(path), "/proc/%s/maps", pid);
	f = fopen(path, "r");
	must(f, "%s", path);
	for (*maps = 0; fgets(line, sizeof(line), f);)
		*maps += strstr(line, "/shmq.q") != NULL;
	fclose(f);
	return n;
}
