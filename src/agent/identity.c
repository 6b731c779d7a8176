// SPDX-License-Identifier: Apache-2.0
/*
 * /etc/hostname, hosts and machine-id live in memory and are bound over the root's, as Docker does it: a restored machine
 * whose root is set up then gets its identity without touching its disk, which costs 0.1 s under emulation.
 *
 * Files of the guest's root are written with care: what is there may be a symlink, a FIFO or a device
 * of a hostile image. None of them is followed, waited for or written to: they are replaced.
 */
#include "agent/identity.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/random.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "agent/sysfile.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/fd.h"
#include "base/log.h"

/* A cache line of the driver, and one of the core. */
#define HWRNG_FETCHED_MAX 128
#define ENTROPY_MIN	  32
#define ENTROPY_MAX	  256
#define CPUS_MAX	  1024

static const char *const file_names[ID_FILES] = { "hostname", "hosts", "machine-id" };

static void open_files(struct identity *id)
{
	char path[64];

	for (int i = 0; i < ID_FILES; i++) {
		snprintf(path, sizeof(path), "/mnt/%s", file_names[i]);
		id->files[i] = open(path, O_RDWR | O_CREAT | O_CLOEXEC, i == ID_MACHINE_ID ? 0444 : 0644);
	}
}

void identity_init(struct identity *id)
{
	char path[64];

	*id = (struct identity){ .urandom = open("/dev/urandom", O_RDWR | O_CLOEXEC),
				 .hwrng = open("/dev/hwrng", O_RDONLY | O_NONBLOCK | O_CLOEXEC) };
	for (id->n_cpus = 1; id->n_cpus < CPUS_MAX; id->n_cpus++) {
		snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%u", id->n_cpus);
		if (access(path, F_OK) < 0)
			break;
	}
	id->online = id->n_cpus;
	open_files(id);
}

static int add_entropy(struct identity *id, struct slice e, struct vial_err *err)
{
	union {
		struct rand_pool_info info;
		uint8_t bytes[sizeof(struct rand_pool_info) + ENTROPY_MAX];
	} pool;

	if (e.n < ENTROPY_MIN || e.n > ENTROPY_MAX)
		return err_set(err, VIAL_E_INVALID, "entropy of %zu bytes (32..256)", e.n);
	pool.info.entropy_count = (int)(e.n * 8);
	pool.info.buf_size = (int)e.n;
	memcpy(pool.bytes + sizeof(pool.info), e.p, e.n);
	int r = ioctl(id->urandom, RNDADDENTROPY, &pool) < 0 ? -errno : 0;
	explicit_bzero(&pool, sizeof(pool));
	if (r < 0)
		return err_sys(err, r, "add entropy");
	if (ioctl(id->urandom, RNDRESEEDCRNG) < 0)
		return err_sys(err, -errno, "reseed the random generator");
	return 0;
}

/* What its driver had fetched before the machine was saved would be the same in all that are made of it. */
static void discard_fetched(const struct identity *id)
{
	uint8_t bytes[HWRNG_FETCHED_MAX];

	if (id->hwrng >= 0)
		(void)!read(id->hwrng, bytes, sizeof(bytes));
}

static int set_clock(uint64_t wall_ns, struct vial_err *err)
{
	struct timespec ts = { .tv_sec = (time_t)(wall_ns / NS_PER_S),
			       .tv_nsec = (long)(wall_ns % NS_PER_S) };

	if (wall_ns && clock_settime(CLOCK_REALTIME, &ts) < 0)
		return err_sys(err, -errno, "set the clock");
	return 0;
}

/* Whether @s is 1..64 characters that cannot break a line of a file. */
static bool hostname_ok(struct slice s)
{
	if (s.n == 0 || s.n > IDENTITY_HOSTNAME_MAX)
		return false;
	for (size_t i = 0; i < s.n; i++)
		if (s.p[i] <= ' ' || s.p[i] >= 127)
			return false;
	return true;
}

static bool machine_id_ok(struct slice s)
{
	if (s.n != IDENTITY_MACHINE_ID)
		return false;
	for (size_t i = 0; i < s.n; i++)
		if (!memchr("0123456789abcdef", s.p[i], 16))
			return false;
	return true;
}

static int set_names(struct identity *id, const struct agent_refresh *m, struct vial_err *err)
{
	if (m->hostname.n && !hostname_ok(m->hostname))
		return err_set(err, VIAL_E_INVALID, "host name is not 1..64 printable characters");
	if (m->machine_id.n && !machine_id_ok(m->machine_id))
		return err_set(err, VIAL_E_INVALID, "machine id is not 32 lower-case hex digits");
	if (m->hostname.n) {
		memcpy(id->hostname, m->hostname.p, m->hostname.n);
		id->hostname[m->hostname.n] = '\0';
		if (sethostname(id->hostname, m->hostname.n) < 0)
			return err_sys(err, -errno, "set the host name");
	}
	if (m->machine_id.n)
		memcpy(id->machine_id, m->machine_id.p, IDENTITY_MACHINE_ID);
	return 0;
}

