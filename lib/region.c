/* SPDX-License-Identifier: MIT */
/*
 * region.c - the file of a queue: its shape, its creation, its validation.
 *
 * Invariant: a file that has a queue's name is complete. It is made without a
 * name (O_TMPFILE), backed by memory, initialised, and linked last; dying before
 * the link leaves nothing, dying after it a whole queue. A reader believes
 * nothing: the header is read once into private memory, every number is checked
 * against its range, and the size that follows must be the size of the file.
 */
#include "region.h"
#include "sys.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#define PREFIX "shmq."

static _Thread_local char detail_text[256];

int detail(int err, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	vsnprintf(detail_text, sizeof detail_text, format, ap);
	va_end(ap);
	return err;
}

void detail_clear(void)
{
	detail_text[0] = 0;
}

SHMQ_API const char *shmq_detail(void)
{
	return detail_text;
}

/* ---- names ------------------------------------------------------------------ */

static bool name_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       c == '.' || c == '_' || c == '-';
}

static int name_check(const char *name)
{
	size_t len = strlen(name), i;

	if (len == 0)
		return detail(-EINVAL, "empty name: use letters, digits, '.', '_', '-'");
	if (len > SHMQ_NAME_MAX)
		return detail(-ENAMETOOLONG, "name of %zu bytes: at most %d", len,
			      SHMQ_NAME_MAX);
	for (i = 0; i < len; i++)
		if (!name_char(name[i]))
			return detail(-EINVAL, "byte 0x%02x in the name: use letters, "
				      "digits, '.', '_', '-'", (unsigned char)name[i]);
	if (!strcmp(name, ".") || !strcmp(name, ".."))
		return detail(-EINVAL, "'%s' is not a name", name);
	return 0;
}

SHMQ_API const char *shmq_dir(void)
{
	const char *dir = getenv("SHMQ_DIR");

	return dir && *dir ? dir : "/dev/shm";
}

int region_path(char *path, size_t size, const char *name)
{
	int r, n;

	detail_clear();
	if (!name)
		return -EFAULT;
	name += name[0] == '/'; /* as mq_open() and shm_open() spell it */
	r = name_check(name);
	if (r < 0)
		return r;
	n = snprintf(path, size, "%s/" PREFIX "%s", shmq_dir(), name);
	if (n < 0 || (size_t)n >= size)
		return detail(-ENAMETOOLONG, "the path of the queue is too long");
	return 0;
}

SHMQ_API int shmq_list(int (*fn)(const char *name, void *arg), void *arg)
{
	DIR *dir;
	struct dirent *e;
	int r = 0;
	KEEP_ERRNO;
	NO_CANCEL;

	if (!fn)
		return -EFAULT;
	dir = opendir(shmq_dir());
	if (!dir)
		return -errno;
	while (r == 0 && (e = readdir(dir))) {
		const char *name = e->d_name + strlen(PREFIX);

		if (!strncmp(e->d_name, PREFIX, strlen(PREFIX)) && name_check(name) == 0)
			r = fn(name, arg);
	}
	closedir(dir);
	detail_clear();
	return r;
}

