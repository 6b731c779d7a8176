// SPDX-License-Identifier: Apache-2.0
// Running vial-unpack and reading its report, which is hostile if the helper was taken over.
#include "image/helper.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/mem.h"
#include "image/config.h"
#include "image/limits.h"
#include "image/report.h"
#include "wire/tlv.h"

#define ARGS_MAX 8

/* Twice what a tree at image/limits.h's bounds takes, for the merged one and the layer being laid over it. */
#define UNPACK_MEMORY_MAX      (MIB(1024) * 6)
#define UNPACK_CPU_SECONDS_MAX 3600
#define UNPACK_FILE_MAX	       (IMAGE_DATA_BYTES_MAX + MIB(1024) * 8)
#define UNPACK_FDS_MAX	       256

void report_done(struct report *r)
{
	config_done(&r->config);
	free(r->need);
	free(r->layers);
	*r = (struct report){ 0 };
}

static int get_digest(const struct tlv *t, uint8_t *ret)
{
	if (t->n != SHA256_SIZE)
		return -EBADMSG;
	memcpy(ret, t->p, SHA256_SIZE);
	return 0;
}

static int decode_layer_field(const struct tlv *t, struct helper_layer *l)
{
	switch (t->tag) {
	case LAYER_DIFF_ID:
		return get_digest(t, l->diff_id);
	case LAYER_BLOB:
		l->has_blob = true;
		return get_digest(t, l->blob);
	case LAYER_OFFSET:
		return tlv_u64(t, &l->offset);
	case LAYER_BYTES:
		return tlv_u64(t, &l->bytes);
	default:
		return 0;
	}
}

static int decode_layer(const struct tlv *t, struct report *r)
{
	struct tlv_in in = { t->p, t->n };
	struct tlv field;
	int e;

	if (!r->layers)
		r->layers = calloc(IMAGE_LAYERS_MAX, sizeof(*r->layers));
	if (!r->layers)
		return -ENOMEM;
	if (r->n_layers >= IMAGE_LAYERS_MAX)
		return -E2BIG;
	struct helper_layer *l = &r->layers[r->n_layers++];
	while ((e = tlv_next(&in, &field)) > 0) {
		e = decode_layer_field(&field, l);
		if (e < 0)
			return e;
	}
	return e;
}

/* struct verdict - how the job ended */
struct verdict {
	bool done;
	uint32_t code;
	char *msg;
};

static int decode_field(const struct tlv *t, struct report *r, struct verdict *v)
{
	switch (t->tag) {
	case REPORT_DONE:
		v->done = true;
		return 0;
	case REPORT_ERROR_CODE:
		return tlv_u32(t, &v->code);
	case REPORT_ERROR_MSG:
		return v->msg ? -EBADMSG : tlv_str(t, VIAL_ERR_MSG_SIZE, &v->msg);
	case REPORT_PLAIN_DIGEST:
		return get_digest(t, r->plain_digest);
	case REPORT_RAW_DIGEST:
		return get_digest(t, r->raw_digest);
	case REPORT_IMAGE_DIGEST:
		return get_digest(t, r->image_digest);
	case REPORT_DATA_BYTES:
		return tlv_u64(t, &r->data_bytes);
	case REPORT_KIND:
		return tlv_u32(t, &r->kind);
	case REPORT_NEED:
		return r->need ? -EBADMSG : tlv_str(t, SHA256_HEX, &r->need);
	case REPORT_CONFIG:
		config_done(&r->config);
		return config_decode(t->p, t->n, &r->config);
	case REPORT_LAYER:
		return decode_layer(t, r);
	default:
		return 0;
	}
}

static int code_of(uint32_t code)
{
	/* Only codes the library has names for, whatever the helper says. */
	if (code > INT32_MAX || strcmp(vial_error_name(-(int)code), "unknown") == 0 || code == 0)
		return VIAL_E_CORRUPT;
	return -(int)code;
}

static int decode(const struct buf *b, struct report *ret, struct vial_err *err)
{
	struct verdict v = { 0 };
	struct tlv_in in = { (const uint8_t *)b->data, b->len };
	struct tlv t;
	int r;

	while ((r = tlv_next(&in, &t)) > 0) {
		r = decode_field(&t, ret, &v);
		if (r < 0)
			break;
	}
	_cleanup_free_ char *msg = v.msg;
	if (r < 0)
		return err_sys(err, r, "vial-unpack sent a bad report");
	if (!v.done)
		return err_set(err, VIAL_E_CORRUPT, "vial-unpack died (out of memory or time, or killed)");
	if (!msg)
		return 0;
	return err_set(err, code_of(v.code), "%s", msg);
}

