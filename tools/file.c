/* SPDX-License-Identifier: MIT */
/* file.c - see file.h. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <xxhash.h>

#include "file.h"

_Static_assert(sizeof(struct file_head) == 8 + 4 + 4 + 8 + 8 + 256 + 8 * 24 + 8, "no holes");
_Static_assert(sizeof(struct file_block) == 32, "no holes");
_Static_assert(FILE_LANE_NAME == SHMQ_LANE_NAME_MAX + 1, "names of lanes fit");
_Static_assert(sizeof(((struct file_head *)0)->queue) > SHMQ_NAME_MAX, "and of queues");

static size_t padded(size_t len)
{
	return (len + 7) & ~(size_t)7;
}

static size_t record_bytes(size_t len)
{
	return sizeof(struct file_record) + padded(len);
}

static uint64_t head_hash(const struct file_head *h)
{
	return XXH3_64bits(h, offsetof(struct file_head, hash));
}

/* @b is followed by its records. */
static uint64_t block_hash(const struct file_block *b, const void *records)
{
	XXH3_state_t *s = XXH3_createState();
	struct file_block head = *b;
	uint64_t hash;

	if (!s)
		exit(tool_fail(-ENOMEM, "memory for a checksum", NULL));
	head.hash = 0;
	XXH3_64bits_reset(s);
	XXH3_64bits_update(s, &head, sizeof(head));
	XXH3_64bits_update(s, records, b->bytes);
	hash = XXH3_64bits_digest(s);
	XXH3_freeState(s);
	return hash;
}

/* ---- writing ---- */

int file_make(const char *path, const char *if_exists)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | (if_exists ? O_EXCL : O_TRUNC), 0600);

	if (fd < 0 && errno == EEXIST)
		tool_error("%s exists   (%s)", path, if_exists);
	else if (fd < 0)
		tool_error("%s: %s", path, strerror(errno));
	return fd;
}

size_t file_room(uint64_t item_size)
{
	return sizeof(struct file_head) + 2 * sizeof(struct file_block) + FILE_BLOCK_MAX +
	       record_bytes(item_size);
}

/* Begin a block behind @used bytes of a buffer. */
static int begin_block(struct file_writer *w, size_t used)
{
	w->buf = sink_buffer(w->sink);
	w->begin = used;
	w->used = used + sizeof(struct file_block);
	w->nr = 0;
	return w->buf ? 0 : sink_look(w->sink);
}

int file_begin(struct file_writer *w, struct sink *sink, const struct shmq_stat *st)
{
	struct file_head h = {.bytes = sizeof(h), .nr_lanes = st->nr_lanes,
			      .item_size = st->item_size};
	struct timespec now;
	int rc;

	*w = (struct file_writer){.sink = sink};
	memcpy(h.magic, FILE_MAGIC, sizeof(h.magic));
	clock_gettime(CLOCK_REALTIME, &now);
	h.created_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
	strcpy(h.queue, st->name);
	for (uint32_t i = 0; i < st->nr_lanes; i++) {
		strcpy(h.lanes[i].name, st->lanes[i].name);
		h.lanes[i].capacity = st->lanes[i].capacity;
	}
	h.hash = head_hash(&h);
	rc = begin_block(w, sizeof(h));
	if (!rc)
		memcpy(w->buf, &h, sizeof(h));
	return rc;
}

bool file_full(const struct file_writer *w, size_t len)
{
	return w->nr && w->used + record_bytes(len) >
			w->begin + sizeof(struct file_block) + FILE_BLOCK_MAX;
}

void file_add(struct file_writer *w, const void *buf, const struct shmq_info *info)
{
	char *at = w->buf + w->used;
	struct file_record r = {.len = info->len, .lane = info->lane, .attempts = info->attempts};

	memcpy(at, &r, sizeof(r));
	memcpy(at + sizeof(r), buf, info->len);
	memset(at + sizeof(r) + info->len, 0, padded(info->len) - info->len);
	w->used += record_bytes(info->len);
	w->nr++;
}

static void end_block(struct file_writer *w, const char *magic)
{
	char *block = w->buf + w->begin;
	struct file_block b = {.bytes = (uint32_t)(w->used - w->begin - sizeof(b)), .nr = w->nr,
			       .before = w->messages};

	memcpy(b.magic, magic, sizeof(b.magic));
	b.hash = block_hash(&b, block + sizeof(b));
	memcpy(block, &b, sizeof(b));
	w->messages += w->nr;
}

int file_flush(struct file_writer *w)
{
	int rc;

	if (!w->nr)
		return 0;
	end_block(w, FILE_BLOCK);
	w->bytes += w->used;
	rc = sink_put(w->sink, w->used);
	return rc ? rc : begin_block(w, 0);
}

int file_end(struct file_writer *w)
{
	int rc;

	if (w->nr) {
		end_block(w, FILE_BLOCK);
		w->begin = w->used;
		w->used += sizeof(struct file_block);
		w->nr = 0;
	}
	end_block(w, FILE_END);
	w->bytes += w->used;
	rc = sink_put(w->sink, w->used);
	return rc ? rc : sink_finish(w->sink);
}

/* ---- reading ---- */

static int damaged(const struct file_reader *r, const char *what)
{
	tool_error("%s: damaged at byte %ju: %s; the %ju messages before it are whole", r->path,
		   (uintmax_t)r->offset, what, (uintmax_t)r->messages);
	return EX_DATAERR;
}

static int unfinished(const struct file_reader *r)
{
	if (!r->partial)
		tool_error("%s: ends at byte %ju without an end: it was cut, or its writer was "
			   "killed; the %ju messages before that are whole   (take them: "
			   "--partial)", r->path, (uintmax_t)r->offset, (uintmax_t)r->messages);
	return EX_NOINPUT;
}

