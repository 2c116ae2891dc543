/* SPDX-License-Identifier: MIT */
/*
 * item.h - what the harness writes into an item and demands of it again: who,
 * which lane, which number, a check of the three, and a mark in every 32 bytes, so
 * that an item mixed from two is seen. A few stores and compares, the same for all.
 */
#ifndef BENCH_ITEM_H
#define BENCH_ITEM_H

#include <stddef.h>
#include <stdint.h>

#define ITEM_SIZE_MIN   16
#define ITEM_MARK_FIRST 24 /* offset of the first mark */
#define ITEM_MARK_STEP  32

struct item {
	uint64_t seq; /* of this producer, over all lanes: 0, 1, 2 ... */
	uint16_t producer, lane;
	uint32_t check;
	uint64_t rest[]; /* words from offset 16 on */
};

static inline uint32_t item_mix(uint64_t seq)
{
	return (uint32_t)((seq + 1) * UINT64_C(0x9e3779b97f4a7c15) >> 32);
}

static inline uint32_t item_check(uint64_t seq, int producer, int lane)
{
	return item_mix(seq) + (uint32_t)producer * 256 + (uint32_t)lane;
}

static inline void item_fill(struct item *it, size_t size, uint64_t seq, int producer,
			     int lane)
{
	size_t off;

	it->seq = seq;
	it->producer = (uint16_t)producer;
	it->lane = (uint16_t)lane;
	it->check = item_check(seq, producer, lane);
	for (off = ITEM_MARK_FIRST; off < size; off += ITEM_MARK_STEP)
		it->rest[off / 8 - 2] = seq + off;
}

static inline int item_intact(const struct item *it, size_t size)
{
	uint64_t wrong = it->check ^ item_check(it->seq, it->producer, it->lane);
	size_t off;

	for (off = ITEM_MARK_FIRST; off < size; off += ITEM_MARK_STEP)
		wrong |= it->rest[off / 8 - 2] ^ (it->seq + off);
	return !wrong;
}

#endif
