/* SPDX-License-Identifier: MIT */
/*
 * test_api.c - a program that knows only <shmq.h> and the shared library, in C
 * and, from test_api_cpp.cpp, in C++. Every function is called once.
 */
#include <shmq.h> /* first: it must not need anything before it */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int nr, failed;

static void ok(int cond, const char *what)
{
	printf("%s %d - %s\n", cond ? "ok" : "not ok", ++nr, what);
	failed += !cond;
}

static int count(const char *name, void *arg)
{
	++*(int *)arg;
	return strcmp(name, "api") ? -1 : 0;
}

static void life_of_a_queue(void)
{
	struct shmq_config cfg;
	struct shmq *q = NULL, *d = NULL;
	struct shmq_info info;
	struct shmq_pressure p;
	struct shmq_stat st;
	struct shmq_participant part[4];
	struct iovec v[2];
	char buf[128], a[64], b[64];
	uint64_t bytes = 0;
	int n = 0;

	shmq_config_init(&cfg, sizeof(cfg));
	cfg.lanes[0].capacity = 2;
	ok(shmq_region_size(&cfg, &bytes) == 0 && bytes > 0, "region_size");
	ok(shmq_create("api", &cfg) == 0, "create");
	ok(shmq_create("api", &cfg) == -EEXIST, "create again is EEXIST");
	ok(shmq_list(count, &n) == 0 && n == 1, "list");
	ok(shmq_open(&q, "api", 0) == 0, "open");
	ok(shmq_dup(q, &d) == 0, "dup");
	ok(shmq_push(q, 0, "one", 3, SHMQ_NOWAIT) == 0, "push");
	v[0].iov_base = a;
	v[1].iov_base = b;
	v[0].iov_len = v[1].iov_len = 1;
	strcpy(a, "2");
	strcpy(b, "3");
	ok(shmq_push_n(q, 0, v, 2, SHMQ_NOWAIT) == 1, "push_n takes a prefix");
	ok(shmq_refused(q, &p) == -ENODATA, "nothing was refused whole");
	ok(shmq_push(q, 0, "four", 4, SHMQ_NOWAIT) == -EAGAIN, "full");
	ok(shmq_refused(q, &p) == 0 && p.depth == 2, "refused");
	ok(shmq_pressure(q, 0, &p) == 0 && p.level == SHMQ_LEVEL_OVERLOADED,
	   "pressure");
	st.sz = sizeof(st);
	ok(shmq_stat(d, &st) == 0 && st.lanes[0].depth == 2, "stat");
	ok(shmq_participants(d, part, 4) == 2, "participants");
	ok(shmq_pop(d, SHMQ_ANY_LANE, buf, sizeof(buf), &info, 0) == 3 &&
	   !memcmp(buf, "one", 3), "pop");
	v[0].iov_len = v[1].iov_len = sizeof(a);
	ok(shmq_pop_n(d, 0, v, &info, 2, SHMQ_FOREVER) == 1 &&
	   v[0].iov_len == 1 && a[0] == '2', "pop_n");
	shmq_close(d);
	shmq_close(q);
	ok(shmq_open(&q, "missing", 0) == -ENOENT, "open what is not there");
	ok(shmq_detail() != NULL, "detail");
	ok(shmq_strerror(-ENOENT, buf, sizeof(buf)) == 0 && *buf, "strerror");
	ok(shmq_unlink("api") == 0, "unlink");
}

int main(void)
{
	char dir[] = "/dev/shm/shmq-api.XXXXXX";

	if (!mkdtemp(dir) || setenv("SHMQ_DIR", dir, 1)) {
		perror(dir);
		return 1;
	}
	ok(!strcmp(shmq_version(), "0.1.0"), "version");
	ok(!strcmp(shmq_dir(), dir), "dir");
	life_of_a_queue();
	ok(rmdir(dir) == 0, "nothing is left");
	printf("1..%d\n", nr);
	return failed != 0;
}
