/* SPDX-License-Identifier: Apache-2.0 */
/* A shell on the serial console, for `--console`. */
#ifndef AGENT_CONSOLE_H
#define AGENT_CONSOLE_H

#include "base/loop.h"
#include "wire/agent_msg.h"

/* console_shell() - run @path on the console until power-off, again whenever it ends; empty: nothing */
void console_shell(struct loop *l, struct slice path);

#endif
