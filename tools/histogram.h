/* SPDX-License-Identifier: MIT */
/*
 * histogram.h - counts of nanoseconds in buckets whose width grows with the value.
 *
 * Log-linear, as Gil Tene's HdrHistogram: each power of two is cut into 64 buckets of
 * equal width, so that a value is known to 1/64 of itself and the whole range of 64 bits
 * takes 30 KiB. One writer; it holds no pointers, so it may lie in shared memory.
 */
#ifndef SHMQ_HISTOGRAM_H
#define SHMQ_HISTOGRAM_H

#include <stdint.h>
#include <stdio.h>

#define HISTOGRAM_SUB_BITS 6
#define HISTOGRAM_BUCKETS ((64 - HISTOGRAM_SUB_BITS + 1) << HISTOGRAM_SUB_BITS)

struct histogram {
	uint64_t total, max;
	uint64_t count[HISTOGRAM_BUCKETS];
};

void histogram_add(struct histogram *h, uint64_t value);
void histogram_merge(struct histogram *to, const struct histogram *from);

/* The smallest value (the upper end of its bucket, at most max) that @share of all are
 * not above, 0 <= share <= 1; 0 if there is none. */
uint64_t histogram_at(const struct histogram *h, double share);
double histogram_mean(const struct histogram *h);

/* Call fn for the values at 0, 50, 75, 87.5 ... percent, five in each half of what is
 * left, up to the last one: the share, the value and how many are not above it. */
void histogram_each(const struct histogram *h,
		    void (*fn)(void *arg, double share, uint64_t value, uint64_t n), void *arg);

/* The .hgrm text that HdrHistogram's plotter reads, in microseconds. */
void histogram_print(const struct histogram *h, FILE *f);

#endif
