// SPDX-License-Identifier: Apache-2.0
// What this host offers to run machines with.
#include "engine/host.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/mem.h"
#include "base/sha256.h"
#include "base/str.h"
#include "engine/filecache.h"

#define QEMU_PROGRAM "qemu-system-x86_64"

/* Firmware that becomes part of the machine: another build of it makes other templates. */
static const char *const firmware[] = {
	"/usr/share/seabios/bios-256k.bin",  "/usr/share/qemu/bios-256k.bin",
	"/usr/share/qemu/linuxboot_dma.bin", "/usr/share/qemu/kvmvapic.bin",
	"/usr/share/seabios/kvmvapic.bin",
};

void host_boot_id(char ret[40])
{
	_cleanup_free_ char *id = NULL;

	ret[0] = '\0';
	if (fd_read_file_at(AT_FDCWD, "/proc/sys/kernel/random/boot_id", 64, &id, NULL) < 0)
		return;
	id[strcspn(id, "\n")] = '\0';
	if (strlen(id) == 36)
		memcpy(ret, id, 37);
}

static int find_in_path(const char *program, char **ret)
{
	const char *path = getenv("PATH");
	_cleanup_free_ char *copy = strdup(path ? path : "/usr/local/bin:/usr/bin:/bin");
	char *save = NULL;

	if (!copy)
		return -ENOMEM;
	for (char *dir = strtok_r(copy, ":", &save); dir; dir = strtok_r(NULL, ":", &save)) {
		_cleanup_free_ char *full = NULL;
		struct stat st;
		if (dir[0] != '/' || asprintf(&full, "%s/%s", dir, program) < 0)
			continue;
		if (stat(full, &st) == 0 && S_ISREG(st.st_mode) && access(full, X_OK) == 0) {
			*ret = take_ptr(full);
			return 0;
		}
	}
	return -ENOENT;
}

/* First line of "qemu --version": "QEMU emulator version 7.2.22 (…)" */
static int ask_version(const char *qemu, char ret[32])
{
	char line[200] = "";
	int p[2], status;

	if (pipe2(p, O_CLOEXEC) < 0)
		return -errno;
	pid_t pid = fork();
	if (pid == 0) {
		dup2(p[1], 1);
		execl(qemu, qemu, "--version", (char *)NULL);
		_exit(127);
	}
	close(p[1]);
	ssize_t n = pid < 0 ? -1 : fd_read_full(p[0], line, sizeof(line) - 1);
	close(p[0]);
	if (pid > 0)
		waitpid(pid, &status, 0);
	if (n <= 0)
		return -EIO;
	const char *v = strstr(line, "version ");
	size_t len = v ? strspn(v + 8, "0123456789.") : 0;
	if (len == 0 || len >= 32)
		return -EIO;
	memcpy(ret, v + 8, len);
	ret[len] = '\0';
	return 0;
}

static int qemu_version(int cache_fd, int fd, const char *qemu, char ret[32], struct vial_err *err)
{
	char value[FILECACHE_VALUE_MAX];
	struct stat st;

	if (fstat(fd, &st) < 0)
		return err_sys(err, -errno, "stat %s", qemu);
	if (filecache_get(cache_fd, "qemu-version", &st, value) == 0 && strlen(value) < 32) {
		memcpy(ret, value, strlen(value) + 1);
		return 0;
	}
	if (ask_version(qemu, ret) < 0)
		return err_set(err, VIAL_E_UNSUPPORTED, "%s --version says nothing usable: is it QEMU?",
			       qemu);
	filecache_put(cache_fd, "qemu-version", &st, ret);
	return 0;
}

static int choose_machine(struct engine_host *h, struct vial_err *err)
{
	unsigned int major = 0, minor = 0;

	if (sscanf(h->version, "%u.%u", &major, &minor) != 2 || major < 6)
		return err_set(err, VIAL_E_UNSUPPORTED, "QEMU %s is too old: 6.0 or later is needed",
			       h->version);
	/* A versioned machine keeps its devices when QEMU is upgraded; 7.2 is what it is tested with. */
	if (major > 7 || (major == 7 && minor >= 2))
		snprintf(h->machine, sizeof(h->machine), "pc-q35-7.2");
	else
		snprintf(h->machine, sizeof(h->machine), "pc-q35-%u.%u", major, minor);
	return 0;
}

