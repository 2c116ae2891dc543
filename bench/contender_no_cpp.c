/* SPDX-License-Identifier: MIT */
/* contender_no_cpp.c - in place of those in C++ where there is no compiler for them. */
#include "bench.h"

BENCH_NOT_BUILT(boost, "a C++ compiler and libboost-dev");
BENCH_NOT_BUILT(moodycamel, "a C++ compiler and libconcurrentqueue-dev");
