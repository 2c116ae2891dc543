/* SPDX-License-Identifier: MIT */
/*
 * doctor_machine.c - what queues need of the kernel, of the file system they are in,
 * and of logind, which may remove them. What the kernel can do is tried, not concluded
 * from its version: containers refuse what kernels have.
 */
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <linux/io_uring.h>
#include <linux/membarrier.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "doctor.h"

/* ---- the kernel ---- */

#ifndef SYS_futex_waitv
#define SYS_futex_waitv 449
#endif
#ifndef MFD_CLOEXEC
#define MFD_CLOEXEC 1u
#endif

enum { FUTEX_WAKE_PRIVATE_OP = 129, IORING_FUTEX_WAIT = 51 };

/* The word for a call that came back with @errnum, or 0 for success. */
static const char *can(int errnum)
{
	if (errnum == ENOSYS)
		return "no";
	return errnum == EPERM || errnum == EACCES ? "refused" : "yes";
}

static const char *can_futex(void)
{
	uint32_t word = 0;

	return can(syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE_OP, 1, NULL, NULL, 0) < 0
			   ? errno
			   : 0);
}

static const char *can_futex_waitv(void)
{
	/* Waiting for nothing is an error, but only where the call exists. */
	return can(syscall(SYS_futex_waitv, NULL, 0, 0, NULL, 0) < 0 ? errno : 0);
}

/* Sets *@futex to the word for waiting for a futex with it. */
static const char *can_io_uring(const char **futex)
{
	size_t nr_ops = 256;
	struct io_uring_params params = {0};
	struct io_uring_probe *probe =
		doctor_memory(calloc(1, sizeof(*probe) + nr_ops * sizeof(*probe->ops)));
	long fd = syscall(SYS_io_uring_setup, 1, &params);
	int err = fd < 0 ? errno : 0;

	*futex = "no";
	if (fd >= 0 &&
	    !syscall(SYS_io_uring_register, fd, IORING_REGISTER_PROBE, probe, nr_ops) &&
	    probe->last_op >= IORING_FUTEX_WAIT &&
	    probe->ops[IORING_FUTEX_WAIT].flags & IO_URING_OP_SUPPORTED)
		*futex = "yes";
	if (fd >= 0)
		close((int)fd);
	free(probe);
	return can(err);
}

/* Locks of an open file: the tokens by which the dead are known. */
static bool has_ofd_locks(void)
{
	struct flock fl = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1};
	int fd = memfd_create("shmq-doctor", MFD_CLOEXEC);
	bool has = fd >= 0 && !fcntl(fd, F_OFD_SETLK, &fl);

	if (fd >= 0)
		close(fd);
	return has;
}

static bool has_membarrier(void)
{
	long can_do = syscall(SYS_membarrier, MEMBARRIER_CMD_QUERY, 0, 0);

	return can_do > 0 && can_do & MEMBARRIER_CMD_GLOBAL_EXPEDITED;
}

static void check_kernel(struct doctor *d)
{
	const char *futex_io, *io = can_io_uring(&futex_io);
	bool ofd = has_ofd_locks();
	struct utsname un;

	if (uname(&un))
		strcpy(un.release, "?");
	doctor_add(d, ofd ? DOCTOR_OK : DOCTOR_FAIL, "kernel", NULL, NULL,
		   "kernel %s: futex %s, OFD locks %s, membarrier %s, futex_waitv %s, "
		   "io_uring %s, io_uring futex %s (the last four are not required)",
		   un.release, can_futex(), ofd ? "yes" : "no",
		   has_membarrier() ? "yes" : "no", can_futex_waitv(), io, futex_io);
	if (!ofd)
		doctor_fix(d, "without OFD locks nobody can tell who is dead; use Linux "
			      "3.15 or later");
}

static void check_memlock(struct doctor *d)
{
	char human[TOOL_HUMAN_MAX] = "any amount";
	struct rlimit lim;

	if (getrlimit(RLIMIT_MEMLOCK, &lim))
		return;
	if (lim.rlim_cur != RLIM_INFINITY)
		tool_bytes(lim.rlim_cur, human);
	doctor_add(d, DOCTOR_OK, "memlock", NULL, NULL,
		   "memory that may be locked: %s (queues need none)", human);
}

/* ---- the directory ---- */

/* Bytes of memory that the queues in the directory take, and how many they are. */
struct used {
	uint64_t bytes;
	int queues;
};

static int add_used(const char *name, void *arg)
{
	struct used *used = arg;
	struct stat st;

	if (doctor_file(name, &st)) {
		used->bytes += (uint64_t)st.st_blocks * 512;
		used->queues++;
	}
	return 0;
}

