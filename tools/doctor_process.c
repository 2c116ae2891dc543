/* SPDX-License-Identifier: MIT */
/*
 * doctor_process.c - is a participant stopped, or a zombie?
 *
 * The library knows who is dead: the kernel tells it. It does not know who is stopped,
 * so /proc is asked. The pid of a participant is the one of its own pid namespace and
 * may be somebody else's here; therefore a process counts only if it has the file of
 * the queue mapped. Where that can not be seen, nothing is said about it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "doctor.h"

/* State letter and command of /proc/PID/stat. Returns the letter, or 0. */
static char read_stat(uint32_t pid, char *command, size_t size)
{
	char path[40], line[256], *open, *close;
	char letter = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%u/stat", pid);
	f = fopen(path, "re");
	if (!f)
		return 0;
	/* pid (command) letter ...: a command may hold anything, even ") R " */
	if (fgets(line, sizeof(line), f) && (open = strchr(line, '(')) &&
	    (close = strrchr(line, ')')) && close[1] == ' ') {
		letter = close[2];
		*close = '\0';
		snprintf(command, size, "%s", open + 1);
		tool_printable(command);
	}
	fclose(f);
	return letter;
}

/* Has the process the file mapped? */
static bool maps_file(uint32_t pid, const struct stat *file)
{
	char path[40], *line = NULL;
	size_t room = 0;
	bool found = false;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%u/maps", pid);
	f = fopen(path, "re");
	if (!f)
		return false;
	while (!found && getline(&line, &room, f) > 0) {
		unsigned major, minor;
		uintmax_t inode;

		/* from-to rights offset major:minor inode path */
		found = sscanf(line, "%*s %*s %*s %x:%x %ju", &major, &minor, &inode) ==
				3 &&
			makedev(major, minor) == file->st_dev && inode == file->st_ino;
	}
	free(line);
	fclose(f);
	return found;
}

enum doctor_state doctor_state(const struct shmq_participant *who,
			       const struct stat *file)
{
	char command[64] = "";
	char letter = read_stat(who->pid, command, sizeof(command));

	if (!who->alive) /* a zombie has no memory left: its name must do */
		return letter == 'Z' && !strcmp(command, who->command) ? STATE_ZOMBIE
								       : STATE_DEAD;
	if ((letter == 'T' || letter == 't') && maps_file(who->pid, file))
		return STATE_STOPPED;
	return STATE_ALIVE;
}

const char *doctor_state_name(enum doctor_state state)
{
	static const char *const names[] = {"alive", "stopped", "dead", "dead (zombie)"};

	return names[state];
}
