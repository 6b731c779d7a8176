// SPDX-License-Identifier: Apache-2.0
// passwd and group files [passwd(5), group(5)]; any text must be survived.
#include "agent/users.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "base/mem.h"
#include "base/str.h"

#define FIELDS_MAX 7

/* struct field - part of a line; not NUL-terminated */
struct field {
	const char *p;
	size_t n;
};

/* Splits the line at *@at at ':' and moves on; Return: fields found, 0 at the end of the text. */
static size_t next_line(const char **at, struct field f[FIELDS_MAX])
{
	const char *p = *at;
	size_t n = 0;

	if (!*p)
		return 0;
	const char *end = strchrnul(p, '\n');
	*at = *end ? end + 1 : end;
	for (;;) {
		const char *colon = memchr(p, ':', (size_t)(end - p));
		if (!colon || n == FIELDS_MAX - 1) {
			f[n++] = (struct field){ p, (size_t)(end - p) };
			return n;
		}
		f[n++] = (struct field){ p, (size_t)(colon - p) };
		p = colon + 1;
	}
}

static bool field_is(struct field f, const char *s)
{
	return f.n == strlen(s) && memcmp(f.p, s, f.n) == 0;
}

/* An id: 0..2^32-2; the last value means "unchanged" to setuid(2). */
static bool id_parse(const char *p, size_t n, uint32_t *ret)
{
	char digits[12];
	uint64_t v;

	if (n == 0 || n >= sizeof(digits))
		return false;
	memcpy(digits, p, n);
	digits[n] = '\0';
	if (str_u64(digits, UINT32_MAX - 1, &v) < 0)
		return false;
	*ret = (uint32_t)v;
	return true;
}

struct account {
	char name[256];
	bool listed;
	uint32_t uid, gid;
	struct field home;
};

/* Looks for a line whose name is @name, or with @by_id whose uid is @uid. */
static bool find_account(const char *passwd, const char *name, bool by_id, uint32_t uid, struct account *ret)
{
	struct field f[FIELDS_MAX];
	size_t n;

	while ((n = next_line(&passwd, f)) > 0) {
		uint32_t u, g;
		if (n < 4 || f[0].n == 0 || f[0].n >= sizeof(ret->name))
			continue;
		if (!id_parse(f[2].p, f[2].n, &u) || !id_parse(f[3].p, f[3].n, &g))
			continue;
		if (by_id ? u != uid : !field_is(f[0], name))
			continue;
		*ret = (struct account){ .listed = true, .uid = u, .gid = g };
		memcpy(ret->name, f[0].p, f[0].n);
		if (n > 5)
			ret->home = f[5];
		return true;
	}
	return false;
}

static int resolve_user(const char *spec, const char *passwd, struct account *ret)
{
	uint32_t uid;

	if (*spec && find_account(passwd, spec, false, 0, ret))
		return 0;
	if (!id_parse(*spec ? spec : "0", *spec ? strlen(spec) : 1, &uid))
		return -ENOENT;
	if (!find_account(passwd, NULL, true, uid, ret))
		*ret = (struct account){ .uid = uid };
	return 0;
}

static int resolve_group(const char *spec, const char *group, gid_t *ret)
{
	const char *at = group;
	struct field f[FIELDS_MAX];
	uint32_t gid;
	size_t n;

	while ((n = next_line(&at, f)) > 0) {
		if (n >= 3 && field_is(f[0], spec) && id_parse(f[2].p, f[2].n, &gid)) {
			*ret = gid;
			return 0;
		}
	}
	if (!id_parse(spec, strlen(spec), &gid))
		return -ESRCH;
	*ret = gid;
	return 0;
}

static bool is_member(struct field list, const char *name)
{
	while (list.n > 0) {
		const char *comma = memchr(list.p, ',', list.n);
		size_t len = comma ? (size_t)(comma - list.p) : list.n;
		if (field_is((struct field){ list.p, len }, name))
			return true;
		if (!comma)
			return false;
		list.p += len + 1;
		list.n -= len + 1;
	}
	return false;
}

