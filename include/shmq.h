/* SPDX-License-Identifier: MIT */
/*
 * shmq.h - named shared-memory queues between processes of one Linux machine.
 *
 * A queue is a file in a tmpfs (/dev/shm, or $SHMQ_DIR) that every participant
 * maps. Producers push items into a lane, consumers pop them; each item goes to
 * exactly one consumer. Lane 0 has the highest priority. No push brings a lane over
 * its capacity: it is refused at once. There is no lock and no
 * daemon, and no system call unless somebody sleeps.
 *
 * What may be called when (rows: while this call runs; columns: may this call
 * run at the same time, from another thread or process?)
 *
 *                     same handle    other handle    other process
 *   push, pop, *_n        no             yes             yes
 *   reserve .. requeue    no             yes             yes
 *   pollfd                no             yes             yes
 *   wait_any, arm         no             yes             yes
 *   recover               no             yes             yes
 *   stat, pressure        no             yes             yes
 *   create, unlink         -             yes             yes
 *   dup of a handle       no             yes             yes
 *   close                 no             yes             yes
 *
 * One handle per thread; shmq_dup() makes another one of the same queue. A handle
 * is not inherited by fork(): every call on it in the child is refused with
 * -ECHILD (shmq_close() then only frees memory), and the child opens its own.
 * No function may be called from a signal handler on a handle that the
 * interrupted code may be using.
 *
 * A handle is of the process, not of the thread that made it: a thread may end, and
 * another may go on with its handle. No function is a cancellation point, and
 * asynchronous cancellation is not supported. The descriptors that a handle has open
 * are close-on-exec. Who closes them nevertheless (closefrom(3)) may go on to push and
 * pop and is alive to the others, but can not look for the dead any more: shmq_dup()
 * and what looks at the participants return -EBADF.
 *
 * Every function returns 0 or a positive result, or a negative errno; errno
 * itself is not touched. shmq_strerror() has the words. Nothing here prints,
 * exits, starts a thread or installs a signal handler.
 *
 *   -EAGAIN     full (push) or empty (pop) and timeout_ns was 0
 *   -ETIMEDOUT  still full or empty when timeout_ns had passed
 *   -EINTR      a signal handler ran while the call slept; nothing was done
 *   -EMSGSIZE   item longer than the queue's item size, or than the buffer
 *   -ECHRNG     no such lane
 *   -ERANGE     timeout_ns below SHMQ_FOREVER
 *   -EFAULT     a pointer that must not be NULL is NULL
 *   -EBADMSG    not a queue, or one that is damaged
 *   -EPROTONOSUPPORT  a queue of another layout version
 *   -ECHILD     handle from before a fork()
 *   -EROFS      handle was opened with SHMQ_OBSERVE
 *   -EBADF      the process has closed the descriptor of the queue
 *   -EINVAL     a count below 0
 *   -ENOMEM     no private memory for the list of unfinished pushes
 *   -EBUSY      the handle has a reservation open: commit or abort it first
 *
 * Ordering. Each lane is a linearizable FIFO. A pop from any lane returns an
 * item of the highest lane that held one when the pop began and kept it until
 * the pop returned. Between lanes and between queues a push is a release and a
 * pop an acquire: two processes that each push into one lane and then look into
 * the other's may both find it empty once.
 *
 * Death. A process killed inside a call leaves the item pushed or not pushed,
 * never in part; what a dead consumer had taken and not finished is delivered
 * again, before newer items of its lane, with shmq_info.attempts above 1. Whoever
 * waits finds the dead within 100 ms; who only works does so at the latest when 64
 * more items have gone through a lane; shmq_recover() does it at once. A
 * process that is stopped is not dead: it keeps what it holds and delays nobody.
 */
#ifndef SHMQ_H
#define SHMQ_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SHMQ_API __attribute__((visibility("default")))

