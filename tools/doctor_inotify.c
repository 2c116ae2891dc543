/* SPDX-License-Identifier: MIT */
/*
 * doctor_inotify.c - are there inotify instances and watches to be had? A handle that is
 * polled takes one of each for each direction (shmq_pollfd()), and without them its
 * descriptor is told by a timer alone.
 *
 * Both are counted per user. What is in use is counted in the processes of this user that
 * can be seen here; one that several share counts more than once, and one in another
 * container not at all. So one is taken and given back, too: that one can not be had is
 * certain.
 */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "doctor.h"

enum { FEW = 8 }; /* and a tenth of the limit */

struct kind {
	const char *one, *many, *limit_name;
	uint64_t limit, used;
	int err; /* why none can be had, or 0 */
};

static void add_watches(const char *pid, const char *fd, uint64_t *watches)
{
	char path[64], line[256];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%.16s/fdinfo/%.16s", pid, fd);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f))
		*watches += !strncmp(line, "inotify ", 8);
	if (f)
		fclose(f);
}

/* Instances of one process, if it is of this user. */
static void add_process(const char *pid, struct kind *instances, struct kind *watches)
{
	char path[64], target[32];
	struct dirent *e;
	struct stat st;
	DIR *fds;

	snprintf(path, sizeof(path), "/proc/%.16s/fd", pid);
	fds = opendir(path);
	if (!fds)
		return;
	while (!fstat(dirfd(fds), &st) && st.st_uid == geteuid() && (e = readdir(fds))) {
		ssize_t n = readlinkat(dirfd(fds), e->d_name, target, sizeof(target) - 1);

		target[n < 0 ? 0 : n] = '\0';
		if (strcmp(target, "anon_inode:inotify"))
			continue;
		instances->used++;
		add_watches(pid, e->d_name, &watches->used);
	}
	closedir(fds);
}

static void count_used(struct kind *instances, struct kind *watches)
{
	DIR *proc = opendir("/proc");
	struct dirent *e;

	while (proc && (e = readdir(proc)))
		if (isdigit((unsigned char)*e->d_name))
			add_process(e->d_name, instances, watches);
	if (proc)
		closedir(proc);
}

static bool read_limit(const struct doctor *d, struct kind *k)
{
	bool known = false;
	char *path;
	FILE *f;

	doctor_memory(asprintf(&path, "%s/proc/sys/fs/inotify/%s", d->root, k->limit_name) < 0 ?
			      NULL : path);
	f = fopen(path, "re");
	if (f) {
		known = fscanf(f, "%" SCNu64, &k->limit) == 1;
		fclose(f);
	}
	free(path);
	return known;
}

/* Take one of each, and give it back. */
static void try(struct kind *instances, struct kind *watches)
{
	int fd = inotify_init1(IN_CLOEXEC);

	if (fd < 0) {
		instances->err = errno;
		return;
	}
	if (inotify_add_watch(fd, "/", IN_DELETE_SELF) < 0)
		watches->err = errno;
	close(fd);
}

/* Is it a warning? @known: its limit is. */
static bool warn_of(struct doctor *d, const struct kind *k, bool known)
{
	static const char late[] = "descriptors of shmq_pollfd() are then told by a timer, up to "
				   "50 ms late";
	uint64_t left = k->limit > k->used ? k->limit - k->used : 0;

	if (k->err == ENOSYS || k->err == EPERM || k->err == EACCES) {
		doctor_add(d, DOCTOR_WARN, "inotify", NULL, NULL, "inotify is refused (%s): %s",
			   strerror(k->err), late);
		doctor_fix(d, "have the profile of the container permit inotify_init1 and "
			      "inotify_add_watch");
		return true;
	}
	if (k->err)
		doctor_add(d, DOCTOR_WARN, "inotify", NULL, NULL,
			   "no inotify %s is left for this user (%s): %s", k->one,
			   strerror(k->err), late);
	else if (known && (left < FEW || left < k->limit / 10))
		doctor_add(d, DOCTOR_WARN, "inotify", NULL, NULL,
			   "%" PRIu64 " of %" PRIu64 " inotify %s of this user are in use: soon "
			   "there are none, and %s", k->used, k->limit, k->many, late);
	else
		return false;
	doctor_fix(d, "sysctl fs.inotify.%s=%" PRIu64 "    and in /etc/sysctl.d, to keep it",
		   k->limit_name, k->limit < 512 ? 1024 : k->limit * 2);
	return true;
}

void doctor_inotify(struct doctor *d)
{
	struct kind instances = {"instance", "instances", "max_user_instances", 0, 0, 0};
	struct kind watches = {"watch", "watches", "max_user_watches", 0, 0, 0};
	bool instances_known = read_limit(d, &instances), watches_known = read_limit(d, &watches);
	bool warned;

	count_used(&instances, &watches);
	try(&instances, &watches);
	warned = warn_of(d, &instances, instances_known);
	warned |= warn_of(d, &watches, watches_known);
	if (!warned && instances_known && watches_known)
		doctor_add(d, DOCTOR_OK, "inotify", NULL, NULL,
			   "inotify: %" PRIu64 " of %" PRIu64 " instances and %" PRIu64
			   " of %" PRIu64 " watches of this user are in use (polling a handle "
			   "takes one of each)",
			   instances.used, instances.limit, watches.used, watches.limit);
}
