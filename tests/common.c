/* SPDX-License-Identifier: MIT */
/* common.c - see common.h. */
#include "common.h"

#include <dirent.h>
#include <fcntl.h>
#include <grp.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

char test_dir[PATH_MAX];
static char base_dir[64];
static bool in_child;
static const char *about = "";

/* ---- running ------------------------------------------------------------ */

static long long_factor(void)
{
	const char *s = getenv("SHMQ_LONG");

	return s && *s && strcmp(s, "0") ? 20 : 1;
}

long counts(long n)
{
	n *= long_factor();
	if (SANITIZED)
		n /= 10;
	return n > 1 ? n : 1;
}

void skip(const char *why)
{
	fprintf(stderr, "# skipped: %s\n", why);
}

static void dir_setup(void)
{
	snprintf(test_dir, sizeof(test_dir), "%s/XXXXXX", base_dir);
	must(mkdtemp(test_dir), "%s: %s", test_dir, strerror(errno));
	must_eq(chmod(test_dir, 0711), 0);
	must_eq(setenv("SHMQ_DIR", test_dir, 1), 0);
}

static void dir_teardown(void)
{
	rm_tree(test_dir);
}

TCase *suite_case(Suite *s, const char *name, double seconds)
{
	TCase *tc = tcase_create(name);

	/* To end what hangs, not what is slow because the machine is, or is busy. */
	tcase_set_timeout(tc, 3 * seconds * (double)long_factor() *
			      (SANITIZED ? 4 : 1));
	tcase_add_checked_fixture(tc, dir_setup, dir_teardown);
	suite_add_tcase(s, tc);
	return tc;
}

/*
 * A failed or hung test does not come to its teardown, and the runner itself
 * may be killed: a process in a session of its own waits for the runner's end
 * and removes what is left.
 */
static pid_t janitor_start(int *guard)
{
	int fd[2];
	pid_t pid;
	char c;

	must_eq(pipe(fd), 0);
	pid = fork();
	must(pid >= 0);
	if (pid == 0) {
		setsid();
		for (int i = 0; i < 3; i++)
			close(i);
		close(fd[1]);
		while (read(fd[0], &c, 1) < 0 && errno == EINTR)
			;
		rm_tree(base_dir);
		_exit(0);
	}
	close(fd[0]);
	*guard = fd[1];
	return pid;
}

