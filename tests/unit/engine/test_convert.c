// SPDX-License-Identifier: Apache-2.0
// Converting a stream: the machine that reads it is jailed no worse than the box that wrote it.
#include "test.h"

#include "engine/convert.h"
#include "jail/jail.h"

static void test_jail_of_the_box(void **state _unused_)
{
	char program[] = "qemu", accel[] = "tcg", machine[] = "q35";
	struct launch like = { .program = program,
			       .accel = accel,
			       .machine = machine,
			       .vcpus = 1,
			       .memory = 1 << 20,
			       .untrusted = 1,
			       .without = JAIL_NO_NOTIFY };
	const struct template_env env = {
		.monitor_path = FAKE_MONITOR, .uid = (uid_t)-1, .gid = (gid_t)-1, .dir_fd = -1, .log_fd = -1
	};
	_cleanup_fd_ int stream = fd_memfd("stream", "x", 1), mem = fd_memfd("mem", "", 0),
			 out = fd_memfd("state", "", 0);
	struct vial_err err = VIAL_ERR_INIT;

	assert_int_equal(convert_stream(&env, &like, stream, mem, out, &err), VIAL_E_ENGINE);
	assert_non_null(strstr(err.msg, "strict 0, untrusted 1, without 0x"));
	assert_null(strstr(err.msg, "without 0x0"));
	err = (struct vial_err)VIAL_ERR_INIT;
	like.strict = 1;
	like.without = 0;
	(void)convert_stream(&env, &like, stream, mem, out, &err);
	assert_non_null(strstr(err.msg, "strict 1, untrusted 1, without 0x0"));
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_jail_of_the_box) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