static int unreadable(const struct file_reader *r, ssize_t err)
{
	if (err == -EINTR && tool_signal)
		return 128 + tool_signal;
	tool_error("%s: at byte %ju: %s", r->path, (uintmax_t)r->offset, strerror((int)-err));
	return EX_IOERR;
}

static bool is_end(const struct file_block *b)
{
	return !memcmp(b->magic, FILE_END, sizeof(b->magic));
}

/* Begin to read what is behind the head of the next block: its records and another head. */
static int read_ahead(struct file_reader *r)
{
	size_t len = r->next.bytes + sizeof(r->next);
	int i = !r->in_hand;

	if (len > FILE_BLOCK_MAX + record_bytes(SHMQ_ITEM_SIZE_MAX) + sizeof(r->next))
		r->next.magic[0] = 0; /* no head */
	if (r->next_bytes < sizeof(r->next) || !r->next.magic[0])
		return 0;
	if (len > r->room[i]) {
		free(r->buf[i]);
		r->room[i] = len;
		r->buf[i] = malloc(len);
		if (!r->buf[i])
			return tool_fail(-ENOMEM, "memory for a block", NULL);
	}
	source_read(r->source, r->buf[i], len);
	return 0;
}

/* Check the next block, and take it in hand. As file_next(). */
static int next_block(struct file_reader *r)
{
	static const struct file_block zero;
	const struct file_block b = r->next;
	char *records = r->buf[!r->in_hand];
	ssize_t n;

	/* Zeros: the size of the file reached the disk, the block did not. */
	if (r->next_bytes < sizeof(b) || !memcmp(&b, &zero, sizeof(b)))
		return unfinished(r);
	if (!is_end(&b) && memcmp(b.magic, FILE_BLOCK, sizeof(b.magic)) != 0)
		return damaged(r, "no block begins there");
	if (b.zero || b.before != r->messages || is_end(&b) != !b.nr || (is_end(&b) && b.bytes))
		return damaged(r, "the head of the block is not as it was written");
	n = source_wait(r->source);
	if (n < 0)
		return unreadable(r, n);
	if (n < (ssize_t)b.bytes)
		return unfinished(r);
	if (b.hash != block_hash(&b, records))
		return damaged(r, "the checksum of the block is wrong");
	r->offset += sizeof(b) + b.bytes;
	if (is_end(&b)) {
		r->ended = true;
		return n ? damaged(r, "something follows the end") : 0;
	}
	r->in_hand = !r->in_hand;
	r->bytes = b.bytes;
	r->at = 0;
	r->left = b.nr;
	r->next_bytes = (size_t)n - b.bytes;
	memcpy(&r->next, records + b.bytes, r->next_bytes);
	return read_ahead(r);
}

static int read_head(struct file_reader *r)
{
	struct file_head *h = &r->head;
	ssize_t n;

	r->offset = r->messages = r->left = 0;
	r->ended = false;
	source_read(r->source, h, sizeof(*h));
	n = source_wait(r->source);
	if (n < 0)
		return unreadable(r, n);
	if (!n)
		return unfinished(r);
	if (n < (ssize_t)sizeof(h->magic) || memcmp(h->magic, FILE_MAGIC, sizeof(h->magic)) != 0) {
		tool_error("%s: not a file of shmq-dump or shmq-drain", r->path);
		return EX_DATAERR;
	}
	if (n < (ssize_t)sizeof(*h))
		return unfinished(r);
	if (h->bytes != sizeof(*h) || h->hash != head_hash(h) || !h->nr_lanes ||
	    h->nr_lanes > SHMQ_MAX_LANES || h->item_size > SHMQ_ITEM_SIZE_MAX)
		return damaged(r, "the head is not as it was written");
	r->offset = sizeof(*h);
	source_read(r->source, &r->next, sizeof(r->next));
	n = source_wait(r->source);
	if (n < 0)
		return unreadable(r, n);
	r->next_bytes = (size_t)n;
	return read_ahead(r);
}

int file_open(struct file_reader *r, int fd, const char *path, bool partial)
{
	int rc;

	*r = (struct file_reader){.path = path, .partial = partial};
	rc = source_open(&r->source, fd);
	return rc ? rc : read_head(r);
}

int file_rewind(struct file_reader *r)
{
	int rc = source_rewind(r->source);

	return rc < 0 ? unreadable(r, rc) : read_head(r);
}

int file_next(struct file_reader *r, struct shmq_info *info, const void **buf)
{
	struct file_record rec;
	int rc;

	while (!r->left) {
		if (r->ended)
			return -1;
		rc = next_block(r);
		if (rc)
			return rc;
	}
	/* The checksum is right, but that does not make the writer honest. */
	if (r->bytes - r->at < sizeof(rec))
		return damaged(r, "a message is longer than its block");
	memcpy(&rec, r->buf[r->in_hand] + r->at, sizeof(rec));
	if (rec.len > r->head.item_size || rec.lane >= r->head.nr_lanes ||
	    record_bytes(rec.len) > r->bytes - r->at)
		return damaged(r, "a message is longer than its block, or of no lane");
	*info = (struct shmq_info){.len = rec.len, .lane = rec.lane, .attempts = rec.attempts};
	*buf = r->buf[r->in_hand] + r->at + sizeof(rec);
	r->at += record_bytes(rec.len);
	r->left--;
	r->messages++;
	return 0;
}

void file_close(struct file_reader *r)
{
	source_close(r->source);
	free(r->buf[0]);
	free(r->buf[1]);
}
