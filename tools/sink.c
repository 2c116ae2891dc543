/* SPDX-License-Identifier: MIT */
/*
 * sink.c - where a file goes: one block is written, and put onto the disk, while the
 * next is filled.
 *
 * With io_uring the write and the fdatasync behind it are one chain that the kernel works
 * off by itself. Where there is none, or it is refused (containers often do), or
 * SHMQ_URING=0 says so, the same is done at once by write() and fdatasync().
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#ifdef HAVE_URING
#include <liburing.h>
#endif

#include "file.h"

struct sink {
	int fd;
	const char *path;
	bool regular; /* it has a disk below, and can be cut */
	const char *buf; /* being written, or NULL */
	size_t len;
	bool sync;
	uint64_t whole, put; /* bytes that are done, and those under way as well */
#ifdef HAVE_URING
	struct io_uring ring;
	bool uring;
#endif
};

/* What the kernel left of it, by hand. An exit code. */
static int finish(struct sink *s, size_t done, bool synced)
{
	while (done < s->len) {
		ssize_t n = write(s->fd, s->buf + done, s->len - done);

		if (n < 0 && errno == EINTR && !tool_signal)
			continue;
		if (n < 0) {
			if (errno != EINTR)
				tool_error("%s: %s", s->path, strerror(errno));
			return errno == EINTR ? 128 + tool_signal : EX_IOERR;
		}
		done += (size_t)n;
		synced = false;
	}
	if (s->sync && s->regular && !synced && fdatasync(s->fd) < 0) {
		tool_error("%s: cannot be put onto the disk: %s", s->path, strerror(errno));
		return EX_IOERR;
	}
	s->whole = s->put;
	return 0;
}

#ifdef HAVE_URING
static void uring_open(struct sink *s)
{
	const char *env = getenv("SHMQ_URING");

	if (env && !strcmp(env, "0"))
		return;
	if (io_uring_queue_init(4, &s->ring, 0) < 0)
		return;
	s->uring = s->ring.features & IORING_FEAT_RW_CUR_POS;
	if (!s->uring)
		io_uring_queue_exit(&s->ring);
}

static bool uring_put(struct sink *s)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&s->ring);
	bool sync = s->sync && s->regular;

	io_uring_prep_write(sqe, s->fd, s->buf, (unsigned)s->len, (uint64_t)-1);
	if (sync) {
		io_uring_sqe_set_flags(sqe, IOSQE_IO_LINK);
		sqe = io_uring_get_sqe(&s->ring);
		io_uring_prep_fsync(sqe, s->fd, IORING_FSYNC_DATASYNC);
		sqe->user_data = 1;
	}
	return io_uring_submit(&s->ring) == 1 + sync;
}

/* Both completions: bytes written, and whether they are on the disk. Or -errno. */
static int uring_wait(struct sink *s, size_t *done, bool *synced)
{
	int left = 1 + (s->sync && s->regular), err = 0;

	*done = 0;
	*synced = false;
	while (left > 0) {
		struct io_uring_cqe *cqe;
		int r = io_uring_wait_cqe(&s->ring, &cqe);

		if (r == -EINTR)
			continue; /* a signal: the block is finished first */
		if (r < 0)
			return r;
		if (cqe->user_data == 1)
			*synced = cqe->res == 0;
		else if (cqe->res >= 0)
			*done = (size_t)cqe->res;
		else if (cqe->res != -EINTR && cqe->res != -EAGAIN)
			err = cqe->res;
		io_uring_cqe_seen(&s->ring, cqe);
		left--;
	}
	return err;
}
#endif

int sink_open(struct sink **out, int fd, const char *path)
{
	struct sink *s = calloc(1, sizeof(*s));
	struct stat st;

	if (!s)
		return tool_fail(-ENOMEM, "memory for a file", NULL);
	s->fd = fd;
	s->path = path;
	s->regular = !fstat(fd, &st) && S_ISREG(st.st_mode);
#ifdef HAVE_URING
	uring_open(s);
#endif
	*out = s;
	return 0;
}

const char *sink_engine(const struct sink *s)
{
#ifdef HAVE_URING
	if (s->uring)
		return "io_uring";
#endif
	(void)s;
	return "write";
}

int sink_wait(struct sink *s)
{
	size_t done = 0;
	bool synced = false;
	int rc;

	if (!s->buf)
		return 0;
#ifdef HAVE_URING
	if (s->uring) {
		int r = uring_wait(s, &done, &synced);

		if (r < 0) {
			tool_error("%s: %s", s->path, strerror(-r));
			s->buf = NULL;
			return EX_IOERR;
		}
	}
#endif
	rc = finish(s, done, synced);
	s->buf = NULL;
	return rc;
}

int sink_put(struct sink *s, const void *buf, size_t len, bool sync)
{
	int rc = sink_wait(s);

	if (rc)
		return rc;
	s->buf = buf;
	s->len = len;
	s->sync = sync;
	s->put = s->whole + len;
#ifdef HAVE_URING
	if (s->uring) {
		if (uring_put(s))
			return 0;
		io_uring_queue_exit(&s->ring); /* nothing of it was taken */
		s->uring = false;
	}
#endif
	rc = finish(s, 0, false);
	s->buf = NULL;
	return rc;
}

uint64_t sink_whole(const struct sink *s)
{
	return s->whole;
}

void sink_cut(struct sink *s)
{
	if (s->regular && ftruncate(s->fd, (off_t)s->whole) < 0)
		tool_error("%s: cannot be cut to what is whole: %s", s->path, strerror(errno));
}

void sink_close(struct sink *s)
{
	if (!s)
		return;
#ifdef HAVE_URING
	if (s->uring)
		io_uring_queue_exit(&s->ring);
#endif
	free(s);
}
