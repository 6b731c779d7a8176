/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Signals as bytes of a pipe, so that one poll sees everything.
 * Handlers, not a signalfd: they do not outlive an exec, so no helper inherits a blocked mask.
 */
#ifndef CLI_SIGS_H
#define CLI_SIGS_H

#include <stdbool.h>

/**
 * sigs_open() - catch the signals that are forwarded: INT TERM HUP QUIT USR1 USR2
 * @tty:	also WINCH, CONT and TSTP
 * One that is ignored (nohup, a background job of a script) stays ignored.
 * Return: descriptor to poll for sigs_next(), or -errno. Once in a process's life.
 */
int sigs_open(bool tty);
/* sigs_next() - a signal that came, 0 if there is none */
int sigs_next(void);
/* sigs_ignore_pipe() - writing to a closed pipe is an error, not the end; programs we start are not affected */
void sigs_ignore_pipe(void);
/* sigs_default() - take @sig by its default action now: ends (or stops) the process; returns after a stop */
void sigs_default(int sig);

#endif
