// SPDX-License-Identifier: Apache-2.0
// vial-vmm's launch description and control protocol: round trips, damage, limits, descriptors.
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "test.h"
#include "wire/vmm.h"

/* Tags as they are on the wire; vmm.c keeps them to itself. */
enum { TAG_VERSION = 1, TAG_EXTENT = 2, TAG_ROLE = 3, TAG_CMDLINE = 4 };

static void fill(struct vmm_launch *l)
{
	*l = (struct vmm_launch){ .mode = VMM_RESTORE,
				  .mem_kind = VMM_MEM_PRIVATE,
				  .vcpus = 4,
				  .memory = 3ULL << 30,
				  .cmdline = strdup("console=hvc0"),
				  .extent_bytes = { 512, 1ULL << 40 },
				  .n_extents = 2,
				  .upper_bytes = 77,
				  .log_level = 3,
				  .without = 5,
				  .disks_differ = 1,
				  .roles = { VMM_FD_KVM, VMM_FD_EXTENT, VMM_FD_EXTENT },
				  .n_roles = 3 };
}

static void test_launch_round_trip(void **state _unused_)
{
	_cleanup_buf_ struct buf b = { 0 };
	_cleanup_(vmm_launch_done) struct vmm_launch a, z;

	fill(&a);
	assert_int_equal(vmm_launch_encode(&a, &b), 0);
	assert_int_equal(vmm_launch_decode(b.data, b.len, &z), 0);
	assert_int_equal(z.mode, VMM_RESTORE);
	assert_int_equal(z.mem_kind, VMM_MEM_PRIVATE);
	assert_int_equal(z.vcpus, 4);
	assert_int_equal(z.memory, 3ULL << 30);
	assert_string_equal(z.cmdline, "console=hvc0");
	assert_int_equal(z.n_extents, 2);
	assert_int_equal(z.extent_bytes[0], 512);
	assert_int_equal(z.extent_bytes[1], 1ULL << 40);
	assert_int_equal(z.upper_bytes, 77);
	assert_int_equal(z.log_level, 3);
	assert_int_equal(z.without, 5);
	assert_int_equal(z.disks_differ, 1);
	assert_int_equal(z.n_roles, 3);
	assert_int_equal(vmm_launch_fd(&z, VMM_FD_KVM, 0), VMM_FD_FIRST);
	assert_int_equal(vmm_launch_fd(&z, VMM_FD_EXTENT, 1), VMM_FD_FIRST + 2);
	assert_int_equal(vmm_launch_fd(&z, VMM_FD_EXTENT, 2), -1);
	assert_int_equal(vmm_launch_fd(&z, VMM_FD_MEM, 0), -1);
}

static int decode(const void *p, size_t n)
{
	struct vmm_launch l;
	int r = vmm_launch_decode(p, n, &l);

	vmm_launch_done(&l);
	return r;
}

static int decode_of(struct buf *b)
{
	return decode_and_drop(b, decode);
}

static void test_launch_every_truncation(void **state _unused_)
{
	_cleanup_buf_ struct buf b = { 0 };
	_cleanup_(vmm_launch_done) struct vmm_launch a;

	fill(&a);
	assert_int_equal(vmm_launch_encode(&a, &b), 0);
	assert_true(try_truncations(&b, decode) > 10);
}

