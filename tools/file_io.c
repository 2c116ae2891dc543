/* SPDX-License-Identifier: MIT */
/* file_io.c - see file_io.h. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>
#ifdef HAVE_URING
#include <liburing.h>
#endif

#include "file_io.h"
#include "tool.h"

/* Buffers of a sink: enough that a disk has work while one is filled. */
enum { BUFFERS = 4 };

enum { SYNC = BUFFERS }; /* user_data of an fdatasync; of a write: its buffer */

struct ring {
	bool on;
#ifdef HAVE_URING
	struct io_uring uring;
#endif
};

/* A filter may allow to make a ring and not to use it: one empty round shows that. */
static void ring_open(struct ring *r)
{
	r->on = false;
#ifdef HAVE_URING
	const char *env = getenv("SHMQ_URING");
	struct io_uring_cqe *cqe;

	if ((env && !strcmp(env, "0")) || io_uring_queue_init(BUFFERS + 1, &r->uring, 0) < 0)
		return;
	io_uring_prep_nop(io_uring_get_sqe(&r->uring));
	if (io_uring_submit_and_wait(&r->uring, 1) < 0 || io_uring_peek_cqe(&r->uring, &cqe) < 0) {
		io_uring_queue_exit(&r->uring);
		return;
	}
	io_uring_cqe_seen(&r->uring, cqe);
	r->on = true;
#endif
}

static void ring_close(struct ring *r)
{
#ifdef HAVE_URING
	if (r->on)
		io_uring_queue_exit(&r->uring);
#endif
	r->on = false;
}

static const char *ring_name(const struct ring *r, const char *otherwise)
{
	return r->on ? "io_uring" : otherwise;
}

#ifdef HAVE_URING
/* A ring has room for all that these files ask of it at a time. */
static struct io_uring_sqe *ring_sqe(struct ring *r)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&r->uring);

	if (!sqe)
		abort();
	return sqe;
}

/* To a worker of the kernel: data in the page cache would be copied here and now. */
static void ring_submit(struct ring *r, struct io_uring_sqe *sqe, unsigned tag)
{
	sqe->flags |= IOSQE_ASYNC;
	sqe->user_data = tag;
	while (io_uring_submit(&r->uring) < 0)
		;
}

/* One completion: 0; -EAGAIN there is none; -EINTR. */
static int ring_reap(struct ring *r, bool wait, unsigned *tag, int *res)
{
	struct io_uring_cqe *cqe;
	int e = wait ? io_uring_wait_cqe(&r->uring, &cqe) : io_uring_peek_cqe(&r->uring, &cqe);

	if (e < 0)
		return e;
	*tag = (unsigned)cqe->user_data;
	*res = cqe->res;
	io_uring_cqe_seen(&r->uring, cqe);
	return 0;
}
#endif

/* ---- writing ---- */

struct buffer {
	char *data;
	uint64_t begin, end; /* of it, in bytes since the sink was opened */
	bool busy;
};

struct sink {
	int fd;
	const char *path;
	size_t room;
	bool disk;   /* a regular file: has one below it, and can be cut */
	bool seeks;  /* buffers are written to their places; else one after the other */
	off_t base;  /* where the file was when the sink was opened */
	struct ring ring;
	bool fixed;  /* the kernel has the buffers at hand */
	struct buffer buffers[BUFFERS];
	unsigned filling, next; /* the one that the caller fills; oldest not yet begun */
	unsigned flying;        /* what the ring has under way */
	uint64_t put, written, safe; /* bytes: taken, the kernel's, safe */
	uint64_t syncing; /* bytes safe when the fdatasync under way has ended; or 0 */
	int rc;      /* of the first failure */
};

int sink_open(struct sink **out, int fd, const char *path, size_t room)
{
	struct sink *s = calloc(1, sizeof(*s));
	struct iovec iov[BUFFERS];
	struct stat st;
	int flags = fcntl(fd, F_GETFL);

	if (!s)
		return tool_fail(-ENOMEM, "memory for a file", NULL);
	*s = (struct sink){.fd = fd, .path = path, .room = (room + 4095) & ~(size_t)4095};
	s->disk = !fstat(fd, &st) && S_ISREG(st.st_mode);
	s->seeks = s->disk && flags >= 0 && !(flags & O_APPEND);
	s->base = s->disk ? lseek(fd, 0, flags & O_APPEND ? SEEK_END : SEEK_CUR) : 0;
	for (int i = 0; i < BUFFERS; i++) {
		void *p;

		if (posix_memalign(&p, 4096, s->room)) {
			sink_close(s);
			return tool_fail(-ENOMEM, "memory for a file", NULL);
		}
		s->buffers[i].data = p;
		iov[i] = (struct iovec){p, s->room};
	}
	ring_open(&s->ring);
#ifdef HAVE_URING
	/* Pinned memory is limited (ulimit -l): it goes without as well. */
	s->fixed = s->ring.on && io_uring_register_buffers(&s->ring.uring, iov, BUFFERS) == 0;
#else
	(void)iov;
#endif
	*out = s;
	return 0;
}

