/* SPDX-License-Identifier: Apache-2.0 */
/* A command in a box, connected to our stdin, stdout, stderr, terminal and signals. */
#ifndef CLI_RELAY_H
#define CLI_RELAY_H

#include <stdbool.h>

#include "vial/vial.h"

/**
 * struct relay_opts - how a command is connected
 * @interactive: give it our stdin (it was started with VIAL_EXEC_STDIN)
 * @tty:	it has a terminal; ours follows it: raw if @interactive, size passed on
 */
struct relay_opts {
	bool interactive;
	bool tty;
};

/* struct relay_end - how it ended; @oom: killed because memory ran out */
struct relay_end {
	int exit_code;
	bool oom;
};

/**
 * relay_run() - serve a command until it has ended and all its output is out
 * @x:		started with VIAL_EXEC_MANUAL_ACK; stays the caller's
 *
 * Signals are forwarded once the command runs. Before that, and after it has ended, they end this process, as they would without us.
 * Return: 0 with @ret; or an error of vial_exec_next(), or VIAL_E_IO if stdout or stderr cannot be written.
 */
int relay_run(struct vial_exec *x, const struct relay_opts *opts, struct relay_end *ret,
	      struct vial_err *err);

/**
 * relay_console() - our terminal on a serial console until either side ends it; Ctrl-] leaves
 * @console:	stream socket; stays the caller's
 * Return: 0 or VIAL_E_IO.
 */
int relay_console(int console, struct vial_err *err);

#endif
