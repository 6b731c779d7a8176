// SPDX-License-Identifier: Apache-2.0
// Launch descriptions: round trip, damage, limits.
#include "test.h"
#include "wire/launch.h"

/* Tags as they are on the wire; launch.c keeps them to itself. */
enum { TAG_VERSION = 1, TAG_EXTENT = 2, TAG_ROLE = 3, TAG_ID = 4, TAG_RESET_KEY = 5, TAG_QEMU = 17 };

static void fill(struct launch *l)
{
	*l = (struct launch){ .mode = LAUNCH_RESTORE,
			      .id = "0123456789abcdef0123456789abcdef",
			      .program = strdup("/usr/bin/qemu"),
			      .engine = LAUNCH_KVM,
			      .accel = strdup("tcg"),
			      .machine = strdup("pc-q35-7.2"),
			      .cmdline = strdup(""),
			      .vcpus = 2,
			      .memory = 1ULL << 33,
			      .cpus = 1,
			      .memory_max = 12345,
			      .extent_bytes = { 512, 1ULL << 40 },
			      .n_extents = 2,
			      .upper_bytes = 77,
			      .hostname = strdup("box"),
			      .strict = 1,
			      .without = 5,
			      .log_level = 3,
			      .rooted = 1,
			      .roles = { LAUNCH_FD_LIFELINE, LAUNCH_FD_EXTENT, LAUNCH_FD_EXTENT },
			      .n_roles = 3 };
	memset(l->reset_key, 1, sizeof(l->reset_key));
	memset(l->next_key, 2, sizeof(l->next_key));
}

static void test_round_trip(void **state _unused_)
{
	_cleanup_buf_ struct buf b = { 0 };
	_cleanup_(launch_done) struct launch a, z;

	fill(&a);
	assert_int_equal(launch_encode(&a, &b), 0);
	assert_int_equal(launch_decode(b.data, b.len, &z), 0);
	assert_int_equal(z.mode, a.mode);
	assert_int_equal(z.engine, LAUNCH_KVM);
	assert_string_equal(z.id, a.id);
	assert_string_equal(z.program, a.program);
	assert_string_equal(z.accel, a.accel);
	assert_string_equal(z.machine, a.machine);
	assert_string_equal(z.cmdline, "");
	assert_string_equal(z.hostname, "box");
	assert_null(z.console_shell);
	assert_null(z.fstype);
	assert_int_equal(z.vcpus, 2);
	assert_int_equal(z.memory, a.memory);
	assert_int_equal(z.cpus, 1);
	assert_int_equal(z.memory_max, 12345);
	assert_int_equal(z.upper_bytes, 77);
	assert_int_equal(z.strict, 1);
	assert_int_equal(z.without, 5);
	assert_int_equal(z.log_level, 3);
	assert_int_equal(z.rooted, 1);
	assert_memory_equal(z.reset_key, a.reset_key, LINK_KEY_SIZE);
	assert_memory_equal(z.next_key, a.next_key, LINK_KEY_SIZE);
	assert_int_equal(z.n_extents, 2);
	assert_int_equal(z.extent_bytes[1], 1ULL << 40);
	assert_int_equal(z.n_roles, 3);
	assert_int_equal(launch_fd(&z, LAUNCH_FD_EXTENT, 0), LAUNCH_FD_FIRST + 1);
	assert_int_equal(launch_fd(&z, LAUNCH_FD_EXTENT, 1), LAUNCH_FD_FIRST + 2);
	assert_int_equal(launch_fd(&z, LAUNCH_FD_EXTENT, 2), -1);
	assert_int_equal(launch_fd(&z, LAUNCH_FD_MEM, 0), -1);
}

static int decode(const void *p, size_t n)
{
	struct launch l;
	int r = launch_decode(p, n, &l);

	launch_done(&l);
	return r;
}

static int decode_of(struct buf *b)
{
	return decode_and_drop(b, decode);
}