static void test_launch_limits(void **state _unused_)
{
	_cleanup_free_ char *big = calloc(1, VMM_CMDLINE_MAX + 2);
	struct buf b = { 0 };

	assert_int_equal(decode_many(decode, VMM_VERSION, TAG_ROLE, 4, VMM_FDS_MAX), 0);
	assert_int_equal(decode_many(decode, VMM_VERSION, TAG_ROLE, 4, VMM_FDS_MAX + 1), -E2BIG);
	assert_int_equal(decode_many(decode, VMM_VERSION, TAG_EXTENT, 8, VMM_EXTENTS_MAX), 0);
	assert_int_equal(decode_many(decode, VMM_VERSION, TAG_EXTENT, 8, VMM_EXTENTS_MAX + 1), -E2BIG);
	memset(big, 'x', VMM_CMDLINE_MAX + 1);
	tlv_put_u32(&b, TAG_VERSION, VMM_VERSION);
	tlv_put_str(&b, TAG_CMDLINE, big);
	assert_int_equal(decode_of(&b), -E2BIG);
	tlv_put_u32(&b, TAG_VERSION, VMM_VERSION);
	tlv_put_str(&b, TAG_CMDLINE, big + 1);
	assert_int_equal(decode_of(&b), 0);
	tlv_put_u32(&b, TAG_VERSION, VMM_VERSION);
	tlv_put_str(&b, TAG_CMDLINE, "one");
	tlv_put_str(&b, TAG_CMDLINE, "two");
	assert_int_equal(decode_of(&b), -EBADMSG);
	tlv_put_u32(&b, TAG_VERSION, VMM_VERSION + 1);
	assert_int_equal(decode_of(&b), -EPROTONOSUPPORT);
	tlv_put_str(&b, TAG_CMDLINE, "q");
	tlv_put_u32(&b, TAG_VERSION, VMM_VERSION);
	assert_int_equal(decode_of(&b), -EBADMSG); /* not first */
	tlv_put_u32(&b, TAG_VERSION, VMM_VERSION);
	tlv_put(&b, 9999, "??", 2);
	assert_int_equal(decode_of(&b), 0);
}

static void test_launch_too_many_to_encode(void **state _unused_)
{
	_cleanup_buf_ struct buf b = { 0 };
	struct vmm_launch l = { .n_roles = VMM_FDS_MAX + 1 };

	assert_int_equal(vmm_launch_encode(&l, &b), -EFBIG);
	l = (struct vmm_launch){ .n_extents = VMM_EXTENTS_MAX + 1 };
	assert_int_equal(vmm_launch_encode(&l, &b), -EFBIG);
}

static struct vmm_msg round_trip(const struct vmm_msg *m, uint8_t packet[VMM_MSG_MAX], size_t *ret_n)
{
	struct vmm_msg z;

	assert_int_equal(vmm_msg_encode(m, packet, ret_n), 0);
	assert_int_equal(vmm_msg_decode(packet, *ret_n, &z), 0);
	assert_int_equal(z.type, m->type);
	return z;
}

static void test_messages(void **state _unused_)
{
	static const uint16_t plain[] = { VMM_PAUSE,   VMM_RESUME, VMM_STATS,	  VMM_QUIT,
					  VMM_RUNNING, VMM_AHEAD,  VMM_AHEAD_DROP };
	uint8_t p[VMM_MSG_MAX];
	size_t n;

	for (size_t i = 0; i < ARRAY_SIZE(plain); i++) {
		(void)round_trip(&(struct vmm_msg){ .type = plain[i] }, p, &n);
		assert_int_equal(n, 4);
	}
	assert_int_equal(round_trip(&(struct vmm_msg){ .type = VMM_CONNECT, .port = 0x01020304 }, p, &n).port,
			 0x01020304);
	assert_memory_equal(p, "\x04\0\x01\0\x04\x03\x02\x01", 8); /* the wire's byte order */
	assert_int_equal(n, 8);
	assert_int_equal(round_trip(&(struct vmm_msg){ .type = VMM_ACCEPT, .id = 7 }, p, &n).id, 7);
	assert_int_equal(round_trip(&(struct vmm_msg){ .type = VMM_REFUSE, .id = 8 }, p, &n).id, 8);
	struct vmm_msg big = { .type = VMM_BALLOON, .balloon_bytes = 1ULL << 40 };
	assert_int_equal(round_trip(&big, p, &n).balloon_bytes, 1ULL << 40);
	struct vmm_msg g = { .type = VMM_GUEST_CONNECTS, .guest_connects = { 3, 1024 } };
	struct vmm_msg z = round_trip(&g, p, &n);
	assert_int_equal(z.guest_connects.id, 3);
	assert_int_equal(z.guest_connects.port, 1024);
	struct vmm_msg stats = { .type = VMM_STATS_IS };
	for (size_t i = 0; i < VMM_STATS_N; i++)
		stats.stats[i] = UINT64_MAX - i;
	z = round_trip(&stats, p, &n);
	assert_memory_equal(z.stats, stats.stats, sizeof(z.stats));
}