static int set_memory(struct identity *id, struct cgroups *cs, uint64_t max, struct vial_err *err)
{
	if (max == id->memory_max)
		return 0;
	int r = cgroups_set_memory(cs, max);
	if (r < 0)
		return err_sys(err, r, "limit memory to %llu bytes", (unsigned long long)max);
	id->memory_max = max;
	return 0;
}

static int set_cpus(struct identity *id, uint32_t cpus, struct vial_err *err)
{
	uint32_t want = cpus == 0 ? id->n_cpus : MIN(cpus, id->n_cpus);
	char path[64];

	while (id->online != want) {
		bool up = id->online < want;
		uint32_t cpu = up ? id->online : id->online - 1;
		snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%u/online", cpu);
		int r = sysfile_write(AT_FDCWD, path, up ? "1" : "0");
		if (r < 0)
			return err_sys(err, r, "take vCPU %u %s", cpu, up ? "online" : "offline");
		id->online = up ? cpu + 1 : cpu;
	}
	return 0;
}

int identity_refresh(struct identity *id, struct cgroups *cs, const struct agent_refresh *m, bool rooted,
		     struct vial_err *err)
{
	discard_fetched(id);
	int r = add_entropy(id, m->entropy, err);

	if (r == 0)
		r = set_clock(m->wall_ns, err);
	if (r == 0)
		r = set_names(id, m, err);
	if (r == 0)
		r = set_memory(id, cs, m->memory_max, err);
	if (r == 0)
		r = set_cpus(id, m->cpus, err);
	if (r == 0 && rooted)
		identity_write(id);
	return r;
}

/* Opens a plain file for writing, making it anew if something else is in its place. */
static int open_plain(int dir, const char *name, mode_t mode)
{
	int flags = O_WRONLY | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
	_cleanup_fd_ int fd = openat(dir, name, flags, mode);
	struct stat st;

	if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && ftruncate(fd, 0) == 0)
		return take_fd(fd);
	if (unlinkat(dir, name, 0) < 0 && errno != ENOENT)
		return -errno;
	int fresh = openat(dir, name, flags | O_EXCL, mode);
	return fresh < 0 ? -errno : fresh;
}

static void warn_file(const char *name, int neg_errno)
{
	if (neg_errno < 0)
		log_warn("/etc/%s: %s", name, strerror(-neg_errno));
}

/* Cutting a file costs more than writing one: only where something would be left behind. */
static void set_file(struct identity *id, enum identity_file which, const char *text)
{
	size_t n = strlen(text);

	if (pwrite(id->files[which], text, n, 0) != (ssize_t)n ||
	    (n < id->sizes[which] && ftruncate(id->files[which], (off_t)n) < 0))
		warn_file(file_names[which], -errno);
	id->sizes[which] = n;
}

/* A plain file to bind over; one is made where there is none. */
static int open_target(int etc, const char *name)
{
	_cleanup_fd_ int fd = openat(etc, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;

	if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
		return take_fd(fd);
	return open_plain(etc, name, 0644);
}

static void bind_files(struct identity *id, int etc)
{
	char from[32], to[32];

	for (int i = 0; i < ID_FILES; i++) {
		_cleanup_fd_ int fd = open_target(etc, file_names[i]);
		snprintf(from, sizeof(from), "/proc/self/fd/%d", id->files[i]);
		snprintf(to, sizeof(to), "/proc/self/fd/%d", fd);
		int r = fd < 0 ? fd : mount(from, to, NULL, MS_BIND, NULL) < 0 ? -errno : 0;
		warn_file(file_names[i], r);
	}
	id->bound = true;
}

/* No printf: on a machine just restored under an emulator it is some hundred blocks of code to translate. */
static void set_texts(struct identity *id)
{
	char text[512], *end;

	end = stpcpy(text, id->hostname[0] ? id->hostname : "localhost");
	strcpy(end, "\n");
	set_file(id, ID_HOSTNAME, text);
	end = stpcpy(text, "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n");
	if (id->hostname[0])
		strcpy(stpcpy(stpcpy(end, "127.0.1.1\t"), id->hostname), "\n");
	set_file(id, ID_HOSTS, text);
	end = stpcpy(text, id->machine_id);
	if (id->machine_id[0])
		strcpy(end, "\n");
	set_file(id, ID_MACHINE_ID, text);
}

void identity_write(struct identity *id)
{
	set_texts(id);
	if (id->bound)
		return;
	_cleanup_fd_ int etc = open("/etc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (etc < 0 && errno == ENOENT && mkdir("/etc", 0755) == 0)
		etc = open("/etc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (etc < 0) {
		log_warn("/etc: %s", strerror(errno));
		return;
	}
	bind_files(id, etc);
	if (faccessat(etc, "resolv.conf", F_OK, AT_SYMLINK_NOFOLLOW) < 0) {
		_cleanup_fd_ int fd = open_plain(etc, "resolv.conf", 0644);
		warn_file("resolv.conf", fd);
	}
}
