// SPDX-License-Identifier: Apache-2.0
/*
 * Theory of operation
 *
 * A group's directory can be removed only when its last process is gone, and orphans of a command may live on
 * after it. cgroup_close() therefore tries at once and else watches the group's cgroup.events with inotify
 * (cgroupfs reports changes of it as modifications) and tries again then. Commands run as root
 * in the guest and may move, make or remove groups as they like: nothing here depends on finding
 * what was left, every failure is survivable.
 *
 * Making a group costs milliseconds under emulation, so one spare is kept ready; cmds.c has it made in an idle moment.
 */
#include "agent/cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/sysfile.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"

#define SIGNAL_PASSES  4	 /* times the list of processes is read again for newcomers */
#define SIGNAL_DEPTH   8	 /* levels of groups below a command's own */
#define PROCS_MAX      (1 << 20) /* longest cgroup.procs that is read */
#define RESERVED_TASKS 64	 /* tasks of the machine that commands cannot have */

/* struct waiting - a closed group that still has processes */
struct waiting {
	struct waiting *next;
	unsigned int id;
	int wd;
};

struct cgroups {
	int fd;	       /* CGROUP_PARENT */
	int events_fd; /* its cgroup.events */
	int inotify_fd;
	struct loop_src *inotify_src;
	struct waiting *waiting;
	unsigned int next_id;
	struct cgroup spare; /* fd -1: none */
};

static void free_waiting(struct waiting **at)
{
	struct waiting *w = *at;

	*at = w->next;
	free(w);
}

static int remove_group(struct cgroups *cs, unsigned int id)
{
	char name[16];

	snprintf(name, sizeof(name), "%u", id);
	return unlinkat(cs->fd, name, AT_REMOVEDIR) < 0 ? -errno : 0;
}

static void retry_waiting(struct cgroups *cs, int wd)
{
	for (struct waiting **at = &cs->waiting; *at; at = &(*at)->next) {
		if ((*at)->wd != wd)
			continue;
		int r = remove_group(cs, (*at)->id);
		if (r == 0 || r == -ENOENT)
			free_waiting(at); /* the watch went with the file */
		return;
	}
}

static void on_inotify(struct loop_src *src _unused_, uint32_t events _unused_, void *data)
{
	struct cgroups *cs = data;
	char buf[4096] __attribute__((aligned(__alignof__(struct inotify_event))));
	ssize_t n = read(cs->inotify_fd, buf, sizeof(buf));

	for (ssize_t at = 0; at + (ssize_t)sizeof(struct inotify_event) <= n;) {
		struct inotify_event *e = (void *)(buf + at);
		if (!(e->mask & IN_IGNORED))
			retry_waiting(cs, e->wd);
		at += (ssize_t)(sizeof(*e) + e->len);
	}
}

static void add_waiting(struct cgroups *cs, unsigned int id)
{
	char path[64];
	struct waiting *w = calloc(1, sizeof(*w));

	if (!w)
		return;
	snprintf(path, sizeof(path), CGROUP_PARENT "/%u/cgroup.events", id);
	w->id = id;
	w->wd = inotify_add_watch(cs->inotify_fd, path, IN_MODIFY);
	if (w->wd < 0) {
		free(w);
		return;
	}
	w->next = cs->waiting;
	cs->waiting = w;
	retry_waiting(cs, w->wd); /* the last process may have gone before the watch */
}

static int make_group(struct cgroups *cs, struct cgroup *ret)
{
	char name[16];
	unsigned int id = cs->next_id++;

	snprintf(name, sizeof(name), "%u", id);
	if (mkdirat(cs->fd, name, 0755) < 0)
		return -errno;
	int fd = openat(cs->fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0) {
		int r = -errno;
		(void)unlinkat(cs->fd, name, AT_REMOVEDIR);
		return r;
	}
	*ret = (struct cgroup){ .id = id, .fd = fd };
	return 0;
}

int cgroup_open(struct cgroups *cs, struct cgroup *ret)
{
	if (cs->spare.fd >= 0) {
		*ret = cs->spare;
		cs->spare.fd = -1;
		return 0;
	}
	return make_group(cs, ret);
}