#define SHMQ_MAX_LANES 8
#define SHMQ_LANE_NAME_MAX 15       /* bytes, without the final NUL */
#define SHMQ_NAME_MAX 200           /* bytes, without the final NUL */
#define SHMQ_ITEM_SIZE_MIN 8
#define SHMQ_ITEM_SIZE_MAX (1 << 20)
#define SHMQ_PARTICIPANTS_MAX 1024
#define SHMQ_LANE_CAPACITY_MAX (UINT64_C(1) << 25)

#define SHMQ_ATTEMPTS_MAX 32        /* failed deliveries of an item, at most */
#define SHMQ_LEASES_MAX 262144      /* items one handle may hold at a time */

#define SHMQ_DROP (-1)              /* no dead-letter lane */
#define SHMQ_ANY_LANE (-1)          /* pop, peek: the highest lane that has an item; of
                                       the dead-letter lane only who names it pops */
#define SHMQ_NOWAIT INT64_C(0)      /* timeout_ns: never wait */
#define SHMQ_FOREVER INT64_C(-1)    /* timeout_ns: no deadline */

struct shmq;                        /* a handle: one participant of one queue */

/* ---- making and removing ------------------------------------------------ */

struct shmq_lane_config {
	char name[SHMQ_LANE_NAME_MAX + 1]; /* letters, digits, . _ - */
	uint64_t capacity;                 /* items, 1..SHMQ_LANE_CAPACITY_MAX */
};

enum shmq_config_flags {
	SHMQ_STAMP = 1 << 0, /* keep the time of each push: shmq_info.wait_ns and
	                        oldest_ns work, at the price of a clock read */
	SHMQ_HUGE = 1 << 1,  /* ask for huge pages, in the file and in every mapping.
	                        Linux 6.1 makes them while the queue is made; Linux 5.14
	                        has them if the tmpfs is mounted with them (mount -o
	                        remount,huge=advise /dev/shm). Where there are none, or
	                        in a region below 2 MiB, pages are of the usual size,
	                        and nothing else changes */
};

/*
 * What a queue is made of. Fill it with shmq_config_init() and change what you
 * like; sz lets the structure grow without breaking old programs.
 */
struct shmq_config {
	size_t sz;                  /* sizeof(struct shmq_config) of the caller */
	uint32_t nr_lanes;          /* 1..SHMQ_MAX_LANES; default 3 */
	uint32_t max_participants;  /* handles open at once; default 64 */
	uint64_t item_size;         /* bytes, most an item may have; default 64 */
	uint32_t mode;              /* permission bits, set exactly; default 0600 */
	uint32_t gid;               /* group of the file; UINT32_MAX: as it comes */
	uint32_t flags;             /* enum shmq_config_flags */
	uint32_t max_attempts;      /* deliveries of an item that end in a death or a
	                               requeue before it goes to the dead-letter lane,
	                               1..SHMQ_ATTEMPTS_MAX; default that. While that
	                               lane is full it is delivered once more. After 64
	                               failed deliveries, those in the dead-letter lane
	                               included, an item is dropped and counted. */
	struct shmq_lane_config lanes[SHMQ_MAX_LANES];
	int32_t dead_lane;          /* dead-letter lane, or SHMQ_DROP (the default): such
	                               items are dropped and counted */
	uint32_t reserved;          /* 0 */
};

/*
 * shmq_config_init - the default: high 10000, normal 100000 and low 50000 items
 * of up to 64 bytes, 64 participants, mode 0600. @sz is sizeof *cfg.
 */
SHMQ_API void shmq_config_init(struct shmq_config *cfg, size_t sz);

/*
 * shmq_region_size - bytes that a queue made from @cfg (NULL: the default)
 * takes in memory, all of it reserved at create.
 * Returns 0 and sets *@bytes; -EDOM @cfg is not valid (shmq_detail() says why).
 */
SHMQ_API int shmq_region_size(const struct shmq_config *cfg, uint64_t *bytes);

/*
 * shmq_create - make the queue @name from @cfg (NULL: the default).
 * The memory is reserved here, so a full tmpfs fails now and never later. The
 * name appears in one step when the queue is complete; dying inside leaves
 * nothing behind. Mode and group are set exactly, whatever the umask.
 * Returns 0; -EEXIST the name is taken; -EINVAL bad name; -ENAMETOOLONG;
 * -EDOM bad @cfg (see shmq_detail()); -ENOSPC, -EACCES, -ENOENT (no such
 * directory), -EPERM (the group is not yours) and other errors of the system.
 */
