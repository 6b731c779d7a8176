/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The user's terminal in raw mode, and back on every way out.
 *
 * Theory of operation
 *
 * Purpose: with -t every key goes to the command in the box, so the terminal must do nothing itself.
 * States: cooked (as found) and raw. The settings found are kept from term_raw() on and put back by term_restore(): called
 * on the normal way out, by atexit(), and by handlers of the fatal signals that nobody else handles. After SIGKILL nobody can.
 * Job control: whoever stops us (kill -TSTP) gets the terminal back as it was; on SIGCONT we take it again.
 * In the background the terminal is not ours: it is left alone, the shell has its own settings on it.
 * Threads: none. There is one terminal, so there is one static state.
 */
#ifndef CLI_TERM_H
#define CLI_TERM_H

#include <stdbool.h>
#include <stdint.h>

#include "vial/error.h"

/* term_raw() - raw mode on terminal @fd, restored by any exit; 0 or VIAL_E_IO */
int term_raw(int fd, struct vial_err *err);
/* term_restore() - as it was found; async-signal-safe; does nothing if it is not raw */
void term_restore(void);
/* term_again() - raw mode again after a stop, if term_raw() was in force */
void term_again(void);
/* term_size() - rows and columns of terminal @fd; false if unknown */
bool term_size(int fd, uint16_t *ret_rows, uint16_t *ret_cols);

#endif
