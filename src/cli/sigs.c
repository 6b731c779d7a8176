// SPDX-License-Identifier: Apache-2.0
// Signals as bytes of a pipe.
#include "cli/sigs.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include "base/attr.h"

static const int forwarded[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2 };
static const int of_terminals[] = { SIGWINCH, SIGCONT, SIGTSTP };

static int pipe_fds[2] = { -1, -1 };

static void handler(int sig)
{
	int saved = errno;
	unsigned char byte = (unsigned char)sig;
	/* Full: 64 Ki signals are waiting already; one more changes nothing. */
	ssize_t r = write(pipe_fds[1], &byte, 1);

	(void)r;
	errno = saved;
}

static void no_op(int sig)
{
	(void)sig;
}

static void catch_signal(int sig, void (*fn)(int))
{
	struct sigaction sa = { .sa_handler = fn, .sa_flags = SA_RESTART }, old;

	if (sigaction(sig, NULL, &old) == 0 && old.sa_handler == SIG_IGN && sig != SIGPIPE)
		return;
	sigaction(sig, &sa, NULL);
}

int sigs_open(bool tty)
{
	if (pipe2(pipe_fds, O_CLOEXEC | O_NONBLOCK) < 0)
		return -errno;
	for (size_t i = 0; i < ARRAY_SIZE(forwarded); i++)
		catch_signal(forwarded[i], handler);
	for (size_t i = 0; tty && i < ARRAY_SIZE(of_terminals); i++)
		catch_signal(of_terminals[i], handler);
	return pipe_fds[0];
}

int sigs_next(void)
{
	unsigned char byte;

	return read(pipe_fds[0], &byte, 1) == 1 ? byte : 0;
}

void sigs_ignore_pipe(void)
{
	catch_signal(SIGPIPE, no_op);
}

void sigs_default(int sig)
{
	struct sigaction dfl = { .sa_handler = SIG_DFL }, old;
	sigset_t set;

	sigaction(sig, &dfl, &old);
	sigemptyset(&set);
	sigaddset(&set, sig);
	sigprocmask(SIG_UNBLOCK, &set, NULL);
	raise(sig);
	/* Here after SIGTSTP and SIGCONT only. */
	sigaction(sig, &old, NULL);
}