void cgroup_close(struct cgroups *cs, struct cgroup *g)
{
	if (g->fd < 0)
		return;
	fd_close(&g->fd);
	if (remove_group(cs, g->id) == -EBUSY)
		add_waiting(cs, g->id);
}

bool cgroups_left_over(const struct cgroups *cs)
{
	return cs->waiting != NULL;
}

void cgroups_make_spare(struct cgroups *cs)
{
	if (cs->spare.fd < 0 && make_group(cs, &cs->spare) < 0)
		cs->spare.fd = -1;
}

static void set_task_limit(struct cgroups *cs)
{
	char text[32];
	long max;

	if (sysfile_read(AT_FDCWD, "/proc/sys/kernel/threads-max", text, sizeof(text)) < 0)
		return;
	max = strtol(text, NULL, 10);
	if (max > 2 * RESERVED_TASKS)
		(void)sysfile_writef(cs->fd, "pids.max", "%ld", max - RESERVED_TASKS);
}

/* Controllers are switched on one by one: a kernel may lack one and has the others then. */
static void enable_controllers(const char *file)
{
	(void)sysfile_write(AT_FDCWD, file, "+memory");
	(void)sysfile_write(AT_FDCWD, file, "+pids");
}

static int mount_cgroup2(void)
{
	if (access(CGROUP_ROOT "/cgroup.procs", F_OK) == 0)
		return 0;
	if (mount("cgroup2", CGROUP_ROOT, "cgroup2", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0)
		return -errno;
	return 0;
}

static int open_parent(struct cgroups *cs)
{
	int r = mount_cgroup2();

	if (r < 0)
		return r;
	enable_controllers(CGROUP_ROOT "/cgroup.subtree_control");
	if (mkdir(CGROUP_PARENT, 0755) < 0 && errno != EEXIST)
		return -errno;
	enable_controllers(CGROUP_PARENT "/cgroup.subtree_control");
	cs->fd = open(CGROUP_PARENT, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (cs->fd < 0)
		return -errno;
	cs->events_fd = openat(cs->fd, "cgroup.events", O_RDONLY | O_CLOEXEC);
	return cs->events_fd < 0 ? -errno : 0;
}

static void cgroups_free(struct cgroups *cs)
{
	if (!cs)
		return;
	loop_src_free(cs->inotify_src);
	fd_close(&cs->inotify_fd);
	fd_close(&cs->events_fd);
	fd_close(&cs->fd);
	fd_close(&cs->spare.fd);
	free(cs);
}
DEFINE_CLEANUP(struct cgroups, cgroups_free)

int cgroups_new(struct loop *l, struct cgroups **ret)
{
	_cleanup_(cgroups_freep) struct cgroups *cs = calloc(1, sizeof(*cs));
	int r;

	if (!cs)
		return -ENOMEM;
	*cs = (struct cgroups){ .fd = -1, .events_fd = -1, .inotify_fd = -1, .next_id = 1, .spare.fd = -1 };
	r = open_parent(cs);
	if (r < 0)
		return r;
	set_task_limit(cs);
	cs->inotify_fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	if (cs->inotify_fd < 0)
		return -errno;
	r = loop_add_fd(l, cs->inotify_fd, EPOLLIN, on_inotify, cs, &cs->inotify_src);
	if (r < 0)
		return r;
	r = make_group(cs, &cs->spare);
	if (r < 0)
		return r;
	*ret = take_ptr(cs);
	return 0;
}

int cgroups_parent_fd(const struct cgroups *cs)
{
	return cs->fd;
}

int cgroups_events_fd(const struct cgroups *cs)
{
	return cs->events_fd;
}

int cgroups_set_memory(struct cgroups *cs, uint64_t bytes)
{
	if (bytes == 0)
		return sysfile_write(cs->fd, "memory.max", "max");
	return sysfile_writef(cs->fd, "memory.max", "%llu", (unsigned long long)bytes);
}

int cgroups_freeze(struct cgroups *cs, bool on)
{
	return sysfile_write(cs->fd, "cgroup.freeze", on ? "1" : "0");
}

/* The value after "key " in cgroup.events; reading also rearms polling. */
static bool event_is_set(struct cgroups *cs, const char *key)
{
	char text[256];
	ssize_t n = pread(cs->events_fd, text, sizeof(text) - 1, 0);

	if (n < 0)
		return false;
	text[n] = '\0';
	const char *at = strstr(text, key);
	return at && strncmp(at + strlen(key), " 1", 2) == 0;
}

bool cgroups_is_frozen(struct cgroups *cs)
{
	return event_is_set(cs, "frozen");
}

bool cgroups_populated(struct cgroups *cs)
{
	return event_is_set(cs, "populated");
}

bool cgroups_wait(struct cgroups *cs, bool (*done)(struct cgroups *cs), uint64_t deadline_ns)
{
	while (!done(cs)) {
		uint64_t now = clock_mono_ns();
		struct pollfd p = { .fd = cs->events_fd, .events = POLLPRI };
		if (now >= deadline_ns)
			return false;
		(void)poll(&p, 1, (int)((deadline_ns - now) / NS_PER_MS) + 1);
	}
	return true;
}

int cgroups_kill_all(struct cgroups *cs)
{
	return sysfile_write(cs->fd, "cgroup.kill", "1");
}

int cgroup_kill(const struct cgroup *g)
{
	return sysfile_write(g->fd, "cgroup.kill", "1");
}

/* Sends @sig to each pid of @list that is not in @done; Return: how many. */
static unsigned int signal_list(const char *list, const char *done, int sig, pid_t except)
{
	unsigned int sent = 0;

	while (*list) {
		char line[16];
		size_t len = strcspn(list, "\n");
		pid_t pid = (pid_t)strtol(list, NULL, 10);
		if (len + 2 < sizeof(line) && pid > 1 && pid != except) {
			memcpy(line, list, len);
			strcpy(line + len, "\n");
			const char *seen = done ? strstr(done, line) : NULL;
			while (seen && seen != done && seen[-1] != '\n')
				seen = strstr(seen + 1, line);
			if (!seen && kill(pid, sig) == 0)
				sent++;
		}
		list += len + (list[len] != '\0');
	}
	return sent;
}

/* A process that forks while we read may add one we have not seen: look again until nobody is new. */
static void signal_procs(int dir, int sig, pid_t except)
{
	_cleanup_free_ char *done = NULL;

	for (int i = 0; i < SIGNAL_PASSES; i++) {
		char *list = NULL;
		if (fd_read_file_at(dir, "cgroup.procs", PROCS_MAX, &list, NULL) < 0)
			return;
		unsigned int sent = signal_list(list, done, sig, except);
		free(done);
		done = list;
		if (sent == 0)
			return;
	}
}

static void signal_tree(int dir, int sig, pid_t except, int depth)
{
	int copy = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = copy < 0 ? NULL : fdopendir(copy);

	signal_procs(dir, sig, except);
	if (!d) {
		fd_close(&copy);
		return;
	}
	for (struct dirent *e; depth > 0 && (e = readdir(d));) {
		if (e->d_type != DT_DIR || e->d_name[0] == '.')
			continue;
		_cleanup_fd_ int sub = openat(dir, e->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (sub >= 0)
			signal_tree(sub, sig, except, depth - 1);
	}
	closedir(d);
}

int cgroup_signal(const struct cgroup *g, int sig, pid_t except)
{
	if (sig == SIGKILL)
		return cgroup_kill(g);
	signal_tree(g->fd, sig, except, SIGNAL_DEPTH);
	return 0;
}

void cgroups_signal_all(struct cgroups *cs, int sig)
{
	signal_tree(cs->fd, sig, 0, SIGNAL_DEPTH + 1);
}

uint64_t cgroup_oom_kills(const struct cgroup *g)
{
	_cleanup_free_ char *text = NULL;

	if (fd_read_file_at(g->fd, "memory.events", 4096, &text, NULL) < 0)
		return 0;
	const char *at = strstr(text, "oom_kill ");
	return at ? strtoull(at + strlen("oom_kill "), NULL, 10) : 0;
}