SHMQ_API int shmq_create(const char *name, const struct shmq_config *cfg);

/*
 * shmq_unlink - remove the name. Processes that have the queue open go on using
 * it; the memory is freed with the last of them.
 * Returns 0; -ENOENT no such queue; -EINVAL, -ENAMETOOLONG bad name; -EBADMSG
 * there is a file of that name that is not a regular file; -EACCES, -EPERM.
 */
SHMQ_API int shmq_unlink(const char *name);

/*
 * shmq_dir - directory that holds the queues: $SHMQ_DIR, else /dev/shm. A queue
 * is the file shmq.NAME in it. The string is valid until the environment changes.
 */
SHMQ_API const char *shmq_dir(void);

/*
 * shmq_list - call @fn with each queue name in shmq_dir(), in no order. A file
 * that is named like a queue is listed even if it is none: open it to know.
 * Stops when @fn returns non-zero, and returns that; else 0 or a negative errno.
 */
SHMQ_API int shmq_list(int (*fn)(const char *name, void *arg), void *arg);

/* ---- attaching ---------------------------------------------------------- */

enum shmq_open_flags {
	SHMQ_OBSERVE = 1 << 0,   /* map read-only: stat and pressure, nothing else;
	                            takes no participant slot */
	SHMQ_ANY_OWNER = 1 << 1, /* accept a queue that belongs to another user */
	SHMQ_PREFAULT = 1 << 2,  /* map every page now: no first use of one costs a page
	                            fault (about 1 us) later; opening takes some 60 us
	                            longer for each MiB of the queue */
	SHMQ_LOCK = 1 << 3,      /* the same, and keep the queue in RAM while this
	                            process has it open, as mlock() does */
	SHMQ_NO_SPIN = 1 << 4,   /* a call that has to wait sleeps at once. Otherwise it
	                            polls for some microseconds first, as long as that
	                            pays and there is more than one CPU */
};

/*
 * shmq_open - attach to the queue @name and store the handle in *@out.
 * Everything in the file that is relied on is checked first. Without
 * SHMQ_ANY_OWNER the file must belong to the caller or to root (SHMQ_OBSERVE
 * accepts every owner); a file that others may write is always refused.
 * What dead participants held is given back, as by shmq_recover().
 * Any thread. If the caller dies inside, nothing stays behind but perhaps a
 * participant slot, which the next one to need it takes.
 * -ENOMEM, -EPERM with SHMQ_LOCK: the limit of locked memory (ulimit -l) is too low.
 * Returns 0; -ENOENT; -EACCES; -EINVAL, -ENAMETOOLONG bad name; -EOPNOTSUPP
 * unknown flag; -EBADMSG not a queue, truncated, half written or damaged;
 * -EPROTONOSUPPORT other layout version; -EPERM unsafe owner or mode (see
 * shmq_detail()); -EUSERS all participant slots are taken by live processes;
 * -ENOMEM, -EMFILE, -ENFILE.
 */
SHMQ_API int shmq_open(struct shmq **out, const char *name, unsigned flags);

/*
 * shmq_dup - one more handle of the same queue, for another thread of this
 * process; it shares the mapping of @q. Works after shmq_unlink() too. Looks for the
 * dead only if no participant slot is free. Returns as shmq_open().
 */
SHMQ_API int shmq_dup(struct shmq *q, struct shmq **out);

/*
 * shmq_close - detach and free the handle; NULL is allowed. Items stay.
 * If the caller dies inside, it is as if it had died before or after.
 */
SHMQ_API void shmq_close(struct shmq *q);

/* ---- items -------------------------------------------------------------- */

