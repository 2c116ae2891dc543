/* SPDX-License-Identifier: MIT */
/*
 * test_open.c - files that are no queue, or no longer one, or somebody else's.
 * Each is refused with its own error and a sentence; none may crash or hang.
 */
#include "common.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>

enum { NOBODY = 65534 };

/* A queue with something in it, as bytes. */
static uint8_t *sample(size_t *len)
{
	struct shmq *q = create_attach("sample", 2, 8, 64);
	uint8_t *bytes;

	for (int i = 0; i < 5; i++)
		must_eq(shmq_push(q, i % 2, "content", 7, 0), 0);
	shmq_close(q);
	bytes = file_read(queue_path("sample"), len);
	must_eq(shmq_unlink("sample"), 0);
	return bytes;
}

static void refused(int err, const char *what, size_t at)
{
	static const unsigned flags[] = { 0, SHMQ_OBSERVE, SHMQ_ANY_OWNER };

	for (unsigned i = 0; i < ARRAY_LEN(flags); i++) {
		struct shmq *q = NULL;
		int got = shmq_open(&q, "q", flags[i]);

		must(got == err, "%s %zu, flags %u: %d, not %d; %s", what, at,
		     flags[i], got, err, shmq_detail());
		must(*shmq_detail(), "no detail for %s %zu", what, at);
		must(!q);
	}
}

/* ---- contents ----------------------------------------------------------- */

START_TEST(a_file_that_is_no_queue_is_refused)
{
	size_t len;
	uint8_t *bytes = sample(&len);
	struct rng r = rng_of(seed("random bytes"), 0);

	file_write(queue_path("q"), "", 0, 0600);
	refused(-EBADMSG, "empty file", 0);
	for (int i = 0; i < 200; i++) {
		size_t n = i % 2 ? len : 1 + rng_below(&r, len);

		for (size_t k = 0; k < n; k++)
			bytes[k] = (uint8_t)rng_next(&r);
		file_write(queue_path("q"), bytes, n, 0600);
		refused(-EBADMSG, "random bytes", n);
	}
	memset(bytes, 0, len);
	file_write(queue_path("q"), bytes, len, 0600);
	refused(-EBADMSG, "zeroes", len);
	memset(bytes, 0xff, len);
	file_write(queue_path("q"), bytes, len, 0600);
	refused(-EBADMSG, "ones", len);
	free(bytes);
}
END_TEST

START_TEST(a_queue_of_another_size_than_it_says_is_refused)
{
	size_t len;
	uint8_t *bytes = sample(&len);
	struct rng r = rng_of(seed("sizes"), 0);
	static const size_t ends[] = { 1, 7, 8, 63, 64, 4095, 4096, 65536 };

	for (size_t n = 64; n < len && n <= 8192; n += 64) {
		file_write(queue_path("q"), bytes, n, 0600);
		refused(-EBADMSG, "cut to", n);
	}
	for (int i = 0; i < 200; i++) {
		size_t n = rng_below(&r, len);

		file_write(queue_path("q"), bytes, n, 0600);
		refused(-EBADMSG, "cut to", n);
	}
	for (unsigned i = 0; i < ARRAY_LEN(ends); i++) {
		if (len > ends[i]) {
			file_write(queue_path("q"), bytes, len - ends[i], 0600);
			refused(-EBADMSG, "cut by", ends[i]);
		}
		file_write(queue_path("q"), bytes, len, 0600);
		must_eq(truncate(queue_path("q"), (off_t)(len + ends[i])), 0);
		refused(-EBADMSG, "grown by", ends[i]);
	}
	must_eq(truncate(queue_path("q"), (off_t)1 << 40), 0);
	refused(-EBADMSG, "sparse", (size_t)1 << 40);
	must_eq(truncate(queue_path("q"), ((off_t)1 << 62) + (off_t)len), 0);
	refused(-EBADMSG, "sparse", (size_t)1 << 62);

	/* The right size, and nothing behind it. */
	must_eq(truncate(queue_path("q"), 0), 0);
	must_eq(truncate(queue_path("q"), (off_t)len), 0);
	refused(-EBADMSG, "hole of", len);
	file_write(queue_path("q"), bytes, len < 8192 ? len / 2 : 8192, 0600);
	must_eq(truncate(queue_path("q"), (off_t)len), 0);
	refused(-EBADMSG, "hole at the end of", len);
	free(bytes);
}
END_TEST