const char *sink_engine(const struct sink *s)
{
	return ring_name(&s->ring, "pwrite");
}

static void failed(struct sink *s, int err, const char *what)
{
	if (!s->rc) {
		tool_error("%s: %s%s", s->path, what, strerror(err));
		s->rc = EX_IOERR;
	}
}

/* What the kernel left of a buffer, by hand. */
static void finish(struct sink *s, const struct buffer *b, size_t done)
{
	size_t len = (size_t)(b->end - b->begin);

	while (done < len && !s->rc) {
		const char *at = b->data + done;
		ssize_t n = s->seeks ? pwrite(s->fd, at, len - done,
					      s->base + (off_t)(b->begin + done)) :
			    write(s->fd, at, len - done);

		if (n >= 0)
			done += (size_t)n;
		else if (errno != EINTR)
			failed(s, errno, "");
		else if (tool_signal && !s->disk)
			s->rc = 128 + tool_signal; /* nobody may be reading any more */
	}
}

static void to_disk(struct sink *s, uint64_t upto)
{
	if (fdatasync(s->fd) < 0)
		failed(s, errno, "cannot be put onto the disk: ");
	else
		s->safe = upto;
}

/* Bytes up to the first buffer that is not written are written. */
static void advance(struct sink *s)
{
	uint64_t upto = s->put;

	for (int i = 0; i < BUFFERS; i++)
		if (s->buffers[i].busy && s->buffers[i].begin < upto)
			upto = s->buffers[i].begin;
	s->written = upto;
	if (!s->disk && !s->rc)
		s->safe = upto;
}

#ifdef HAVE_URING
static void submit_write(struct sink *s, unsigned i)
{
	const struct buffer *b = &s->buffers[i];
	struct io_uring_sqe *sqe = ring_sqe(&s->ring);
	uint64_t at = s->seeks ? (uint64_t)s->base + b->begin : (uint64_t)-1;
	unsigned len = (unsigned)(b->end - b->begin);

	if (s->fixed)
		io_uring_prep_write_fixed(sqe, s->fd, b->data, len, at, (int)i);
	else
		io_uring_prep_write(sqe, s->fd, b->data, len, at);
	ring_submit(&s->ring, sqe, i);
	s->flying++;
}

static void submit_sync(struct sink *s)
{
	struct io_uring_sqe *sqe = ring_sqe(&s->ring);

	s->syncing = s->written;
	io_uring_prep_fsync(sqe, s->fd, IORING_FSYNC_DATASYNC);
	ring_submit(&s->ring, sqe, SYNC);
	s->flying++;
}

/* Begin what can be begun. */
static void proceed(struct sink *s)
{
	while (s->next != s->filling && !s->rc &&
	       (s->seeks || s->buffers[s->next].begin == s->written)) {
		submit_write(s, s->next);
		s->next = (s->next + 1) % BUFFERS;
	}
	if (s->disk && !s->syncing && s->safe < s->written && !s->rc)
		submit_sync(s);
}

/* One thing that has ended: false there is none. */
static bool reap(struct sink *s, bool wait)
{
	unsigned tag;
	int res, e;

	if (!s->flying)
		return false;
	do
		e = ring_reap(&s->ring, wait, &tag, &res);
	while (e == -EINTR && !(tool_signal && !s->disk));
	if (e == -EINTR)
		s->rc = 128 + tool_signal; /* nobody may be reading any more */
	if (e < 0)
		return false;
	s->flying--;
	if (tag == SYNC) {
		if (res == -EINTR || res == -EAGAIN || res == -ECANCELED)
			to_disk(s, s->syncing);
		else if (res < 0)
			failed(s, -res, "cannot be put onto the disk: ");
		else
			s->safe = s->syncing;
		s->syncing = 0;
	} else {
		if (res < 0 && res != -EINTR && res != -EAGAIN)
			failed(s, -res, "");
		finish(s, &s->buffers[tag], res > 0 ? (size_t)res : 0);
		s->buffers[tag].busy = false;
		advance(s);
	}
	proceed(s);
	return true;
}
#else
static bool reap(struct sink *s, bool wait)
{
	(void)s;
	(void)wait;
	return false; /* each call did all its work */
}
#endif

