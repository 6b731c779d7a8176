// SPDX-License-Identifier: Apache-2.0
/*
 * Finding the host. A port's name arrives after its device node, by a control message of the device;
 * the kernel tells of both by uevents, so that is what we wait for.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/port.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/fd.h"
#include "wire/agent_msg.h"

#define TRANSPORT_WAIT_MS 10000
#define PORTS_DIR	  "/sys/class/virtio-ports"

/* Is the port @dir (below PORTS_DIR) ours? */
static bool is_agent_port(const char *dir)
{
	char path[300], name[64];
	int len = snprintf(path, sizeof(path), PORTS_DIR "/%s/name", dir);

	if (len < 0 || (size_t)len >= sizeof(path))
		return false;
	_cleanup_fd_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	ssize_t n = read(fd, name, sizeof(name) - 1);
	if (n <= 0)
		return false;
	name[n] = '\0';
	name[strcspn(name, "\n")] = '\0';
	return strcmp(name, AGENT_PORT_NAME) == 0;
}

/* Return: 0 with the device's path in @path, -ENOENT if there is none yet. */
static int find_port(char *path, size_t size)
{
	DIR *d = opendir(PORTS_DIR);
	int r = -ENOENT;

	if (!d)
		return r;
	for (struct dirent *e; r < 0 && (e = readdir(d));) {
		if (e->d_name[0] == '.' || !is_agent_port(e->d_name))
			continue;
		int len = snprintf(path, size, "/dev/%s", e->d_name);
		if (len > 0 && (size_t)len < size)
			r = 0;
	}
	closedir(d);
	return r;
}

static int uevent_socket(void)
{
	struct sockaddr_nl addr = { .nl_family = AF_NETLINK, .nl_groups = 1 };
	_cleanup_fd_ int fd =
		socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_KOBJECT_UEVENT);

	if (fd < 0)
		return -errno;
	if (bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		return -errno;
	return take_fd(fd);
}

static void wait_uevent(int fd, uint64_t until_ns)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	uint64_t now = clock_mono_ns();
	char buf[4096];

	if (now < until_ns)
		(void)poll(&p, 1, (int)((until_ns - now) / NS_PER_MS) + 1);
	while (recv(fd, buf, sizeof(buf), 0) > 0)
		;
}

int transport_open(struct loop *l, const struct chan_events *events, void *owner, struct transport **ret,
		   struct vial_err *err)
{
	uint64_t until = clock_mono_ns() + TRANSPORT_WAIT_MS * NS_PER_MS;
	_cleanup_fd_ int fd = uevent_socket(); /* before the first look, so that nothing is missed */
	char path[300];
	int r;

	if (fd < 0)
		return err_sys(err, fd, "uevent socket");
	do {
		if (find_port(path, sizeof(path)) == 0) {
			r = port_open(l, path, events, owner, ret);
			return r < 0 ? err_sys(err, r, "open %s", path) : 0;
		}
		r = vsock_open(l, events, owner, ret);
		if (r != -ENODEV)
			return r < 0 ? err_sys(err, r, "listen on vsock port %d", AGENT_PORT) : 0;
		wait_uevent(fd, until);
	} while (clock_mono_ns() < until);
	return err_set(err, VIAL_E_UNSUPPORTED,
		       "no virtio-serial port " AGENT_PORT_NAME
		       " and no vsock device (virtio drivers missing?)");
}