static bool documented(int64_t err)
{
	static const int ok[] = { 0, EAGAIN, EMSGSIZE, EBADMSG, ETIMEDOUT };

	for (unsigned i = 0; i < ARRAY_LEN(ok); i++)
		if (err == -ok[i])
			return true;
	return false;
}

/* Everything a queue is good for; each answer has to be a possible one. */
static void exercise(struct shmq *q)
{
	struct shmq_stat st = { .sz = sizeof(st) };
	struct shmq_participant part[16];
	struct shmq_pressure p;
	char buf[64];
	int got;

	for (int i = 0; i < 12; i++) {
		struct shmq_info info = { 0 };
		ssize_t n;

		must(documented(shmq_push(q, i % 2, "new", 3, 0)));
		n = shmq_pop(q, i % 3 - 1, buf, sizeof(buf), &info, 0);
		must(n <= 64 && (n >= 0 || documented(n)), "%zd", n);
		must(n < 0 || (info.lane < 2 && info.len == n));
	}
	must(documented(shmq_push(q, 0, "new", 3, (int64_t)MS / 10)));
	got = shmq_stat(q, &st);
	must(documented(got));
	if (got == 0) {
		must(st.nr_lanes <= SHMQ_MAX_LANES);
		must(memchr(st.name, 0, sizeof(st.name)));
		must(memchr(st.creator, 0, sizeof(st.creator)));
		for (unsigned i = 0; i < st.nr_lanes; i++)
			must(memchr(st.lanes[i].name, 0,
				    sizeof(st.lanes[i].name)));
	}
	for (int i = 0; i < 2; i++)
		must(documented(shmq_pressure(q, i, &p)));
	got = shmq_participants(q, part, 16);
	must(got <= SHMQ_PARTICIPANTS_MAX);
	for (int i = 0; i < got && i < 16; i++)
		must(memchr(part[i].command, 0, sizeof(part[i].command)));
}

/* Open what the file holds now. Returns 0 if it was accepted. */
static int try_open(const char *what, size_t at)
{
	struct shmq *q = NULL, *o = NULL;
	int got = shmq_open(&q, "q", 0);

	if (got < 0) {
		must(got == -EBADMSG || got == -EPROTONOSUPPORT ||
		     got == -EUSERS, "%s %zu: %d", what, at, got);
		must(*shmq_detail(), "no detail for %s %zu", what, at);
		return got;
	}
	exercise(q);
	if (shmq_open(&o, "q", SHMQ_OBSERVE) == 0) {
		struct shmq_stat st = { .sz = sizeof(st) };

		must(documented(shmq_stat(o, &st)));
		shmq_close(o);
	}
	shmq_close(q);
	return 0;
}

static void damage(uint8_t *bytes, size_t len, size_t at, const void *with,
		   size_t n)
{
	uint8_t was[8];

	memcpy(was, bytes + at, n);
	memcpy(bytes + at, with, n);
	file_write(queue_path("q"), bytes, len, 0600);
	memcpy(bytes + at, was, n);
}

START_TEST(a_flipped_byte_is_noticed_or_does_not_matter)
{
	static const uint8_t flips[] = { 0x01, 0x80, 0xff };
	size_t len;
	uint8_t *bytes = sample(&len), flip = flips[_i];
	long bad = 0, version = 0;

	for (size_t at = 0; at < len && at < 4096; at++) {
		uint8_t b = bytes[at] ^ flip;
		int got;

		damage(bytes, len, at, &b, 1);
		got = try_open("byte", at);
		bad += got == -EBADMSG;
		version += got == -EPROTONOSUPPORT;
		must(at > 0 || got < 0, "a wrong first byte was accepted");
	}
	fprintf(stderr, "# flip %02x: %ld damaged, %ld other version\n", flip,
		bad, version);
	/* Magic, geometry and lanes are some dozens of bytes; the version is
	   at least one. */
	must(bad >= 32);
	must(version >= 1);
	free(bytes);
}
END_TEST

