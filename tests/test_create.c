/* SPDX-License-Identifier: MIT */
/*
 * test_create.c - names, configurations, permissions and scarce resources.
 */
#include "common.h"
#include "trace.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>

enum { NOBODY = 65534 };

static const char *name_of(size_t len, char c)
{
	static char name[4096];

	memset(name, c, len);
	name[len] = '\0';
	return name;
}

static int count_names(const char *name, void *arg)
{
	int *n = arg;

	must(name && *name);
	++*n;
	return 0;
}

/* The queue @name is whole: it opens and carries an item. */
static void works(const char *name)
{
	struct shmq *q = attach(name);
	char buf[8];

	must_eq(shmq_push(q, 0, "works", 5, 0), 0);
	must_eq(shmq_pop(q, 0, buf, 8, NULL, 0), 5);
	must(memcmp(buf, "works", 5) == 0);
	shmq_close(q);
}

/* ---- names -------------------------------------------------------------- */

START_TEST(a_bad_name_is_refused_and_creates_nothing)
{
	struct {
		const char *name;
		int err;
	} bad[] = {
		{ "", -EINVAL },      { "/", -EINVAL },	     { "a/b", -EINVAL },
		{ "//a", -EINVAL },   { "a/", -EINVAL },     { ".", -EINVAL },
		{ "..", -EINVAL },    { "../x", -EINVAL },   { "a\nb", -EINVAL },
		{ "a\tb", -EINVAL },  { "\x01", -EINVAL },   { "a\x7f", -EINVAL },
		{ "\x1b[m", -EINVAL },
	};
	struct shmq *q = NULL;
	int n = 0;

	for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
		must_eq(shmq_create(bad[i].name, NULL), bad[i].err);
		must(*shmq_detail(), "no detail for name %u", i);
		must_eq(shmq_open(&q, bad[i].name, 0), bad[i].err);
		must(*shmq_detail(), "no detail for name %u", i);
		must_eq(shmq_unlink(bad[i].name), bad[i].err);
		must(!q);
	}
	for (size_t len = 201; len < 4000; len += len < 300 ? 1 : 97) {
		const char *name = name_of(len, 'n');

		must_eq(shmq_create(name, NULL), -ENAMETOOLONG);
		must_eq(shmq_open(&q, name, 0), -ENAMETOOLONG);
		must_eq(shmq_unlink(name), -ENAMETOOLONG);
	}
	must_eq(dir_entries(test_dir), 0);
	must_eq(shmq_list(count_names, &n), 0);
	must_eq(n, 0);
}
END_TEST

START_TEST(a_good_name_goes_all_the_way)
{
	static const char *const good[] = {
		"q", "a.b", "a-b_c.9", "...", ".hidden", "shmq.shmq",
		"UPPER", "0",
	};
	struct shmq_config c = config(1, 4, 8);

	for (unsigned i = 0; i <= ARRAY_LEN(good); i++) {
		const char *name = i < ARRAY_LEN(good)
					   ? good[i]
					   : name_of(SHMQ_NAME_MAX, 'm');
		struct shmq_stat st;
		struct shmq *q;
		int n = 0;

		must_eq(shmq_create(name, &c), 0);
		must_eq(shmq_create(name, &c), -EEXIST);
		must(access(queue_path(name), F_OK) == 0);
		works(name);
		q = attach(name);
		stat_of(q, &st);
		ck_assert_str_eq(st.name, name);
		shmq_close(q);
		must_eq(shmq_list(count_names, &n), 0);
		must_eq(n, 1);
		must_eq(shmq_unlink(name), 0);
		must_eq(shmq_unlink(name), -ENOENT);
		must_eq(shmq_open(&q, name, 0), -ENOENT);
		must_eq(dir_entries(test_dir), 0);
	}
}
END_TEST