int suite_run(Suite *s)
{
	SRunner *r = srunner_create(s);
	pid_t janitor;
	int failed, guard;

	strcpy(base_dir, access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
	strcat(base_dir, "/shmq-test.XXXXXX");
	if (!mkdtemp(base_dir) || chmod(base_dir, 0711)) {
		perror(base_dir);
		return 1;
	}
	janitor = janitor_start(&guard);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	/* Children of a failed test may be dying still: theirs to wait for. */
	close(guard);
	for (int i = 0; i < 500 && waitpid(janitor, NULL, WNOHANG) == 0; i++)
		sleep_ns(10 * MS);
	return failed != 0;
}

void must_about(const char *what)
{
	about = what;
}

void must_fail(const char *file, int line, const char *what, const char *fmt,
	       ...)
{
	char msg[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(msg, sizeof(msg), fmt, ap);
	va_end(ap);
	if (in_child) {
		fprintf(stderr, "# child %d: %s%s:%d: %s:%s\n", (int)getpid(), about,
			file, line, what, msg);
		_exit(1);
	}
	ck_abort_msg("%s%s:%d: %s:%s", about, file, line, what, msg);
	abort();
}

void must_eq_at(const char *file, int line, const char *what, int64_t got,
		int64_t want)
{
	char a[128] = "", b[128] = "";

	if (got == want)
		return;
	if (got < 0 && got > -200)
		shmq_strerror((int)got, a, sizeof(a));
	if (want < 0 && want > -200)
		shmq_strerror((int)want, b, sizeof(b));
	must_fail(file, line, what, "%" PRId64 " %s, not %" PRId64 " %s; %s",
		  got, a, want, b, shmq_detail());
}

/* ---- chance ------------------------------------------------------------- */

uint64_t seed(const char *what)
{
	const char *s = getenv("SHMQ_SEED");
	uint64_t v = s && *s ? strtoull(s, NULL, 0)
			     : now_ns() * 2654435761u ^ (uint64_t)getpid();

	fprintf(stderr, "# %s: SHMQ_SEED=%" PRIu64 "\n", what, v);
	return v;
}

struct rng rng_of(uint64_t s, uint64_t stream)
{
	struct rng r = { s ^ (stream + 1) * UINT64_C(0xd1342543de82ef95) };

	rng_next(&r);
	return r;
}

uint64_t rng_next(struct rng *r) /* splitmix64 */
{
	uint64_t z = r->s += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

uint64_t rng_below(struct rng *r, uint64_t n)
{
	return n ? rng_next(r) % n : 0;
}

void pause_randomly(struct rng *r)
{
	uint64_t x = rng_below(r, 1000);

	if (x < 2)
		sleep_ns(1000 + rng_below(r, 100000));
	else if (x < 20)
		sched_yield();
	else if (x < 200)
		for (volatile uint64_t i = rng_below(r, 300); i > 0; i--)
			;
}

/* ---- processes ---------------------------------------------------------- */

_Noreturn void spawned(pid_t parent, int (*fn)(void *arg), void *arg)
{
	in_child = true;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	_exit(fn(arg));
}

pid_t spawn(int (*fn)(void *arg), void *arg)
{
	pid_t parent = getpid(), pid = fork();

	must(pid >= 0, "fork: %s", strerror(errno));
	if (pid == 0)
		spawned(parent, fn, arg);
	return pid;
}

int reap(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0)
		must(errno == EINTR, "waitpid: %s", strerror(errno));
	return WIFSIGNALED(status) ? SIGNALLED + WTERMSIG(status)
				   : WEXITSTATUS(status);
}

void reap_ok(pid_t pid)
{
	int status = reap(pid);

	must(status < SIGNALLED, "child %d died of signal %d", (int)pid,
	     status - SIGNALLED);
	must(status == 0, "child %d failed with status %d, see stderr",
	     (int)pid, status);
}

void reap_all(const pid_t *pid, int n)
{
	/* In the order of their deaths: the first to fail is the one to see. */
	for (int i = 0; i < n; i++) {
		siginfo_t info = { 0 };

		must_eq(waitid(P_ALL, 0, &info, WEXITED | WNOWAIT), 0);
		for (int k = 0; k < n; k++)
			if (pid[k] == info.si_pid)
				reap_ok(pid[k]);
	}
}

void *shared(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	must(p != MAP_FAILED);
	return p;
}

static char proc_state(pid_t pid)
{
	char path[64], line[256], *p;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	f = fopen(path, "r");
	must(f, "%s", path);
	p = fgets(line, sizeof(line), f);
	fclose(f);
	p = p ? strrchr(line, ')') : NULL;
	return p ? p[2] : '?';
}

void wait_asleep(pid_t pid, atomic_int *ready)
{
	int seen = 0;

	while (!atomic_load(ready))
		sleep_ns(MS / 10);
	while (seen < 3) {
		char c = proc_state(pid);

		must(c != 'Z' && c != 'X', "child %d ended early", (int)pid);
		seen = c == 'S' ? seen + 1 : 0;
		sleep_ns(MS);
	}
}

void pin(int cpu)
{
	cpu_set_t now, want;
	int n = 0;

	/* The cpu-th of those we may use; fewer CPUs are no reason to fail. */
	if (sched_getaffinity(0, sizeof(now), &now) || CPU_COUNT(&now) == 0)
		return;
	cpu %= CPU_COUNT(&now);
	for (int i = 0; i < CPU_SETSIZE; i++)
		if (CPU_ISSET(i, &now) && n++ == cpu) {
			CPU_ZERO(&want);
			CPU_SET(i, &want);
			sched_setaffinity(0, sizeof(want), &want);
			return;
		}
}

void barrier_init(pthread_barrier_t *b, unsigned n)
{
	pthread_barrierattr_t a;

	pthread_barrierattr_init(&a);
	pthread_barrierattr_setpshared(&a, PTHREAD_PROCESS_SHARED);
	must_eq(pthread_barrier_init(b, &a, n), 0);
	pthread_barrierattr_destroy(&a);
}

void become(unsigned id)
{
	must_eq(setgroups(0, NULL), 0);
	must_eq(setresgid(id, id, id), 0);
	must_eq(setresuid(id, id, id), 0);
}

/* ---- time --------------------------------------------------------------- */

uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * SECOND + (uint64_t)t.tv_nsec;
}

void sleep_ns(uint64_t ns)
{
	struct timespec t = { (time_t)(ns / SECOND), (long)(ns % SECOND) };

	while (nanosleep(&t, &t) && errno == EINTR)
		;
}

/* ---- files -------------------------------------------------------------- */

int dir_entries(const char *path)
{
	DIR *d = opendir(path);
	struct dirent *e;
	int n = 0;

	must(d, "%s: %s", path, strerror(errno));
	while ((e = readdir(d)))
		n += strcmp(e->d_name, ".") && strcmp(e->d_name, "..");
	closedir(d);
	return n;
}

void rm_tree(const char *path)
{
	DIR *d = opendir(path);
	char sub[PATH_MAX];
	struct dirent *e;
	struct stat st;

	while (d && (e = readdir(d))) {
		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..") ||
		    snprintf(sub, sizeof(sub), "%s/%s", path, e->d_name) >=
			    (int)sizeof(sub))
			continue;
		if (!lstat(sub, &st) && S_ISDIR(st.st_mode))
			rm_tree(sub);
		else
			unlink(sub);
	}
	if (d)
		closedir(d);
	rmdir(path);
}

const char *queue_path(const char *name)
{
	static char path[2 * PATH_MAX];

	snprintf(path, sizeof(path), "%s/shmq.%s", test_dir, name);
	return path;
}