START_TEST(a_field_at_its_boundaries_is_noticed_or_does_not_matter)
{
	size_t len;
	uint8_t *bytes = sample(&len);

	for (size_t at = 0; at + 8 <= len && at < 4096; at += 8) {
		uint64_t was, v;

		memcpy(&was, bytes + at, 8);
		const uint64_t values[] = {
			0, 1, was + 1, was - 1, was * 2, INT32_MAX, UINT32_MAX,
			UINT64_C(1) << 32, INT64_MAX, UINT64_C(1) << 63,
			UINT64_MAX, UINT64_MAX - 4095, was << 32, was >> 32,
		};

		for (unsigned i = 0; i < ARRAY_LEN(values); i++) {
			v = values[i];
			damage(bytes, len, at, &v, 8);
			try_open("field", at);
		}
	}
	free(bytes);
}
END_TEST

START_TEST(random_damage_anywhere_never_crashes)
{
	size_t len;
	uint8_t *bytes = sample(&len), *copy = malloc(len);
	struct rng r = rng_of(seed("random damage"), 0);
	long accepted = 0, n = counts(1000);
	uint64_t worst = 0;

	for (long i = 0; i < n; i++) {
		int words = 1 + (int)rng_below(&r, i % 2 ? 4 : 200);
		uint64_t t;

		memcpy(copy, bytes, len);
		while (words-- > 0) {
			/* Mostly past the header, which is checked. */
			size_t from = rng_below(&r, 10) ? 512 : 0;
			size_t at = from + rng_below(&r, (len - from) / 8) * 8;
			uint64_t v = rng_next(&r) >> rng_below(&r, 64);

			memcpy(copy + at / 8 * 8, &v, 8);
		}
		file_write(queue_path("q"), copy, len, 0600);
		t = now_ns();
		accepted += try_open("random damage", (size_t)i) == 0;
		t = now_ns() - t;
		worst = t > worst ? t : worst;
	}
	fprintf(stderr, "# %ld of %ld accepted, slowest: %" PRIu64 " ms\n",
		accepted, n, worst / MS);
	must(accepted > 0);
	/* Some thirty calls, each of which must come to an end. */
	must(worst < 30 * SECOND, "%" PRIu64 " ms", worst / MS);
	free(copy);
	free(bytes);
}
END_TEST

/* ---- what is not a plain file of ours ----------------------------------- */

static void not_removed_by_unlink(void)
{
	struct stat st;

	must_eq(shmq_unlink("q"), -EBADMSG);
	must(*shmq_detail());
	must_eq(lstat(queue_path("q"), &st), 0);
}

START_TEST(what_is_not_a_regular_file_is_refused_and_not_removed)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	char target[PATH_MAX + 32];
	struct shmq *q;
	int fd;

	must_eq(mkfifo(queue_path("q"), 0600), 0);
	refused(-EBADMSG, "fifo", 0);
	not_removed_by_unlink();
	unlink(queue_path("q"));

	must_eq(mkdir(queue_path("q"), 0700), 0);
	refused(-EBADMSG, "directory", 0);
	not_removed_by_unlink();
	rmdir(queue_path("q"));

	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	must(snprintf(a.sun_path, sizeof(a.sun_path), "%s", queue_path("q")) <
	     (int)sizeof(a.sun_path));
	must_eq(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	refused(-EBADMSG, "socket", 0);
	not_removed_by_unlink();
	unlink(queue_path("q"));
	close(fd);

	if (mknod(queue_path("q"), S_IFCHR | 0600, makedev(1, 3)) == 0) {
		refused(-EBADMSG, "device", 0);
		not_removed_by_unlink();
		unlink(queue_path("q"));
	}

	/* A link to a good queue, to nothing, and to itself. */
	create("good", 2, 8, 64);
	strcpy(target, queue_path("good"));
	must_eq(symlink(target, queue_path("q")), 0);
	refused(-EBADMSG, "symlink", 0);
	not_removed_by_unlink();
	must_eq(shmq_create("q", NULL), -EEXIST);
	unlink(queue_path("q"));
	must_eq(symlink("/nonexistent", queue_path("q")), 0);
	refused(-EBADMSG, "symlink to nothing", 0);
	must_eq(shmq_create("q", NULL), -EEXIST);
	unlink(queue_path("q"));
	must_eq(symlink("shmq.q", queue_path("q")), 0);
	refused(-EBADMSG, "symlink to itself", 0);
	unlink(queue_path("q"));
	q = attach("good");
	exercise(q);
	shmq_close(q);
}
END_TEST

