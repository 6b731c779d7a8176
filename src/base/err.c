// SPDX-License-Identifier: Apache-2.0
/*
 * Filling struct vial_err.
 *
 * Texts quote file names, images, QEMU and guests, and end on terminals: every message is defused as a whole.
 */
#include "base/err.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/str.h"

static const struct {
	int code;
	const char *name;
} names[] = {
	{ VIAL_OK, "ok" },
	{ VIAL_E_INVALID, "invalid" },
	{ VIAL_E_NOT_FOUND, "not-found" },
	{ VIAL_E_EXISTS, "exists" },
	{ VIAL_E_DENIED, "denied" },
	{ VIAL_E_NO_SPACE, "no-space" },
	{ VIAL_E_NO_MEMORY, "no-memory" },
	{ VIAL_E_UNSUPPORTED, "unsupported" },
	{ VIAL_E_TIMEOUT, "timeout" },
	{ VIAL_E_STATE, "state" },
	{ VIAL_E_CORRUPT, "corrupt" },
	{ VIAL_E_PROTOCOL, "protocol" },
	{ VIAL_E_ENGINE, "engine" },
	{ VIAL_E_IO, "io" },
	{ VIAL_E_LIMIT, "limit" },
	{ VIAL_E_CMD_NOT_FOUND, "command-not-found" },
	{ VIAL_E_CMD_NOT_EXECUTABLE, "command-not-executable" },
	{ VIAL_E_CMD_BAD_CWD, "bad-working-directory" },
	{ VIAL_E_CMD_BAD_USER, "bad-user" },
	{ VIAL_E_CMD_TOO_LONG, "argument-list-too-long" },
};

/* The one public function outside api/: programs that link no libvial need it, too. */
__attribute__((visibility("default"))) const char *vial_error_name(int code)
{
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (names[i].code == code)
			return names[i].name;
	return "unknown";
}

static int code_of_errno(int e)
{
	switch (e) {
	case ENOENT:
		return VIAL_E_NOT_FOUND;
	case EACCES:
	case EPERM:
		return VIAL_E_DENIED;
	case ENOSPC:
	case EDQUOT:
		return VIAL_E_NO_SPACE;
	case ENOMEM:
		return VIAL_E_NO_MEMORY;
	case EEXIST:
		return VIAL_E_EXISTS;
	case ETIMEDOUT:
		return VIAL_E_TIMEOUT;
	default:
		return VIAL_E_IO;
	}
}

int err_set(struct vial_err *err, int code, const char *fmt, ...)
{
	va_list ap;

	if (!err)
		return code;
	assert(err->code == 0);
	err->code = code;
	va_start(ap, fmt);
	vsnprintf(err->msg, sizeof(err->msg), fmt, ap);
	va_end(ap);
	str_defuse(err->msg);
	return code;
}

int err_sys(struct vial_err *err, int neg_errno, const char *fmt, ...)
{
	int code = code_of_errno(-neg_errno);
	char why[64];
	va_list ap;
	size_t n;

	if (!err)
		return code;
	assert(err->code == 0);
	err->code = code;
	err->sys_errno = -neg_errno;
	va_start(ap, fmt);
	vsnprintf(err->msg, sizeof(err->msg), fmt, ap);
	va_end(ap);
	/* GNU strerror_r: thread-safe, may return a static string instead of filling @why. */
	const char *text = strerror_r(-neg_errno, why, sizeof(why));
	n = MIN(strlen(err->msg), sizeof(err->msg) - strlen(text) - 3);
	snprintf(err->msg + n, sizeof(err->msg) - n, ": %s", text);
	str_defuse(err->msg);
	return code;
}

int err_prefix(struct vial_err *err, const char *fmt, ...)
{
	char head[VIAL_ERR_MSG_SIZE];
	va_list ap;

	if (!err)
		return VIAL_E_IO;
	va_start(ap, fmt);
	vsnprintf(head, sizeof(head) - 2, fmt, ap);
	va_end(ap);
	memcpy(head + strlen(head), ": ", sizeof(": "));
	size_t cause = strlen(err->msg);
	size_t n = MIN(strlen(head), sizeof(err->msg) - 1 - cause);
	memmove(err->msg + n, err->msg, cause + 1);
	memcpy(err->msg, head, n);
	str_defuse(err->msg);
	return err->code;
}

void err_clear(struct vial_err *err)
{
	if (!err)
		return;
	err->code = 0;
	err->sys_errno = 0;
	err->msg[0] = '\0';
}