static void test_texts(void **state _unused_)
{
	char text[VMM_TEXT_MAX + 10];
	struct vmm_msg m = { .type = VMM_DONE,
			     .done = { VMM_SNAPSHOT, ENOSPC, { (uint8_t *)text, VMM_TEXT_MAX } } };
	uint8_t p[VMM_MSG_MAX];
	size_t n;

	memset(text, 'a', sizeof(text));
	struct vmm_msg z = round_trip(&m, p, &n);
	assert_int_equal(z.done.of, VMM_SNAPSHOT);
	assert_int_equal(z.done.sys_errno, ENOSPC);
	assert_int_equal(z.done.text.n, VMM_TEXT_MAX);
	assert_memory_equal(z.done.text.p, text, VMM_TEXT_MAX);
	assert_int_equal(vmm_msg_decode(p, n + 1, &z), -EBADMSG); /* longer than a text may be */
	m.done.text.n = sizeof(text);
	assert_int_equal(round_trip(&m, p, &n).done.text.n, VMM_TEXT_MAX); /* cut */
	m = (struct vmm_msg){ .type = VMM_EXITED, .exited = { VMM_EXIT_ERROR, { NULL, 0 } } };
	z = round_trip(&m, p, &n);
	assert_int_equal(z.exited.reason, VMM_EXIT_ERROR);
	assert_int_equal(z.exited.text.n, 0);
}

/* Each type at each length that is not its own; unknown types and versions. */
static void test_malformed(void **state _unused_)
{
	uint8_t p[VMM_MSG_MAX] = { 0 };
	struct vmm_msg z;
	size_t n;

	for (uint16_t type = 0; type < 300; type++) {
		struct vmm_msg m = { .type = type };
		if (vmm_msg_encode(&m, p, &n) < 0) {
			uint8_t q[4] = { (uint8_t)type, (uint8_t)(type >> 8), VMM_VERSION, 0 };
			assert_int_equal(vmm_msg_decode(q, sizeof(q), &z), -EBADMSG);
			continue;
		}
		for (size_t len = 0; len < n; len++) {
			_cleanup_free_ uint8_t *cut = exact_copy(p, len);
			assert_int_equal(vmm_msg_decode(cut, len, &z), -EBADMSG);
		}
		assert_int_equal(vmm_msg_decode(p, VMM_MSG_MAX, &z), -EBADMSG);
		p[2] = VMM_VERSION + 1;
		assert_int_equal(vmm_msg_decode(p, n, &z), -EPROTONOSUPPORT);
	}
}

static void test_snapshot_flags(void **state _unused_)
{
	static const struct {
		uint32_t flags;
		int r;
		size_t fds;
	} cases[] = {
		{ 0, 0, 1 },
		{ VMM_SNAP_MEMORY, 0, 2 },
		{ VMM_SNAP_UPPER, 0, 2 },
		{ VMM_SNAP_ALL, 0, 3 },
		{ VMM_SNAP_DELTA, -EBADMSG, 0 },
		{ VMM_SNAP_REMAP | VMM_SNAP_UPPER, -EBADMSG, 0 },
		{ VMM_SNAP_ALL + 1, -EBADMSG, 0 },
	};
	uint8_t p[VMM_MSG_MAX];
	struct vmm_msg z;
	size_t n;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct vmm_msg m = { .type = VMM_SNAPSHOT, .flags = cases[i].flags };
		assert_int_equal(vmm_msg_encode(&m, p, &n), 0);
		assert_int_equal(vmm_msg_decode(p, n, &z), cases[i].r);
		if (cases[i].r == 0)
			assert_int_equal(vmm_msg_fds(&z), cases[i].fds);
	}
}

static void make_pair(int sv[2])
{
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sv), 0);
}

