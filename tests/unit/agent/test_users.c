// SPDX-License-Identifier: Apache-2.0
// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
// clang-format on
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/users.h"
#include "base/str.h"

static const char passwd[] = "root:x:0:0:root:/root:/bin/sh\n"
			     "# a comment\n"
			     "\n"
			     "broken\n"
			     "nouid:x::5::/:\n"
			     "neg:x:-1:5::/:\n"
			     "huge:x:4294967295:5::/:\n"
			     "over:x:99999999999999999999:5::/:\n"
			     "ann:x:1000:100:Ann,,,:/home/ann:/bin/sh\n"
			     "1000:x:7:8::/seven:/bin/sh\n"
			     "big:x:70000:4294967294::relative:\n"
			     "short:x:12:13\n"
			     "last:x:20:21::/last";
static const char group[] = "root:x:0:\n"
			    "users:x:100:ann\n"
			    "wheel:x:10:bob,ann\n"
			    "annex:x:11:anna,an\n"
			    "again:x:10:ann\n"
			    "bad:x:zz:ann\n"
			    "four:x:44:ann\n"
			    "few:x:45";

static struct user ok(const char *spec)
{
	struct user u;

	assert_int_equal(users_resolve(spec, passwd, group, &u), 0);
	return u;
}

static int fails(const char *spec)
{
	struct user u;

	return users_resolve(spec, passwd, group, &u);
}

static void names(void **state)
{
	struct user u = ok("ann");

	(void)state;
	assert_int_equal(u.uid, 1000);
	assert_int_equal(u.gid, 100);
	assert_string_equal(u.home, "/home/ann");
	assert_int_equal(u.n_groups, 2); /* not its own, none twice, no substring */
	assert_int_equal(u.groups[0], 10);
	assert_int_equal(u.groups[1], 44);
	u = ok("");
	assert_int_equal(u.uid, 0);
	assert_string_equal(u.home, "/root");
	u = ok("last");
	assert_int_equal(u.uid, 20);
	assert_string_equal(u.home, "/last");
	u = ok("short");
	assert_int_equal(u.gid, 13);
	assert_string_equal(u.home, "/");
	assert_string_equal(ok("big").home, "/");
	assert_int_equal(ok("big").gid, 4294967294U);
}

static void numbers(void **state)
{
	struct user u = ok("1000"); /* the name wins */

	(void)state;
	assert_int_equal(u.uid, 7);
	u = ok("7");
	assert_string_equal(u.home, "/seven");
	u = ok("4242");
	assert_int_equal(u.uid, 4242);
	assert_int_equal(u.gid, 0);
	assert_int_equal(u.n_groups, 0);
	assert_string_equal(u.home, "/");
	assert_int_equal(fails("4294967295"), -ENOENT);
	assert_int_equal(fails("-1"), -ENOENT);
	assert_int_equal(fails("0x10"), -ENOENT);
	assert_int_equal(fails("neg"), -ENOENT);
	assert_int_equal(fails("huge"), -ENOENT);
	assert_int_equal(fails("nouid"), -ENOENT);
}

static void groups(void **state)
{
	struct user u = ok("ann:wheel");

	(void)state;
	assert_int_equal(u.gid, 10);
	assert_int_equal(u.n_groups, 0);
	assert_int_equal(ok("ann:4243").gid, 4243);
	assert_int_equal(ok("5:few").gid, 45);
	assert_int_equal(ok(":wheel").uid, 0);
	assert_int_equal(fails("ann:"), -ESRCH);
	assert_int_equal(fails("ann:nosuch"), -ESRCH);
	assert_int_equal(fails("ann:bad"), -ESRCH);
	assert_int_equal(fails("nosuch:wheel"), -ENOENT);
	assert_int_equal(fails("ann:wheel:x"), -ESRCH);
}

static void limits(void **state)
{
	_cleanup_buf_ struct buf many = { 0 };
	struct user u;
	char longname[400];

	(void)state;
	for (int i = 0; i < USERS_GROUPS_MAX + 1; i++)
		buf_printf(&many, "g%d:x:%d:ann\n", i, 2000 + i);
	assert_int_equal(users_resolve("ann", passwd, buf_cstr(&many), &u), -E2BIG);
	memset(longname, 'a', sizeof(longname) - 1);
	longname[sizeof(longname) - 1] = '\0';
	assert_int_equal(fails(longname), -ENOENT);
}

/* Any bytes are survived: pseudo-random ones of the characters that matter. */
static void noise(void **state)
{
	static const char letters[] = "a:\n,0189x \t\xff";
	uint32_t seed = 1;

	(void)state;
	for (int round = 0; round < 3000; round++) {
		char text[120];
		struct user u;
		size_t n = 0;
		for (; n < sizeof(text) - 1; n++) {
			seed = seed * 1664525 + 1013904223;
			text[n] = letters[(seed >> 16) % (sizeof(letters) - 1)];
		}
		text[n] = '\0';
		int r = users_resolve("a:x", text, text, &u);
		assert_true(r == 0 || r == -ENOENT || r == -ESRCH);
		r = users_resolve("a", text, text, &u);
		assert_true(r == 0 || r == -ENOENT);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names),  cmocka_unit_test(numbers), cmocka_unit_test(groups),
		cmocka_unit_test(limits), cmocka_unit_test(noise),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
