/* SPDX-License-Identifier: MIT */
/*
 * doctor_json.c - shmq-doctor --json: a contract for programs. Keys keep their names
 * and meaning within schema shmq-doctor/1, and so do the values of "id" and "level";
 * new ones may be added. The words of "text" and "fix" may change.
 */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>

#include "doctor.h"

/* Append @item to @array. Returns 0, or -ENOMEM; @item is consumed. */
static int append(json_t *array, json_t *item)
{
	return json_array_append_new(array, item) ? -ENOMEM : 0;
}

static json_int_t number(uint64_t n)
{
	return n < INT64_MAX ? (json_int_t)n : INT64_MAX;
}

static json_t *json_finding(const struct doctor_finding *f)
{
	static const char *const levels[] = {"ok", "warn", "fail"};

	return json_pack("{s:s, s:s, s:s, s:s?, s:s?, s:s, s:s?}", "level",
			 levels[f->level], "section", f->queue ? "queues" : "machine",
			 "id", f->id, "queue", f->queue, "lane", f->lane, "text", f->text,
			 "fix", f->fix);
}

static json_t *json_participant(const struct shmq_participant *who, char state)
{
	return json_pack("{s:I, s:I, s:s, s:b, s:b, s:b, s:b, s:I, s:I}", "index",
			 (json_int_t)who->index, "pid", (json_int_t)who->pid, "command",
			 who->command, "producer", !!(who->role & SHMQ_ROLE_PRODUCER),
			 "consumer", !!(who->role & SHMQ_ROLE_CONSUMER), "alive",
			 !!who->alive, "stopped", state == STATE_STOPPED, "since_ns",
			 number(who->since_ns), "held", number(who->held));
}

static json_t *json_hold(const struct tool_view *v, const struct shmq_hold *h)
{
	bool item = h->kind == SHMQ_HOLD_ITEM, known = h->participant != UINT32_MAX;

	return json_pack("{s:s, s:s, s:I, s:o, s:I, s:s, s:b, s:I, s:I, s:I}", "kind",
			 item ? "message" : "push", "lane",
			 h->lane < v->st.nr_lanes ? v->st.lanes[h->lane].name : "?",
			 "ticket", number(h->ticket), "index",
			 known ? json_integer(h->participant) : json_null(), "pid",
			 (json_int_t)h->pid, "command", h->command, "alive", !!h->alive,
			 "attempts", (json_int_t)h->attempts, "bytes", (json_int_t)h->len,
			 "age_ns", number(h->age_ns));
}

static json_t *json_queue(const struct doctor_queue *q)
{
	json_t *who = json_array(), *holds = json_array();
	int err = 0;

	for (int i = 0; !err && i < q->view.nr_who; i++)
		err = append(who, json_participant(&q->view.who[i], q->states[i]));
	for (int i = 0; !err && i < q->view.nr_holds; i++)
		err = append(holds, json_hold(&q->view, &q->view.holds[i]));
	if (!err)
		return json_pack("{s:s, s:b, s:o, s:o}", "name", q->name, "readable",
				 !q->err, "participants", who, "holds", holds);
	json_decref(who);
	json_decref(holds);
	return NULL;
}

int doctor_print_json(const struct doctor *d)
{
	json_t *findings = json_array(), *queues = json_array(), *root;
	int err = 0;

	for (int i = 0; !err && i < d->nr_findings; i++)
		err = append(findings, json_finding(&d->findings[i]));
	for (int i = 0; !err && i < d->nr_queues; i++)
		err = append(queues, json_queue(&d->queues[i]));
	root = json_pack("{s:s, s:i, s:i, s:o, s:o}", "schema", "shmq-doctor/1",
			 "problems", d->count[DOCTOR_FAIL], "warnings",
			 d->count[DOCTOR_WARN], "findings", findings, "queues", queues);
	if (!root)
		err = -ENOMEM;
	if (!err) { /* a failed write shows in ferror(stdout) */
		json_dumpf(root, stdout, JSON_INDENT(2));
		putchar('\n');
	}
	json_decref(root);
	return err;
}