START_TEST(an_uncommon_name_is_taken_or_refused_alike_everywhere)
{
	static const char *const names[] = { "Größe-✓", "/slash", "a b", "~" };
	struct shmq_config c = config(1, 4, 8);

	for (unsigned i = 0; i < ARRAY_LEN(names); i++) {
		struct shmq *q;
		int err = shmq_create(names[i], &c);

		if (err == 0) {
			works(names[i]);
			must_eq(shmq_unlink(names[i]), 0);
		} else {
			must_eq(err, -EINVAL);
			must_eq(shmq_open(&q, names[i], 0), -EINVAL);
			must_eq(shmq_unlink(names[i]), -EINVAL);
		}
		must_eq(dir_entries(test_dir), 0);
	}
}
END_TEST

static int stop_at_second(const char *name, void *arg)
{
	int *n = arg;

	(void)name;
	return ++*n == 2 ? 42 : 0;
}

START_TEST(list_finds_the_queues_and_only_them)
{
	struct shmq_config c = config(1, 4, 8);
	char path[PATH_MAX + 32];
	int n = 0;

	snprintf(path, sizeof(path), "%s/other", test_dir);
	file_write(path, "x", 1, 0600);
	snprintf(path, sizeof(path), "%s/shmq", test_dir);
	file_write(path, "x", 1, 0600);
	must_eq(shmq_create("a", &c), 0);
	must_eq(shmq_create("b", &c), 0);
	must_eq(shmq_create("c", &c), 0);
	must_eq(shmq_list(count_names, &n), 0);
	must_eq(n, 3);
	n = 0;
	must_eq(shmq_list(stop_at_second, &n), 42);
	must_eq(n, 2);
	setenv("SHMQ_DIR", "/nonexistent/dir", 1);
	must_eq(shmq_list(count_names, &n), -ENOENT);
	ck_assert_str_eq(shmq_dir(), "/nonexistent/dir");
	unsetenv("SHMQ_DIR");
	ck_assert_str_eq(shmq_dir(), "/dev/shm");
}
END_TEST

/* ---- configurations ----------------------------------------------------- */

enum { BAD_CONFIGS = 29 };

static bool bad_config(int i, struct shmq_config *c)
{
	*c = config(3, 10, 64);
	switch (i) {
	case 0: c->nr_lanes = 0; break;
	case 1: c->nr_lanes = SHMQ_MAX_LANES + 1; break;
	case 2: c->nr_lanes = UINT32_MAX; break;
	case 3: c->max_participants = 0; break;
	case 4: c->max_participants = SHMQ_PARTICIPANTS_MAX + 1; break;
	case 5: c->max_participants = UINT32_MAX; break;
	case 6: c->item_size = 0; break;
	case 7: c->item_size = SHMQ_ITEM_SIZE_MIN - 1; break;
	case 8: c->item_size = SHMQ_ITEM_SIZE_MAX + 1; break;
	case 9: c->item_size = UINT64_MAX; break;
	case 10: c->item_size = UINT64_C(1) << 32 | 64; break;
	case 11: c->lanes[0].capacity = 0; break;
	case 12: c->lanes[2].capacity = 0; break;
	case 13: c->lanes[1].capacity = SHMQ_LANE_CAPACITY_MAX + 1; break;
	case 14: c->lanes[1].capacity = UINT64_MAX; break;
	case 15: c->lanes[1].capacity = UINT64_C(1) << 32; break;
	case 16: c->mode = 0666; break;
	case 17: c->mode = 0602; break;
	case 18: c->mode = 04600; break;
	case 19: c->mode = 0100600; break;
	case 20: c->flags = 1u << 31; break;
	case 21: c->flags = 1u << 30; break;
	case 22: c->reserved = 1; break;
	case 23: strcpy(c->lanes[1].name, "a b"); break;
	case 24: strcpy(c->lanes[1].name, "a/b"); break;
	case 25: strcpy(c->lanes[0].name, ""); break;
	case 26: memset(c->lanes[2].name, 'x', sizeof(c->lanes[2].name)); break;
	case 27: c->sz = 8; break;
	case 28: strcpy(c->lanes[2].name, c->lanes[0].name); break;
	default: return false;
	}
	return true;
}

