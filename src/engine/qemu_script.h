/* SPDX-License-Identifier: Apache-2.0 */
/*
 * QMP commands sent one after the other, each when the one before has succeeded; and the one long series of them
 * that the engine has: a snapshot of a machine that goes on.
 */
#ifndef ENGINE_QEMU_SCRIPT_H
#define ENGINE_QEMU_SCRIPT_H

#include <stdbool.h>

#include "engine/engine.h"
#include "engine/qmp.h"

#define SCRIPT_MAX 32

/* Settings for a migration to or from a file: QEMU's default of 128 MiB/s would keep a stopped machine waiting. */
#define QEMU_SET_CAPABILITIES(ignore_shared)                                                          \
	"{\"execute\":\"migrate-set-capabilities\",\"arguments\":{\"capabilities\":[{\"capability\":" \
	"\"x-ignore-shared\",\"state\":" ignore_shared "},{\"capability\":\"events\",\"state\":true}]}}"
#define QEMU_SET_BANDWIDTH \
	"{\"execute\":\"migrate-set-parameters\",\"arguments\":{\"max-bandwidth\":1099511627776}}"

/**
 * struct script - commands; zero-initialise, script_done()
 * @restore:	first of the commands that are sent whatever became of those before them
 * @disk:	the command that switches the disk
 * @failed:	one was refused; @why is the first refusal
 * @waiting:	the last one was accepted, its migration not yet over
 */
struct script {
	struct {
		char *text;
		int fd; /* borrowed, -1 */
		bool migrates;
	} steps[SCRIPT_MAX];
	size_t n, at, restore, disk;
	bool active, failed, waiting, switched;
	int error;
	char why[200];
};

void script_done(struct script *s);
/* script_add() - one more command; a failure is told by script_start() */
void script_add(struct script *s, int fd, const char *fmt, ...) _printf_(3, 4);
/* script_start() - send the first; 0 or -errno */
int script_start(struct script *s, struct qmp *q);

/* What QEMU says while a script is active: 1 when the script is through, 0, or -errno (the next could not be sent). */
int script_returned(struct script *s, struct qmp *q);
int script_refused(struct script *s, struct qmp *q, const char *why);
int script_migrated(struct script *s, struct qmp *q, const char *failed);

/**
 * struct snapshot_plan - a snapshot in terms of QEMU
 * @number:	how many were tried before, from 0; names nodes and descriptor sets
 * @top:	node the writable disk is now; @next_top: what it is called afterwards (snapshot_node())
 * @layers_set:	fdset of a joined root's descriptor, of @root_bytes; 0: the root is a single extent
 * @resume:	let the machine go on
 */
struct snapshot_plan {
	unsigned int number;
	const char *top, *next_top;
	int layers_set;
	uint64_t root_bytes;
	bool resume;
	const struct engine_snapshot *to;
};

void script_snapshot(struct script *s, const struct snapshot_plan *p);
/* script_drop_layers() - QEMU does not migrate while a VMDK node exists: an empty one of the same size takes its place */
void script_drop_layers(struct script *s, uint64_t root_bytes);

#endif
