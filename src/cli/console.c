// SPDX-License-Identifier: Apache-2.0
// `run --console`: our terminal on the box's serial console, for looking at a boot.
#include "cli/relay.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/attr.h"
#include "base/err.h"
#include "base/fd.h"
#include "cli/stdio_fd.h"
#include "cli/term.h"

#define LEAVE_KEY 0x1d /* Ctrl-] */
#define CHUNK	  KIB(4)

struct console {
	int fd;
	struct stdio_fd in, out;
	bool keys; /* stdin is a terminal */
	bool in_open;
	bool left;
};

static void done(struct console *c)
{
	term_restore();
	stdio_fd_done(&c->in);
	stdio_fd_done(&c->out);
}

/* A console is read by a person, and has no flow control: waiting for its slow side is right here. */
static int write_all(const struct stdio_fd *s, const char *p, size_t n)
{
	while (n > 0) {
		struct pollfd w = { .fd = s->fd, .events = POLLOUT };
		ssize_t r;

		if (poll(&w, 1, -1) < 0 && errno != EINTR)
			return -errno;
		r = stdio_fd_write(s, p, n);
		if (r == -EAGAIN)
			continue;
		if (r < 0)
			return (int)r;
		p += r;
		n -= (size_t)r;
	}
	return 0;
}

static int from_user(struct console *c)
{
	struct stdio_fd box = { .fd = c->fd, .socket = true, .most = CHUNK };
	char text[CHUNK];
	ssize_t n = stdio_fd_read(&c->in, text, sizeof(text));

	if (n == -EAGAIN)
		return 0;
	if (n <= 0) {
		c->in_open = false;
		c->left = c->keys; /* the terminal is gone */
		return 0;
	}
	char *leave = c->keys ? memchr(text, LEAVE_KEY, (size_t)n) : NULL;
	c->left = leave != NULL;
	return write_all(&box, text, leave ? (size_t)(leave - text) : (size_t)n);
}

static int from_box(struct console *c)
{
	char text[CHUNK];
	ssize_t n = recv(c->fd, text, sizeof(text), MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n <= 0) {
		c->left = true; /* the machine is off */
		return 0;
	}
	return write_all(&c->out, text, (size_t)n);
}

static int serve(struct console *c)
{
	int r = 0;

	while (r == 0 && !c->left) {
		struct pollfd p[] = {
			{ .fd = c->fd, .events = POLLIN },
			{ .fd = c->in_open ? c->in.fd : -1, .events = POLLIN },
		};

		if (poll(p, ARRAY_SIZE(p), -1) < 0) {
			r = errno == EINTR ? 0 : -errno;
			continue;
		}
		if (p[0].revents)
			r = from_box(c);
		if (r == 0 && p[1].revents)
			r = from_user(c);
	}
	/* Either reader being gone is an ordinary end. */
	return r == -EPIPE || r == -ECONNRESET ? 0 : r;
}

int relay_console(int console, struct vial_err *err)
{
	_cleanup_(done) struct console c = { .fd = console, .keys = isatty(STDIN_FILENO), .in_open = true };
	int r = 0;

	stdio_fd_open(&c.in, STDIN_FILENO);
	stdio_fd_open(&c.out, STDOUT_FILENO);
	if (c.keys)
		r = term_raw(STDIN_FILENO, err);
	if (r < 0)
		return r;
	r = serve(&c);
	return r < 0 ? err_sys(err, r, "console") : 0;
}