/* What a pop tells beside the bytes. */
struct shmq_info {
	uint32_t len;       /* bytes of the item */
	uint16_t lane;
	uint16_t attempts;  /* 1; more if earlier consumers died with it or requeued it */
	uint64_t wait_ns;   /* push to pop; 0 without SHMQ_STAMP */
};

/*
 * shmq_push - put a copy of the @len bytes at @buf at the end of @lane.
 * Waits up to @timeout_ns for room: SHMQ_NOWAIT never, SHMQ_FOREVER without a
 * deadline (CLOCK_MONOTONIC). @buf stays the caller's; may be NULL if @len is 0.
 * Lock-free while there is room. If the caller dies inside, the item arrives
 * whole or not at all.
 * Returns 0; -EAGAIN full, shmq_refused() has depth and limit; -ETIMEDOUT;
 * -EINTR; -EMSGSIZE @len above the item size; -ECHRNG; -ERANGE; -EFAULT;
 * -ECHILD; -EROFS; -EBADMSG.
 */
SHMQ_API int shmq_push(struct shmq *q, int lane, const void *buf, size_t len,
		       int64_t timeout_ns);

/*
 * shmq_push_n - push @n items, in order; the cost of a ticket is shared.
 * Waits as shmq_push() for room for the first item; what does not fit then is
 * refused. All lengths are checked before anything is pushed.
 * Returns the number pushed, a prefix of @items, at least 1; or as shmq_push()
 * with nothing pushed. @n 0 returns 0.
 */
SHMQ_API int shmq_push_n(struct shmq *q, int lane, const struct iovec *items,
			 int n, int64_t timeout_ns);

/*
 * shmq_pop - take the oldest item of @lane, or with SHMQ_ANY_LANE of the highest
 * lane that has one, and copy it to @buf. Waits up to @timeout_ns for one.
 * @info may be NULL. If the caller dies before the copy is complete the item is
 * delivered to another consumer, flagged; after that it is consumed.
 * Returns the length of the item (0 or more); -EAGAIN empty; -ETIMEDOUT; -EINTR;
 * -EMSGSIZE the next item is longer than @size: it stays where it is, and
 * @info->len says how long; -ECHRNG; -ERANGE; -EFAULT; -ECHILD; -EROFS; -EBADMSG.
 */
SHMQ_API ssize_t shmq_pop(struct shmq *q, int lane, void *buf, size_t size,
			  struct shmq_info *info, int64_t timeout_ns);

/*
 * shmq_pop_n - take up to @n items, as shmq_pop() would one after the other, and
 * copy item i to @items[i].iov_base. iov_len is the room there and becomes the
 * length of the item. @infos may be NULL, else has room for @n.
 * Waits as shmq_pop() for the first item and takes what there is then. With
 * SHMQ_ANY_LANE it goes down the lanes: what comes into a higher lane while a lower
 * one is taken from may have to wait for the next call.
 * Returns the number taken, at least 1; or as shmq_pop() with nothing taken.
 * @n 0 returns 0. An item too long for its room ends the batch before it.
 */
SHMQ_API int shmq_pop_n(struct shmq *q, int lane, struct iovec *items,
			struct shmq_info *infos, int n, int64_t timeout_ns);

/* ---- writing and reading in place ------------------------------------------ */

/*
 * shmq_reserve - open the next item of @lane for writing in place: *@buf points to
 * the queue's item size of bytes in the region, undefined until written. Waits as
 * shmq_push(). The item has its place in the lane now and is seen from
 * shmq_commit() on; consumers do not wait for it, they take what is behind. It
 * counts against the capacity. One reservation per handle: until it is committed
 * or aborted shmq_push(), shmq_push_n() and shmq_reserve() return -EBUSY.
 * If the caller dies, the reservation is aborted. shmq_close() aborts it too.
 * Returns 0; -EBUSY; else as shmq_push().
 */
SHMQ_API int shmq_reserve(struct shmq *q, int lane, void **buf, int64_t timeout_ns);

/*
 * shmq_commit - publish the reserved item, @len bytes long. *@buf is no longer the
 * caller's. If the caller dies inside, the item arrives whole or not at all.
 * Returns 0; -EMSGSIZE @len above the item size, the reservation stays open;
 * -ENOENT nothing is reserved; -EFAULT; -ECHILD; -EROFS.
 */