void *file_read(const char *path, size_t *len)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	char *p;
	ssize_t n = 0;

	must(fd >= 0 && !fstat(fd, &st), "%s: %s", path, strerror(errno));
	*len = (size_t)st.st_size;
	p = malloc(*len + 1);
	must(p);
	for (size_t at = 0; at < *len; at += (size_t)n) {
		n = read(fd, p + at, *len - at);
		must(n > 0);
	}
	close(fd);
	return p;
}

void file_write(const char *path, const void *bytes, size_t len, int mode)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	const char *p = bytes;
	ssize_t n = 0;

	must(fd >= 0, "%s: %s", path, strerror(errno));
	for (size_t at = 0; at < len; at += (size_t)n) {
		n = write(fd, p + at, len - at);
		must(n > 0, "%s: %s", path, strerror(errno));
	}
	must_eq(fchmod(fd, (mode_t)mode), 0);
	close(fd);
}

/* ---- items -------------------------------------------------------------- */

static uint8_t item_byte(uint32_t producer, uint64_t seq, size_t i)
{
	return (uint8_t)(seq * 131 + (seq >> 8) + producer * 29 + i * 7);
}

void item_fill(void *buf, size_t len, uint32_t producer, uint64_t seq)
{
	struct stamp s = { producer, (uint32_t)len, seq };
	uint8_t *p = buf;

	memcpy(p, &s, sizeof(s));
	for (size_t i = sizeof(s); i < len; i++)
		p[i] = item_byte(producer, seq, i);
}

bool item_read(const void *buf, size_t len, struct stamp *s)
{
	const uint8_t *p = buf;

	if (len < sizeof(*s))
		return false;
	memcpy(s, p, sizeof(*s));
	if (s->len != len)
		return false;
	for (size_t i = sizeof(*s); i < len; i++)
		if (p[i] != item_byte(s->producer, s->seq, i))
			return false;
	return true;
}

struct arrivals *arrivals_new(uint32_t nr_producers, uint64_t each)
{
	struct arrivals *t = shared(sizeof(*t) + nr_producers * each);

	t->nr_producers = nr_producers;
	t->each = each;
	return t;
}

void arrivals_got(struct arrivals *t, const struct stamp *s)
{
	unsigned before;

	must(s->producer < t->nr_producers && s->seq < t->each,
	     "item nobody pushed: producer %u, number %" PRIu64, s->producer,
	     s->seq);
	before = atomic_fetch_add(&t->seen[s->producer * t->each + s->seq], 1);
	must(before == 0, "producer %u, number %" PRIu64 " came twice",
	     s->producer, s->seq);
	atomic_fetch_add(&t->arrived, 1);
}

void arrivals_complete(struct arrivals *t)
{
	for (uint64_t i = 0; i < t->nr_producers * t->each; i++)
		must(atomic_load(&t->seen[i]) == 1,
		     "producer %" PRIu64 ", number %" PRIu64 " came %d times",
		     i / t->each, i % t->each, atomic_load(&t->seen[i]));
}

/* ---- queues ------------------------------------------------------------- */

struct shmq_config config(unsigned lanes, uint64_t capacity, uint64_t item_size)
{
	struct shmq_config c;

	shmq_config_init(&c, sizeof(c));
	c.nr_lanes = lanes;
	c.item_size = item_size;
	c.max_participants = 16;
	for (unsigned i = 0; i < lanes; i++) {
		snprintf(c.lanes[i].name, sizeof(c.lanes[i].name), "lane%u", i);
		c.lanes[i].capacity = capacity;
	}
	return c;
}

void create(const char *name, unsigned lanes, uint64_t capacity,
	    uint64_t item_size)
{
	struct shmq_config c = config(lanes, capacity, item_size);

	must_eq(shmq_create(name, &c), 0);
}

struct shmq *attach(const char *name)
{
	struct shmq *q = NULL;

	must_eq(shmq_open(&q, name, 0), 0);
	must(q);
	return q;
}

struct shmq *create_attach(const char *name, unsigned lanes, uint64_t capacity,
			   uint64_t item_size)
{
	create(name, lanes, capacity, item_size);
	return attach(name);
}

void stat_of(struct shmq *q, struct shmq_stat *st)
{
	memset(st, 0xa5, sizeof(*st));
	st->sz = sizeof(*st);
	must_eq(shmq_stat(q, st), 0);
}

uint64_t depth_of(struct shmq *q, int lane)
{
	struct shmq_stat st;

	stat_of(q, &st);
	return st.lanes[lane].depth;
}

void recover_dead(struct shmq *q)
{
	struct shmq_recovered out = { .sz = sizeof(out) };
	uint64_t end = now_ns() + 10 * SECOND;

	do { /* what is deferred waits for somebody alive who is in a push */
		must_eq(shmq_recover(q, &out), 0);
		must(now_ns() < end, "%u deferred for 10 s", out.deferred);
	} while (out.deferred && sched_yield() == 0);
}

void fill_exactly(struct shmq *q, int lane, uint64_t want)
{
	uint64_t n = 0;
	int r;

	while ((r = shmq_push(q, lane, &n, sizeof(n), SHMQ_NOWAIT)) == 0)
		n++;
	must_eq(r, -EAGAIN);
	must_eq(n, want);
}
