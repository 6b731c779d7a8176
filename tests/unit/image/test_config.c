// SPDX-License-Identifier: Apache-2.0
#include "helpers.h"

#include <errno.h>
#include <stdlib.h>

#include "image/config.h"
#include "wire/tlv.h"

static void there_and_back(void **state _unused_)
{
	struct image_config c = { 0 }, d;
	struct buf b = { 0 };

	strv_add(&c.entrypoint, "/bin/sh");
	strv_add(&c.entrypoint, "");
	strv_add(&c.env, "A=1");
	c.user = strdup("1:2");
	c.stop_signal = strdup("SIGQUIT");
	config_encode(&c, &b);
	assert_int_equal(config_decode(b.data, b.len, &d), 0);
	assert_int_equal(d.entrypoint.n, 2);
	assert_string_equal(d.entrypoint.v[1], "");
	assert_int_equal(d.cmd.n, 0);
	assert_string_equal(d.env.v[0], "A=1");
	assert_string_equal(d.user, "1:2");
	assert_null(d.workdir);
	assert_string_equal(d.stop_signal, "SIGQUIT");
	config_done(&c);
	config_done(&d);
	buf_done(&b);
}

static void every_cut_is_refused_or_shorter(void **state _unused_)
{
	struct image_config c = { 0 }, d;
	struct buf b = { 0 };
	unsigned int refused = 0;

	strv_add(&c.cmd, "abc");
	c.user = strdup("u");
	config_encode(&c, &b);
	for (size_t n = 0; n < b.len; n++) {
		refused += config_decode(b.data, n, &d) < 0;
		config_done(&d);
	}
	/* All but the empty list and the end of the first entry. */
	assert_int_equal(refused, b.len - 2);
	config_done(&c);
	buf_done(&b);
}

static void bounds(void **state _unused_)
{
	struct image_config d;
	struct buf b = { 0 };

	for (int i = 0; i <= CONFIG_STRINGS_MAX; i++)
		tlv_put_str(&b, 1, "x");
	assert_int_equal(config_decode(b.data, b.len, &d), -E2BIG);
	config_done(&d);
	buf_done(&b);
	tlv_put_str(&b, 4, "one");
	tlv_put_str(&b, 4, "two");
	assert_int_equal(config_decode(b.data, b.len, &d), -EBADMSG);
	config_done(&d);
	buf_done(&b);
	tlv_put(&b, 1, "a\0b", 3);
	assert_int_equal(config_decode(b.data, b.len, &d), -EBADMSG);
	config_done(&d);
	buf_done(&b);
	tlv_put_str(&b, 999, "from a later version");
	assert_int_equal(config_decode(b.data, b.len, &d), 0);
	config_done(&d);
	buf_done(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(there_and_back),
		cmocka_unit_test(every_cut_is_refused_or_shorter),
		cmocka_unit_test(bounds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