SHMQ_API int shmq_commit(struct shmq *q, size_t len);

/*
 * shmq_abort - give up the reservation: the place in the lane is closed.
 * Returns 0; -ENOENT nothing is reserved; -EFAULT; -ECHILD; -EROFS.
 */
SHMQ_API int shmq_abort(struct shmq *q);

/* An item that is held in place. The caller's memory; it may be copied and moved,
 * but only one copy can be released or requeued. */
struct shmq_lease {
	const void *data;      /* info.len bytes in the region: read, do not write */
	struct shmq_info info;
	uint64_t private_[3];  /* the library's */
};

/*
 * shmq_peek - take an item as shmq_pop() would, but leave it where it is: the
 * caller reads it in place and must shmq_release() it (done) or shmq_requeue() it
 * (not done). Until then nobody else gets it. If the holder dies, it is delivered
 * again, ahead of newer items of its lane. A held item does not count against the
 * capacity, but keeps the memory around it (up to 64 items) from being used again;
 * room for one such lease per handle is set aside.
 * Returns 0; -EMFILE the handle holds SHMQ_LEASES_MAX items; else as shmq_pop().
 */
SHMQ_API int shmq_peek(struct shmq *q, int lane, struct shmq_lease *lease,
		       int64_t timeout_ns);

/*
 * shmq_release - the item is dealt with and gone: the acknowledgement. If the
 * caller dies inside, the item is gone or delivered again.
 * Returns 0; -ENOENT this handle does not hold it (any more); -EFAULT; -ECHILD;
 * -EROFS.
 */
SHMQ_API int shmq_release(struct shmq *q, struct shmq_lease *lease);

/*
 * shmq_requeue - put the item back to where it was, ahead of newer items of its
 * lane, with one attempt more; after 64 of them it is dropped and counted. Returns
 * as shmq_release().
 */
SHMQ_API int shmq_requeue(struct shmq *q, struct shmq_lease *lease);

/* ---- waiting in an event loop ------------------------------------------------- */

enum shmq_events {
	SHMQ_READABLE = 1 << 0, /* there may be an item */
	SHMQ_WRITABLE = 1 << 1, /* there may be room */
};

/*
 * shmq_pollfd - a descriptor for poll(2), epoll(7) and every event loop, of this
 * handle. @events: SHMQ_READABLE, SHMQ_WRITABLE, or both for one that is readable
 * when either is true. To be polled for input whichever it is.
 * SHMQ_READABLE: level-signalled, and readable at first. It stops being readable when a
 * pop or peek of this handle comes back with -EAGAIN or -ETIMEDOUT, until there may be
 * an item in a lane that was asked for. So take one item per wake-up, some, or all: what
 * is left wakes again. SHMQ_WRITABLE: the same for push and reserve, and room.
 * It may also be readable when there is nothing, at least once each 50 ms: then the
 * call that finds nothing looks for the dead. Use SHMQ_NOWAIT and take -EAGAIN for
 * "not now". Every poller is told, and one of them gets the item.
 * No wake-up is lost whoever dies or is stopped; if that was a waker between its
 * push and its ring, the 50 ms pass first. While no process polls, push and pop make no
 * system call. Works after shmq_unlink().
 * The descriptor is the handle's and always the same for the same @events: do not read
 * or close it, and have the loop forget it before shmq_close(), which closes it.
 * Another thread may poll it; push and pop are for the thread that has the handle. It
 * takes two or three numbers, all close-on-exec; if the caller dies nothing stays behind.
 * Where the system gives no inotify instance (see fs.inotify.max_user_instances; 128 per
 * user are usual) it is readable after 1 ms, and while nothing moves after twice as long
 * each time, up to 50 ms: late by so much, and never lost.
 * Returns the descriptor; -EINVAL no or unknown @events; -EFAULT; -ECHILD; -EROFS;
 * -EBADF; -EMFILE, -ENFILE, -ENOMEM.
 */
