/* SPDX-License-Identifier: Apache-2.0 */
/* Socket pairs for fuzzing devices: small, so that inputs reach full ones. */
#ifndef FUZZ_VMM_PAIR_H
#define FUZZ_VMM_PAIR_H

#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fuzz.h"

#define PAIR_BUF 4096

/* pair_new() - fds[0] is the host's end, fds[1] the device's */
static inline void pair_new(int type, int fds[2])
{
	const int size = PAIR_BUF;

	FUZZ_CHECK(socketpair(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) == 0);
	for (int i = 0; i < 2; i++)
		FUZZ_CHECK(setsockopt(fds[i], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)) == 0);
}

/* pair_write() - up to @n bytes of something at the host's end */
static inline void pair_write(int fd, size_t n)
{
	static const uint8_t bytes[PAIR_BUF] = { 1, 2, 3 };

	(void)!send(fd, bytes, n < sizeof(bytes) ? n : sizeof(bytes), MSG_NOSIGNAL);
}

/* pair_read() - all that is there, at most @limit bytes; how many */
static inline size_t pair_read(int fd, size_t limit)
{
	uint8_t bytes[PAIR_BUF];
	size_t sum = 0;
	ssize_t n;

	while (sum < limit && (n = recv(fd, bytes, sizeof(bytes), 0)) > 0)
		sum += (size_t)n;
	return sum;
}

#endif