SHMQ_API int shmq_unlink(const char *name)
{
	char path[PATH_MAX];
	struct stat st;
	int r = region_path(path, sizeof path, name);
	KEEP_ERRNO;

	if (r < 0)
		return r;
	if (lstat(path, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return detail(-EBADMSG, "%s is not a regular file", path);
	return sys_unlink(path);
}

/* ---- the shape -------------------------------------------------------------- */

static uint64_t ceil_div(uint64_t a, uint64_t b)
{
	return (a + b - 1) / b;
}

static uint64_t pow2_at_least(uint64_t n)
{
	uint64_t p = 1;

	while (p < n)
		p *= 2;
	return p;
}

static uint64_t slot_bytes(uint64_t item_size)
{
	return item_size >= 64 ? ceil_div(item_size, 64) * 64 : pow2_at_least(item_size);
}

#define SPARE_MAX (1 << 20)    /* bytes of spare slots that are nothing to speak of */
#define SMALL_REGION (8 << 20) /* in a region of no more than that */
#define FEW_SLOTS 32           /* in a segment of a queue of few items, if that has twice as many */

/*
 * Slots per segment. The more, the fewer segments have to be installed: 64 slots instead
 * of 8 make a queue half as fast again. But a stopped participant pins up to three
 * segments, so that many slots are spare: about a tenth of the capacity at worst, or in
 * a small region 1 MiB. And segments are below 64 KiB, and eight or more make a full queue,
 * of less than 256 items two or more.
 */
static uint32_t choose_slots(uint64_t total, uint64_t participants, uint64_t bytes)
{
	uint64_t slot = bytes + sizeof(struct descriptor), spare = 3 * participants * slot;
	uint64_t few = total / 2 < FEW_SLOTS ? total / 2 : FEW_SLOTS;
	uint64_t most = total / 8 > few ? total / 8 : few;
	uint32_t k = SEGMENT_SLOTS_MAX;

	while (k > 8 && (k > most ||
			 (k > total / (32 * participants) &&
			  (k * spare > SPARE_MAX || k * spare + total * slot > SMALL_REGION))))
		k /= 2;
	while (k > 1 && k * bytes > 65536)
		k /= 2;
	return k;
}

/* Segments that can be in use at once: full lanes, and what participants pin. */
static uint64_t segments_needed(const struct header *h)
{
	uint64_t n = 3 * (uint64_t)h->max_participants;
	uint32_t i;

	for (i = 0; i < h->nr_lanes; i++)
		n += ceil_div(h->lanes[i].capacity, h->segment_slots) + 2;
	return n;
}

/* The window of a lane: its capacity and a batch too much of every participant. */
static uint64_t dir_needed(const struct header *h, uint32_t lane)
{
	return pow2_at_least(ceil_div(h->lanes[lane].capacity, h->segment_slots) +
			     h->max_participants + 3);
}

static uint64_t layout_hash(void)
{
	const uint64_t sizes[] = { sizeof(struct header), sizeof(struct lane),
				   sizeof(struct wakeup), sizeof(struct participant),
				   sizeof(struct segment), sizeof(struct descriptor), LINE,
				   SPREAD, offsetof(struct waitword, woken_ns) };
	uint64_t h = 14695981039346656037u; /* FNV-1a over the words */
	size_t i;

	for (i = 0; i < sizeof sizes / sizeof *sizes; i++)
		h = (h ^ sizes[i]) * 1099511628211u;
	return h;
}

static uint64_t place(uint64_t *at, uint64_t bytes, uint64_t align)
{
	uint64_t off = ceil_div(*at, align) * align;

	*at = off + bytes;
	return off;
}

/* Offsets from a header whose numbers are in range: nothing here can overflow. */
static void geometry_compute(const struct header *h, struct geometry *g)
{
	uint64_t at = sizeof(struct header), n = (uint64_t)h->nr_segments * h->segment_slots;
	uint32_t i;

	memset(g, 0, sizeof *g);
	g->item_size = h->item_size;
	g->slot_bytes = slot_bytes(h->item_size);
	g->nr_lanes = h->nr_lanes;
	g->max_participants = h->max_participants;
	g->nr_segments = h->nr_segments;
	g->flags = h->flags;
	g->max_attempts = h->max_attempts;
	g->dead_lane = h->dead_lane;
	g->slots = h->segment_slots;
	g->slots_shift = (uint32_t)__builtin_ctz(h->segment_slots);
	g->map_words = (uint32_t)ceil_div(h->nr_segments, 64);
	g->participants = place(&at, h->max_participants * sizeof(struct participant), 4096);
	g->lanes = place(&at, h->nr_lanes * sizeof(struct lane), LINE);
	g->wakeup = place(&at, sizeof(struct wakeup), LINE);
	for (i = 0; i < h->nr_lanes; i++) {
		g->capacity[i] = h->lanes[i].capacity;
		g->dir_size[i] = h->lanes[i].dir_size;
		g->dirs[i] = place(&at, g->dir_size[i] * sizeof(word_t), LINE);
		g->marks[i] = place(&at, g->map_words * sizeof(word_t), LINE);
		g->pads[i] = place(&at, g->map_words * sizeof(word_t), LINE);
	}
	g->hints = place(&at, g->map_words * sizeof(word_t), LINE);
	g->segments = place(&at, g->nr_segments * sizeof(struct segment), LINE);
	g->descriptors = place(&at, n * sizeof(struct descriptor), LINE);
	if (h->flags & SHMQ_STAMP)
		g->stamps = place(&at, n * sizeof(word_t), LINE);
	g->payload = place(&at, n * g->slot_bytes, LINE);
	g->bytes = ceil_div(at, 4096) * 4096;
}

SHMQ_API void shmq_config_init(struct shmq_config *cfg, size_t sz)
{
	struct shmq_config c = {
		.sz = sz, .nr_lanes = 3, .max_participants = 64, .item_size = 64,
		.mode = 0600, .gid = UINT32_MAX,
		.max_attempts = SHMQ_ATTEMPTS_MAX, .dead_lane = SHMQ_DROP,
		.lanes = { { "high", 10000 }, { "normal", 100000 }, { "low", 50000 } },
	};

	memset(cfg, 0, sz);
	memcpy(cfg, &c, sz < sizeof c ? sz : sizeof c);
}

static int lane_check(const struct shmq_config *c, uint32_t lane)
{
	const struct shmq_lane_config *l = &c->lanes[lane];
	size_t len = strnlen(l->name, sizeof l->name), j;
	uint32_t i;

	if (len == 0 || len > SHMQ_LANE_NAME_MAX)
		return detail(-EDOM, "lane %u: a name of 1 to %d bytes is needed", lane,
			      SHMQ_LANE_NAME_MAX);
	for (j = 0; j < len; j++)
		if (!name_char(l->name[j]))
			return detail(-EDOM, "lane %u: byte 0x%02x in the name: use letters, "
				      "digits, '.', '_', '-'", lane, (unsigned char)l->name[j]);
	for (i = 0; i < lane; i++)
		if (!strcmp(c->lanes[i].name, l->name))
			return detail(-EDOM, "two lanes are called %s", l->name);
	if (l->capacity < 1 || l->capacity > SHMQ_LANE_CAPACITY_MAX)
		return detail(-EDOM, "lane %s: capacity %llu; give 1 to %llu", l->name,
			      (unsigned long long)l->capacity,
			      (unsigned long long)SHMQ_LANE_CAPACITY_MAX);
	return 0;
}

static int config_check(const struct shmq_config *c)
{
	uint32_t i;

	if (c->nr_lanes < 1 || c->nr_lanes > SHMQ_MAX_LANES)
		return detail(-EDOM, "%u lanes; give 1 to %d", c->nr_lanes, SHMQ_MAX_LANES);
	if (c->item_size < SHMQ_ITEM_SIZE_MIN || c->item_size > SHMQ_ITEM_SIZE_MAX)
		return detail(-EDOM, "item size %llu; give %d to %d bytes",
			      (unsigned long long)c->item_size, SHMQ_ITEM_SIZE_MIN,
			      SHMQ_ITEM_SIZE_MAX);
	if (c->max_participants < 1 || c->max_participants > SHMQ_PARTICIPANTS_MAX)
		return detail(-EDOM, "%u participants; give 1 to %d", c->max_participants,
			      SHMQ_PARTICIPANTS_MAX);
	if (c->mode & ~0777u)
		return detail(-EDOM, "mode %o has more than permission bits", c->mode);
	if (c->mode & 0002)
		return detail(-EDOM, "mode %o lets everybody write; use a group", c->mode);
	if (c->flags & ~(uint32_t)(SHMQ_STAMP | SHMQ_HUGE))
		return detail(-EDOM, "unknown flags %#x", c->flags);
	if (c->reserved)
		return detail(-EDOM, "config.reserved is %u; it must be 0", c->reserved);
	if (c->max_attempts < 1 || c->max_attempts > SHMQ_ATTEMPTS_MAX)
		return detail(-EDOM, "%u attempts; give 1 to %d", c->max_attempts,
			      SHMQ_ATTEMPTS_MAX);
	if (c->dead_lane < SHMQ_DROP || c->dead_lane >= (int32_t)c->nr_lanes)
		return detail(-EDOM, "dead-letter lane %d; give 0 to %u, or SHMQ_DROP",
			      c->dead_lane, c->nr_lanes - 1);
	if (c->dead_lane >= 0 && c->nr_lanes == 1)
		return detail(-EDOM, "the dead-letter lane is the only one; add another");
	for (i = 0; i < c->nr_lanes; i++)
		if (lane_check(c, i) < 0)
			return -EDOM;
	return 0;
}

int region_plan(const struct shmq_config *cfg, uint32_t slots, struct header *h,
		struct geometry *g)
{
	struct shmq_config c;
	uint64_t total = 0, n;
	uint32_t i;

	detail_clear();
	shmq_config_init(&c, sizeof c);
	if (cfg && cfg->sz != sizeof c)
		return detail(-EDOM, "config of %zu bytes: this library knows %zu; "
			      "use shmq_config_init()", cfg->sz, sizeof c);
	if (cfg)
		c = *cfg;
	if (config_check(&c) < 0)
		return -EDOM;
	memset(h, 0, sizeof *h);
	h->magic = SHMQ_MAGIC;
	h->format_major = FORMAT_MAJOR;
	h->format_minor = FORMAT_MINOR;
	h->layout_hash = layout_hash();
	h->item_size = c.item_size;
	h->nr_lanes = c.nr_lanes;
	h->max_participants = c.max_participants;
	h->flags = c.flags;
	h->max_attempts = c.max_attempts;
	h->dead_lane = c.dead_lane;
	for (i = 0; i < c.nr_lanes; i++) {
		memcpy(h->lanes[i].name, c.lanes[i].name, sizeof h->lanes[i].name);
		h->lanes[i].capacity = c.lanes[i].capacity;
		total += c.lanes[i].capacity;
	}
	h->segment_slots = slots ? slots :
		choose_slots(total, c.max_participants, slot_bytes(c.item_size));
	n = segments_needed(h);
	if (n > SEGMENTS_MAX)
		return detail(-EDOM, "%llu items of %llu bytes need %llu segments, at most %u: "
			      "lower the capacities", (unsigned long long)total,
			      (unsigned long long)c.item_size, (unsigned long long)n, SEGMENTS_MAX);
	h->nr_segments = (uint32_t)n;
	for (i = 0; i < c.nr_lanes; i++)
		h->lanes[i].dir_size = dir_needed(h, i);
	geometry_compute(h, g);
	h->region_bytes = g->bytes;
	return 0;
}

SHMQ_API int shmq_region_size(const struct shmq_config *cfg, uint64_t *bytes)
{
	struct header h;
	struct geometry g;
	int r;

	if (!bytes)
		return -EFAULT;
	r = region_plan(cfg, 0, &h, &g);
	if (r == 0)
		*bytes = g.bytes;
	return r;
}

/* ---- creation --------------------------------------------------------------- */

/*
 * Every lane begins after segment number first_number - 1, which counts as used
 * and recycled, so that the first install needs no case of its own.
 */
static void region_fill(char *base, const struct header *h, const struct geometry *g,
			uint64_t first_number, uint64_t first_inc)
{
	struct shmq q = { .base = base, .geo = *g };
	uint32_t i;
	uint64_t j;

	for (i = 0; i < g->nr_lanes; i++) {
		struct lane *l = lane_of(&q, i);

		/* relaxed: nobody else can see the file yet. */
		atomic_store_explicit(&l->tail, first_number << g->slots_shift,
				      memory_order_relaxed);
		atomic_store_explicit(&l->head, first_number << g->slots_shift,
				      memory_order_relaxed);
		for (j = 1; j <= g->dir_size[i]; j++)
			atomic_store_explicit(dir_of(&q, i, first_number - j),
					      dir_word((first_number - j) & NUMBER_MASK, 0),
					      memory_order_relaxed);
	}
	for (i = 0; i < g->nr_segments; i++) {
		struct segment *s = segment_of(&q, i);

		atomic_store_explicit(&s->hdr, segment_word(first_inc, 0, SEGMENT_FREE),
				      memory_order_relaxed);
		atomic_store_explicit(&s->bind, bind_word(0, LANE_NONE, first_inc),
				      memory_order_relaxed);
		for (j = 0; first_inc && j < g->slots; j++)
			atomic_store_explicit(&descriptor_of(&q, slot_index(&q, i, j))->word,
					      slot_word(first_inc, 0, 0, SLOT_DONE),
					      memory_order_relaxed);
		atomic_fetch_or_explicit(hints_of(&q) + i / 64, UINT64_C(1) << i % 64,
					 memory_order_relaxed);
	}
	memcpy(base, h, sizeof *h);
}

/* A file gets its huge pages when it is first written through a mapping that asks for
 * them, on a mount that has them; else usual ones, which the kernel then makes into huge
 * ones. What they do not cover, or cannot for want of memory, fallocate() does. */
static void allocate_huge(int fd, uint64_t bytes)
{
	void *base;

	if (ftruncate(fd, (off_t)bytes) < 0 || sys_map_huge(fd, bytes, true, &base) < 0)
		return;
	sys_populate(base, bytes, true);
	sys_collapse(base, bytes);
	sys_unmap(base, bytes);
}

static int region_prepare(int fd, const struct shmq_config *cfg, struct header *h,
			  struct geometry *g, uint64_t first_number, uint64_t first_inc)
{
	struct rlimit limit;
	void *base;
	int r;

	if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur < g->bytes)
		return detail(-EFBIG, "the queue takes %llu bytes, the file size limit "
			      "(ulimit -f) is %llu", (unsigned long long)g->bytes,
			      (unsigned long long)limit.rlim_cur);
	if (h->flags & SHMQ_HUGE)
		allocate_huge(fd, g->bytes);
	r = sys_fallocate(fd, g->bytes);
	if (r < 0)
		return detail(r, "the queue takes %llu bytes of %s",
			      (unsigned long long)g->bytes, shmq_dir());
	if (cfg && cfg->gid != UINT32_MAX && fchown(fd, (uid_t)-1, cfg->gid) < 0)
		return detail(-errno, "cannot give the queue to group %u", cfg->gid);
	if (fchmod(fd, cfg ? cfg->mode : 0600) < 0)
		return -errno;
	h->creator_pid = (uint32_t)getpid();
	h->created_ns = sys_realtime_ns();
	h->nonce = sys_random();
	sys_command(h->creator);
	r = sys_map(fd, g->bytes, true, &base);
	if (r < 0)
		return r;
	region_fill(base, h, g, first_number, first_inc);
	sys_unmap(base, g->bytes);
	return 0;
}

int region_create(const char *name, const struct shmq_config *cfg, uint32_t slots,
		  uint64_t first_number, uint64_t first_inc)
{
	char path[PATH_MAX];
	struct header h;
	struct geometry g;
	struct stat st;
	int fd, r;
	KEEP_ERRNO;
	NO_CANCEL;

	r = region_path(path, sizeof path, name);
	if (r < 0)
		return r;
	r = region_plan(cfg, slots, &h, &g);
	if (r < 0)
		return r;
	if (lstat(path, &st) == 0) /* spare the work; the link below decides */
		return -EEXIST;
	fd = sys_open(shmq_dir(), O_TMPFILE | O_RDWR, 0600);
	if (fd < 0)
		return detail(fd, "cannot make a file in %s", shmq_dir());
	r = region_prepare(fd, cfg, &h, &g, first_number, first_inc);
	if (r == 0)
		r = sys_linkat(fd, path);
	sys_close(fd);
	return r;
}

SHMQ_API int shmq_create(const char *name, const struct shmq_config *cfg)
{
	return region_create(name, cfg, 0, 1, 0);
}

/* ---- validation ------------------------------------------------------------- */

static int header_check(const struct header *h, struct geometry *g, const struct stat *st)
{
	uint32_t i;

	if (h->magic != SHMQ_MAGIC)
		return detail(-EBADMSG, "the file is not a queue");
	if (h->format_major != FORMAT_MAJOR || h->layout_hash != layout_hash())
		return detail(-EPROTONOSUPPORT, "the queue has layout %u.%u (%016llx), this "
			      "library reads %u.x (%016llx)", h->format_major, h->format_minor,
			      (unsigned long long)h->layout_hash, FORMAT_MAJOR,
			      (unsigned long long)layout_hash());
	if (h->nr_lanes < 1 || h->nr_lanes > SHMQ_MAX_LANES || h->max_participants < 1 ||
	    h->max_participants > SHMQ_PARTICIPANTS_MAX || h->item_size < SHMQ_ITEM_SIZE_MIN ||
	    h->item_size > SHMQ_ITEM_SIZE_MAX || h->segment_slots < 1 ||
	    h->segment_slots > SEGMENT_SLOTS_MAX ||
	    (h->segment_slots & (h->segment_slots - 1)) || h->nr_segments > SEGMENTS_MAX ||
	    (h->flags & ~(uint32_t)(SHMQ_STAMP | SHMQ_HUGE)) || h->max_attempts < 1 ||
	    h->max_attempts > SHMQ_ATTEMPTS_MAX || h->dead_lane < SHMQ_DROP ||
	    h->dead_lane >= (int32_t)h->nr_lanes || (h->dead_lane >= 0 && h->nr_lanes == 1))
		return detail(-EBADMSG, "the header is damaged");
	for (i = 0; i < h->nr_lanes; i++) {
		const struct header_lane *l = &h->lanes[i];

		if (l->capacity < 1 || l->capacity > SHMQ_LANE_CAPACITY_MAX ||
		    l->dir_size != dir_needed(h, i) || !l->name[0] ||
		    l->name[SHMQ_LANE_NAME_MAX])
			return detail(-EBADMSG, "the header is damaged: lane %u", i);
	}
	if (h->nr_segments != segments_needed(h))
		return detail(-EBADMSG, "the header is damaged: segments");
	geometry_compute(h, g);
	if (h->region_bytes != g->bytes || (uint64_t)st->st_size != g->bytes)
		return detail(-EBADMSG, "the file has %lld bytes, the queue in it %llu",
			      (long long)st->st_size, (unsigned long long)g->bytes);
	if ((uint64_t)st->st_blocks * 512 < g->bytes)
		return detail(-EBADMSG, "the file has holes: %lld of %llu bytes are backed",
			      (long long)st->st_blocks * 512, (unsigned long long)g->bytes);
	return 0;
}

static int file_check(const struct stat *st, const char *path, unsigned flags)
{
	if (!S_ISREG(st->st_mode))
		return detail(-EBADMSG, "%s is not a regular file", path);
	if (st->st_nlink > 1)
		return detail(-EPERM, "%s has %lu links; a queue has one name", path,
			      (unsigned long)st->st_nlink);
	if (st->st_mode & 0002)
		return detail(-EPERM, "%s may be written by everybody (mode %o): "
			      "chmod o-w it if you trust it", path, st->st_mode & 0777);
	if (!(flags & (SHMQ_OBSERVE | SHMQ_ANY_OWNER)) && st->st_uid != geteuid() &&
	    st->st_uid != 0)
		return detail(-EPERM, "%s belongs to uid %u: open it with SHMQ_ANY_OWNER if "
			      "you trust that user", path, st->st_uid);
	return 0;
}

int region_open(const char *name, unsigned flags, struct header *h, struct geometry *g,
		struct stat *st)
{
	char path[PATH_MAX];
	int fd, r;

	r = region_path(path, sizeof path, name);
	if (r < 0)
		return r;
	fd = sys_open(path, (flags & SHMQ_OBSERVE ? O_RDONLY : O_RDWR) | O_NOFOLLOW | O_NONBLOCK,
		      0);
	if (fd == -ELOOP)
		return detail(-EBADMSG, "%s is a symbolic link", path);
	if (fd == -EISDIR || fd == -ENXIO)
		return detail(-EBADMSG, "%s is not a regular file", path);
	if (fd < 0)
		return fd;
	r = sys_fstat(fd, st);
	if (r == 0)
		r = file_check(st, path, flags);
	if (r == 0) {
		r = sys_read_at(fd, h, sizeof *h, 0);
		if (r == -ENODATA)
			r = detail(-EBADMSG, "the file is too short for a queue");
	}
	if (r == 0)
		r = header_check(h, g, st);
	if (r < 0) {
		sys_close(fd);
		return r;
	}
	return fd;
}