START_TEST(a_queue_with_two_names_is_refused)
{
	char from[PATH_MAX + 32];
	struct shmq *q;

	create("p", 2, 8, 64);
	strcpy(from, queue_path("p"));
	must_eq(link(from, queue_path("q")), 0);
	refused(-EPERM, "hard link", 0);
	unlink(from);
	q = attach("q");
	exercise(q);
	shmq_close(q);
}
END_TEST

START_TEST(a_queue_that_others_may_write_is_refused)
{
	static const mode_t bad[] = { 0666, 0602, 0622, 0606, 0777 };
	static const mode_t good[] = { 0600, 0660, 0644, 0604, 0640 };
	struct shmq *q;

	create("q", 2, 8, 64);
	for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
		must_eq(chmod(queue_path("q"), bad[i]), 0);
		refused(-EPERM, "mode", bad[i]);
	}
	for (unsigned i = 0; i < ARRAY_LEN(good); i++) {
		must_eq(chmod(queue_path("q"), good[i]), 0);
		q = attach("q");
		exercise(q);
		shmq_close(q);
	}
}
END_TEST

static int opens_of_root(void *arg)
{
	struct shmq *q = NULL;

	(void)arg;
	become(NOBODY);
	q = attach("roots"); /* of root: trusted */
	exercise(q);
	shmq_close(q);
	must_eq(shmq_open(&q, "thirds", 0), -EPERM);
	must(*shmq_detail());
	must_eq(shmq_open(&q, "thirds", SHMQ_ANY_OWNER), 0);
	exercise(q);
	shmq_close(q);
	return 0;
}

START_TEST(a_queue_of_another_user_needs_any_owner)
{
	struct shmq_config c = config(2, 8, 64);
	struct shmq *q = NULL;

	if (geteuid()) {
		skip("needs root");
		return;
	}
	c.mode = 0660;
	c.gid = NOBODY;
	must_eq(shmq_create("roots", &c), 0);
	must_eq(shmq_create("thirds", &c), 0);
	must_eq(chown(queue_path("thirds"), 4711, NOBODY), 0);
	must_eq(shmq_open(&q, "thirds", 0), -EPERM);
	must(*shmq_detail());
	must(!q);
	must_eq(shmq_open(&q, "thirds", SHMQ_OBSERVE), 0);
	must_eq(depth_of(q, 0), 0);
	shmq_close(q);
	must_eq(shmq_open(&q, "thirds", SHMQ_ANY_OWNER), 0);
	exercise(q);
	shmq_close(q);
	reap_ok(spawn(opens_of_root, NULL));
}
END_TEST

/* A figure, in KiB, of the mapping of the queue, from /proc/self/smaps. */
static long smaps(const char *queue, const char *what)
{
	char line[512];
	bool here = false;
	long kib = -1;
	FILE *f = fopen("/proc/self/smaps", "re");

	must(f);
	while (kib < 0 && fgets(line, sizeof line, f)) {
		if (strchr(line, '/') || strchr(line, '['))
			here = strstr(line, queue) && strstr(line, "s ");
		else if (here && !strncmp(line, what, strlen(what)))
			sscanf(line + strlen(what), ": %ld", &kib);
	}
	fclose(f);
	return kib;
}

