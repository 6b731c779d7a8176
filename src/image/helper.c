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

static void make_printable(char *s)
{
	for (; *s; s++)
		if ((unsigned char)*s < 0x20 || *s == 0x7f)
			*s = '?';
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
	make_printable(msg);
	return err_set(err, code_of(v.code), "%s", msg);
}

/* Only async-signal-safe calls: the caller may have threads. */
static _noreturn_ void child(const char *path, char *const *argv, const struct jail_fd *fds, size_t n)
{
	static char *const envp[] = { NULL };
	int high[HELPER_FDS_MAX];

	/* First out of the way of the targets, then into place. */
	for (size_t i = 0; i < n; i++)
		high[i] = fcntl(fds[i].fd, F_DUPFD_CLOEXEC, UNPACK_FD_LAYER + HELPER_FDS_MAX);
	for (size_t i = 0; i < n; i++)
		if (high[i] < 0 || dup2(high[i], fds[i].as) < 0)
			_exit(EXIT_FAILURE);
	execve(path, argv, envp);
	_exit(EXIT_FAILURE);
}

static int spawn_unpack(const struct image_env *env, char *const *argv, const struct jail_fd *fds, size_t n,
			pid_t *ret_pid, struct vial_err *err)
{
	pid_t pid = fork();

	if (pid < 0)
		return err_sys(err, -errno, "start %s", env->unpack_path);
	if (pid == 0)
		child(env->unpack_path, argv, fds, n);
	*ret_pid = pid;
	return 0;
}

static void reap(pid_t pid)
{
	/* The report says how it went; the status adds nothing (and a host program may reap first). */
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
}

static int run_and_read(const struct image_env *env, char *const *argv, const struct jail_fd *fds, size_t n_fds,
			struct buf *report, struct vial_err *err)
{
	_cleanup_free_ char *text = NULL;
	struct jail_fd all[HELPER_FDS_MAX];
	pid_t pid = -1;
	size_t len;
	int p[2], r;

	if (n_fds >= HELPER_FDS_MAX)
		return err_set(err, VIAL_E_LIMIT, "too many layers");
	if (pipe2(p, O_CLOEXEC) < 0)
		return err_sys(err, -errno, "make a pipe");
	_cleanup_fd_ int in = p[0];
	_cleanup_fd_ int out = p[1];
	memcpy(all, fds, n_fds * sizeof(*fds));
	all[n_fds] = (struct jail_fd){ .fd = out, .as = UNPACK_FD_REPORT };
	r = spawn_unpack(env, argv, all, n_fds + 1, &pid, err);
	if (r < 0)
		return r;
	fd_close(&out);
	r = fd_read_all(in, IMAGE_REPORT_MAX, &text, &len);
	fd_close(&in);
	reap(pid);
	if (r < 0)
		return err_sys(err, r, "read the report of vial-unpack");
	buf_append(report, text, len);
	return buf_ok(report) ? 0 : err_set(err, VIAL_E_NO_MEMORY, "out of memory");
}

int helper_run(const struct image_env *env, char *const *args, const struct jail_fd *fds, size_t n_fds,
	       struct report *ret, struct vial_err *err)
{
	_cleanup_buf_ struct buf report = { 0 };
	char *argv[ARGS_MAX + 2] = { (char *)(uintptr_t)"vial-unpack" };
	size_t n = 0;
	int r;

	*ret = (struct report){ 0 };
	while (n < ARGS_MAX && args[n]) {
		argv[n + 1] = args[n];
		n++;
	}
	r = run_and_read(env, argv, fds, n_fds, &report, err);
	return r < 0 ? r : decode(&report, ret, err);
}
