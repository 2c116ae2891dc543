/* SPDX-License-Identifier: MIT */
/*
 * item.h - what the harness writes into an item and demands of it again: who,
 * which lane, which number, a check of the three, and a mark in every 32 bytes, so
 * that an item mixed from two is seen. A few stores and compares, the same for all.
 *
 *   offset 0   number of the item, of this producer, over all lanes: 0, 1, 2 ...
 *          8   producer (16 bits), lane (16 bits), check (32 bits)
 *         16   when it was pushed, where that is measured
 *         24   mark, and then one every 32 bytes
 *
 * An item of 8 bytes has all of it in one word: 39 bits of the number, 6 of the
 * producer, 3 of the lane, 16 of the check.
 */
#ifndef BENCH_ITEM_H
#define BENCH_ITEM_H

#include <stddef.h>
#include <stdint.h>

#define ITEM_SIZE_MIN   8
#define ITEM_SIZE_STAMP 24 /* the least that has room for the time */
#define ITEM_MARK_FIRST 24 /* offset of the first mark */
#define ITEM_MARK_STEP  32

struct item {
	uint64_t seq;
	uint16_t producer, lane;
	uint32_t check;
	uint64_t rest[]; /* words from offset 16 on */
};

struct item_id {
	uint64_t seq;
	unsigned producer, lane;
};

static inline uint32_t item_mix(uint64_t seq)
{
	return (uint32_t)((seq + 1) * UINT64_C(0x9e3779b97f4a7c15) >> 32);
}

static inline uint32_t item_check(uint64_t seq, unsigned producer, unsigned lane)
{
	return item_mix(seq) + producer * 256 + lane;
}

static inline void item_fill(void *to, size_t size, uint64_t seq, unsigned producer,
			     unsigned lane)
{
	struct item *it = to;
	size_t off;

	if (size == 8) {
		it->seq = seq << 25 | (uint64_t)producer << 19 | (uint64_t)lane << 16 |
			  (item_check(seq, producer, lane) & 0xffff);
		return;
	}
	it->seq = seq;
	it->producer = (uint16_t)producer;
	it->lane = (uint16_t)lane;
	it->check = item_check(seq, producer, lane);
	for (off = ITEM_MARK_FIRST; off < size; off += ITEM_MARK_STEP)
		it->rest[off / 8 - 2] = seq + off;
}

/* Whether @from is intact; what it says to *@id. */
static inline int item_read(const void *from, size_t size, struct item_id *id)
{
	const struct item *it = from;
	uint64_t wrong;
	size_t off;

	if (size == 8) {
		id->seq = it->seq >> 25;
		id->producer = it->seq >> 19 & 63;
		id->lane = it->seq >> 16 & 7;
		return (it->seq & 0xffff) ==
		       (item_check(id->seq, id->producer, id->lane) & 0xffff);
	}
	id->seq = it->seq;
	id->producer = it->producer;
	id->lane = it->lane;
	wrong = it->check ^ item_check(id->seq, id->producer, id->lane);
	for (off = ITEM_MARK_FIRST; off < size; off += ITEM_MARK_STEP)
		wrong |= it->rest[off / 8 - 2] ^ (it->seq + off);
	return !wrong;
}

static inline void item_stamp(void *to, uint64_t ns)
{
	((struct item *)to)->rest[0] = ns;
}

static inline uint64_t item_stamped(const void *from)
{
	return ((const struct item *)from)->rest[0];
}

#endif