static void test_every_truncation(void **state _unused_)
{
	_cleanup_buf_ struct buf b = { 0 };
	_cleanup_(launch_done) struct launch a;

	fill(&a);
	assert_int_equal(launch_encode(&a, &b), 0);
	assert_true(try_truncations(&b, decode) > 20);
}

static void test_version(void **state _unused_)
{
	struct buf b = { 0 };

	tlv_put_u32(&b, TAG_VERSION, LAUNCH_VERSION + 1);
	assert_int_equal(decode_of(&b), -EPROTONOSUPPORT);
	tlv_put_u32(&b, TAG_VERSION, LAUNCH_VERSION);
	assert_int_equal(decode_of(&b), 0);
	tlv_put_str(&b, TAG_QEMU, "q");
	tlv_put_u32(&b, TAG_VERSION, LAUNCH_VERSION);
	assert_int_equal(decode_of(&b), -EBADMSG); /* not first */
	tlv_put_u64(&b, TAG_VERSION, LAUNCH_VERSION);
	assert_int_equal(decode_of(&b), -EBADMSG);
}

static void test_unknown_tag_is_skipped(void **state _unused_)
{
	struct buf b = { 0 };

	tlv_put_u32(&b, TAG_VERSION, LAUNCH_VERSION);
	tlv_put(&b, 9999, "??", 2);
	assert_int_equal(decode_of(&b), 0);
}

static void test_counts(void **state _unused_)
{
	assert_int_equal(decode_many(decode, LAUNCH_VERSION, TAG_ROLE, 4, LAUNCH_FDS_MAX), 0);
	assert_int_equal(decode_many(decode, LAUNCH_VERSION, TAG_ROLE, 4, LAUNCH_FDS_MAX + 1), -E2BIG);
	assert_int_equal(decode_many(decode, LAUNCH_VERSION, TAG_EXTENT, 8, LAUNCH_EXTENTS_MAX), 0);
	assert_int_equal(decode_many(decode, LAUNCH_VERSION, TAG_EXTENT, 8, LAUNCH_EXTENTS_MAX + 1), -E2BIG);
}

static void test_strings(void **state _unused_)
{
	_cleanup_free_ char *big = calloc(1, 5001);
	struct buf b = { 0 };

	memset(big, 'x', 5000);
	tlv_put_u32(&b, TAG_VERSION, LAUNCH_VERSION);
	tlv_put_str(&b, TAG_QEMU, "one");
	tlv_put_str(&b, TAG_QEMU, "two");
	assert_int_equal(decode_of(&b), -EBADMSG);
	tlv_put_u32(&b, TAG_VERSION, LAUNCH_VERSION);
	tlv_put(&b, TAG_QEMU, "a\0b", 3);
	assert_int_equal(decode_of(&b), -EBADMSG);
	tlv_put_u32(&b, TAG_VERSION, LAUNCH_VERSION);
	tlv_put_str(&b, TAG_QEMU, big);
	assert_int_equal(decode_of(&b), -E2BIG);
}

static void test_exact_lengths(void **state _unused_)
{
	struct buf b = { 0 };

	tlv_put_u32(&b, TAG_VERSION, LAUNCH_VERSION);
	tlv_put_str(&b, TAG_ID, "short");
	assert_int_equal(decode_of(&b), -EBADMSG);
	tlv_put_u32(&b, TAG_VERSION, LAUNCH_VERSION);
	tlv_put(&b, TAG_RESET_KEY, "0123456789abcdef!", 17);
	assert_int_equal(decode_of(&b), -EBADMSG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),    cmocka_unit_test(test_every_truncation),
		cmocka_unit_test(test_version),	      cmocka_unit_test(test_unknown_tag_is_skipped),
		cmocka_unit_test(test_counts),	      cmocka_unit_test(test_strings),
		cmocka_unit_test(test_exact_lengths),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
