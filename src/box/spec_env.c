// SPDX-License-Identifier: Apache-2.0
// Variables for the command, one by one or from a file as docker reads it.
#include "box/spec.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/mem.h"

#define BOM "\xef\xbb\xbf" /* which some editors put first */

int spec_env_add(struct vial_spec *s, const char *value, struct vial_err *err)
{
	_cleanup_free_ char *whole = NULL;
	const char *eq = strchr(value, '=');

	if (eq == value || !*value)
		return err_set(err, VIAL_E_INVALID, "'%.64s' has no name before '='", value);
	if (!eq) {
		const char *own = getenv(value);
		if (!own)
			return 0;
		if (asprintf(&whole, "%s=%s", value, own) < 0)
			return err_set(err, VIAL_E_NO_MEMORY, "out of memory");
		value = whole;
	}
	if (s->env.n >= SPEC_ENV_MAX)
		return err_set(err, VIAL_E_LIMIT, "more than %d variables", SPEC_ENV_MAX);
	if (strv_setenv(&s->env, value) < 0)
		return err_set(err, VIAL_E_NO_MEMORY, "out of memory");
	s->is_set[SPEC_ENV] = true;
	return 0;
}

/* One line without its end; NUL-terminated in place. */
static int add_line(struct vial_spec *s, char *line, struct vial_err *err)
{
	line += strspn(line, " \t\v\f");
	if (!*line || *line == '#')
		return 0;
	size_t key = strcspn(line, "=");
	if (key != strcspn(line, "= \t\v\f"))
		return err_set(err, VIAL_E_INVALID, "variable name '%.*s' has a blank in it",
			       (int)MIN(key, 64U), line);
	return spec_env_add(s, line, err);
}

int spec_env_parse(struct vial_spec *s, const char *text, size_t n, const char *origin, struct vial_err *err)
{
	const char *end = text + n;
	unsigned int number = 0;

	if (n >= strlen(BOM) && memcmp(text, BOM, strlen(BOM)) == 0)
		text += strlen(BOM);
	while (text < end) {
		const char *nl = memchr(text, '\n', (size_t)(end - text));
		size_t len = (size_t)((nl ? nl : end) - text);
		_cleanup_free_ char *line = strndup(text, len);

		number++;
		if (!line)
			return err_set(err, VIAL_E_NO_MEMORY, "out of memory");
		if (strlen(line) != len)
			return err_set(err, VIAL_E_INVALID, "%s:%u: has a NUL byte", origin, number);
		if (len > 0 && line[len - 1] == '\r')
			line[len - 1] = '\0';
		if (add_line(s, line, err) < 0)
			return err_prefix(err, "%s:%u", origin, number);
		text += nl ? len + 1 : len;
	}
	return 0;
}

int spec_env_file_add(struct vial_spec *s, const char *path, struct vial_err *err)
{
	_cleanup_free_ char *text = NULL;
	size_t n = 0;
	int r;

	if (!*path)
		return err_set(err, VIAL_E_INVALID, "must not be empty");
	r = fd_read_file_at(AT_FDCWD, path, SPEC_FILE_MAX, &text, &n);
	if (r == -EFBIG)
		return err_set(err, VIAL_E_LIMIT, "%s: longer than %zu bytes", path, SPEC_FILE_MAX);
	if (r < 0)
		return err_sys(err, r, "%s", path);
	return spec_env_parse(s, text, n, path, err);
}
