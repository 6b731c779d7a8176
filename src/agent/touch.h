/* SPDX-License-Identifier: Apache-2.0 */
/* Bringing what a first command looks for into the kernel's caches before a machine is saved as a template. */
#ifndef AGENT_TOUCH_H
#define AGENT_TOUCH_H

/**
 * touch_root() - look every program of @path up, read the shell
 * @path:	directories as in PATH
 *
 * A box that starts from the template then finds directory entries and inodes in memory instead of
 * asking the disk, which is two thirds of the work of finding a program. At most TOUCH_ENTRIES_MAX
 * entries and TOUCH_SHELL_MAX bytes. For the agent's PID 1 with its root set up; what fails is left out.
 */
void touch_root(const char *path);

#define TOUCH_ENTRIES_MAX 4096
#define TOUCH_SHELL_MAX	  (4 * 1024 * 1024)

#endif
