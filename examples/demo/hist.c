/* SPDX-License-Identifier: MIT */
/* hist.c - see hist.h. Values below 64 have a bucket each. */
#include "hist.h"

#define SUB (UINT64_C(1) << HIST_SUB_BITS)

static unsigned bucket_of(uint64_t value)
{
	unsigned shift;

	if (value < SUB)
		return (unsigned)value;
	shift = 63 - HIST_SUB_BITS - (unsigned)__builtin_clzll(value);
	return (unsigned)((shift << HIST_SUB_BITS) + (value >> shift));
}

static uint64_t bucket_last(unsigned bucket)
{
	unsigned shift = bucket >> HIST_SUB_BITS;

	if (shift < 2)
		return bucket;
	shift--;
	return (((bucket - ((uint64_t)shift << HIST_SUB_BITS)) + 1) << shift) - 1;
}

static uint64_t get(const struct hist *h, unsigned i)
{
	return atomic_load_explicit(&h->counts[i], memory_order_relaxed);
}

static void set(struct hist *h, unsigned i, uint64_t n)
{
	atomic_store_explicit(&h->counts[i], n, memory_order_relaxed);
}

void hist_add(struct hist *h, uint64_t value)
{
	unsigned i = bucket_of(value);

	set(h, i, get(h, i) + 1); /* a single writer needs no more */
}

void hist_merge(struct hist *to, const struct hist *from)
{
	unsigned i;

	for (i = 0; i < HIST_BUCKETS; i++)
		set(to, i, get(to, i) + get(from, i));
}

void hist_take_off(struct hist *to, const struct hist *from)
{
	unsigned i;

	for (i = 0; i < HIST_BUCKETS; i++)
		set(to, i, get(to, i) - get(from, i));
}

uint64_t hist_total(const struct hist *h)
{
	uint64_t sum = 0;
	unsigned i;

	for (i = 0; i < HIST_BUCKETS; i++)
		sum += get(h, i);
	return sum;
}

uint64_t hist_quantile(const struct hist *h, double q)
{
	double want = q * (double)hist_total(h);
	uint64_t seen = 0;
	unsigned i;

	for (i = 0; i < HIST_BUCKETS; i++) {
		seen += get(h, i);
		if (seen && (double)seen >= want)
			return bucket_last(i);
	}
	return 0;
}
