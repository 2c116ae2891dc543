/* SPDX-License-Identifier: MIT */
/*
 * participant.c - joining, leaving, and the one question: is the owner dead?
 *
 * Liveness is a fact of the kernel. Each handle opens the region anew, takes a
 * write lock (F_OFD_SETLK) on a byte of its own far behind the end of the file,
 * maps one page through that description, with MADV_DONTFORK, and closes the
 * descriptor. The lock then lives exactly as long as the mapping: a killed
 * process loses it before its zombie is reaped, a stopped one keeps it, a child
 * does not prolong it, closing descriptors does not drop it, and neither pid
 * reuse nor pid namespaces matter. The byte is drawn like a ticket (the token) and
 * nobody else ever locks it: what a newcomer does, or is stopped in, can not make
 * a dead predecessor look alive.
 *
 * Dead between lock and claim: nothing is left. Dead while JOINING: whoever looks
 * frees the record. Dead after LIVE: recovery finds what is held, and frees it.
 */
#include "participant.h"
#include "lane.h"
#include "point.h"
#include "recover.h"
#include "sys.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#define TOKEN_BASE (UINT64_C(1) << 40)
#define TOKEN_MASK ((UINT64_C(1) << 60) - 1)
#define DRAWS_MAX 4096 /* only a counter that was spoilt needs more than one */

static uint64_t token_byte(uint64_t token)
{
	return TOKEN_BASE + token;
}

bool participant_dead(struct shmq *q, uint64_t token)
{
	return sys_byte_locked(q->map->fd, token_byte(token)) == 0 && mapping_intact(q->map);
}

/* Only the one that has claimed the record writes here. */
static void identity_write(struct participant *p)
{
	char command[16];
	uint64_t w[2], base[3] = { 0 };
	int i;

	sys_command(command);
	memcpy(w, command, sizeof w);
	for (i = 0; i < SHMQ_MAX_LANES; i++) {
		base[0] += atomic_load_explicit(&p->tally[i].pushed, memory_order_relaxed);
		base[1] += atomic_load_explicit(&p->tally[i].popped, memory_order_relaxed);
		base[2] += atomic_load_explicit(&p->tally[i].rejected, memory_order_relaxed);
	}
	/* relaxed: JOIN publishes them. */
	for (i = 0; i < 3; i++)
		atomic_store_explicit(&p->base[i], base[i], memory_order_relaxed);
	atomic_store_explicit(&p->pid, (uint32_t)getpid(), memory_order_relaxed);
	atomic_store_explicit(&p->role, 0, memory_order_relaxed);
	atomic_store_explicit(&p->since_ns, sys_realtime_ns(), memory_order_relaxed);
	atomic_store_explicit(&p->start_time, sys_start_time(), memory_order_relaxed);
	atomic_store_explicit(&p->pid_ns, sys_pid_namespace(), memory_order_relaxed);
	atomic_store_explicit(&p->nonce, sys_random(), memory_order_relaxed);
	atomic_store_explicit(&p->command[0], w[0], memory_order_relaxed);
	atomic_store_explicit(&p->command[1], w[1], memory_order_relaxed);
}

/* Draw a token that is ours as long as @fd's description lives. */
static int token_draw(struct shmq *q, int fd, uint64_t *token)
{
	int r = -EAGAIN, i;

	for (i = 0; r == -EAGAIN && i < DRAWS_MAX; i++) {
		/* relaxed: the number alone counts. */
		*token = (atomic_fetch_add_explicit(&wakeup_of(q)->tokens, 1,
						    memory_order_relaxed) + 1) & TOKEN_MASK;
		r = sys_lock_byte(fd, token_byte(*token));
	}
	return r == -EAGAIN ? -EBADMSG : r;
}

/* Participant @i has come. relaxed: a hint. */
static void seats_raise(struct shmq *q, uint64_t i)
{
	word_t *seats = &wakeup_of(q)->seats;
	uint64_t n = atomic_load_explicit(seats, memory_order_relaxed);

	while (n <= i && !atomic_compare_exchange_weak_explicit(
				 seats, &n, i + 1, memory_order_relaxed, memory_order_relaxed))
		;
}

/* Take record @i if it is free: 0, -EAGAIN. */
static int claim(struct shmq *q, uint32_t i, uint64_t token)
{
	struct participant *p = participant_of(q, i);
	uint64_t w = participant_state_of(q, i);

	/* JOIN: what the last owner left is seen, and nobody else writes here. */
	if (participant_state(w) != PARTICIPANT_FREE ||
	    !atomic_compare_exchange_strong_explicit(
		    &p->state, &w, participant_word(token, PARTICIPANT_JOINING),
		    memory_order_acq_rel, memory_order_relaxed))
		return -EAGAIN;
	POINT("join:claimed"); /* Dead here: JOINING; whoever looks frees it. */
	identity_write(p);
	/* relaxed: JOIN publishes it. */
	atomic_store_explicit(&p->record, record_word(RECORD_NONE, 0, 0, 0),
			      memory_order_relaxed);
	atomic_store_explicit(&p->reserved, record_word(RECORD_NONE, 0, 0, 0),
			      memory_order_relaxed);
	w = participant_word(token, PARTICIPANT_JOINING);
	/* JOIN -> everyone: identity and the cleared record. */
	if (!atomic_compare_exchange_strong_explicit(
		    &p->state, &w, participant_word(token, PARTICIPANT_LIVE),
		    memory_order_acq_rel, memory_order_relaxed))
		return -EAGAIN;
	seats_raise(q, i);
	POINT("join:live"); /* Dead here: nothing held; recovery frees the record. */
	q->me = i;
	q->inc = token;
	q->self = p;
	return 0;
}

static int claim_any(struct shmq *q, uint64_t token)
{
	uint32_t i;

	for (i = 0; i < q->geo.max_participants; i++)
		if (claim(q, i, token) == 0)
			return 0;
	return -EUSERS;
}

int participant_join(struct shmq *q)
{
	int fd = sys_reopen(q->map->fd, O_RDWR), r;
	uint64_t lock;
	void *token;

	if (fd < 0)
		return fd;
	r = sys_map(fd, 4096, false, &token);
	if (r < 0) {
		sys_close(fd);
		return r;
	}
	r = token_draw(q, fd, &lock);
	POINT("join:locked"); /* Dead here: the lock goes, nothing is left. */
	if (r == 0)
		r = claim_any(q, lock);
	if (r == -EUSERS) { /* again, even if it was somebody else who found the dead */
		recover_all(q, &q->opened);
		r = claim_any(q, lock);
	}
	if (r == -EUSERS && recover_adopt(q, lock)) {
		/* Dead from here on: as if the first owner had died now. */
		q->inc = lock;
		q->self = participant_of(q, q->me);
		identity_write(q->self);
		r = 0;
	}
	sys_close(fd); /* the mapping keeps description and lock */
	if (r < 0) {
		sys_unmap(token, 4096);
		return r;
	}
	q->token = token;
	return 0;
}

void participant_leave(struct shmq *q)
{
	uint64_t w = participant_word(q->inc, PARTICIPANT_LIVE);

	if (q->nr_leases)
		recover_own(q);
	lane_abort(q);
	if (lane_settle(q)) {
		POINT("leave:settled"); /* Dead here: nothing held, recovery frees it. */
		/* JOIN: whoever takes the record next sees it as we left it. */
		atomic_compare_exchange_strong_explicit(
			&q->self->state, &w, participant_word(q->inc, PARTICIPANT_FREE),
			memory_order_acq_rel, memory_order_relaxed);
	}
	sys_unmap(q->token, 4096); /* drops the lock */
}
