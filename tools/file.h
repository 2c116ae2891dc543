/* SPDX-License-Identifier: MIT */
/*
 * file.h - messages in a file: written by shmq-dump and shmq-drain, read by
 * shmq-restore. The format is described in shmq-file(5).
 *
 * A file is a head, blocks of messages, and an end. Each of them carries a checksum, so
 * that damage is found and named by its offset, and a file that was not finished is known
 * by its missing end.
 */
#ifndef SHMQ_FILE_H
#define SHMQ_FILE_H

#include "tool.h"

#define FILE_LANE_NAME 16

struct file_lane {
	char name[FILE_LANE_NAME];
	uint64_t capacity;
};

/* All numbers are little-endian, as in a queue. */
struct file_head {
	char magic[8]; /* FILE_MAGIC */
	uint32_t bytes; /* of the head */
	uint32_t nr_lanes;
	uint64_t item_size;
	uint64_t created_ns; /* CLOCK_REALTIME */
	char queue[256];
	struct file_lane lanes[SHMQ_MAX_LANES];
	uint64_t hash; /* XXH3 of what is before it */
};
#define FILE_MAGIC "\x7fSHMQD1\n"

struct file_block {
	char magic[4]; /* FILE_BLOCK, or FILE_END behind the last one */
	uint32_t bytes; /* of the records that follow */
	uint32_t nr;    /* of them */
	uint32_t zero;
	uint64_t before; /* messages in the blocks before it */
	uint64_t hash;   /* XXH3 of the block with this field 0, records included */
};
#define FILE_BLOCK "BLCK"
#define FILE_END "END."

struct file_record {
	uint32_t len;
	uint16_t lane;
	uint16_t attempts; /* as shmq_info has it */
	/* the message, and zeros up to a multiple of 8 */
};

enum { FILE_BLOCK_MAX = 1 << 20 }; /* bytes of records, unless a single one is longer */

/* ---- writing ---- */

struct file_writer {
	const char *path; /* for words */
	struct sink *sink;
	char *block[2]; /* one is filled while the other is written */
	size_t used;    /* of block[at], its head included */
	int at;
	uint32_t nr;
	uint64_t messages, bytes; /* in all; bytes of the file */
};

/* Begin a file of @st in @sink. Exit codes. */
int file_begin(struct file_writer *w, struct sink *sink, const char *path,
	       const struct shmq_stat *st);
/* Is the block so full that it should be written before a message of @len bytes? */
bool file_full(const struct file_writer *w, size_t len);
void file_add(struct file_writer *w, const void *buf, const struct shmq_info *info);
/* Write the block out and begin another; with @sync onto the disk. What was written before
 * is done when this returns, this block only after sink_wait(). */
int file_flush(struct file_writer *w, bool sync);
/* The last block, the end, and onto the disk. */
int file_end(struct file_writer *w, bool sync);
void file_free(struct file_writer *w);

/* ---- reading ---- */

struct file_reader {
	const char *path;
	int fd;
	bool partial;
	struct file_head head;
	uint64_t offset;  /* of the next block */
	uint64_t messages; /* before it */
	bool ended;
	char *records;
	size_t bytes, room, at; /* of the records of this block, and the next one */
	uint32_t left;
};

/* Read and check the head. @partial: an end is not missed aloud. Exit codes. */
int file_open(struct file_reader *r, int fd, const char *path, bool partial);
/*
 * The next message: 0, and *@info and *@buf, which is good until the next call; -1 the
 * file has ended as it should; else an exit code. EX_NOINPUT: it ends without an end.
 */
int file_next(struct file_reader *r, struct shmq_info *info, const void **buf);
void file_close(struct file_reader *r);

/* ---- where blocks go ---- */

struct sink;

/* A sink that writes to @fd. With io_uring if there is one and SHMQ_URING is not 0. */
int sink_open(struct sink **out, int fd, const char *path);
/* "io_uring" or "pwrite". */
const char *sink_engine(const struct sink *s);
/* Write @len bytes behind what was written, and with @sync have them on the disk. @buf stays
 * as it is until the next call of sink_put() or sink_wait(), which waits for it. */
int sink_put(struct sink *s, const void *buf, size_t len, bool sync);
int sink_wait(struct sink *s);
/* Bytes that are as they should be, on the disk if that was asked for. */
uint64_t sink_whole(const struct sink *s);
/* Cut a file back to what was whole when sink_wait() last said so. */
void sink_cut(struct sink *s);
void sink_close(struct sink *s);

#endif
