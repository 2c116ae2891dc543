/* SPDX-License-Identifier: MIT */
/*
 * stat_json.c - shmq-stat --json: a contract for programs. Keys keep their names,
 * meaning and order within schema shmq-stat/1; new ones may be added. Sizes are
 * bytes, times nanoseconds, points in time CLOCK_REALTIME.
 */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>

#include "stat.h"

struct number {
	const char *key;
	uint64_t value;
};

/* Append @n numbers to @object, which is freed and NULL if that fails. */
static json_t *add_numbers(json_t *object, const struct number *numbers, int n)
{
	for (int i = 0; object && i < n; i++) {
		uint64_t v = numbers[i].value;
		json_int_t most = INT64_MAX;
		json_t *json = json_integer(v < INT64_MAX ? (json_int_t)v : most);

		if (json_object_set_new(object, numbers[i].key, json)) {
			json_decref(object);
			object = NULL;
		}
	}
	return object;
}

#define ADD_NUMBERS(object, numbers)                                                     \
	add_numbers(object, numbers, (int)(sizeof(numbers) / sizeof((numbers)[0])))

static json_t *json_lane(const struct shmq_lane_stat *lane)
{
	const struct number numbers[] = {
		{"depth", lane->depth},
		{"held", lane->held},
		{"capacity", lane->capacity},
		{"pushed", lane->pushed},
		{"popped", lane->popped},
		{"rejected", lane->rejected},
		{"oldest_ns", lane->oldest_ns},
		{"unfinished", lane->unfinished},
		{"redelivered", lane->redelivered},
		{"dead", lane->dead},
		{"dropped", lane->dropped},
	};

	return ADD_NUMBERS(json_pack("{s:s}", "name", lane->name), numbers);
}

static json_t *json_participant(const struct shmq_participant *who)
{
	const struct number numbers[] = {
		{"since_ns", who->since_ns}, {"held", who->held},
		{"pushed", who->pushed},     {"popped", who->popped},
		{"rejected", who->rejected},
	};
	json_t *json = json_pack(
		"{s:i, s:s, s:b, s:b, s:b}", "pid", (int)who->pid, "command",
		who->command, "producer", !!(who->role & SHMQ_ROLE_PRODUCER), "consumer",
		!!(who->role & SHMQ_ROLE_CONSUMER), "alive", !!who->alive);

	return ADD_NUMBERS(json, numbers);
}

/* Append @item to @array. Returns 0, or -ENOMEM; @item is consumed. */
static int append(json_t *array, json_t *item)
{
	return json_array_append_new(array, item) ? -ENOMEM : 0;
}

/* Give @queue its two lists. Returns 0 or -ENOMEM. */
static int add_lists(json_t *queue, const struct tool_view *v)
{
	json_t *lanes = json_array(), *who = json_array();
	int err = 0;

	for (uint32_t i = 0; !err && i < v->st.nr_lanes; i++)
		err = append(lanes, json_lane(&v->st.lanes[i]));
	for (int i = 0; !err && i < v->nr_who; i++)
		err = append(who, json_participant(&v->who[i]));
	if (json_object_set_new(queue, "lanes", lanes))
		err = -ENOMEM;
	if (json_object_set_new(queue, "participants", who))
		err = -ENOMEM;
	return err;
}

static json_t *json_queue(const struct tool_view *v)
{
	const struct shmq_stat *st = &v->st;
	struct stat_sum sum;
	char mode[8], layout[24];
	json_t *json;

	stat_sum(v, &sum);
	snprintf(mode, sizeof(mode), "%04o", st->mode);
	snprintf(layout, sizeof(layout), "%u.%u", st->format_major, st->format_minor);
	const struct number shape[] = {
		{"region_bytes", st->region_bytes},
		{"item_size", st->item_size},
	};
	const struct number origin[] = {
		{"uid", st->uid},
		{"gid", st->gid},
		{"created_ns", st->created_ns},
		{"creator_pid", st->creator_pid},
	};
	const struct number rest[] = {
		{"segments", st->segments},
		{"segments_free", st->segments_free},
		{"slots_per_segment", st->slots_per_segment},
		{"max_participants", st->max_participants},
		{"producers", sum.producers},
		{"consumers", sum.consumers},
		{"dead", st->nr_dead},
		{"max_attempts", st->max_attempts},
	};
	json = json_pack("{s:s, s:s}", "name", st->name, "layout", layout);
	json = ADD_NUMBERS(json, shape);
	json_object_set_new(json, "stamp", json_boolean(st->flags & SHMQ_STAMP));
	json_object_set_new(json, "huge", json_boolean(st->flags & SHMQ_HUGE));
	json_object_set_new(json, "mode", json_string(mode));
	json = ADD_NUMBERS(json, origin);
	json_object_set_new(json, "creator", json_string(st->creator));
	json = ADD_NUMBERS(json, rest);
	json_object_set_new(
		json, "dead_lane",
		st->dead_lane < 0
			? json_null()
			: json_string(
				  st->lanes[st->dead_lane & (SHMQ_MAX_LANES - 1)].name));
	if (!add_lists(json, v))
		return json;
	json_decref(json);
	return NULL;
}

int stat_print_json(const struct tool_view *views, int n, bool compact)
{
	json_t *queues = json_array(), *root;
	int err = 0;

	for (int i = 0; !err && i < n; i++)
		err = append(queues, json_queue(&views[i]));
	root = json_pack("{s:s, s:o}", "schema", "shmq-stat/1", "queues", queues);
	if (!root)
		err = -ENOMEM;
	if (!err) { /* a failed write shows in ferror(stdout) */
		json_dumpf(root, stdout, compact ? JSON_COMPACT : JSON_INDENT(2));
		putchar('\n');
	}
	json_decref(root);
	return err;
}