START_TEST(a_bad_config_is_refused_with_words_of_its_own)
{
	char detail[BAD_CONFIGS][300];
	struct shmq_config c;
	uint64_t bytes = 7;

	for (int i = 0; i < BAD_CONFIGS; i++) {
		must(bad_config(i, &c));
		must_eq(shmq_create("q", &c), -EDOM);
		snprintf(detail[i], sizeof(detail[i]), "%s", shmq_detail());
		must(*detail[i], "no detail for config %d", i);
		must_eq(shmq_region_size(&c, &bytes), -EDOM);
		must(*shmq_detail(), "no detail for config %d", i);
		must_eq(dir_entries(test_dir), 0);
		for (int k = 0; k < i; k++)
			must(strcmp(detail[i], detail[k]),
			     "configs %d and %d both say '%s'", i, k,
			     detail[i]);
	}
	must(!bad_config(BAD_CONFIGS, &c));
}
END_TEST

START_TEST(every_limit_of_a_config_is_allowed)
{
	static const uint32_t lanes[] = { 1, SHMQ_MAX_LANES };
	static const uint32_t parts[] = { 1, SHMQ_PARTICIPANTS_MAX };
	static const uint64_t sizes[] = { SHMQ_ITEM_SIZE_MIN,
					  SHMQ_ITEM_SIZE_MAX };

	for (int i = 0; i < 8; i++) {
		struct shmq_config c = config(lanes[i & 1], 1, 8);
		struct stat st;
		uint64_t bytes;

		c.max_participants = parts[i >> 1 & 1];
		c.item_size = sizes[i >> 2];
		strcpy(c.lanes[0].name, "fifteen_letters");
		must_eq(shmq_region_size(&c, &bytes), 0);
		must_eq(shmq_create("q", &c), 0);
		must_eq(stat(queue_path("q"), &st), 0);
		must_eq(st.st_size, bytes);
		/* All of it is there, and nothing can be missing later. */
		must((uint64_t)st.st_blocks * 512 >= bytes, "%ld blocks",
		     (long)st.st_blocks);
		works("q");
		must_eq(shmq_unlink("q"), 0);
	}
}
END_TEST

START_TEST(the_largest_sizes_do_not_wrap_around)
{
	struct shmq_config c = config(SHMQ_MAX_LANES, SHMQ_LANE_CAPACITY_MAX,
				      SHMQ_ITEM_SIZE_MAX);
	uint64_t bytes = 0, least;
	int err = shmq_region_size(&c, &bytes);

	/* Items alone: 8 lanes of 2^26 items of 2^20 bytes. */
	least = SHMQ_MAX_LANES * SHMQ_LANE_CAPACITY_MAX * SHMQ_ITEM_SIZE_MAX;
	if (err == 0) {
		must(bytes >= least, "%" PRIu64 " bytes", bytes);
		must_eq(shmq_create("q", &c), -ENOSPC);
	} else {
		must_eq(err, -EDOM);
		must(*shmq_detail());
		must_eq(shmq_create("q", &c), -EDOM);
	}
	must_eq(dir_entries(test_dir), 0);
	for (uint64_t n = 1; n <= 1 << 20; n = n * 2 + 1) {
		c = config(1, n, 64);
		must_eq(shmq_region_size(&c, &bytes), 0);
		must(bytes >= n * 64);
	}
}
END_TEST

START_TEST(what_a_queue_takes_beside_its_items_is_a_third_of_them)
{
	struct shmq_config c;
	uint64_t bytes;

	shmq_config_init(&c, sizeof(c));
	c.nr_lanes = 1;
	c.lanes[0].capacity = 100000;
	must_eq(shmq_region_size(&c, &bytes), 0);
	must(bytes * 100 <= c.lanes[0].capacity * c.item_size * 135, "%" PRIu64 " bytes", bytes);
}
END_TEST

START_TEST(the_largest_capacity_of_a_lane_is_possible)
{
	struct shmq_config c = config(1, SHMQ_LANE_CAPACITY_MAX, 64);
	uint64_t bytes = 0;

	must_eq(shmq_region_size(&c, &bytes), 0);
	must(bytes >= SHMQ_LANE_CAPACITY_MAX * 64);
}
END_TEST

