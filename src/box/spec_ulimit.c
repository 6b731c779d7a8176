// SPDX-License-Identifier: Apache-2.0
// Resource limits by the names docker uses (plus "as").
#include "box/spec.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/suggest.h"

static const struct {
	const char *name;
	uint32_t resource;
} names[] = {
	{ "as", RLIMIT_AS },	       { "core", RLIMIT_CORE },		{ "cpu", RLIMIT_CPU },
	{ "data", RLIMIT_DATA },       { "fsize", RLIMIT_FSIZE },	{ "locks", RLIMIT_LOCKS },
	{ "memlock", RLIMIT_MEMLOCK }, { "msgqueue", RLIMIT_MSGQUEUE }, { "nice", RLIMIT_NICE },
	{ "nofile", RLIMIT_NOFILE },   { "nproc", RLIMIT_NPROC },	{ "rss", RLIMIT_RSS },
	{ "rtprio", RLIMIT_RTPRIO },   { "rttime", RLIMIT_RTTIME },	{ "sigpending", RLIMIT_SIGPENDING },
	{ "stack", RLIMIT_STACK },
};

_Static_assert(ARRAY_SIZE(names) == SPEC_RLIMITS_MAX, "every resource has a name");

static int find_name(const char *value, size_t len, uint32_t *ret, struct vial_err *err)
{
	char word[32];
	struct suggest near = { .word = word };

	snprintf(word, sizeof(word), "%.*s", (int)MIN(len, sizeof(word) - 1), value);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		if (strcmp(names[i].name, word) == 0) {
			*ret = names[i].resource;
			return 0;
		}
		suggest_offer(&near, names[i].name);
	}
	return err_set(err, VIAL_E_INVALID, "'%s' is not a resource limit (%s%s%s)", word,
		       near.best ? "did you mean " : "try nofile, nproc, cpu, as, fsize, core, stack",
		       near.best ? near.best : "", near.best ? "?" : "");
}

/* "-1" is unlimited too, as for docker. */
static int parse_limit(const char *s, uint64_t *ret)
{
	if (strcmp(s, "unlimited") == 0 || strcmp(s, "-1") == 0) {
		*ret = SPEC_UNLIMITED;
		return 0;
	}
	return str_u64(s, SPEC_UNLIMITED - 1, ret);
}

static int parse_ulimit(const char *value, struct spec_rlimit *ret, struct vial_err *err)
{
	const char *eq = strchr(value, '=');
	char soft[32];

	if (!eq)
		return err_set(err, VIAL_E_INVALID, "'%.64s' is not NAME=SOFT[:HARD], such as nofile=1024",
			       value);
	int r = find_name(value, (size_t)(eq - value), &ret->resource, err);
	if (r < 0)
		return r;
	size_t len = strcspn(eq + 1, ":");
	snprintf(soft, sizeof(soft), "%.*s", (int)MIN(len, sizeof(soft) - 1), eq + 1);
	const char *hard = eq[1 + len] ? eq + 1 + len + 1 : soft;
	if (len >= sizeof(soft) || parse_limit(soft, &ret->soft) < 0 || parse_limit(hard, &ret->hard) < 0)
		return err_set(err, VIAL_E_INVALID, "'%.64s': limits are numbers or 'unlimited'", value);
	if (ret->soft > ret->hard)
		return err_set(err, VIAL_E_INVALID, "'%.64s': the soft limit is above the hard one", value);
	return 0;
}

int spec_ulimit_add(struct vial_spec *s, const char *value, struct vial_err *err)
{
	struct spec_rlimit limit = { 0 };
	size_t i = 0;
	int r = parse_ulimit(value, &limit, err);

	if (r < 0)
		return r;
	while (i < s->n_rlimits && s->rlimits[i].resource != limit.resource)
		i++;
	if (i == s->n_rlimits) {
		/* Cannot pass SPEC_RLIMITS_MAX: each resource is there once. */
		if (strv_add(&s->ulimit, value) < 0)
			return err_set(err, VIAL_E_NO_MEMORY, "out of memory");
		s->n_rlimits++;
	} else {
		char *copy = strdup(value);
		if (!copy)
			return err_set(err, VIAL_E_NO_MEMORY, "out of memory");
		free(s->ulimit.v[i]);
		s->ulimit.v[i] = copy;
	}
	s->rlimits[i] = limit;
	return 0;
}
