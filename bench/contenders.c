/* SPDX-License-Identifier: MIT */
/*
 * contenders.c - the list of all contenders. One whose library was not there is not
 * linked; its weak symbol is then NULL.
 */
#include <string.h>

#include "bench.h"

extern const struct bench_contender bench_shmq, bench_shmq_in_push, bench_shmq_in_pop,
	bench_ring, bench_mutex, bench_pipe, bench_mqueue;

__attribute__((weak)) extern const struct bench_contender bench_ck, bench_rte, bench_boost,
	bench_moodycamel, bench_segqueue, bench_vecdeque;

const struct bench_entry bench_entries[] = {
	{"shmq", &bench_shmq, NULL},
	{"ring", &bench_ring, NULL},
	{"mutex", &bench_mutex, NULL},
	{"pipe", &bench_pipe, NULL},
	{"mqueue", &bench_mqueue, NULL},
	{"ck", &bench_ck, "libck-dev"},
	{"rte", &bench_rte, "libdpdk-dev"},
	{"boost", &bench_boost, "a C++ compiler and libboost-dev"},
	{"moodycamel", &bench_moodycamel, "a C++ compiler and libconcurrentqueue-dev"},
	{"segqueue", &bench_segqueue, "rustc and librust-crossbeam-queue-dev"},
	{"vecdeque", &bench_vecdeque, "rustc and librust-crossbeam-queue-dev"},
	{"shmq-in-push", &bench_shmq_in_push, NULL},
	{"shmq-in-pop", &bench_shmq_in_pop, NULL},
};

const int bench_nr_entries = sizeof bench_entries / sizeof bench_entries[0];

_Static_assert(sizeof bench_entries / sizeof bench_entries[0] <= BENCH_MAX_ENTRIES, "room");

const char *bench_choose(char *names, int chosen[BENCH_MAX_ENTRIES])
{
	char *word, *save;
	int i;

	memset(chosen, 0, BENCH_MAX_ENTRIES * sizeof *chosen);
	for (; (word = strtok_r(names, ",", &save)); names = NULL) {
		for (i = 0; i < bench_nr_entries && strcmp(word, bench_entries[i].name); i++)
			;
		if (i == bench_nr_entries)
			return word;
		chosen[i] = 1;
	}
	return NULL;
}
