/* SPDX-License-Identifier: MIT */
/* file.c - see file.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
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

int file_begin(struct file_writer *w, struct sink *sink, const char *path,
	       const struct shmq_stat *st)
{
	struct file_head h = {.bytes = sizeof(h), .nr_lanes = st->nr_lanes,
			      .item_size = st->item_size};
	size_t room = sizeof(struct file_block) + FILE_BLOCK_MAX + record_bytes(st->item_size);
	struct timespec now;
	int rc;

	*w = (struct file_writer){.path = path, .sink = sink, .used = sizeof(struct file_block)};
	for (int i = 0; i < 2; i++)
		if (posix_memalign((void **)&w->block[i], 4096, padded(room)))
			return tool_fail(-ENOMEM, "memory for blocks", NULL);
	memcpy(h.magic, FILE_MAGIC, sizeof(h.magic));
	clock_gettime(CLOCK_REALTIME, &now);
	h.created_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
	strcpy(h.queue, st->name);
	for (uint32_t i = 0; i < st->nr_lanes; i++) {
		strcpy(h.lanes[i].name, st->lanes[i].name);
		h.lanes[i].capacity = st->lanes[i].capacity;
	}
	h.hash = head_hash(&h);
	rc = sink_put(sink, &h, sizeof(h), false);
	w->bytes = sizeof(h);
	return rc ? rc : sink_wait(sink);
}

bool file_full(const struct file_writer *w, size_t len)
{
	return w->nr && w->used + record_bytes(len) > sizeof(struct file_block) + FILE_BLOCK_MAX;
}

void file_add(struct file_writer *w, const void *buf, const struct shmq_info *info)
{
	char *at = w->block[w->at] + w->used;
	struct file_record r = {.len = info->len, .lane = info->lane, .attempts = info->attempts};

	memcpy(at, &r, sizeof(r));
	memcpy(at + sizeof(r), buf, info->len);
	memset(at + sizeof(r) + info->len, 0, padded(info->len) - info->len);
	w->used += record_bytes(info->len);
	w->nr++;
}

static int put(struct file_writer *w, const char *magic, bool sync)
{
	char *block = w->block[w->at];
	struct file_block b = {.bytes = (uint32_t)(w->used - sizeof(b)), .nr = w->nr,
			       .before = w->messages};
	int rc;

	memcpy(b.magic, magic, sizeof(b.magic));
	b.hash = block_hash(&b, block + sizeof(b));
	memcpy(block, &b, sizeof(b));
	rc = sink_put(w->sink, block, w->used, sync);
	w->messages += w->nr;
	w->bytes += w->used;
	w->at = !w->at;
	w->used = sizeof(b);
	w->nr = 0;
	return rc;
}

int file_flush(struct file_writer *w, bool sync)
{
	return w->nr ? put(w, FILE_BLOCK, sync) : sink_wait(w->sink);
}

int file_end(struct file_writer *w, bool sync)
{
	int rc = file_flush(w, false);

	if (!rc)
		rc = put(w, FILE_END, sync);
	return rc ? rc : sink_wait(w->sink);
}

void file_free(struct file_writer *w)
{
	free(w->block[0]);
	free(w->block[1]);
}

/* ---- reading ---- */

/* Read @len bytes: how many there were. */
static ssize_t get(struct file_reader *r, void *buf, size_t len)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = read(r->fd, (char *)buf + done, len - done);

		if (n < 0 && errno == EINTR && !tool_signal)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		done += (size_t)n;
	}
	return (ssize_t)done;
}

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
	tool_error("%s: at byte %ju: %s", r->path, (uintmax_t)r->offset, strerror((int)-err));
	return EX_IOERR;
}

int file_open(struct file_reader *r, int fd, const char *path, bool partial)
{
	struct file_head *h = &r->head;
	ssize_t n;

	*r = (struct file_reader){.fd = fd, .path = path, .partial = partial};
	n = get(r, h, sizeof(*h));
	if (n < 0)
		return unreadable(r, n);
	if (n < (ssize_t)sizeof(h->magic) || memcmp(h->magic, FILE_MAGIC, sizeof(h->magic)) != 0) {
		tool_error("%s: not a file of shmq-dump or shmq-drain", path);
		return EX_DATAERR;
	}
	if (n < (ssize_t)sizeof(*h))
		return unfinished(r);
	if (h->bytes != sizeof(*h) || h->hash != head_hash(h) || !h->nr_lanes ||
	    h->nr_lanes > SHMQ_MAX_LANES || h->item_size > SHMQ_ITEM_SIZE_MAX)
		return damaged(r, "the head is not as it was written");
	r->offset = sizeof(*h);
	return 0;
}

/* The next block into memory. As file_next(). */
static int next_block(struct file_reader *r)
{
	struct file_block b;
	ssize_t n = get(r, &b, sizeof(b));
	bool end;

	if (n < 0)
		return unreadable(r, n);
	if (n < (ssize_t)sizeof(b))
		return unfinished(r);
	end = !memcmp(b.magic, FILE_END, sizeof(b.magic));
	if (!end && memcmp(b.magic, FILE_BLOCK, sizeof(b.magic)) != 0)
		return damaged(r, "no block begins there");
	if (b.zero || b.bytes > FILE_BLOCK_MAX + record_bytes(SHMQ_ITEM_SIZE_MAX) ||
	    b.before != r->messages || end != !b.nr)
		return damaged(r, "the head of the block is not as it was written");
	if (b.bytes > r->room) {
		free(r->records);
		r->room = b.bytes;
		r->records = malloc(r->room);
		if (!r->records)
			return tool_fail(-ENOMEM, "memory for a block", NULL);
	}
	n = get(r, r->records, b.bytes);
	if (n < 0)
		return unreadable(r, n);
	if (n < (ssize_t)b.bytes)
		return unfinished(r);
	if (b.hash != block_hash(&b, r->records))
		return damaged(r, "the checksum of the block is wrong");
	r->offset += sizeof(b) + b.bytes;
	r->bytes = b.bytes;
	r->at = 0;
	r->left = b.nr;
	r->ended = end;
	return 0;
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
	memcpy(&rec, r->records + r->at, sizeof(rec));
	if (rec.len > r->head.item_size || rec.lane >= r->head.nr_lanes ||
	    record_bytes(rec.len) > r->bytes - r->at)
		return damaged(r, "a message is longer than its block, or of no lane");
	*info = (struct shmq_info){.len = rec.len, .lane = rec.lane, .attempts = rec.attempts};
	*buf = r->records + r->at + sizeof(rec);
	r->at += record_bytes(rec.len);
	r->left--;
	r->messages++;
	return 0;
}

void file_close(struct file_reader *r)
{
	free(r->records);
}
