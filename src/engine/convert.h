/* SPDX-License-Identifier: Apache-2.0 */
/* From a snapshot's stream to what boxes are started from: memory and device state. Client side. */
#ifndef ENGINE_CONVERT_H
#define ENGINE_CONVERT_H

#include "engine/template.h"
#include "wire/launch.h"

/**
 * convert_stream() - have a machine load @stream_fd and save itself as a template does; nothing in it runs
 * @env:	who starts it
 * @like:	launch of the box that was saved: program, machine, class
 * @stream_fd:	what engine_ops.snapshot wrote (ENGINE_FORM_STREAM); hostile
 * @mem_fd:	empty file, read-write; becomes the guest's memory
 * @state_fd:	empty file, writable; becomes its device state
 */
int convert_stream(const struct template_env *env, const struct launch *like, int stream_fd, int mem_fd,
		   int state_fd, struct vial_err *err);

#endif
