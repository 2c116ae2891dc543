/* SPDX-License-Identifier: MIT */
/* error.c - words for the errors of shmq.h. */
#include "queue.h"

#include <stdio.h>

static const struct {
	int err;
	const char *text;
} words[] = {
	{ EAGAIN, "full or empty, and the call was not to wait" },
	{ ETIMEDOUT, "still full or empty when the time was up" },
	{ EINTR, "interrupted by a signal; nothing was done" },
	{ EMSGSIZE, "the item is longer than the queue's item size or the buffer" },
	{ ECHRNG, "no such lane" },
	{ ERANGE, "bad timeout: give 0, SHMQ_FOREVER or nanoseconds" },
	{ EFAULT, "a pointer that must not be NULL is NULL" },
	{ EINVAL, "bad name or argument" },
	{ ENAMETOOLONG, "the name is too long" },
	{ EDOM, "bad configuration" },
	{ EEXIST, "a queue of this name exists" },
	{ ENOENT, "no such queue; of a lease or reservation: the handle holds none" },
	{ EBADMSG, "not a queue, or a damaged one" },
	{ EPROTONOSUPPORT, "a queue of another layout version" },
	{ EPERM, "unsafe owner or mode" },
	{ EACCES, "permission denied" },
	{ EUSERS, "all participant slots are taken" },
	{ ECHILD, "a handle from before a fork: open the queue in the child" },
	{ EROFS, "the handle only observes" },
	{ ENOSPC, "no space left for the queue" },
	{ EFBIG, "the queue is larger than the file size limit" },
	{ EOPNOTSUPP, "unknown flag" },
	{ ENODATA, "nothing was refused yet" },
	{ EBUSY, "a reservation is open: commit or abort it first" },
	{ EMFILE, "too many open files, or too many leases of one handle" },
	{ EBADF, "this process has closed the descriptor of the queue" },
	{ ENOMEM, "out of memory" },
};

SHMQ_API int shmq_strerror(int err, char *buf, size_t size)
{
	const char *name;
	size_t i;

	if (!buf)
		return -EFAULT;
	if (size == 0)
		return -EINVAL;
	if (err < 0 && err >= -4095) /* what a negative errno can be */
		err = -err;
	for (i = 0; i < sizeof words / sizeof *words; i++) {
		if (words[i].err == err) {
			snprintf(buf, size, "%s", words[i].text);
			return 0;
		}
	}
	name = err ? strerrordesc_np(err) : "success";
	if (name)
		snprintf(buf, size, "%s", name);
	else
		snprintf(buf, size, "error %d", err);
	return 0;
}

SHMQ_API const char *shmq_version(void)
{
	return SHMQ_VERSION;
}
