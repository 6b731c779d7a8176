/* SPDX-License-Identifier: Apache-2.0 */
/* Users and groups of the guest's root, read without NSS. */
#ifndef AGENT_USERS_H
#define AGENT_USERS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <time.h>

#define USERS_GROUPS_MAX 256
#define USERS_FILE_MAX	 (4 * 1024 * 1024) /* longest /etc/passwd or /etc/group that is read */

struct user {
	uid_t uid;
	gid_t gid;
	gid_t groups[USERS_GROUPS_MAX]; /* supplementary, without @gid */
	size_t n_groups;
	char home[512]; /* "/" if passwd does not say */
};

/**
 * users_resolve() - "", "name", "uid", each with optional ":group" or ":gid"
 * @passwd, @group:	contents of the files, NUL-terminated; hostile
 *
 * As Docker does it: a name wins over the same digits as a number; a number need not be listed and
 * then gets gid 0; an explicit group replaces all groups of the user. "" is uid 0.
 * Return: 0, -ENOENT (no such user), -ESRCH (no such group), -E2BIG (more than USERS_GROUPS_MAX).
 */
int users_resolve(const char *spec, const char *passwd, const char *group, struct user *ret);

/* users_load() - users_resolve() on /etc/passwd and /etc/group; a missing one is empty; also -EFBIG, -ENOMEM, -EINVAL */
int users_load(const char *spec, struct user *ret);

/**
 * struct users_cache - a user found before, and the files that said so
 * @valid:	something is in it
 */
struct users_cache {
	bool valid;
	struct users_file {
		dev_t dev;
		ino_t ino;
		off_t size;
		struct timespec mtime, ctime;
	} passwd, group;
	struct user user;
};

/* users_cache_fill() - remember what users_load("") says, if it can be told */
void users_cache_fill(struct users_cache *c);
/* users_cached() - the user of "" if @c knows it and neither file was changed or replaced since; else NULL */
const struct user *users_cached(const struct users_cache *c);

#endif