SHMQ_API int shmq_pollfd(struct shmq *q, unsigned events);

/* ---- waiting for one of many ---------------------------------------------------- */

#define SHMQ_WAITS_MAX 1024 /* entries of one shmq_wait_any() */

struct shmq_wait {
	struct shmq *q;
	int32_t lane;    /* or SHMQ_ANY_LANE, for items only */
	uint16_t events; /* what is waited for: SHMQ_READABLE, SHMQ_WRITABLE or both */
	uint16_t ready;  /* out: what there is of it */
};

/*
 * shmq_wait_any - wait up to @timeout_ns until there is an item, or room, in one of the
 * @n lanes and queues of @waits, and say in which. Nothing is taken: pop or push with
 * SHMQ_NOWAIT then, and take -EAGAIN for "somebody was faster". All who wait so are
 * told of an item, and one of them gets it. The handles are of the calling thread; one
 * may be in several entries.
 * Sleeps in futex_waitv(2); where that is missing (before Linux 5.16), forbidden or too
 * narrow (128 words), in poll(2) on the descriptors of shmq_pollfd(), which the handles
 * then have. Looks for the dead each 50 ms.
 * If the caller dies inside nothing stays behind.
 * Returns how many entries have something in ready, at least 1; -EAGAIN @timeout_ns is
 * 0; -ETIMEDOUT; -EINTR; -EINVAL @n below 1 or above SHMQ_WAITS_MAX, or no or unknown
 * events; -ECHRNG; -ERANGE; -EFAULT; -ECHILD; -EROFS; -EBADMSG; and in want of
 * futex_waitv what shmq_pollfd() returns. ready is 0 everywhere unless it returns 1 or more.
 */
SHMQ_API int shmq_wait_any(struct shmq_wait *waits, int n, int64_t timeout_ns);

/* What to wait for by other means: until *word is not value any more. */
struct shmq_futex {
	const uint32_t *word; /* in the region; valid until shmq_close() */
	uint32_t value;
};

/*
 * shmq_arm - get ready to wait for an item in @lane, or SHMQ_ANY_LANE, or for room
 * (@events: SHMQ_READABLE or SHMQ_WRITABLE) with a futex call of your own: FUTEX_WAIT,
 * not private, 32 bits, any bit set, or IORING_OP_FUTEX_WAIT. Arm anew for each wait.
 * What shmq_wait_any() is made of; whoever waits long should look again each 50 ms or
 * so, as it does, in case the one who was to wake it has died.
 * If the caller dies armed, the next push or pop makes one system call in vain.
 * Returns 1 there is something now: do not wait; 0 there was nothing and *@futex is set;
 * else as shmq_wait_any().
 */
SHMQ_API int shmq_arm(struct shmq *q, int lane, unsigned events,
		      struct shmq_futex *futex);

/* ---- after a death ---------------------------------------------------------- */

struct shmq_recovered {
	size_t sz;             /* sizeof(struct shmq_recovered) of the caller */
	uint32_t participants; /* dead ones, detached */
	uint32_t deferred;     /* dead ones of whom something must wait: a push that can
	                          not yet be told from one of a living producer */
	uint64_t items;        /* that dead consumers held: waiting again */
	uint64_t tickets;      /* unfinished pushes of dead producers: closed */
};

/*
 * shmq_recover - look at every participant now, and give back what the dead held.
 * Nobody has to call it: whoever waits or works does the same every few
 * milliseconds. Lock-free, any number of callers at once. If the caller dies
 * inside, the next one goes on. shmq_open() has done the same, and the first call on
 * the handle tells what that gave back, too.
 * @out may be NULL. Set out->sz first.
 * Returns 0; -EINVAL out->sz is not sizeof *out; -EBADF; -EFAULT; -ECHILD; -EROFS.
 */
SHMQ_API int shmq_recover(struct shmq *q, struct shmq_recovered *out);

enum shmq_hold_kind {
	SHMQ_HOLD_ITEM = 1, /* a consumer has taken it and not finished */
	SHMQ_HOLD_PUSH,     /* a push or reservation between ticket and publication */
};

