/* SPDX-License-Identifier: MIT */
/*
 * file_io.h - bytes to and from a disk or a pipe beside other work: some are under way
 * while the caller fills or checks the next.
 *
 * By io_uring where there is one. Where there is none, or it is refused (containers often
 * do), or SHMQ_URING=0 says so, each call does its work at once by pwrite(), fdatasync()
 * and read(). Errors are printed; what returns an int returns an exit code.
 */
#ifndef SHMQ_FILE_IO_H
#define SHMQ_FILE_IO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- writing ---- */

struct sink;

/*
 * A sink for @fd with buffers of @room bytes. Bytes are safe when they are on the disk: one
 * fdatasync follows the other, each for all that was written when it began. There is no
 * disk behind a pipe: what it has taken is safe.
 */
int sink_open(struct sink **out, int fd, const char *path, size_t room);
/* "io_uring" or "pwrite", as -v says it. */
const char *sink_engine(const struct sink *s);
/* A buffer to fill; waits until one is free. NULL: writing failed, as the next call says. */
void *sink_buffer(struct sink *s);
/* Write @len bytes of that buffer behind what was written before. */
int sink_put(struct sink *s, size_t len);
/* What has finished, without waiting for more. */
int sink_look(struct sink *s);
/* Wait until more bytes are safe than before, or all. */
int sink_wait(struct sink *s);
/* Wait until all bytes are safe. */
int sink_finish(struct sink *s);
/* Bytes from the beginning that are safe. */
uint64_t sink_safe(const struct sink *s);
/* After a failure: wait for what is under way, cut a file behind what is safe. */
void sink_cut(struct sink *s);
void sink_close(struct sink *s);

/* ---- reading ---- */

struct source;

int source_open(struct source **out, int fd);
const char *source_engine(const struct source *s);
/* Begin to read @len bytes into @buf, which stay the source's until source_wait(). */
void source_read(struct source *s, void *buf, size_t len);
/* How many there were: less than asked for only at the end. Or -errno. */
ssize_t source_wait(struct source *s);
/* Go back to the beginning. */
int source_rewind(struct source *s);
void source_close(struct source *s);

#endif
