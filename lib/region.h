/* SPDX-License-Identifier: MIT */
/* region.h - the file of a queue: shape, creation, validation, names. */
#ifndef SHMQ_REGION_H
#define SHMQ_REGION_H

#include <sys/stat.h>

#include "queue.h"

/* Path of queue @name: 0, -EINVAL, -ENAMETOOLONG. */
HIDDEN int region_path(char *path, size_t size, const char *name);

/* Shape for @cfg, NULL for the default: 0, -EDOM with a detail. @slots: of a segment, a
 * power of two; 0 is as many as are best. */
HIDDEN int region_plan(const struct shmq_config *cfg, uint32_t slots, struct header *h,
		       struct geometry *g);

/*
 * Create as shmq_create(). Tickets of every lane start at segment number
 * @first_number and incarnations after @first_inc: 1 and 0, or, in tests, values
 * close to where they wrap. @slots as in region_plan(): 0, or in tests few.
 */
HIDDEN int region_create(const char *name, const struct shmq_config *cfg, uint32_t slots,
			 uint64_t first_number, uint64_t first_inc);

/* Open and validate: fills *h, *g, *st and returns a descriptor that holds no lock. */
HIDDEN int region_open(const char *name, unsigned flags, struct header *h,
		       struct geometry *g, struct stat *st);

/* The detail that shmq_detail() returns; returns @err. */
HIDDEN int detail(int err, const char *format, ...) __attribute__((format(printf, 2, 3)));
HIDDEN void detail_clear(void);

#endif
