// SPDX-License-Identifier: Apache-2.0
/*
 * Series of QMP commands.
 *
 * Theory of operation
 *
 * A command is sent when the one before was accepted; one that starts a migration is over with the migration. After a refusal what is
 * left up to @restore is skipped, and the commands from there on, which bring the machine back to where it was, are all sent
 * and their refusals do not count: some undo what was never done.
 */
#include "engine/qemu_script.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/qemu_args.h"

#define SNAPSHOT_SET \
	1000 /* first fdset number of disks added later; those of the start are the child's descriptors */

void script_done(struct script *s)
{
	for (size_t i = 0; i < s->n; i++)
		free(s->steps[i].text);
	*s = (struct script){ 0 };
}

void script_add(struct script *s, int fd, const char *fmt, ...)
{
	char *text;
	va_list ap;
	int n;

	if (s->n == SCRIPT_MAX) {
		s->error = -E2BIG;
		return;
	}
	va_start(ap, fmt);
	n = vasprintf(&text, fmt, ap);
	va_end(ap);
	if (n < 0) {
		s->error = -ENOMEM;
		return;
	}
	s->steps[s->n].text = text;
	s->steps[s->n].migrates = strncmp(text, "{\"execute\":\"migrate\",", 21) == 0;
	s->steps[s->n++].fd = fd;
}

static int send_at(struct script *s, struct qmp *q)
{
	return qmp_send(q, s->steps[s->at].text, s->steps[s->at].fd);
}

int script_start(struct script *s, struct qmp *q)
{
	if (s->error < 0 || s->n == 0)
		return s->error ?: -EINVAL;
	s->active = true;
	return send_at(s, q);
}

/* The command at s->at is dealt with. */
static int go_on(struct script *s, struct qmp *q)
{
	s->waiting = false;
	s->at = s->failed && s->at < s->restore ? s->restore : s->at + 1;
	if (s->at < s->n)
		return send_at(s, q);
	s->active = false;
	return 1;
}

int script_returned(struct script *s, struct qmp *q)
{
	s->waiting = s->steps[s->at].migrates;
	if (s->disk && s->at == s->disk)
		s->switched = true;
	return s->waiting ? 0 : go_on(s, q);
}

static void note_failure(struct script *s, const char *why)
{
	if (s->failed || s->at >= s->restore)
		return;
	s->failed = true;
	snprintf(s->why, sizeof(s->why), "%s", why);
}

int script_refused(struct script *s, struct qmp *q, const char *why)
{
	note_failure(s, why);
	return go_on(s, q);
}

int script_migrated(struct script *s, struct qmp *q, const char *failed)
{
	if (!s->waiting)
		return 0;
	if (failed)
		note_failure(s, failed);
	return go_on(s, q);
}

/* ---- snapshot ---- */

void script_drop_layers(struct script *s, uint64_t root_bytes)
{
	script_add(s, -1,
		   "{\"execute\":\"blockdev-add\",\"arguments\":{\"driver\":\"null-co\",\"node-name\":"
		   "\"empty\",\"read-only\":true,\"size\":%llu}}",
		   (unsigned long long)root_bytes);
	script_add(s, -1,
		   "{\"execute\":\"blockdev-reopen\",\"arguments\":{\"options\":[{\"driver\":\"raw\","
		   "\"node-name\":\"root\",\"read-only\":true,\"file\":\"empty\"}]}}");
	script_add(s, -1, "{\"execute\":\"blockdev-del\",\"arguments\":{\"node-name\":\"layers\"}}");
}

static void bring_layers_back(struct script *s, int set)
{
	script_add(s, -1, "{\"execute\":\"blockdev-add\",\"arguments\":" QEMU_LAYERS_NODE "}", set);
	script_add(s, -1,
		   "{\"execute\":\"blockdev-reopen\",\"arguments\":{\"options\":[{\"driver\":\"raw\","
		   "\"node-name\":\"root\",\"read-only\":true,\"file\":\"layers\"}]}}");
	script_add(s, -1, "{\"execute\":\"blockdev-del\",\"arguments\":{\"node-name\":\"empty\"}}");
}

/* A new qcow2 on top of the disk; what was the top until now is reopened read-only by QEMU. */
static void switch_disk(struct script *s, const struct snapshot_plan *p)
{
	int set = SNAPSHOT_SET + (int)p->number;
	const int fds[] = { p->to->upper_fd, p->to->upper_ro_fd };

	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		script_add(s, fds[i], "{\"execute\":\"add-fd\",\"arguments\":{\"fdset-id\":%d}}", set);
	script_add(s, -1,
		   "{\"execute\":\"blockdev-add\",\"arguments\":{\"driver\":\"qcow2\",\"node-name\":\"%s\","
		   "\"backing\":null," QEMU_DISCARD QEMU_FILE_NODE(QEMU_DISCARD) "}}",
		   p->next_top, set);
	s->disk = s->n;
	script_add(s, -1,
		   "{\"execute\":\"blockdev-snapshot\",\"arguments\":{\"node\":\"%s\",\"overlay\":\"%s\"}}",
		   p->top, p->next_top);
}

void script_snapshot(struct script *s, const struct snapshot_plan *p)
{
	script_add(s, -1, "{\"execute\":\"stop\"}");
	script_add(s, -1, QEMU_SET_CAPABILITIES("false"));
	script_add(s, -1, QEMU_SET_BANDWIDTH);
	script_add(s, p->to->state_fd, "{\"execute\":\"getfd\",\"arguments\":{\"fdname\":\"state\"}}");
	if (p->layers_set)
		script_drop_layers(s, p->root_bytes);
	switch_disk(s, p);
	script_add(s, -1, "{\"execute\":\"migrate\",\"arguments\":{\"uri\":\"fd:state\"}}");
	s->restore = s->n;
	if (p->layers_set)
		bring_layers_back(s, p->layers_set);
	if (p->resume)
		script_add(s, -1, "{\"execute\":\"cont\"}");
}