/* NULL if a queue is well kept there, else the name of the file system. */
static const char *wrong_file_system(const struct statfs *fs)
{
	static const struct {
		uint32_t type;
		const char *name;
	} known[] = {
		{0x01021994, NULL},   {0x958458f6, NULL}, /* tmpfs, hugetlbfs */
		{0x858458f6, NULL},                       /* ramfs */
		{0x0000ef53, "ext4"}, {0x58465342, "xfs"},  {0x9123683e, "btrfs"},
		{0x2fc12fc1, "zfs"},  {0xf2f52010, "f2fs"}, {0x794c7630, "an overlay"},
		{0x00006969, "nfs"},  {0x65735546, "fuse"}, {0x01021997, "9p"},
	};

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if ((uint32_t)fs->f_type == known[i].type)
			return known[i].name;
	return "a file system of another kind";
}

static void check_room(struct doctor *d, const struct statvfs *fs)
{
	uint64_t room = (uint64_t)fs->f_bavail * fs->f_frsize, need;
	char size[TOOL_HUMAN_MAX], free_[TOOL_HUMAN_MAX], used[TOOL_HUMAN_MAX];
	bool limit = fs->f_blocks, low;
	struct used u = {0};

	if (shmq_region_size(NULL, &need))
		need = 0;
	low = limit && room < need;
	shmq_list(add_used, &u);
	tool_bytes((uint64_t)fs->f_blocks * fs->f_frsize, size);
	doctor_add(d, low ? DOCTOR_WARN : DOCTOR_OK, low ? "no-room" : "directory", NULL,
		   NULL, "%s %s%s%s, %s used by %d queue%s", shmq_dir(),
		   limit ? size : "without limit", limit ? ", free " : "",
		   limit ? tool_bytes(room, free_) : "", tool_bytes(u.bytes, used),
		   u.queues, tool_s((uint64_t)u.queues));
	if (low)
		doctor_fix(d,
			   "a queue of the default shape takes %s; enlarge it: mount -o "
			   "remount,size=SIZE %s; docker run --shm-size SIZE; in "
			   "Kubernetes an emptyDir with medium: Memory",
			   tool_bytes(need, size), shmq_dir());
}

static void check_directory(struct doctor *d)
{
	const char *dir = shmq_dir(), *wrong;
	struct statvfs vfs;
	struct statfs fs;

	if (statfs(dir, &fs) || statvfs(dir, &vfs)) {
		doctor_add(d, DOCTOR_FAIL, "no-directory", NULL, NULL, "%s: %s", dir,
			   strerror(errno));
		doctor_fix(d, "set SHMQ_DIR to a directory in a tmpfs");
		return;
	}
	check_room(d, &vfs);
	wrong = wrong_file_system(&fs);
	if (wrong) {
		doctor_add(
			d, DOCTOR_WARN, "file-system", NULL, NULL,
			"%s is on %s, not on a tmpfs: queues there are written to disk "
			"again and again",
			dir, wrong);
		doctor_fix(d, "set SHMQ_DIR to a directory in a tmpfs");
	}
	if (vfs.f_flag & ST_RDONLY) {
		doctor_add(d, DOCTOR_FAIL, "read-only", NULL, NULL,
			   "%s is mounted read-only: no queue can be made or used", dir);
		doctor_fix(d, "mount -o remount,rw %s", dir);
	}
}

/* ---- logind ---- */

/* Users of this number and above are people; logind leaves the others alone. */
enum { FIRST_LOGIN_UID = 1000 };

static bool exists(const struct doctor *d, const char *path)
{
	char *full;
	bool there;

	doctor_memory(asprintf(&full, "%s%s", d->root, path) < 0 ? NULL : full);
	there = !access(full, F_OK);
	free(full);
	return there;
}

static bool has_logind(const struct doctor *d)
{
	return exists(d, "/run/systemd/seats") || /* it runs */
	       exists(d, "/usr/lib/systemd/systemd-logind") ||
	       exists(d, "/lib/systemd/systemd-logind");
}

/* Value of RemoveIPC= in [Login] of one file to *@remove, if it is there. */
static void read_logind_conf(const char *path, bool *remove)
{
	char line[512], key[64], value[64];
	bool login = false;
	FILE *f = fopen(path, "re");

	if (!f)
		return;
	while (fgets(line, sizeof(line), f)) {
		if (line[strspn(line, " \t")] == '[')
			login = !strncmp(line + strspn(line, " \t"), "[Login]", 7);
		else if (login &&
			 sscanf(line, " %63[A-Za-z] = %63[^ \t\n]", key, value) == 2 &&
			 !strcmp(key, "RemoveIPC"))
			*remove = strchr("yYtT1", value[0]) || !strcasecmp(value, "on");
	}
	fclose(f);
}

