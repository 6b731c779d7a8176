// SPDX-License-Identifier: Apache-2.0
// The kvm engine against a program that plays vial-vmm: what it is given, what its words lead to.
#include "test.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "base/loop.h"
#include "engine/engine.h"

#define FIRST_ROLE 100 /* launch_fd() counts from LAUNCH_FD_FIRST: beyond what the test itself has open */

struct box {
	struct loop *loop;
	struct launch l;
	struct engine *e;
	int running, paused, resumed, listens, exited, saved, snapshotted, ahead;
	char why[700];
	bool switched;
};

static void copy_why(struct box *b, const char *why)
{
	snprintf(b->why, sizeof(b->why), "%s", why ? why : "");
}

static void on_running(void *data)
{
	((struct box *)data)->running++;
}

static void on_saved(void *data, const char *why)
{
	struct box *b = data;

	b->saved++;
	copy_why(b, why);
}

static void on_paused(void *data)
{
	((struct box *)data)->paused++;
}

static void on_resumed(void *data)
{
	((struct box *)data)->resumed++;
}

static void on_snapshotted(void *data, const char *why, bool switched, uint64_t pause_ns)
{
	struct box *b = data;

	b->snapshotted++;
	b->switched = switched;
	assert_true(pause_ns < 60ULL * 1000000000);
	copy_why(b, why);
}

static void on_written_ahead(void *data)
{
	((struct box *)data)->ahead++;
}

static void on_exited(void *data, const char *why)
{
	struct box *b = data;

	b->exited++;
	copy_why(b, why);
}

static void on_listens(void *data)
{
	((struct box *)data)->listens++;
}

static const struct engine_events events = { .running = on_running,
					     .saved = on_saved,
					     .paused = on_paused,
					     .resumed = on_resumed,
					     .snapshotted = on_snapshotted,
					     .written_ahead = on_written_ahead,
					     .exited = on_exited,
					     .agent_listens = on_listens };

static void give(struct box *b, uint32_t role, const char *content)
{
	int fd = fd_memfd("test", content, strlen(content));

	assert_true(fd >= 0);
	assert_true(dup2(fd, LAUNCH_FD_FIRST + (int)b->l.n_roles) >= 0);
	close(fd);
	b->l.roles[b->l.n_roles++] = role;
}

static void prepare(struct box *b, uint32_t mode, const char *script)
{
	*b = (struct box){ .l = { .mode = mode,
				  .engine = LAUNCH_KVM,
				  .program = strdup(FAKE_VMM),
				  .cmdline = strdup(script),
				  .vcpus = 2,
				  .memory = 256 << 20,
				  .upper_bytes = 1 << 20,
				  .extent_bytes = { 512, 1024 },
				  .n_extents = 2,
				  .n_roles = FIRST_ROLE } };
	assert_int_equal(loop_new(&b->loop), 0);
	give(b, LAUNCH_FD_KVM, "kvm");
	give(b, LAUNCH_FD_EXTENT, "ext1");
	give(b, LAUNCH_FD_EXTENT, "ext2");
	give(b, LAUNCH_FD_UPPER, "uppr");
	give(b, LAUNCH_FD_UPPER_BASE, "base");
}

static void start(struct box *b)
{
	struct vial_err err = VIAL_ERR_INIT;

	if (engine_kvm.start(b->loop, &b->l, &events, b, &b->e, &err) < 0)
		fail_msg("%s", err.msg);
}

/* Turns until @what is not 0; the program's own end comes in any case. */
static void wait_for(struct box *b, const int *what)
{
	for (int i = 0; i < 600 && !*what; i++)
		assert_int_equal(loop_turn(b->loop, 100), 0);
	assert_int_equal(*what, 1);
}

static void done(struct box *b)
{
	engine_kvm.free(b->e);
	for (size_t i = FIRST_ROLE; i < b->l.n_roles; i++)
		close(LAUNCH_FD_FIRST + (int)i);
	launch_done(&b->l);
	loop_free(b->loop);
}

static void cold(struct box *b, const char *script)
{
	prepare(b, LAUNCH_COLD, script);
	give(b, LAUNCH_FD_KERNEL, "kern");
	give(b, LAUNCH_FD_INITRD, "init");
	start(b);
}