START_TEST(the_default_is_what_the_header_says)
{
	struct shmq_config c;
	struct shmq *q;
	struct shmq_stat st;
	uint64_t a, b;

	memset(&c, 0x77, sizeof(c));
	shmq_config_init(&c, sizeof(c));
	must_eq(c.sz, sizeof(c));
	must_eq(c.nr_lanes, 3);
	must_eq(c.max_participants, 64);
	must_eq(c.item_size, 64);
	must_eq(c.mode, 0600);
	must_eq(c.gid, UINT32_MAX);
	must_eq(c.flags, 0);
	must_eq(c.reserved, 0);
	must_eq(shmq_region_size(&c, &a), 0);
	must_eq(shmq_region_size(NULL, &b), 0);
	must_eq(a, b);
	must_eq(shmq_create("q", NULL), 0);
	q = attach("q");
	stat_of(q, &st);
	ck_assert_str_eq(st.lanes[0].name, "high");
	ck_assert_str_eq(st.lanes[1].name, "normal");
	ck_assert_str_eq(st.lanes[2].name, "low");
	must_eq(st.lanes[0].capacity, 10000);
	must_eq(st.lanes[1].capacity, 100000);
	must_eq(st.lanes[2].capacity, 50000);
	must_eq(st.mode & 07777, 0600);
	shmq_close(q);
}
END_TEST

/* ---- permissions -------------------------------------------------------- */

START_TEST(mode_and_group_are_set_exactly_whatever_the_umask)
{
	static const mode_t umasks[] = { 000, 022, 077, 0777 };
	static const uint32_t modes[] = { 0600, 0640, 0660, 0644, 0440, 0400 };
	struct stat st;

	for (unsigned u = 0; u < ARRAY_LEN(umasks); u++)
		for (unsigned m = 0; m < ARRAY_LEN(modes); m++)
			for (int g = 0; g < 2; g++) {
				struct shmq_config c = config(1, 1, 8);
				bool other = g && geteuid() == 0;

				c.mode = modes[m];
				c.gid = other ? NOBODY : UINT32_MAX;
				umask(umasks[u]);
				must_eq(shmq_create("q", &c), 0);
				umask(022);
				must_eq(stat(queue_path("q"), &st), 0);
				must_eq(st.st_mode & 07777, modes[m]);
				must_eq(st.st_gid,
					other ? NOBODY : (int)getegid());
				must_eq(shmq_unlink("q"), 0);
			}
	umask(0777);
	must_eq(shmq_create("q", NULL), 0);
	must_eq(stat(queue_path("q"), &st), 0);
	must_eq(st.st_mode & 07777, 0600);
}
END_TEST

static int nobody_creates(void *arg)
{
	struct shmq_config c = config(1, 1, 8);

	(void)arg;
	become(NOBODY);
	c.gid = 0;
	must_eq(shmq_create("q", &c), -EPERM);
	must(*shmq_detail());
	must_eq(chdir("/"), 0);
	must_eq(setenv("SHMQ_DIR", "/proc", 1), 0);
	c.gid = UINT32_MAX;
	must(shmq_create("q", &c) < 0);
	must_eq(setenv("SHMQ_DIR", test_dir, 1), 0);
	must_eq(shmq_create("mine", &c), 0);
	works("mine");
	return 0;
}

static int nobody_may_not(void *arg)
{
	struct shmq *q;

	(void)arg;
	become(NOBODY);
	must_eq(shmq_create("q", NULL), -EACCES);
	must_eq(shmq_open(&q, "root", 0), -EACCES);
	must_eq(shmq_open(&q, "root", SHMQ_OBSERVE), -EACCES);
	must_eq(shmq_unlink("root"), -EACCES);
	return 0;
}

START_TEST(another_user_gets_an_error_and_leaves_nothing)
{
	if (geteuid()) {
		skip("needs root");
		return;
	}
	create("root", 1, 1, 8);
	reap_ok(spawn(nobody_may_not, NULL));
	must_eq(dir_entries(test_dir), 1);
	must_eq(chmod(test_dir, 0777), 0);
	reap_ok(spawn(nobody_creates, NULL));
	must_eq(dir_entries(test_dir), 2);
	works("root");
}
END_TEST