static void test_descriptors(void **state _unused_)
{
	struct vmm_msg m = { .type = VMM_SNAPSHOT, .flags = VMM_SNAP_MEMORY }, z;
	uint8_t buf[VMM_MSG_MAX];
	int sv[2], pipes[2], fds[3] = { -1, -1, -1 };
	char c;

	make_pair(sv);
	assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
	assert_int_equal(vmm_msg_recv(sv[1], buf, &z, fds), -EAGAIN);
	assert_int_equal(vmm_msg_send(sv[0], &m, pipes), 0);
	assert_int_equal(vmm_msg_recv(sv[1], buf, &z, fds), 1);
	assert_int_equal(z.flags, VMM_SNAP_MEMORY);
	assert_int_equal(write(fds[1], "x", 1), 1);
	assert_int_equal(read(pipes[0], &c, 1), 1); /* it is the same pipe */
	assert_int_equal(fds[2], -1);
	close(fds[0]);
	close(fds[1]);
	close(sv[0]);
	assert_int_equal(vmm_msg_recv(sv[1], buf, &z, fds), 0);
	close(sv[1]);
	close(pipes[0]);
	close(pipes[1]);
}

/* A message with more descriptors than it should have: refused, none stays open. */
static void test_wrong_number_of_descriptors(void **state _unused_)
{
	static const uint8_t pause[4] = { VMM_PAUSE, 0, VMM_VERSION, 0 };
	uint8_t buf[VMM_MSG_MAX];
	int sv[2], pipes[2], fds[3];
	struct vmm_msg z;
	char c;

	make_pair(sv);
	assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
	assert_int_equal(fd_send(sv[0], pause, sizeof(pause), &pipes[1], 1), sizeof(pause));
	close(pipes[1]);
	assert_int_equal(vmm_msg_recv(sv[1], buf, &z, fds), -EPROTO);
	assert_int_equal(read(pipes[0], &c, 1), 0); /* nobody holds the other end */
	assert_int_equal(vmm_msg_send(sv[0], &(struct vmm_msg){ .type = VMM_PAUSE }, NULL), 0);
	assert_int_equal(vmm_msg_recv(sv[1], buf, &z, fds), 1);
	assert_int_equal(vmm_msg_send(sv[0], &(struct vmm_msg){ .type = 99 }, NULL), -EINVAL);
	close(pipes[0]);
	close(sv[0]);
	close(sv[1]);
}

/* An empty packet is taken for the end; what comes with it does not stay open. */
static void test_descriptors_with_nothing(void **state _unused_)
{
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(sizeof(int))];
	} control = { .head = { .cmsg_len = CMSG_LEN(sizeof(int)),
				.cmsg_level = SOL_SOCKET,
				.cmsg_type = SCM_RIGHTS } };
	struct msghdr msg = { .msg_control = &control, .msg_controllen = sizeof(control) };
	uint8_t buf[VMM_MSG_MAX];
	int sv[2], pipes[2], fds[3];
	struct vmm_msg z;
	char c;

	make_pair(sv);
	assert_int_equal(pipe2(pipes, O_CLOEXEC | O_NONBLOCK), 0);
	memcpy(CMSG_DATA(&control.head), &pipes[1], sizeof(int));
	assert_int_equal(sendmsg(sv[0], &msg, 0), 0);
	close(pipes[1]);
	assert_int_equal(vmm_msg_recv(sv[1], buf, &z, fds), 0);
	assert_int_equal(read(pipes[0], &c, 1), 0); /* nobody holds the other end */
	close(pipes[0]);
	close(sv[0]);
	close(sv[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_launch_round_trip),
		cmocka_unit_test(test_launch_every_truncation),
		cmocka_unit_test(test_launch_limits),
		cmocka_unit_test(test_launch_too_many_to_encode),
		cmocka_unit_test(test_messages),
		cmocka_unit_test(test_texts),
		cmocka_unit_test(test_malformed),
		cmocka_unit_test(test_snapshot_flags),
		cmocka_unit_test(test_descriptors),
		cmocka_unit_test(test_wrong_number_of_descriptors),
		cmocka_unit_test(test_descriptors_with_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