static void test_description(void **state _unused_)
{
	struct box b;

	cold(&b, "describe");
	wait_for(&b, &b.exited);
	assert_string_equal(
		b.why,
		"vial-vmm: mode 1 mem 1 vcpus 2 memory 268435456 upper 1048576 differ 0: 10 1 7=uppr 9=base "
		"6=ext1 6=ext2 2=kern 3=init");
	assert_int_equal(b.running, 0);
	done(&b);

	prepare(&b, LAUNCH_RESTORE, "describe");
	give(&b, LAUNCH_FD_MEM, "mem");
	give(&b, LAUNCH_FD_DELTA, "del1");
	give(&b, LAUNCH_FD_DELTA, "del2");
	give(&b, LAUNCH_FD_STATE, "stat");
	give(&b, LAUNCH_FD_UPPER_MID, "mid1");
	give(&b, LAUNCH_FD_UPPER_MID, "mid2");
	start(&b);
	wait_for(&b, &b.exited);
	assert_non_null(strstr(b.why, "mode 2 mem 3 "));
	assert_non_null(strstr(
		b.why,
		" differ 0: 10 1 7=uppr 9=base 6=ext1 6=ext2 8=mid1 8=mid2 4=mem 13=del1 13=del2 5=stat"));
	done(&b);

	prepare(&b, LAUNCH_PREPARE, "describe");
	give(&b, LAUNCH_FD_MEM, "mem");
	give(&b, LAUNCH_FD_STATE, "stat");
	start(&b);
	wait_for(&b, &b.exited);
	assert_non_null(strstr(b.why, "mode 2 mem 3 "));
	assert_non_null(strstr(b.why, " differ 1:"));
	done(&b);
}

static void expect_end(const char *script, const char *why, int running)
{
	struct box b;

	cold(&b, script);
	wait_for(&b, &b.exited);
	assert_string_equal(b.why, why);
	assert_int_equal(b.running, running);
	done(&b);
}

static void test_ends(void **state _unused_)
{
	expect_end("poweroff", "", 1);
	expect_end("triple fault", "the guest crashed (triple fault)", 1);
	expect_end("error", "vial-vmm: no such?[31m luck", 0);
	expect_end("memory", "the host gives no memory for this box: 512 MiB", 0);
	expect_end("silent end", "vial-vmm exited with status 5", 0);
	expect_end("forbidden", "vial-vmm was ended by signal 31", 0); /* its jail */
}

static void test_broken(void **state _unused_)
{
	expect_end("garbage", "vial-vmm broke its protocol: a malformed message", 1);
	expect_end("twice", "vial-vmm broke its protocol: started twice", 1);
	expect_end("unasked", "vial-vmm broke its protocol: an answer to what was not asked", 1);
	expect_end("wrong way", "vial-vmm broke its protocol: a message that it does not send", 1);
	expect_end("hangs up", "vial-vmm ended without a word (is the host out of memory?)", 1);
}

static void test_guest_connects(void **state _unused_)
{
	struct box b;

	cold(&b, "guest");
	wait_for(&b, &b.exited); /* it powers off when its connection is refused */
	assert_string_equal(b.why, "");
	assert_int_equal(b.listens, 1);
	done(&b);
	cold(&b, "stranger");
	wait_for(&b, &b.exited);
	assert_string_equal(b.why, "");
	assert_int_equal(b.listens, 0);
	done(&b);
}

static void test_connect(void **state _unused_)
{
	char text[20] = "";
	struct box b;
	int sv[2];

	cold(&b, "run");
	wait_for(&b, &b.running);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
	assert_int_equal(engine_kvm.connect(b.e, 1024, sv[1]), 0);
	close(sv[1]);
	assert_int_equal(read(sv[0], text, sizeof(text)), 9);
	assert_string_equal(text, "port 1024");
	close(sv[0]);
	engine_kvm.kill(b.e);
	wait_for(&b, &b.exited);
	done(&b);
}

/* More connections than its socket takes at once: they wait, in order. */
static void test_deaf(void **state _unused_)
{
	enum { N = 1000 };
	static int ends[N];
	char text[20], want[20];
	struct box b;
	int sv[2];

	cold(&b, "deaf");
	wait_for(&b, &b.running);
	for (int i = 0; i < N; i++) {
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
		assert_int_equal(engine_kvm.connect(b.e, (uint32_t)i, sv[1]), 0);
		close(sv[1]);
		ends[i] = sv[0];
	}
	assert_int_equal(write(engine_kvm.console_fd(b.e), "x", 1), 1);
	wait_for(&b, &b.exited);
	assert_string_equal(b.why, "vial-vmm: 1000");
	for (int i = 0; i < N; i++) {
		ssize_t n = read(ends[i], text, sizeof(text) - 1);
		assert_true(n > 0);
		text[n] = '\0';
		snprintf(want, sizeof(want), "%d", i);
		assert_string_equal(text, want);
		close(ends[i]);
	}
	done(&b);
}

static void expect_content(int fd, const char *want)
{
	char text[40] = "";

	assert_true(pread(fd, text, sizeof(text) - 1, 0) >= 0);
	assert_string_equal(text, want);
}

static void test_template(void **state _unused_)
{
	struct vial_err err = VIAL_ERR_INIT;
	struct box b;

	prepare(&b, LAUNCH_BUILD, "run");
	give(&b, LAUNCH_FD_KERNEL, "kern");
	give(&b, LAUNCH_FD_STATE_OUT, "");
	start(&b);
	wait_for(&b, &b.running);
	assert_int_equal(engine_kvm.save_template(b.e, &err), 0);
	wait_for(&b, &b.saved);
	assert_string_equal(b.why, "");
	expect_content(launch_fd(&b.l, LAUNCH_FD_STATE_OUT, 0), "state 0");
	done(&b);

	prepare(&b, LAUNCH_BUILD, "disk full");
	give(&b, LAUNCH_FD_KERNEL, "kern");
	give(&b, LAUNCH_FD_STATE_OUT, "");
	start(&b);
	assert_int_equal(engine_kvm.save_template(b.e, &err), 0); /* it need not even run yet */
	wait_for(&b, &b.saved);
	assert_string_equal(b.why, "the machine could not be saved: no room?[0m left");
	done(&b);
}

