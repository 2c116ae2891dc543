/* SPDX-License-Identifier: MIT */
/* segment.h - the pool of segments: find, install, retire, mark. */
#ifndef SHMQ_SEGMENT_H
#define SHMQ_SEGMENT_H

#include "queue.h"

enum find { FIND_OK, FIND_NOT_INSTALLED, FIND_SUPERSEDED };

/*
 * Resolve segment number @number of @lane through the directory into *@p, and
 * finish its installation if its installer has not. FIND_OK; or -EBADMSG.
 */
HIDDEN int segment_find(struct shmq *q, unsigned lane, uint64_t number, struct place *p);

/* The segment of a ticket that is known to be open, wherever the directory is
 * by now; installs it if need be. 0; -ENOBUFS no segment is free; -ENOENT the
 * ticket is closed after all (only if it is not the caller's); -EBADMSG. */
HIDDEN int segment_of_ticket(struct shmq *q, unsigned lane, uint64_t number,
			     struct place *p);

/* Install every number up to @number: 0; -ENOBUFS; -EBADMSG. */
HIDDEN int segment_install(struct shmq *q, unsigned lane, uint64_t number);

/* Give segment @s of incarnation @inc back if every slot is closed for good. */
HIDDEN bool segment_retire(struct shmq *q, uint32_t s, uint64_t inc);

/* Settle a segment that a dead participant owned: ACTIVE if installed, else FREE. */
HIDDEN void segment_disown(struct shmq *q, uint32_t s, uint64_t hdr);

HIDDEN void segment_mark(struct shmq *q, unsigned lane, uint32_t s);
/* PADs are, or are about to be, in segment @s. */
HIDDEN void segment_set_pads(struct shmq *q, unsigned lane, uint32_t s);
HIDDEN bool segment_has_pads(struct shmq *q, unsigned lane, uint32_t s);
HIDDEN bool segment_marked(struct shmq *q, unsigned lane, uint32_t s);

/*
 * Read header and binding of @s as one: true if it serves (*lane, *number) in
 * incarnation *inc; the number is cut to NUMBER_BITS.
 */
HIDDEN bool segment_binding(struct shmq *q, uint32_t s, uint64_t *hdr, unsigned *lane,
			    uint64_t *number);

/*
 * The same, and does it serve its number? One that its owner has not put into the
 * directory yet does not: another may have been faster, and it is stopped before it
 * noticed.
 */
HIDDEN bool segment_serves(struct shmq *q, uint32_t s, uint64_t *hdr, unsigned *lane,
			   uint64_t *number);

static inline struct place place_of(struct shmq *q, uint64_t number, uint32_t s, uint64_t inc)
{
	uint64_t slot = slot_index(q, s, 0);

	return (struct place){ .number = number, .inc = inc, .segment = s,
			       .descriptors = descriptor_of(q, slot),
			       .payload = payload_of(q, slot) };
}

static inline word_t *slot_at(struct shmq *q, uint32_t s, uint64_t ticket)
{
	return &descriptor_of(q, slot_index(q, s, 0) + spread(q, ticket))->word;
}

#endif