struct shmq_hold {
	uint32_t kind;        /* enum shmq_hold_kind */
	uint32_t participant; /* index, as in struct shmq_participant; UINT32_MAX: the
	                         owner of the push can not be told yet */
	uint32_t pid;         /* of it, as it sees itself; 0 unknown */
	uint32_t alive;       /* 1 while the kernel holds its token */
	uint32_t lane;
	uint32_t attempts;    /* earlier deliveries that failed; ITEM only */
	uint32_t len;         /* bytes; ITEM only */
	uint32_t reserved;
	uint64_t ticket;      /* place in the lane */
	uint64_t age_ns;      /* since the push; 0 without SHMQ_STAMP; ITEM only */
	char command[16];
};

/*
 * shmq_holds - who holds what: fill up to @n entries of @out, in no order. Only
 * reads. Under traffic most entries are gone when it returns; one that stays is
 * of a consumer at work, or of a process that is stopped, dead or slow.
 * Returns how many there are (maybe more than @n); -EFAULT; -ECHILD; -EBADF; -EINVAL.
 */
SHMQ_API int shmq_holds(struct shmq *q, struct shmq_hold *out, int n);

/* ---- copying what waits ------------------------------------------------------------ */

struct shmq_walk;

/*
 * shmq_walk_begin - begin to copy what waits in @lane, or with SHMQ_ANY_LANE in all lanes
 * (the dead-letter lane, too), the highest first. The queue is not changed and nobody is
 * hindered; SHMQ_OBSERVE is enough.
 * What waits from the beginning to the end of the walk is seen exactly once, in the order
 * in which it would be popped. What is popped meanwhile is seen or not; what is pushed
 * meanwhile is not, nor what a consumer holds. An item that is moved to the dead-letter
 * lane meanwhile may be seen twice or not at all.
 * @q stays open until shmq_walk_end(), which frees *@out. If the caller dies, nothing
 * stays behind.
 * Returns 0; -ECHRNG no such lane; -EFAULT; -ECHILD; -ENOMEM.
 */
SHMQ_API int shmq_walk_begin(struct shmq *q, int lane, struct shmq_walk **out);

/*
 * shmq_walk_next - copy the next item into @buf; @info, if not NULL, as a pop would fill
 * it now.
 * Returns its length; -EAGAIN there are no more; -EMSGSIZE it is longer than @size:
 * info->len says how long, and the next call sees it again; -EFAULT; -ECHILD; -EBADMSG
 * the queue contradicts itself.
 */
SHMQ_API ssize_t shmq_walk_next(struct shmq_walk *w, void *buf, size_t size,
				struct shmq_info *info);

/* shmq_walk_end - free the walk. NULL is allowed. */
SHMQ_API void shmq_walk_end(struct shmq_walk *w);

/* ---- looking ------------------------------------------------------------ */

enum shmq_level { /* how full: an admission signal for producers */
	SHMQ_LEVEL_NORMAL,     /* below 50 % */
	SHMQ_LEVEL_WARNING,    /* from 50 % */
	SHMQ_LEVEL_CRITICAL,   /* from 80 % */
	SHMQ_LEVEL_OVERLOADED, /* from 95 % */
};

struct shmq_pressure {
	uint64_t depth;     /* items and unfinished pushes that count */
	uint64_t capacity;  /* the limit */
	uint32_t level;     /* enum shmq_level */
	uint32_t batch;     /* suggested items for the next push_n: 64, 16, 4 or 1 */
};

/*
 * shmq_pressure - how full @lane is now, from the indices alone: two loads, no
 * scan, an upper bound that may count finished items for a moment.
 * Returns 0; -ECHRNG; -EFAULT; -ECHILD.
 */
SHMQ_API int shmq_pressure(struct shmq *q, int lane, struct shmq_pressure *p);

/*
 * shmq_refused - depth and limit as this handle last found a lane full, in a push or
 * reserve: after -EAGAIN or -ETIMEDOUT, those of that call. Returns 0; -ENODATA if it
 * never did.
 */
