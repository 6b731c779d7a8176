// SPDX-License-Identifier: Apache-2.0
/*
 * A root directory of its own for the child: nothing but the named paths.
 *
 * Theory of operation
 *
 * Purpose: the same promise as Landlock's, by other means: either alone suffices. Also hides names (stat is
 * no Landlock right).
 * Parent: root_plan() turns the wanted paths into a list of binds. Child, in its new mount namespace, with
 * system calls only:
 *	clone each tree, read-only and nosuid, still by its name in the old root; mount a tmpfs over /proc (a
 *	directory that is always there); make mount points, attach the clones; seal the tmpfs; pivot into it;
 *	detach the old root.
 * Order of binds: outer before inner; what an earlier one shows already is left out.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/mount.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/attr.h"
#include "jail/plan.h"

/* <sys/mount.h> cannot be had together with <linux/mount.h> in every libc; these are the kernel's values. */
#define MS_RDONLY_  1UL
#define MS_NOSUID_  2UL
#define MS_NODEV_   4UL
#define MS_NOEXEC_  8UL
#define MS_REC_	    16384UL
#define MS_PRIVATE_ (1UL << 18)
#define MNT_DETACH_ 2

#ifndef OPEN_TREE_CLOEXEC
#define OPEN_TREE_CLOEXEC O_CLOEXEC
#endif

/* ---- parent ---- */

static bool plain(const char *path)
{
	return path[0] == '/' && !strstr(path, "/../") && !strstr(path, "/./") &&
	       strlen(path) < JAIL_BIND_PATH;
}

static bool shown(const struct jail_root *r, const char *path, bool write)
{
	for (size_t i = 0; i < r->n; i++) {
		size_t n = strlen(r->binds[i].path);

		if (strncmp(r->binds[i].path, path, n) == 0 && (path[n] == '/' || path[n] == '\0') &&
		    (r->binds[i].write || !write))
			return true;
	}
	return false;
}

static int add(struct jail_root *r, const char *path, bool write)
{
	char real[PATH_MAX];
	struct stat st;

	if (!plain(path)) {
		if (!realpath(path, real))
			return -errno;
		path = real;
	}
	if (stat(path, &st) < 0)
		return errno == ENOENT && !write ? 0 : -errno;
	if (shown(r, path, write))
		return 0;
	if (r->n == ARRAY_SIZE(r->binds) || strlen(path) >= JAIL_BIND_PATH || strcmp(path, "/") == 0)
		return -E2BIG;
	struct jail_bind *b = &r->binds[r->n++];
	memcpy(b->path, path, strlen(path) + 1);
	b->write = write;
	b->dir = S_ISDIR(st.st_mode);
	b->dev = S_ISCHR(st.st_mode);
	return 0;
}

/* outer_first() - shorter paths before longer ones; a handful of them, so by insertion */
static void outer_first(const struct jail_opts *o, const struct jail_path *sorted[JAIL_PATHS_MAX])
{
	for (size_t i = 0; i < o->n_paths; i++) {
		size_t at = i;

		for (; at > 0 && strlen(sorted[at - 1]->path) > strlen(o->paths[i].path); at--)
			sorted[at] = sorted[at - 1];
		sorted[at] = &o->paths[i];
	}
}

int root_plan(struct jail_root *r, const struct jail_opts *o)
{
	const struct jail_path *sorted[JAIL_PATHS_MAX] = { NULL };
	char interp[256];

	r->n = 0;
	outer_first(o, sorted);
	for (size_t i = 0; i < o->n_paths; i++) {
		int rc = add(r, sorted[i]->path, sorted[i]->access == JAIL_WRITE);
		if (rc < 0)
			return rc;
	}
	int rc = add(r, o->path, false);
	if (rc == 0 && elf_interp(o->path, interp, sizeof(interp)) == 0)
		rc = add(r, interp, false);
	return rc;
}

/* ---- child: system calls only ---- */

static int clone_tree(const struct jail_bind *b)
{
	struct mount_attr attr = { .attr_set = MOUNT_ATTR_NOSUID };
	int fd = (int)syscall(SYS_open_tree, AT_FDCWD, b->path,
			      OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);

	if (fd < 0)
		return -errno;
	if (!b->dev)
		attr.attr_set |= MOUNT_ATTR_NODEV;
	attr.attr_set |= b->write ? MOUNT_ATTR_NOEXEC : MOUNT_ATTR_RDONLY;
	if (syscall(SYS_mount_setattr, fd, "", AT_EMPTY_PATH | AT_RECURSIVE, &attr, sizeof(attr)) < 0)
		return -errno;
	return fd;
}

/* make_point() - directories down to @path and, for a file, the file; those of an outer bind exist */
static int make_point(int root, const struct jail_bind *b)
{
	char path[JAIL_BIND_PATH];

	memcpy(path, b->path + 1, strlen(b->path));
	for (char *p = path; (p = strchr(p, '/')); *p++ = '/') {
		*p = '\0';
		if (mkdirat(root, path, 0755) < 0 && errno != EEXIST)
			return -errno;
	}
	int rc = b->dir ? mkdirat(root, path, 0755) : mknodat(root, path, S_IFREG | 0444, 0);
	return rc < 0 && errno != EEXIST ? -errno : 0;
}

static int attach(int root, const struct jail_bind *b, int tree)
{
	int rc = make_point(root, b);

	if (rc < 0)
		return rc;
	if (syscall(SYS_move_mount, tree, "", root, b->path + 1, MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return -errno;
	return 0;
}

static int pivot(int root)
{
	struct mount_attr seal = { .attr_set = MOUNT_ATTR_RDONLY };

	if (syscall(SYS_mount_setattr, root, "", AT_EMPTY_PATH, &seal, sizeof(seal)) < 0)
		return -errno;
	/* The old root lands on top of the new one, from where it is taken away. [pivot_root(2)] */
	if (fchdir(root) < 0 || syscall(SYS_pivot_root, ".", ".") < 0 ||
	    syscall(SYS_umount2, ".", MNT_DETACH_) < 0 || chdir("/") < 0)
		return -errno;
	return 0;
}

int root_enter(const struct jail_root *r)
{
	int tree[ARRAY_SIZE(r->binds)] = { 0 };

	if (syscall(SYS_mount, NULL, "/", NULL, MS_REC_ | MS_PRIVATE_, NULL) < 0)
		return -errno;
	for (size_t i = 0; i < r->n; i++) {
		tree[i] = clone_tree(&r->binds[i]);
		if (tree[i] < 0)
			return tree[i];
	}
	if (syscall(SYS_mount, "tmpfs", "/proc", "tmpfs", MS_NOSUID_ | MS_NODEV_ | MS_NOEXEC_,
		    "size=64k,nr_inodes=1k,mode=755") < 0)
		return -errno;
	int root = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (root < 0)
		return -errno;
	for (size_t i = 0; i < r->n; i++) {
		int rc = attach(root, &r->binds[i], tree[i]);
		if (rc < 0)
			return rc;
	}
	return pivot(root);
}