static const char *file_name(const char *path)
{
	return strrchr(path, '/') + 1;
}

static int by_file_name(const void *a, const void *b)
{
	return strcmp(file_name(*(char *const *)a), file_name(*(char *const *)b));
}

/* Add what matches ROOT + @dir + @pattern. */
static void find_files(const struct doctor *d, const char *dir, const char *pattern,
		       glob_t *found)
{
	char *path;

	doctor_memory(asprintf(&path, "%s%s%s", d->root, dir, pattern) < 0 ? NULL : path);
	glob(path, found->gl_pathc ? GLOB_APPEND : 0, NULL, found);
	free(path);
}

/* Drop the files whose name has come before: in another directory, which wins. */
static void drop_hidden(glob_t *found)
{
	size_t n = 0;

	for (size_t i = 0; i < found->gl_pathc; i++) {
		char *path = found->gl_pathv[i];
		bool hidden = false;

		for (size_t j = 0; j < n && !hidden; j++)
			hidden = !by_file_name(&path, &found->gl_pathv[j]);
		if (hidden)
			free(path);
		else
			found->gl_pathv[n++] = path;
	}
	for (size_t i = n; i < found->gl_pathc; i++)
		found->gl_pathv[i] = NULL;
	found->gl_pathc = n;
}

/*
 * RemoveIPC as logind would have it: of the main file and then, in the order of their
 * names, of the drop-ins. A file in an earlier directory hides the ones of its name.
 */
static bool removes_ipc(const struct doctor *d)
{
	static const char *const dirs[] = {"/etc", "/run", "/usr/local/lib", "/usr/lib"};
	bool remove = true; /* unless somebody says no */
	glob_t conf = {0}, dropin = {0};

	for (int i = 0; i < 4; i++) {
		find_files(d, dirs[i], "/systemd/logind.conf", &conf);
		find_files(d, dirs[i], "/systemd/logind.conf.d/*.conf", &dropin);
	}
	drop_hidden(&dropin);
	if (dropin.gl_pathc)
		qsort(dropin.gl_pathv, dropin.gl_pathc, sizeof(*dropin.gl_pathv),
		      by_file_name);
	if (conf.gl_pathc)
		read_logind_conf(conf.gl_pathv[0], &remove);
	for (size_t i = 0; i < dropin.gl_pathc; i++)
		read_logind_conf(dropin.gl_pathv[i], &remove);
	globfree(&conf);
	globfree(&dropin);
	return remove;
}

/* Owners of queues who are people. */
struct owners {
	uint32_t uids[16];
	int n;
};

static int add_owner(const char *name, void *arg)
{
	struct owners *o = arg;
	struct stat st;

	if (!doctor_file(name, &st) || st.st_uid < FIRST_LOGIN_UID)
		return 0;
	for (int i = 0; i < o->n; i++)
		if (o->uids[i] == st.st_uid)
			return 0;
	o->uids[o->n++] = st.st_uid;
	return o->n == 16; /* enough of them to make the point */
}

static bool below_dev_shm(void)
{
	char *path = realpath(shmq_dir(), NULL);
	bool below =
		path && !strncmp(path, "/dev/shm", 8) && (!path[8] || path[8] == '/');

	free(path);
	return below;
}

static void check_logind(struct doctor *d)
{
	struct owners o = {.n = 0};

	if (!has_logind(d))
		return;
	if (!removes_ipc(d)) {
		doctor_add(d, DOCTOR_OK, "logind", NULL, NULL,
			   "logind keeps IPC at logout (RemoveIPC=no)");
		return;
	}
	if (below_dev_shm())
		shmq_list(add_owner, &o);
	if (!o.n)
		doctor_add(d, DOCTOR_OK, "logind", NULL, NULL,
			   "logind removes IPC at logout (RemoveIPC=yes): no queue here "
			   "is of a user who logs in");
	for (int i = 0; i < o.n; i++) {
		const struct passwd *pw = getpwuid(o.uids[i]);
		const char *user = pw ? pw->pw_name : "who has no name";

		doctor_add(d, DOCTOR_WARN, "logind", NULL, NULL,
			   "logind removes IPC at logout (RemoveIPC=yes): queues of user "
			   "%s (uid %u) vanish when that user logs out",
			   user, o.uids[i]);
		doctor_fix(d, "make them as a system user, or set RemoveIPC=no in "
			      "/etc/systemd/logind.conf");
	}
}

void doctor_machine(struct doctor *d)
{
	check_kernel(d);
	check_directory(d);
	check_logind(d);
	check_memlock(d);
	doctor_inotify(d);
}