SHMQ_API int shmq_refused(const struct shmq *q, struct shmq_pressure *p);

struct shmq_lane_stat {
	char name[SHMQ_LANE_NAME_MAX + 1];
	uint64_t capacity;
	uint64_t depth;      /* items waiting */
	uint64_t held;       /* taken by a consumer and not finished */
	uint64_t unfinished; /* pushes between ticket and publication */
	uint64_t pushed;     /* accepted since create */
	uint64_t popped;     /* finished by their consumers since create */
	uint64_t rejected;   /* items refused because the lane was full */
	uint64_t redelivered; /* waiting again after their consumer died or requeued */
	uint64_t dead;       /* moved from here to the dead-letter lane since create */
	uint64_t dropped;    /* dropped after max_attempts since create */
	uint64_t oldest_ns;  /* age of the oldest waiting item; 0 without stamps */
};

struct shmq_stat {
	size_t sz;                 /* sizeof(struct shmq_stat) of the caller */
	char name[SHMQ_NAME_MAX + 1];
	uint32_t format_major, format_minor; /* layout version of the region */
	uint64_t region_bytes;
	uint64_t item_size;
	uint32_t max_participants;
	uint32_t nr_participants;  /* attached and alive, now */
	uint32_t nr_dead;          /* attached, dead, not yet recovered */
	uint32_t flags;            /* enum shmq_config_flags */
	uint32_t mode, uid, gid;   /* of the file, now */
	uint32_t creator_pid;
	char creator[16];          /* command that made the queue */
	uint64_t created_ns;       /* CLOCK_REALTIME */
	uint32_t segments, segments_free;
	uint32_t slots_per_segment;
	uint32_t nr_lanes;
	uint32_t max_attempts;
	int32_t dead_lane;         /* or SHMQ_DROP */
	struct shmq_lane_stat lanes[SHMQ_MAX_LANES];
};

/*
 * shmq_stat - what is in the queue, read from the slot words themselves. Set
 * st->sz first. Reads every descriptor: milliseconds for a million slots. Under
 * traffic the slots are read one after the other: an item that comes or goes
 * meanwhile may or may not be counted, but never two for one place.
 * Returns 0; -EINVAL sz too small; -EFAULT; -ECHILD; -EBADMSG.
 */
SHMQ_API int shmq_stat(struct shmq *q, struct shmq_stat *st);

enum shmq_role { SHMQ_ROLE_PRODUCER = 1, SHMQ_ROLE_CONSUMER = 2 };

struct shmq_participant {
	uint32_t index;
	uint32_t pid;         /* as it sees itself: in its own pid namespace */
	char command[16];
	uint32_t alive;       /* 1 while the kernel holds its token */
	uint32_t role;        /* enum shmq_role, or-ed; 0 has done nothing yet */
	uint64_t since_ns;    /* CLOCK_REALTIME of the attach */
	uint64_t held;        /* items it holds */
	uint64_t pushed, popped, rejected; /* by this participant */
};

/*
 * shmq_participants - who is attached: fill up to @n entries of @out.
 * Returns how many are attached (maybe more than @n); -EFAULT; -ECHILD; -EBADF.
 */
SHMQ_API int shmq_participants(struct shmq *q, struct shmq_participant *out,
			       int n);

/* ---- words -------------------------------------------------------------- */

/*
 * shmq_strerror - what a returned error means, in one line, into @buf.
 * @err may be negative or positive. Returns 0; -EINVAL if @size is 0.
 */
SHMQ_API int shmq_strerror(int err, char *buf, size_t size);

/*
 * shmq_detail - why the last create, open, unlink, pollfd or region_size of this thread
 * failed, with the numbers and names ("lane high: capacity 0; give 1 to ...").
 * Empty if there is nothing to add. Valid until the next such call.
 */
SHMQ_API const char *shmq_detail(void);

/* shmq_version - version of the library, "0.1.0". */
SHMQ_API const char *shmq_version(void);

#ifdef __cplusplus
}
#endif
#endif
