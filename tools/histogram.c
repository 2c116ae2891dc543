/* SPDX-License-Identifier: MIT */
/* histogram.c - see histogram.h. */
#include "histogram.h"

#include <math.h>

enum { SUB = 1 << HISTOGRAM_SUB_BITS };

static unsigned bucket_of(uint64_t v)
{
	unsigned shift;

	if (v < SUB)
		return (unsigned)v;
	shift = 63 - (unsigned)__builtin_clzll(v) - HISTOGRAM_SUB_BITS;
	return ((shift + 1) << HISTOGRAM_SUB_BITS) + (unsigned)(v >> shift) - SUB;
}

static uint64_t bucket_low(unsigned b)
{
	unsigned shift = (b >> HISTOGRAM_SUB_BITS) - 1;

	if (b < SUB)
		return b;
	return (uint64_t)(SUB + (b & (SUB - 1))) << shift;
}

/* The largest value of the bucket that ever came. */
static uint64_t bucket_high(const struct histogram *h, unsigned b)
{
	uint64_t high = b + 1 < HISTOGRAM_BUCKETS ? bucket_low(b + 1) - 1 : UINT64_MAX;

	return high < h->max ? high : h->max;
}

void histogram_add(struct histogram *h, uint64_t value)
{
	h->count[bucket_of(value)]++;
	h->total++;
	if (value > h->max)
		h->max = value;
}

void histogram_merge(struct histogram *to, const struct histogram *from)
{
	for (unsigned b = 0; b < HISTOGRAM_BUCKETS; b++)
		to->count[b] += from->count[b];
	to->total += from->total;
	if (from->max > to->max)
		to->max = from->max;
}

static uint64_t at_rank(const struct histogram *h, uint64_t rank, uint64_t *n)
{
	unsigned b;

	*n = 0;
	for (b = 0; b < HISTOGRAM_BUCKETS; b++) {
		*n += h->count[b];
		if (*n >= rank)
			return bucket_high(h, b);
	}
	return h->max;
}

static uint64_t rank_of(const struct histogram *h, double share)
{
	uint64_t rank = (uint64_t)ceil(share * (double)h->total);

	return rank < 1 ? 1 : rank > h->total ? h->total : rank;
}

uint64_t histogram_at(const struct histogram *h, double share)
{
	uint64_t n;

	return h->total ? at_rank(h, rank_of(h, share), &n) : 0;
}

double histogram_mean(const struct histogram *h)
{
	double sum = 0;

	for (unsigned b = 0; b < HISTOGRAM_BUCKETS; b++)
		if (h->count[b])
			sum += (double)h->count[b] *
			       ((double)bucket_low(b) + (double)bucket_high(h, b)) / 2;
	return h->total ? sum / (double)h->total : 0;
}

void histogram_each(const struct histogram *h,
		    void (*fn)(void *arg, double share, uint64_t value, uint64_t n), void *arg)
{
	double share = 0, left = 1;
	uint64_t n = 0, value;

	while (h->total && n < h->total) {
		for (int i = 0; i < 5 && n < h->total; i++) {
			value = at_rank(h, rank_of(h, share), &n);
			fn(arg, share, value, n);
			share += left / 10;
		}
		left /= 2;
		share = 1 - left;
	}
	if (h->total)
		fn(arg, 1, h->max, h->total);
}

static void print_line(void *f, double share, uint64_t value, uint64_t n)
{
	fprintf(f, "%12.3f %2.12f %10llu", (double)value / 1e3, share, (unsigned long long)n);
	if (share < 1)
		fprintf(f, " %14.2f", 1 / (1 - share));
	fputc('\n', f);
}

void histogram_print(const struct histogram *h, FILE *f)
{
	double mean = histogram_mean(h), square = 0;

	for (unsigned b = 0; b < HISTOGRAM_BUCKETS; b++) {
		double d = ((double)bucket_low(b) + (double)bucket_high(h, b)) / 2 - mean;

		if (h->count[b])
			square += (double)h->count[b] * d * d;
	}
	fprintf(f, "%12s %14s %10s %14s\n\n", "Value", "Percentile", "TotalCount",
		"1/(1-Percentile)");
	histogram_each(h, print_line, f);
	fprintf(f, "#[Mean    = %12.3f, StdDeviation   = %12.3f]\n", mean / 1e3,
		h->total ? sqrt(square / (double)h->total) / 1e3 : 0);
	fprintf(f, "#[Max     = %12.3f, Total count    = %12llu]\n", (double)h->max / 1e3,
		(unsigned long long)h->total);
	fprintf(f, "#[Buckets = %12d, SubBuckets     = %12d]\n", 64 - HISTOGRAM_SUB_BITS + 1, SUB);
}