START_TEST(prefault_maps_every_page_and_lock_keeps_them)
{
	const unsigned flags[] = { 0, SHMQ_PREFAULT, SHMQ_OBSERVE | SHMQ_PREFAULT, SHMQ_LOCK };
	struct shmq *q;

	create("q", 2, 10000, 64);
	for (unsigned i = 0; i < ARRAY_LEN(flags); i++) {
		if (SANITIZED && flags[i] & SHMQ_LOCK)
			continue; /* the address sanitizer makes mlock() do nothing */
		must_eq(shmq_open(&q, "q", flags[i]), 0);
		if (flags[i] == 0)
			must(smaps("/shmq.q", "Rss") < smaps("/shmq.q", "Size"));
		else
			must_eq(smaps("/shmq.q", "Rss"), smaps("/shmq.q", "Size"));
		must_eq(smaps("/shmq.q", "Locked"),
			flags[i] & SHMQ_LOCK ? smaps("/shmq.q", "Size") : 0);
		if (!(flags[i] & SHMQ_OBSERVE))
			exercise(q);
		shmq_close(q);
	}
}
END_TEST

static int locks_too_much(void *arg)
{
	const struct rlimit none = { 0, 0 };
	struct shmq *q = NULL;

	(void)arg;
	must_eq(setrlimit(RLIMIT_MEMLOCK, &none), 0);
	become(NOBODY);
	must_eq(shmq_open(&q, "q", SHMQ_LOCK), -EPERM);
	must(strstr(shmq_detail(), "ulimit -l"));
	must(!q);
	must_eq(shmq_open(&q, "q", 0), 0);
	shmq_close(q);
	return 0;
}

START_TEST(a_queue_that_may_not_be_locked_is_not_opened_and_says_why)
{
	struct shmq_config c = config(2, 8, 64);

	if (geteuid() || SANITIZED) {
		skip(SANITIZED ? "the address sanitizer makes mlock() do nothing" : "needs root");
		return;
	}
	c.mode = 0660;
	c.gid = NOBODY;
	must_eq(shmq_create("q", &c), 0);
	reap_ok(spawn(locks_too_much, NULL));
}
END_TEST

START_TEST(a_queue_that_asks_for_huge_pages_works_with_any)
{
	struct shmq_config c = config(2, 10000, 64);
	struct shmq_stat st = { .sz = sizeof st };
	struct shmq *q;

	c.flags = SHMQ_HUGE;
	must_eq(shmq_create("q", &c), 0);
	q = attach("q");
	must_eq(shmq_stat(q, &st), 0);
	must_eq(st.flags, SHMQ_HUGE);
	exercise(q);
	shmq_close(q);
}
END_TEST

START_TEST(an_unknown_open_flag_is_refused)
{
	struct shmq *q = NULL;

	create("q", 1, 1, 8);
	for (int i = 5; i < 32; i++)
		must_eq(shmq_open(&q, "q", 1u << i), -EOPNOTSUPP);
	must_eq(shmq_open(&q, "q", ~0u), -EOPNOTSUPP);
	must(!q);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("open");
	TCase *t = suite_case(s, "content", 120);

	tcase_add_test(t, a_file_that_is_no_queue_is_refused);
	tcase_add_test(t, a_queue_of_another_size_than_it_says_is_refused);
	tcase_add_loop_test(t, a_flipped_byte_is_noticed_or_does_not_matter, 0,
			    3);
	tcase_add_test(t,
		       a_field_at_its_boundaries_is_noticed_or_does_not_matter);
	tcase_add_test(t, random_damage_anywhere_never_crashes);

	t = suite_case(s, "files", 30);
	tcase_add_test(t,
		       what_is_not_a_regular_file_is_refused_and_not_removed);
	tcase_add_test(t, a_queue_with_two_names_is_refused);
	tcase_add_test(t, a_queue_that_others_may_write_is_refused);
	tcase_add_test(t, a_queue_of_another_user_needs_any_owner);
	tcase_add_test(t, an_unknown_open_flag_is_refused);
	tcase_add_test(t, prefault_maps_every_page_and_lock_keeps_them);
	tcase_add_test(t, a_queue_that_may_not_be_locked_is_not_opened_and_says_why);
	tcase_add_test(t, a_queue_that_asks_for_huge_pages_works_with_any);
	return s;
}

int main(void)
{
	return suite_run(suite());
}