/* One digest over the program's and the firmware's digests. */
static int engine_digest(int cache_fd, int qemu_fd, struct engine_host *h, struct vial_err *err)
{
	uint8_t digest[SHA256_SIZE];
	struct sha256 s;
	char hex[65];
	int r = filecache_digest(cache_fd, qemu_fd, h->qemu, hex, err);

	if (r < 0)
		return r;
	sha256_init(&s);
	sha256_update(&s, hex, 64);
	for (size_t i = 0; i < ARRAY_SIZE(firmware); i++) {
		_cleanup_fd_ int fd = open(firmware[i], O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			continue;
		r = filecache_digest(cache_fd, fd, firmware[i], hex, err);
		if (r < 0)
			return r;
		sha256_update(&s, hex, 64);
	}
	sha256_final(&s, digest);
	str_hex(digest, sizeof(digest), h->digest);
	return 0;
}

/* The verdict on /dev/kvm holds for one host boot and one device node. */
static bool kvm_cached(int cache_fd, char *why, size_t n)
{
	char boot[40], kind[64], value[FILECACHE_VALUE_MAX];
	struct stat st;

	if (stat("/dev/kvm", &st) < 0) {
		snprintf(why, n,
			 "/dev/kvm does not exist (load kvm_intel or kvm_amd, or enable virtualization)");
		return false;
	}
	if (access("/dev/kvm", R_OK | W_OK) < 0) {
		snprintf(why, n, "/dev/kvm: %s (join group kvm)", strerror(errno));
		return false;
	}
	host_boot_id(boot);
	snprintf(kind, sizeof(kind), "kvm-%s", boot);
	if (filecache_get(cache_fd, kind, &st, value) == 0) {
		snprintf(why, n, "%.190s", strcmp(value, "ok") == 0 ? "" : value);
		return strcmp(value, "ok") == 0;
	}
	bool ok = kvm_usable(why, n);
	filecache_put(cache_fd, kind, &st, ok ? "ok" : why);
	return ok;
}

/* The best accelerator that works. */
static void choose_accel(int cache_fd, struct engine_host *h)
{
#ifdef __APPLE__
	(void)cache_fd;
	snprintf(h->accel, sizeof(h->accel), "hvf"); /* never run: docs/LIMITS.md */
#else
	bool kvm = kvm_cached(cache_fd, h->kvm_why, sizeof(h->kvm_why));

	snprintf(h->accel, sizeof(h->accel), "%s", kvm ? "kvm" : "tcg");
#endif
}

int engine_host_probe(int cache_fd, const char *want, struct engine_host *ret, struct vial_err *err)
{
	_cleanup_(engine_host_done) struct engine_host h = { 0 };
	_cleanup_fd_ int fd = -1;
	int r;

	if (strcmp(want, "kvm") == 0)
		return err_set(err, VIAL_E_UNSUPPORTED,
			       "engine 'kvm' is not built yet: use 'auto' or 'qemu', which takes KVM where "
			       "it works");
	if (find_in_path(QEMU_PROGRAM, &h.qemu) < 0)
		return err_set(err, VIAL_E_UNSUPPORTED,
			       "no engine: %s is not in PATH (install it: apt install qemu-system-x86)",
			       QEMU_PROGRAM);
	fd = open(h.qemu, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return err_sys(err, -errno, "open %s", h.qemu);
	r = qemu_version(cache_fd, fd, h.qemu, h.version, err);
	r = r ?: choose_machine(&h, err);
	r = r ?: engine_digest(cache_fd, fd, &h, err);
	if (r < 0)
		return r;
	choose_accel(cache_fd, &h);
	*ret = h;
	h = (struct engine_host){ 0 };
	return 0;
}

void engine_host_done(struct engine_host *h)
{
	free(h->qemu);
	memset(h, 0, sizeof(*h));
}