static bool has_group(const struct user *u, gid_t gid)
{
	if (u->gid == gid)
		return true;
	for (size_t i = 0; i < u->n_groups; i++)
		if (u->groups[i] == gid)
			return true;
	return false;
}

static int add_memberships(const char *group, const char *name, struct user *u)
{
	struct field f[FIELDS_MAX];
	size_t n;

	while ((n = next_line(&group, f)) > 0) {
		uint32_t gid;
		if (n < 4 || !id_parse(f[2].p, f[2].n, &gid) || !is_member(f[3], name) || has_group(u, gid))
			continue;
		if (u->n_groups == USERS_GROUPS_MAX)
			return -E2BIG;
		u->groups[u->n_groups++] = gid;
	}
	return 0;
}

static void set_home(struct user *u, struct field home)
{
	if (home.n == 0 || home.n >= sizeof(u->home) || home.p[0] != '/') {
		strcpy(u->home, "/");
		return;
	}
	memcpy(u->home, home.p, home.n);
	u->home[home.n] = '\0';
}

int users_resolve(const char *spec, const char *passwd, const char *group, struct user *ret)
{
	char name[256];
	const char *colon = strchrnul(spec, ':');
	size_t len = (size_t)(colon - spec);
	struct account acc;
	int r;

	if (len >= sizeof(name))
		return -ENOENT;
	memcpy(name, spec, len);
	name[len] = '\0';
	r = resolve_user(name, passwd, &acc);
	if (r < 0)
		return r;
	memset(ret, 0, sizeof(*ret));
	ret->uid = acc.uid;
	ret->gid = acc.gid;
	set_home(ret, acc.home);
	if (*colon)
		return resolve_group(colon + 1, group, &ret->gid);
	return acc.listed ? add_memberships(group, acc.name, ret) : 0;
}

/* A missing file is empty; a device or FIFO in its place is refused, never waited for. */
static int load_file(const char *path, char **ret)
{
	_cleanup_fd_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct stat st;

	if (fd < 0 && errno != ENOENT && errno != ENOTDIR)
		return -errno;
	if (fd < 0) {
		*ret = strdup("");
		return *ret ? 0 : -ENOMEM;
	}
	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	return fd_read_all(fd, USERS_FILE_MAX, ret, NULL);
}

int users_load(const char *spec, struct user *ret)
{
	_cleanup_free_ char *passwd = NULL, *group = NULL;
	int r = load_file("/etc/passwd", &passwd);

	if (r == 0)
		r = load_file("/etc/group", &group);
	return r < 0 ? r : users_resolve(spec, passwd, group, ret);
}

/* A missing file is all zeros. */
static bool identify(const char *path, struct users_file *ret)
{
	struct stat st;

	memset(ret, 0, sizeof(*ret));
	if (stat(path, &st) < 0)
		return errno == ENOENT || errno == ENOTDIR;
	*ret = (struct users_file){ st.st_dev, st.st_ino, st.st_size, st.st_mtim, st.st_ctim };
	return true;
}

static bool same_time(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

static bool unchanged(const char *path, const struct users_file *was)
{
	struct users_file now;

	return identify(path, &now) && now.dev == was->dev && now.ino == was->ino && now.size == was->size &&
	       same_time(&now.mtime, &was->mtime) && same_time(&now.ctime, &was->ctime);
}

void users_cache_fill(struct users_cache *c)
{
	/* Identities first: a change in between then shows. */
	c->valid = identify("/etc/passwd", &c->passwd) && identify("/etc/group", &c->group) &&
		   users_load("", &c->user) == 0;
}

const struct user *users_cached(const struct users_cache *c)
{
	if (!c->valid || !unchanged("/etc/passwd", &c->passwd) || !unchanged("/etc/group", &c->group))
		return NULL;
	return &c->user;
}
