/* SPDX-License-Identifier: MIT */
/*
 * access.h - put in front of every file of lib/ (-include) for the exhaustive test:
 * each shared access asks the scheduler first, and the kernel is a simulated one.
 *
 * The atomics become plain accesses, for there is one thread: what is explored are
 * the interleavings of sequentially consistent accesses, not weak orders. memcpy()
 * counts as an access too, so that a payload can be seen torn from its word.
 */
#ifndef SCHED_ACCESS_H
#define SCHED_ACCESS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum access_kind {
	ACCESS_READ,
	ACCESS_WRITE,
	ACCESS_UPDATE, /* reads, and writes if it succeeds: then access_wrote() follows */
};

/* The participant that runs is about to access @word. Returns when it may. */
void access_point(const volatile void *word, enum access_kind kind, const char *where);
void access_wrote(const volatile void *word);

#define ACCESS_STRING_(x) #x
#define ACCESS_STRING(x) ACCESS_STRING_(x)
#define ACCESS_HERE __FILE__ ":" ACCESS_STRING(__LINE__)

#undef atomic_load_explicit
#undef atomic_store_explicit
#undef atomic_fetch_add_explicit
#undef atomic_fetch_sub_explicit
#undef atomic_fetch_or_explicit
#undef atomic_fetch_and_explicit
#undef atomic_compare_exchange_strong_explicit
#undef atomic_compare_exchange_weak_explicit
#undef atomic_thread_fence

#define atomic_load_explicit(p, order)                                            \
	__extension__({                                                           \
		__auto_type load_p_ = (p);                                        \
		access_point(load_p_, ACCESS_READ, ACCESS_HERE);                  \
		*load_p_ + 0; /* clang would keep it atomic */                    \
	})
#define atomic_store_explicit(p, v, order)                                        \
	__extension__({                                                           \
		__auto_type store_p_ = (p);                                       \
		uint64_t store_v_ = (v);                                          \
		access_point(store_p_, ACCESS_WRITE, ACCESS_HERE);                \
		*store_p_ = (__typeof__(*(p) + 0))store_v_;                       \
	})
#define ACCESS_FETCH(p, v, op)                                                    \
	__extension__({                                                           \
		__auto_type fetch_p_ = (p);                                       \
		__typeof__(*(p) + 0) fetch_old_;                                  \
		access_point(fetch_p_, ACCESS_WRITE, ACCESS_HERE);                \
		fetch_old_ = *fetch_p_;                                           \
		*fetch_p_ = fetch_old_ op(v);                                     \
		fetch_old_;                                                       \
	})
#define atomic_fetch_add_explicit(p, v, order) ACCESS_FETCH(p, v, +)
#define atomic_fetch_sub_explicit(p, v, order) ACCESS_FETCH(p, v, -)
#define atomic_fetch_or_explicit(p, v, order) ACCESS_FETCH(p, v, |)
#define atomic_fetch_and_explicit(p, v, order) ACCESS_FETCH(p, v, &)
#define atomic_compare_exchange_strong_explicit(p, expected, desired, yes, no)    \
	__extension__({                                                           \
		__auto_type cas_p_ = (p);                                         \
		__auto_type cas_e_ = (expected);                                  \
		bool cas_won_;                                                    \
		access_point(cas_p_, ACCESS_UPDATE, ACCESS_HERE);                 \
		cas_won_ = *cas_p_ == *cas_e_;                                    \
		if (cas_won_) {                                                   \
			*cas_p_ = (desired);                                      \
			access_wrote(cas_p_);                                     \
		} else {                                                          \
			*cas_e_ = *cas_p_;                                        \
		}                                                                 \
		cas_won_;                                                         \
	})
#define atomic_compare_exchange_weak_explicit atomic_compare_exchange_strong_explicit
#define atomic_thread_fence(order) ((void)(order))

#define memcpy(to, from, n)                                                       \
	__extension__({                                                           \
		void *copy_to_ = (to);                                            \
		const void *copy_from_ = (from);                                  \
		access_point(copy_from_, ACCESS_READ, ACCESS_HERE);               \
		access_point(copy_to_, ACCESS_WRITE, ACCESS_HERE);                \
		(__builtin_memcpy)(copy_to_, copy_from_, n);                      \
	})

/* Nobody becomes faster by waiting here. */
#include "queue.h"
#define cpu_relax() ((void)0)

/* The kernel: sim.c. What concerns files is the real one. */
#define sys_reopen sim_reopen
#define sys_close sim_close
#define sys_map sim_map
#define sys_map_private sim_map_private
#define sys_unmap sim_unmap
#define sys_fstat sim_fstat
#define sys_lock_byte sim_lock_byte
#define sys_byte_locked sim_byte_locked
#define sys_futex_wait sim_futex_wait
#define sys_futex_wake sim_futex_wake
#define sys_membarrier_register sim_membarrier
#define sys_membarrier sim_membarrier
#define sys_monotonic_ns sim_now_ns
#define sys_coarse_ns sim_now_ns
#define sys_realtime_ns sim_now_ns
#define sys_random sim_zero
#define sys_start_time sim_zero
#define sys_pid_namespace sim_zero
#define sys_command sim_command
#define sys_usable_cpus sim_usable_cpus

#endif
