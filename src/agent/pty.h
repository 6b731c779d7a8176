/* SPDX-License-Identifier: Apache-2.0 */
/* Pseudo-terminals of the guest. */
#ifndef AGENT_PTY_H
#define AGENT_PTY_H

#include <stdint.h>

/* pty_open() - a new terminal of @rows x @cols (0: not known); both sides CLOEXEC; 0 or -errno */
int pty_open(uint32_t rows, uint32_t cols, int *ret_master, int *ret_slave);
/* pty_resize() - tells the foreground group by SIGWINCH; 0 or -errno */
int pty_resize(int master, uint32_t rows, uint32_t cols);

#endif