static void test_pause_and_resume(void **state _unused_)
{
	struct vial_err err = VIAL_ERR_INIT;
	struct box b;

	cold(&b, "run");
	assert_int_equal(engine_kvm.pause(b.e, &err), 0);
	wait_for(&b, &b.paused);
	assert_int_equal(engine_kvm.resume(b.e, &err), 0);
	wait_for(&b, &b.resumed);
	assert_int_equal(b.exited, 0);
	done(&b);
}

static void snapshot_as(struct box *b, int fds[3], bool delta, const char *why, bool switched)
{
	struct vial_err err = VIAL_ERR_INIT;

	for (int i = 0; i < 3; i++)
		assert_true((fds[i] = memfd_create("out", MFD_CLOEXEC)) >= 0);
	const struct engine_snapshot to = { fds[0], fds[1], fds[2], fds[2], delta };
	b->snapshotted = 0;
	assert_int_equal(engine_kvm.snapshot(b->e, &to, &err), 0);
	wait_for(b, &b->snapshotted);
	assert_string_equal(b->why, why);
	assert_int_equal(b->switched, switched);
	/* Memory and disk, or also the changes alone, with which the machine goes on. */
	expect_content(fds[0], delta ? "state 15" : "state 3");
	expect_content(fds[1], "memory");
	expect_content(fds[2], "upper");
	for (int i = 0; i < 3; i++)
		close(fds[i]);
}

static void snapshot(struct box *b, int fds[3], const char *why, bool switched)
{
	snapshot_as(b, fds, false, why, switched);
}

/* Also where it cannot be done: the snapshot follows all the same. */
static void write_ahead(struct box *b)
{
	int fd = memfd_create("m", MFD_CLOEXEC);
	struct vial_err err = VIAL_ERR_INIT;

	b->ahead = 0;
	assert_int_equal(engine_kvm.write_ahead(b->e, fd, &err), 0);
	wait_for(b, &b->ahead);
	close(fd);
}

static void test_snapshot(void **state _unused_)
{
	struct vial_err err = VIAL_ERR_INIT;
	struct box b;
	int fds[3];

	cold(&b, "run");
	snapshot(&b, fds, "", true);
	assert_int_equal(engine_kvm.pause(b.e, &err), 0);
	wait_for(&b, &b.paused);
	snapshot(&b, fds, "", true);
	assert_int_equal(engine_kvm.resume(b.e, &err), 0);
	wait_for(&b, &b.resumed);
	snapshot(&b, fds, "", true);
	write_ahead(&b);
	snapshot_as(&b, fds, true, "", true);
	assert_int_equal(engine_kvm.write_ahead(b.e, -1, &err), 0);
	snapshot(&b, fds, "", true);
	assert_int_equal(b.exited, 0);
	done(&b);

	cold(&b, "disk full");
	write_ahead(&b);
	snapshot(&b, fds, "no room?[0m left", false);
	assert_int_equal(b.exited, 0);
	done(&b);
}

static void refused(struct box *b, const char *text)
{
	struct vial_err err = VIAL_ERR_INIT;

	assert_true(engine_kvm.start(b->loop, &b->l, &events, b, &b->e, &err) < 0);
	if (!strstr(err.msg, text))
		fail_msg("'%s' is not in '%s'", text, err.msg);
	assert_null(b->e);
	done(b);
}

static void test_refused(void **state _unused_)
{
	struct box b;

	prepare(&b, LAUNCH_COLD, "run"); /* no kernel */
	refused(&b, "start vial-vmm");
	prepare(&b, LAUNCH_RESTORE, "run"); /* no state */
	refused(&b, "start vial-vmm");
	prepare(&b, LAUNCH_COLD, "run");
	give(&b, LAUNCH_FD_KERNEL, "kern");
	b.l.n_extents = 0;
	refused(&b, "root disk");
	prepare(&b, LAUNCH_COLD, "run");
	give(&b, LAUNCH_FD_KERNEL, "kern");
	free(b.l.program);
	b.l.program = strdup("/nonexistent/vial-vmm");
	refused(&b, "/nonexistent/vial-vmm");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_description), cmocka_unit_test(test_ends),
		cmocka_unit_test(test_broken),	    cmocka_unit_test(test_guest_connects),
		cmocka_unit_test(test_connect),	    cmocka_unit_test(test_deaf),
		cmocka_unit_test(test_template),    cmocka_unit_test(test_pause_and_resume),
		cmocka_unit_test(test_snapshot),    cmocka_unit_test(test_refused),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
