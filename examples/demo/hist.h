/* SPDX-License-Identifier: MIT */
/*
 * hist.h - log-linear histogram over all of uint64: 64 buckets for each power of
 * two, so a quantile is at most 1.6 % off. One process adds; others may read at the
 * same time, each count alone being right.
 */
#ifndef HIST_H
#define HIST_H

#include <stdatomic.h>
#include <stdint.h>

#define HIST_SUB_BITS 6
#define HIST_BUCKETS  ((64 - HIST_SUB_BITS + 1) << HIST_SUB_BITS)

struct hist {
	_Atomic uint64_t counts[HIST_BUCKETS];
};

void hist_add(struct hist *h, uint64_t value);

/* @to += @from; hist_take_off: @to -= @from. */
void hist_merge(struct hist *to, const struct hist *from);
void hist_take_off(struct hist *to, const struct hist *from);

uint64_t hist_total(const struct hist *h);

/*
 * hist_quantile - the largest value of the bucket in which the share @q (0..1) of
 * all values is reached; 0 if there is no value.
 */
uint64_t hist_quantile(const struct hist *h, double q);

#endif