/*
 * The loader needs the libraries; main() locks itself in once more without any path. PDEATHSIG is safe although the
 * caller may have threads: the one that starts the helper waits for it below.
 */
static int spawn_unpack(const struct image_env *env, char *const *argv, const struct jail_fd *fds, size_t n,
			struct jail_child *ret, struct vial_err *err)
{
	static const struct jail_path paths[] = {
		{ "/usr", JAIL_READ },
		{ "/lib", JAIL_READ },
		{ "/lib64", JAIL_READ },
		{ "/etc/ld.so.cache", JAIL_READ },
	};
	static const struct jail_rlimit rlimits[] = {
		{ RLIMIT_AS, UNPACK_MEMORY_MAX },
		{ RLIMIT_CPU, UNPACK_CPU_SECONDS_MAX },
		{ RLIMIT_FSIZE, UNPACK_FILE_MAX },
		{ RLIMIT_NOFILE, UNPACK_FDS_MAX },
	};
	struct jail_opts o = {
		.path = env->unpack_path,
		.argv = argv,
		.fds = fds,
		.n_fds = n,
		.paths = paths,
		.n_paths = ARRAY_SIZE(paths),
		.profile = JAIL_UNPACK,
		.uid = env->uid,
		.gid = env->gid,
		.rlimits = rlimits,
		.n_rlimits = ARRAY_SIZE(rlimits),
		.namespaces = true,
		.die_with_parent = true,
	};

	return jail_spawn(&o, ret, err);
}

static void reap(struct jail_child *c)
{
	/* The report says how it went; the status adds nothing (and a host program may reap first). */
	while (waitpid(c->pid, NULL, __WALL) < 0 && errno == EINTR)
		;
	fd_close(&c->pidfd);
}

/* struct run - one run of the helper */
struct run {
	char *const *argv;
	struct jail_fd fds[HELPER_FDS_MAX];
	size_t n_fds;
	helper_feed_fn *feed;
	void *feed_data;
};

static int run_and_read(const struct image_env *env, struct run *run, struct buf *ret, struct vial_err *err)
{
	struct jail_child helper;
	char *text = NULL;
	int p[2], fed = 0;

	if (pipe2(p, O_CLOEXEC) < 0)
		return err_sys(err, -errno, "make a pipe");
	_cleanup_fd_ int in = p[0];
	_cleanup_fd_ int out = p[1];
	run->fds[run->n_fds++] = (struct jail_fd){ .fd = out, .as = UNPACK_FD_REPORT };
	int r = spawn_unpack(env, run->argv, run->fds, run->n_fds, &helper, err);
	if (r < 0)
		return r;
	fd_close(&out);
	if (run->feed)
		fed = run->feed(run->feed_data, err);
	r = fd_read_all(in, IMAGE_REPORT_MAX, &text, &ret->len);
	fd_close(&in);
	reap(&helper);
	if (fed < 0 || r < 0) {
		free(text);
		ret->len = 0;
		return fed < 0 ? fed : err_sys(err, r, "read the report of vial-unpack");
	}
	ret->data = text;
	return 0;
}

int helper_run(const struct image_env *env, char *const *args, const struct jail_fd *fds, size_t n_fds,
	       helper_feed_fn *feed, void *feed_data, struct report *ret, struct vial_err *err)
{
	char *argv[ARGS_MAX + 2] = { (char *)(uintptr_t) "vial-unpack" };
	struct run run = { .argv = argv, .n_fds = n_fds, .feed = feed, .feed_data = feed_data };
	_cleanup_buf_ struct buf report = { 0 };
	size_t n = 0;

	*ret = (struct report){ 0 };
	if (n_fds >= HELPER_FDS_MAX)
		return err_set(err, VIAL_E_LIMIT, "too many layers");
	memcpy(run.fds, fds, n_fds * sizeof(*fds));
	while (n < ARGS_MAX && args[n]) {
		argv[n + 1] = args[n];
		n++;
	}
	int r = run_and_read(env, &run, &report, err);
	return r < 0 ? r : decode(&report, ret, err);
}
