// SPDX-License-Identifier: Apache-2.0
// What the host offers; KVM's verdict in time; QEMU programs of all sorts.
#include "test.h"

#include <signal.h>

#include "base/clock.h"
#include "engine/host.h"

/* The verdict comes in time also for a program that has SIGALRM blocked. */
static void test_kvm_verdict(void **state _unused_)
{
	uint64_t start = clock_mono_ns();
	char why[200] = "unset";
	sigset_t alarm_set, old;

	sigemptyset(&alarm_set);
	sigaddset(&alarm_set, SIGALRM);
	sigprocmask(SIG_BLOCK, &alarm_set, &old);
	bool ok = kvm_usable(why, sizeof(why));
	sigprocmask(SIG_SETMASK, &old, NULL);
	print_message("KVM: %s\n", ok ? "usable" : why);
	assert_true(clock_mono_ns() - start < 3 * NS_PER_S);
	assert_int_equal(ok, why[0] == '\0');
	assert_string_not_equal(why, "unset");
}

static void test_boot_id(void **state _unused_)
{
	char a[40], b[40];

	host_boot_id(a);
	host_boot_id(b);
	assert_int_equal(strlen(a), 36);
	assert_string_equal(a, b);
}

static void fake_qemu(int dir, const char *says)
{
	_cleanup_buf_ struct buf text = { 0 };

	buf_printf(&text, "#!/bin/sh\necho '%s'\n", says);
	assert_int_equal(fd_write_file_at(dir, "qemu-system-x86_64", text.data, text.len, 0755), 0);
}

static int probe(const char *says, const char *want, struct engine_host *ret, struct vial_err *err)
{
	_cleanup_free_ char *path = strdup(getenv("PATH") ?: "/usr/bin:/bin"), *only = NULL, *vmm = NULL;
	char name[32];
	int dir = make_dir(name), r;

	*err = (struct vial_err)VIAL_ERR_INIT;
	if (says)
		fake_qemu(dir, says);
	assert_true(asprintf(&only, "relative:%s", name) > 0);
	assert_true(asprintf(&vmm, "%s/vial-vmm", name) > 0);
	setenv("PATH", only, 1);
	r = engine_host_probe(dir, want, vmm, ret, err);
	setenv("PATH", path, 1);
	rm_dir(name, dir);
	return r;
}

static void test_versions(void **state _unused_)
{
	struct engine_host h;
	struct vial_err err;

	assert_int_equal(probe("QEMU emulator version 7.2.22 (Debian)", "auto", &h, &err), 0);
	assert_string_equal(h.version, "7.2.22");
	assert_string_equal(h.machine, "pc-q35-7.2");
	assert_int_equal(strlen(h.digest), 64);
	assert_int_equal(strcmp(h.accel, "kvm") == 0, h.kvm_why[0] == '\0');
	engine_host_done(&h);
	assert_int_equal(probe("QEMU emulator version 9.1.0", "qemu", &h, &err), 0);
	assert_string_equal(h.machine, "pc-q35-7.2");
	engine_host_done(&h);
	assert_int_equal(probe("QEMU emulator version 6.1", "auto", &h, &err), 0);
	assert_string_equal(h.machine, "pc-q35-6.1");
	engine_host_done(&h);
}

static void refused(const char *says, const char *want, const char *text)
{
	struct engine_host h;
	struct vial_err err;

	assert_int_equal(probe(says, want, &h, &err), VIAL_E_UNSUPPORTED);
	assert_non_null(strstr(err.msg, text));
}

static void test_refused(void **state _unused_)
{
	refused("QEMU emulator version 5.2.0", "auto", "too old");
	refused("hello", "auto", "is it QEMU?");
	refused("version x", "auto", "is it QEMU?");
	refused(NULL, "auto", "not in PATH");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_kvm_verdict),
		cmocka_unit_test(test_boot_id),
		cmocka_unit_test(test_versions),
		cmocka_unit_test(test_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