START_TEST(a_missing_directory_is_enoent)
{
	struct shmq *q;

	setenv("SHMQ_DIR", "/nonexistent", 1);
	must_eq(shmq_create("q", NULL), -ENOENT);
	must_eq(shmq_open(&q, "q", 0), -ENOENT);
	must_eq(shmq_unlink("q"), -ENOENT);
}
END_TEST

/* ---- scarce ------------------------------------------------------------- */

static int private_tmpfs(void)
{
	if (unshare(CLONE_NEWNS) ||
	    mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("tmpfs", test_dir, "tmpfs", 0, "size=1m,mode=0777"))
		return -1;
	return 0;
}

static int on_small_tmpfs(void *arg)
{
	struct statvfs before, after;
	struct shmq *q;
	char path[PATH_MAX + 32], page[4096] = { 1 }, buf[64];
	int fd;

	(void)arg;
	if (private_tmpfs())
		return 77;
	must_eq(statvfs(test_dir, &before), 0);
	for (int i = 0; i < 20; i++) {
		must_eq(shmq_create("q", NULL), -ENOSPC);
		must(*shmq_detail());
		must_eq(dir_entries(test_dir), 0);
	}
	must_eq(statvfs(test_dir, &after), 0);
	must_eq(after.f_bfree, before.f_bfree);

	/* A smaller one fits, and goes on when everything is full. */
	create("q", 2, 64, 64);
	q = attach("q");
	snprintf(path, sizeof(path), "%s/filler", test_dir);
	fd = open(path, O_WRONLY | O_CREAT, 0600);
	must(fd >= 0);
	while (write(fd, page, sizeof(page)) > 0)
		;
	close(fd);
	must_eq(statvfs(test_dir, &after), 0);
	must_eq(after.f_bfree, 0);
	for (int i = 0; i < 100000; i++) {
		int lane = i / 64 % 2;

		memset(buf, i, sizeof(buf));
		must_eq(shmq_push(q, lane, buf, 64, 0), 0);
		if (i % 64 == 63)
			for (int k = 0; k < 64; k++)
				must_eq(shmq_pop(q, lane, buf, 64, NULL, 0),
					64);
	}
	shmq_close(q);
	must_eq(shmq_create("full", NULL), -ENOSPC);
	must_eq(dir_entries(test_dir), 2);
	return 0;
}

START_TEST(a_small_tmpfs_is_enospc_at_create_and_never_a_signal_later)
{
	int status = reap(spawn(on_small_tmpfs, NULL));

	if (status == 77)
		skip("may not mount in a namespace of its own");
	else
		must_eq(status, 0);
}
END_TEST

static int on_read_only_tmpfs(void *arg)
{
	struct shmq *q;

	(void)arg;
	if (private_tmpfs())
		return 77;
	create("q", 1, 4, 64);
	if (mount("tmpfs", test_dir, "tmpfs", MS_REMOUNT | MS_RDONLY, NULL))
		return 77;
	must_eq(shmq_create("new", NULL), -EROFS);
	must(shmq_open(&q, "q", 0) < 0);
	must(shmq_unlink("q") < 0);
	must_eq(shmq_open(&q, "q", SHMQ_OBSERVE), 0);
	must_eq(depth_of(q, 0), 0);
	shmq_close(q);
	return 0;
}

START_TEST(a_read_only_directory_can_be_observed_and_no_more)
{
	int status = reap(spawn(on_read_only_tmpfs, NULL));

	if (status == 77)
		skip("may not mount in a namespace of its own");
	else
		must_eq(status, 0);
}
END_TEST

