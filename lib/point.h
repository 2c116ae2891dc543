/* SPDX-License-Identifier: MIT */
/*
 * point.h - named places where dying matters; see the death table in
 * docs/design.md. Empty in the shipped build. A test build (-DSHMQ_POINTS) calls
 * the hook, if one is set, and lists the names in the ELF section shmq_points,
 * so that a test can visit all of them.
 */
#ifndef SHMQ_POINT_H
#define SHMQ_POINT_H

#ifdef SHMQ_POINTS
extern void (*shmq_point_hook)(const char *name);
#define POINT(name)                                                                \
	do {                                                                       \
		static const char *const point_name                                \
			__attribute__((section("shmq_points"), used)) = name;      \
		if (shmq_point_hook)                                               \
			shmq_point_hook(point_name);                               \
	} while (0)
#else
#define POINT(name)                                                                \
	do {                                                                       \
	} while (0)
#endif

#endif
