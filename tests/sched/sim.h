/* SPDX-License-Identifier: MIT */
/* sim.h - the kernel of the exhaustive test: locks that end with a participant, futexes
 * that put to sleep, a clock that only moves when there is a reason. */
#ifndef SIM_H
#define SIM_H

#include <stdint.h>

/* On whose behalf handles are opened outside an execution. */
void sim_owner(int participant);

/* Private memory and locks as they are now; and back to that. */
void sim_keep(void);
void sim_restore(void);

#endif