int sink_look(struct sink *s)
{
	while (reap(s, false))
		;
	return s->rc;
}

int sink_wait(struct sink *s)
{
	uint64_t before = s->safe;

	while (!s->rc && s->safe == before && reap(s, true))
		;
	return s->rc;
}

void *sink_buffer(struct sink *s)
{
	while (s->buffers[s->filling].busy && !s->rc)
		reap(s, true);
	return s->rc ? NULL : s->buffers[s->filling].data;
}

int sink_put(struct sink *s, size_t len)
{
	struct buffer *b = &s->buffers[s->filling];

	if (s->rc)
		return s->rc;
	b->begin = s->put;
	b->end = s->put += len;
	s->filling = (s->filling + 1) % BUFFERS;
#ifdef HAVE_URING
	if (s->ring.on) {
		b->busy = true;
		proceed(s);
		return sink_look(s);
	}
#endif
	finish(s, b, 0);
	advance(s);
	if (s->disk && !s->rc)
		to_disk(s, s->written);
	return s->rc;
}

int sink_finish(struct sink *s)
{
	while (!s->rc && reap(s, true))
		;
	if (s->seeks && lseek(s->fd, s->base + (off_t)s->put, SEEK_SET) < 0)
		failed(s, errno, "");
	return s->rc;
}

uint64_t sink_safe(const struct sink *s)
{
	return s->safe;
}

void sink_cut(struct sink *s)
{
	while (s->disk && reap(s, true))
		;
	if (s->disk && ftruncate(s->fd, s->base + (off_t)s->safe) < 0)
		tool_error("%s: cannot be cut to what is whole: %s", s->path, strerror(errno));
}

void sink_close(struct sink *s)
{
	if (!s)
		return;
	ring_close(&s->ring);
	for (int i = 0; i < BUFFERS; i++)
		free(s->buffers[i].data);
	free(s);
}

/* ---- reading ---- */

struct source {
	int fd;
	bool seeks;
	off_t base, at; /* where it was, and where the next byte is */
	char *buf;
	size_t len;
	struct ring ring;
};

int source_open(struct source **out, int fd)
{
	struct source *s = calloc(1, sizeof(*s));
	struct stat st;

	if (!s)
		return tool_fail(-ENOMEM, "memory for a file", NULL);
	*s = (struct source){.fd = fd};
	s->seeks = !fstat(fd, &st) && S_ISREG(st.st_mode);
	s->base = s->at = s->seeks ? lseek(fd, 0, SEEK_CUR) : 0;
	ring_open(&s->ring);
	*out = s;
	return 0;
}

const char *source_engine(const struct source *s)
{
	return ring_name(&s->ring, "pread");
}

void source_read(struct source *s, void *buf, size_t len)
{
	s->buf = buf;
	s->len = len;
#ifdef HAVE_URING
	if (s->ring.on) {
		struct io_uring_sqe *sqe = ring_sqe(&s->ring);

		io_uring_prep_read(sqe, s->fd, buf, (unsigned)len,
				   s->seeks ? (uint64_t)s->at : (uint64_t)-1);
		ring_submit(&s->ring, sqe, 0);
	}
#endif
}

ssize_t source_wait(struct source *s)
{
	size_t done = 0;

#ifdef HAVE_URING
	if (s->ring.on) {
		unsigned tag;
		int res, e;

		do
			e = ring_reap(&s->ring, true, &tag, &res);
		while (e == -EINTR && !(tool_signal && !s->seeks));
		if (e < 0)
			return e;
		if (res < 0 && res != -EINTR && res != -EAGAIN)
			return res;
		done = res > 0 ? (size_t)res : 0;
	}
#endif
	while (done < s->len) { /* what is left, by hand */
		ssize_t n = s->seeks ? pread(s->fd, s->buf + done, s->len - done,
					     s->at + (off_t)done) :
			    read(s->fd, s->buf + done, s->len - done);

		if (n < 0 && errno == EINTR && !tool_signal)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		done += (size_t)n;
	}
	s->at += (off_t)done;
	return (ssize_t)done;
}

int source_rewind(struct source *s)
{
	s->at = s->base;
	return s->seeks ? 0 : -ESPIPE;
}

void source_close(struct source *s)
{
	if (!s)
		return;
	ring_close(&s->ring);
	free(s);
}
