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

#include "file_io.h"
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

/* A file to write to, or -1. @if_exists: advice for one that exists; NULL: replace it. */
int file_make(const char *path, const char *if_exists);

struct file_writer {
	struct sink *sink;
	char *buf;           /* the sink's, to be filled */
	size_t begin, used;  /* of the block in it; bytes in it */
	uint32_t nr;         /* messages in the block */
	uint64_t messages, bytes; /* in blocks that are put; bytes of the file with them */
};

/* Room that a buffer of a sink needs for messages of up to @item_size bytes. */
size_t file_room(uint64_t item_size);
/* Begin a file of @st in @sink. Exit codes. */
int file_begin(struct file_writer *w, struct sink *sink, const struct shmq_stat *st);
/* Is the block so full that it should be put before a message of @len bytes? */
bool file_full(const struct file_writer *w, size_t len);
void file_add(struct file_writer *w, const void *buf, const struct shmq_info *info);
/* Put the block, if there is anything in it. */
int file_flush(struct file_writer *w);
/* The last block and the end; all safe and on the disk. */
int file_end(struct file_writer *w);

/* ---- reading ---- */

struct file_reader {
	const char *path;
	bool partial;
	struct source *source;
	struct file_head head;
	uint64_t offset;   /* of the block in hand */
	uint64_t messages; /* before the next one */
	bool ended;
	char *buf[2];      /* the records of the block in hand, and of the next, which is read */
	size_t room[2];
	int in_hand;
	struct file_block next; /* its head, */
	size_t next_bytes;      /* as far as the file has it */
	size_t bytes, at;  /* of the block in hand, and where its next record is */
	uint32_t left;     /* messages in it */
};

/* Read and check the head. @partial: an end is not missed aloud. Exit codes. */
int file_open(struct file_reader *r, int fd, const char *path, bool partial);
/*
 * The next message: 0, and *@info and *@buf, which is good until the next call; -1 the
 * file has ended as it should; else an exit code. EX_NOINPUT: it ends without an end.
 */
int file_next(struct file_reader *r, struct shmq_info *info, const void **buf);
/* From the beginning again. */
int file_rewind(struct file_reader *r);
void file_close(struct file_reader *r);

#endif
