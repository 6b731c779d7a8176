/* SPDX-License-Identifier: Apache-2.0 */
/* What exec.c and zygote.c start processes with. */
#ifndef AGENT_EXEC_ENDS_H
#define AGENT_EXEC_ENDS_H

#include <stdbool.h>
#include <sys/types.h>

/**
 * exec_pipe() - a pipe whose side @ours (0 reads, 1 writes) does not block
 * @data:	for a command's data: made large, which costs time
 * Return: 0 or -errno.
 */
int exec_pipe(int ours, bool data, int *ret_ours, int *ret_theirs);
/**
 * exec_clone() - fork; the child is in the group from its first instruction on
 * @sibling:	it is our parent's child, not ours
 * Return: pid, 0 in the child, -errno.
 */
pid_t exec_clone(int cgroup_fd, bool sibling);

#endif
