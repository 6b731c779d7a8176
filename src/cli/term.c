// SPDX-License-Identifier: Apache-2.0
// Raw mode and its undoing.
#include "cli/term.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "base/attr.h"
#include "base/err.h"

/* Signals that end us unless somebody handles them: the terminal goes back first. */
static const int fatal[] = { SIGSEGV, SIGBUS,  SIGABRT, SIGFPE,	 SIGILL,  SIGTERM, SIGHUP,
			     SIGINT,  SIGQUIT, SIGUSR1, SIGUSR2, SIGALRM, SIGXCPU, SIGXFSZ };

static struct {
	int fd; /* -1: term_raw() is not in force */
	struct termios found;
	volatile sig_atomic_t raw;
} term = { .fd = -1 };

/* A tcsetattr() from the background would stop us with SIGTTOU. */
static bool in_background(void)
{
	pid_t front = tcgetpgrp(term.fd);

	return front >= 0 && front != getpgrp();
}

static int set_raw(void)
{
	struct termios t = term.found;

	cfmakeraw(&t);
	t.c_cc[VMIN] = 1;
	t.c_cc[VTIME] = 0;
	if (tcsetattr(term.fd, TCSADRAIN, &t) < 0)
		return -errno;
	term.raw = 1;
	return 0;
}

void term_restore(void)
{
	int saved = errno;

	if (term.fd >= 0 && term.raw) {
		term.raw = 0;
		/* TCSANOW: draining could wait for a reader that is gone. */
		if (!in_background())
			tcsetattr(term.fd, TCSANOW, &term.found);
	}
	errno = saved;
}

void term_again(void)
{
	if (term.fd >= 0 && !in_background())
		(void)set_raw();
}

static void on_fatal(int sig)
{
	term_restore();
	raise(sig); /* SA_RESETHAND: the default action now */
}

static void watch_fatal(void)
{
	struct sigaction sa = { .sa_handler = on_fatal, .sa_flags = (int)SA_RESETHAND | SA_NODEFER }, old;

	for (size_t i = 0; i < ARRAY_SIZE(fatal); i++)
		if (sigaction(fatal[i], NULL, &old) == 0 && old.sa_handler == SIG_DFL)
			sigaction(fatal[i], &sa, NULL);
}

int term_raw(int fd, struct vial_err *err)
{
	int r;

	if (tcgetattr(fd, &term.found) < 0)
		return err_sys(err, -errno, "read the terminal's settings");
	term.fd = fd;
	atexit(term_restore);
	watch_fatal();
	r = set_raw();
	if (r < 0) {
		term.fd = -1;
		return err_sys(err, r, "change the terminal's settings");
	}
	return 0;
}

bool term_size(int fd, uint16_t *ret_rows, uint16_t *ret_cols)
{
	struct winsize w;

	if (ioctl(fd, TIOCGWINSZ, &w) < 0 || w.ws_row == 0 || w.ws_col == 0)
		return false;
	*ret_rows = w.ws_row;
	*ret_cols = w.ws_col;
	return true;
}
