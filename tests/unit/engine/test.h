/* SPDX-License-Identifier: Apache-2.0 */
/* What every test of this folder includes; cmocka wants these headers in this order. */
#ifndef TEST_ENGINE_H
#define TEST_ENGINE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "base/path.h"
#include "base/str.h"

/* A fresh directory; remove with rm_dir(). */
static inline int make_dir(char name[32])
{
	strcpy(name, "/tmp/vial-test-XXXXXX");
	assert_non_null(mkdtemp(name));
	int fd = open(name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(fd >= 0);
	return fd;
}

static inline void rm_dir(const char *name, int fd)
{
	close(fd);
	assert_int_equal(path_rm_rf_at(AT_FDCWD, name), 0);
}

#endif
