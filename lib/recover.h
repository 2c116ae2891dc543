/* SPDX-License-Identifier: MIT */
/* recover.h - the dead: what they held goes back. */
#ifndef SHMQ_RECOVER_H
#define SHMQ_RECOVER_H

#include "queue.h"

/* Recover whoever is proven dead. Adds to *@out. */
HIDDEN void recover_all(struct shmq *q, struct shmq_recovered *out);

/* The same, if nobody has done it for a while. For every place where somebody waits,
 * and for some that who only works comes by. */
HIDDEN void recover_probe(struct shmq *q);

/* @q could not join: take over the record of somebody dead. True: it has joined, but
 * for its identity. */
HIDDEN bool recover_adopt(struct shmq *q, uint64_t token);

/* Put back what this handle holds: it is about to be closed. */
HIDDEN void recover_own(struct shmq *q);

#endif
