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
#include "engine/layout.h"

#define QEMU_PROGRAM "qemu-system-x86_64"

/* Firmware that becomes part of the machine: another build of it makes other templates. */
static const char *const firmware[] = {
	"/usr/share/seabios/bios-256k.bin",  "/usr/share/qemu/bios-256k.bin",
	"/usr/share/qemu/linuxboot_dma.bin", "/usr/share/qemu/kvmvapic.bin",
	"/usr/share/seabios/kvmvapic.bin",
};

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
static int qemu_digest(int cache_fd, int qemu_fd, struct engine_host *h, struct vial_err *err)
{
	uint8_t digest[SHA256_SIZE];
	struct sha256 s;
	char hex[65];
	int r = filecache_digest(cache_fd, qemu_fd, h->program, hex, err);

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

/* The best accelerator for QEMU that works. */
static void choose_accel(struct engine_host *h)
{
#ifdef __APPLE__
	snprintf(h->accel, sizeof(h->accel), "hvf"); /* never run: docs/LIMITS.md */
#else
	snprintf(h->accel, sizeof(h->accel), "%s", h->kvm_why[0] ? "tcg" : "kvm");
#endif
}

static int probe_qemu(int cache_fd, struct engine_host *h, struct vial_err *err)
{
	int r;

	h->engine = LAUNCH_QEMU;
	if (find_in_path(QEMU_PROGRAM, &h->program) < 0)
		return err_set(err, VIAL_E_UNSUPPORTED,
			       "no engine: %s is not in PATH (install it: apt install qemu-system-x86)",
			       QEMU_PROGRAM);
	_cleanup_fd_ int fd = open(h->program, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return err_sys(err, -errno, "open %s", h->program);
	r = qemu_version(cache_fd, fd, h->program, h->version, err);
	r = r ?: choose_machine(h, err);
	r = r ?: qemu_digest(cache_fd, fd, h, err);
	if (r == 0)
		choose_accel(h);
	return r;
}

static int probe_vmm(int cache_fd, const char *vmm, struct engine_host *h, struct vial_err *err)
{
	_cleanup_fd_ int fd = open(vmm, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return err_sys(err, -errno, "engine 'kvm': open %s (is vial installed whole?)", vmm);
	h->engine = LAUNCH_KVM;
	h->program = strdup(vmm);
	if (!h->program)
		return err_sys(err, -ENOMEM, "probe the host");
	snprintf(h->machine, sizeof(h->machine), "vial-%d", LAYOUT_VERSION);
	snprintf(h->accel, sizeof(h->accel), "kvm");
	return filecache_digest(cache_fd, fd, vmm, h->digest, err);
}

int engine_host_probe(int cache_fd, const char *want, const char *vmm, struct engine_host *ret,
		      struct vial_err *err)
{
	_cleanup_(engine_host_done) struct engine_host h = { 0 };
	bool kvm = host_kvm(cache_fd, ENGINE_KVM_NODE, h.kvm_why), must = strcmp(want, "kvm") == 0;
	int r;

	if (must && !kvm)
		return err_set(err, VIAL_E_UNSUPPORTED, "engine 'kvm' cannot be used: %s", h.kvm_why);
	/* Built without vial-vmm, there is QEMU still. */
	if (must || (kvm && strcmp(want, "auto") == 0 && access(vmm, X_OK) == 0))
		r = probe_vmm(cache_fd, vmm, &h, err);
	else
		r = probe_qemu(cache_fd, &h, err);
	if (r < 0)
		return r;
	*ret = h;
	h = (struct engine_host){ 0 };
	return 0;
}

const char *engine_host_name(const struct engine_host *h)
{
	return h->engine == LAUNCH_KVM ? "kvm" : "qemu";
}

void engine_host_done(struct engine_host *h)
{
	free(h->program);
	memset(h, 0, sizeof(*h));
}