static int with_limit(void *arg)
{
	int what = *(int *)arg;
	struct rlimit l = { 0, 0 };
	struct shmq *q = NULL;
	int err;

	if (what == RLIMIT_FSIZE) {
		l.rlim_cur = l.rlim_max = 4096;
		must_eq(setrlimit(what, &l), 0);
		err = shmq_create("new", NULL);
		must(err < 0, "created over the file size limit");
		must(*shmq_detail());
		works("q");
	} else if (what == RLIMIT_NOFILE) {
		for (rlim_t n = 3; !q; n++) {
			l.rlim_cur = n;
			l.rlim_max = 1024;
			must_eq(setrlimit(what, &l), 0);
			err = shmq_create("new", NULL);
			must(err == -EMFILE || err == 0);
			must(n > 3 || err == -EMFILE);
			if (!err)
				must_eq(shmq_unlink("new"), 0);
			err = shmq_open(&q, "q", 0);
			must(err == -EMFILE || err == 0);
			must(!err == !!q && n < 100);
		}
		shmq_close(q);
	} else {
		l.rlim_cur = l.rlim_max = 1 << 20;
		must_eq(setrlimit(what, &l), 0);
		must_eq(shmq_open(&q, "large", 0), -ENOMEM);
		must(!q);
		err = shmq_create("new", NULL);
		must(err < 0);
	}
	return 0;
}

START_TEST(a_resource_limit_is_an_error_and_not_a_signal)
{
	static int what[] = { RLIMIT_FSIZE, RLIMIT_NOFILE, RLIMIT_AS };

	if (SANITIZED && what[_i] == RLIMIT_AS) {
		skip("a sanitizer needs its address space");
		return;
	}
	create("q", 1, 4, 64);
	create("large", 1, 100000, 64);
	reap_ok(spawn(with_limit, &what[_i]));
	must_eq(dir_entries(test_dir), 2);
	works("q");
}
END_TEST

START_TEST(nothing_leaks_from_failed_and_finished_calls)
{
	struct shmq *q;
	int fds, before = dir_entries("/proc/self/fd");

	create("q", 1, 4, 64);
	file_write(queue_path("bad"), "not a queue", 11, 0600);
	for (int i = 0; i < 2000; i++) {
		works("q");
		must_eq(shmq_open(&q, "bad", 0), -EBADMSG);
		must_eq(shmq_open(&q, "none", 0), -ENOENT);
		must_eq(shmq_create("q", NULL), -EEXIST);
	}
	fds = dir_entries("/proc/self/fd");
	must(fds == before, "%d open files, there were %d", fds, before);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("create");
	TCase *t = suite_case(s, "names", 30);

	tcase_add_test(t, a_bad_name_is_refused_and_creates_nothing);
	tcase_add_test(t, a_good_name_goes_all_the_way);
	tcase_add_test(t, an_uncommon_name_is_taken_or_refused_alike_everywhere);
	tcase_add_test(t, list_finds_the_queues_and_only_them);

	t = suite_case(s, "configs", 30);
	tcase_add_test(t, a_bad_config_is_refused_with_words_of_its_own);
	tcase_add_test(t, every_limit_of_a_config_is_allowed);
	tcase_add_test(t, the_largest_sizes_do_not_wrap_around);
	tcase_add_test(t, what_a_queue_takes_beside_its_items_is_a_third_of_them);
	tcase_add_test(t, the_largest_capacity_of_a_lane_is_possible);
	tcase_add_test(t, the_default_is_what_the_header_says);

	t = suite_case(s, "permissions", 30);
	tcase_add_test(t, mode_and_group_are_set_exactly_whatever_the_umask);
	tcase_add_test(t, another_user_gets_an_error_and_leaves_nothing);
	tcase_add_test(t, a_missing_directory_is_enoent);

	t = suite_case(s, "scarce", 60);
	tcase_add_test(
		t, a_small_tmpfs_is_enospc_at_create_and_never_a_signal_later);
	tcase_add_test(t, a_read_only_directory_can_be_observed_and_no_more);
	tcase_add_loop_test(t, a_resource_limit_is_an_error_and_not_a_signal, 0,
			    3);
	tcase_add_test(t, nothing_leaks_from_failed_and_finished_calls);
	return s;
}

int main(void)
{
	return suite_run(suite());
}
