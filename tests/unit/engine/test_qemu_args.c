// SPDX-License-Identifier: Apache-2.0
// QEMU's command line as data: what it says for each kind of launch, and which descriptors go with it.
#include "test.h"

#include <jansson.h>

#include "engine/layout.h"
#include "engine/qemu_args.h"

static struct launch launch_of(enum launch_mode mode, size_t n_extents)
{
	struct launch l = { .mode = mode,
			    .program = (char *)"/usr/bin/qemu",
			    .accel = (char *)"tcg",
			    .machine = (char *)"pc-q35-7.2",
			    .cmdline = (char *)"console=ttyS0 quiet",
			    .vcpus = 4,
			    .memory = 512ULL << 20,
			    .n_extents = n_extents };

	l.roles[l.n_roles++] = LAUNCH_FD_LIFELINE;
	for (size_t i = 0; i < n_extents; i++) {
		l.extent_bytes[i] = (i + 1) * 4096;
		l.roles[l.n_roles++] = LAUNCH_FD_EXTENT;
	}
	l.roles[l.n_roles++] = LAUNCH_FD_UPPER;
	l.roles[l.n_roles++] = LAUNCH_FD_UPPER_BASE;
	return l;
}

static bool has(const struct qemu_cmd *c, const char *arg)
{
	for (size_t i = 0; i < c->argv.n; i++)
		if (strcmp(c->argv.v[i], arg) == 0)
			return true;
	return false;
}

/* The nth value of @option, or NULL. */
static const char *value(const struct qemu_cmd *c, const char *option, size_t nth)
{
	for (size_t i = 0; i + 1 < c->argv.n; i++)
		if (strcmp(c->argv.v[i], option) == 0 && nth-- == 0)
			return c->argv.v[i + 1];
	return NULL;
}

static json_t *disk(const struct qemu_cmd *c, const char *node)
{
	for (size_t i = 0; value(c, "-blockdev", i); i++) {
		json_t *j = json_loads(value(c, "-blockdev", i), JSON_REJECT_DUPLICATES, NULL);
		assert_non_null(j);
		if (strcmp(json_string_value(json_object_get(j, "node-name")), node) == 0)
			return j;
		json_decref(j);
	}
	fail_msg("no disk '%s'", node);
	return NULL;
}

/* The descriptor of ours behind {"file": {"filename": "/dev/fdset/N"}}. */
static int fd_behind(const struct qemu_cmd *c, const json_t *j)
{
	const char *name = json_string_value(json_object_get(json_object_get(j, "file"), "filename"));
	char want[40];
	int set = 0;

	assert_non_null(name);
	assert_int_equal(sscanf(name, "/dev/fdset/%d", &set), 1);
	snprintf(want, sizeof(want), "fd=%d,set=%d", set, set);
	assert_true(has(c, want));
	assert_true(set >= QEMU_FD_FIRST && (size_t)(set - QEMU_FD_FIRST) < c->n_fds);
	return c->fds[set - QEMU_FD_FIRST];
}

static bool read_only(const json_t *j)
{
	return json_is_true(json_object_get(j, "read-only"));
}

static void test_cold(void **state _unused_)
{
	_cleanup_(qemu_cmd_done) struct qemu_cmd c;
	struct launch l = launch_of(LAUNCH_COLD, 1);

	assert_int_equal(qemu_args(&l, &c, NULL), 0);
	assert_string_equal(c.argv.v[0], "/usr/bin/qemu");
	assert_string_equal(value(&c, "-kernel", 0), QEMU_PATH_KERNEL);
	assert_string_equal(value(&c, "-initrd", 0), QEMU_PATH_INITRD);
	assert_string_equal(value(&c, "-append", 0), "console=ttyS0 quiet");
	assert_true(has(&c, "-S"));
	assert_null(value(&c, "-incoming", 0));
	assert_string_equal(value(&c, "-smp", 0), "4");
	assert_string_equal(value(&c, "-m", 0), "512M");
	assert_non_null(strstr(value(&c, "-object", 0), "size=512M,mem-path=" QEMU_PATH_MEM ",share=on"));
	assert_non_null(strstr(value(&c, "-accel", 0), "tcg,"));
	assert_true(has(&c, "-nodefaults"));
	assert_true(has(&c, "-no-user-config"));
	assert_int_equal(c.vmdk_fd, -1);
	assert_int_equal(c.n_fds, 3);
}

static void test_modes(void **state _unused_)
{
	static const struct {
		enum launch_mode mode;
		const char *share;
		bool incoming;
	} modes[] = { { LAUNCH_RESTORE, "share=off", true }, /* a template's memory is nobody's to write */
		      { LAUNCH_PREPARE, "share=on", true },
		      { LAUNCH_BUILD, "share=on", false } };

	for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
		_cleanup_(qemu_cmd_done) struct qemu_cmd c;
		struct launch l = launch_of(modes[i].mode, 1);
		if (modes[i].incoming)
			l.cmdline = NULL;
		assert_int_equal(qemu_args(&l, &c, NULL), 0);
		assert_non_null(strstr(value(&c, "-object", 0), modes[i].share));
		assert_int_equal(value(&c, "-incoming", 0) != NULL, modes[i].incoming);
		assert_int_equal(value(&c, "-append", 0) == NULL, modes[i].incoming);
		assert_int_equal(value(&c, "-initrd", 0) == NULL, modes[i].incoming);
		assert_non_null(value(&c, "-kernel", 0));
	}
}

/* Every mode has the same devices in the same order: a template fits only its own machine. */
static void test_same_devices(void **state _unused_)
{
	_cleanup_(qemu_cmd_done) struct qemu_cmd a, b;
	struct launch build = launch_of(LAUNCH_BUILD, 1), restore = launch_of(LAUNCH_RESTORE, 5);
	size_t n;

	assert_int_equal(qemu_args(&build, &a, NULL), 0);
	assert_int_equal(qemu_args(&restore, &b, NULL), 0);
	for (n = 0; value(&a, "-device", n); n++)
		assert_string_equal(value(&a, "-device", n), value(&b, "-device", n));
	assert_null(value(&b, "-device", n));
	assert_int_equal(n, 5);
	assert_string_equal(value(&a, "-M", 0), value(&b, "-M", 0));
	assert_string_equal(value(&a, "-cpu", 0), value(&b, "-cpu", 0));
}

static void test_disks(void **state _unused_)
{
	_cleanup_(qemu_cmd_done) struct qemu_cmd c;
	struct launch l = launch_of(LAUNCH_RESTORE, 1);

	assert_int_equal(qemu_args(&l, &c, NULL), 0);
	json_t *root = disk(&c, "root"), *upper = disk(&c, "upper"), *base = disk(&c, "base");
	assert_true(read_only(root));
	assert_true(read_only(json_object_get(root, "file")));
	assert_int_equal(fd_behind(&c, root), launch_fd(&l, LAUNCH_FD_EXTENT, 0));
	assert_string_equal(json_string_value(json_object_get(root, "driver")), "raw");
	assert_false(read_only(upper));
	assert_string_equal(json_string_value(json_object_get(upper, "driver")), "qcow2");
	assert_int_equal(fd_behind(&c, upper), launch_fd(&l, LAUNCH_FD_UPPER, 0));
	assert_true(read_only(base));
	assert_true(read_only(json_object_get(base, "file")));
	assert_int_equal(fd_behind(&c, base), launch_fd(&l, LAUNCH_FD_UPPER_BASE, 0));
	assert_string_equal(json_string_value(json_object_get(upper, "backing")), "base");
	json_decref(root);
	json_decref(upper);
	json_decref(base);
}

static void test_middle_of_a_template(void **state _unused_)
{
	_cleanup_(qemu_cmd_done) struct qemu_cmd c;
	struct launch l = launch_of(LAUNCH_RESTORE, 1);

	l.roles[l.n_roles++] = LAUNCH_FD_UPPER_MID;
	assert_int_equal(qemu_args(&l, &c, NULL), 0);
	json_t *upper = disk(&c, "upper"), *mid = disk(&c, "mid0"), *base = disk(&c, "base");
	assert_string_equal(json_string_value(json_object_get(upper, "backing")), "mid0");
	assert_string_equal(json_string_value(json_object_get(mid, "backing")), "base");
	assert_string_equal(json_string_value(json_object_get(mid, "driver")), "qcow2");
	assert_true(read_only(mid));
	assert_true(read_only(json_object_get(mid, "file")));
	assert_int_equal(fd_behind(&c, mid), launch_fd(&l, LAUNCH_FD_UPPER_MID, 0));
	assert_true(read_only(base));
	assert_int_equal(fd_behind(&c, base), launch_fd(&l, LAUNCH_FD_UPPER_BASE, 0));
	json_decref(upper);
	json_decref(mid);
	json_decref(base);
}

/* Several extents: a VMDK descriptor that names them in order with their sectors, in a descriptor nobody writes. */
static void test_extents(void **state _unused_)
{
	_cleanup_(qemu_cmd_done) struct qemu_cmd c;
	struct launch l = launch_of(LAUNCH_COLD, 3);
	_cleanup_free_ char *text = NULL;
	char line[80];
	const char *at;
	int set;

	assert_int_equal(qemu_args(&l, &c, NULL), 0);
	json_t *layers = disk(&c, "layers"), *root = disk(&c, "root");
	assert_true(read_only(layers));
	assert_true(read_only(root));
	assert_string_equal(json_string_value(json_object_get(root, "file")), "layers");
	assert_int_equal(fd_behind(&c, layers), c.vmdk_fd);
	assert_int_equal(fcntl(c.vmdk_fd, F_GETFL) & O_ACCMODE, O_RDONLY);
	assert_int_equal(fd_read_all(c.vmdk_fd, 4096, &text, NULL), 0);
	assert_non_null(strstr(text, "createType=\"twoGbMaxExtentFlat\""));
	at = text;
	for (size_t i = 0; i < 3; i++) {
		snprintf(line, sizeof(line), "RW %zu FLAT \"/dev/fdset/", (i + 1) * 8);
		at = strstr(at, line); /* in order */
		assert_non_null(at);
		assert_int_equal(sscanf(at + strlen(line), "%d\" 0\n", &set), 1);
		assert_int_equal(c.fds[set - QEMU_FD_FIRST], launch_fd(&l, LAUNCH_FD_EXTENT, i));
		at++;
	}
	assert_int_equal(c.n_fds, 3 + 1 + 2);
	json_decref(layers);
	json_decref(root);
}

static void test_most_extents(void **state _unused_)
{
	_cleanup_(qemu_cmd_done) struct qemu_cmd c;
	struct launch l = launch_of(LAUNCH_RESTORE, LAUNCH_EXTENTS_MAX);

	l.roles[l.n_roles++] = LAUNCH_FD_UPPER_MID;
	assert_int_equal(qemu_args(&l, &c, NULL), 0);
	assert_int_equal(c.n_fds, LAUNCH_EXTENTS_MAX + 4);
	assert_true(c.n_fds <= ARRAY_SIZE(c.fds));
}

static void test_kvm(void **state _unused_)
{
	_cleanup_(qemu_cmd_done) struct qemu_cmd c;
	struct launch l = launch_of(LAUNCH_COLD, 1);

	l.accel = (char *)"kvm";
	assert_int_equal(qemu_args(&l, &c, NULL), 0);
	assert_string_equal(value(&c, "-accel", 0), "kvm");
	assert_string_equal(value(&c, "-cpu", 0), "host");
}

static void refused(struct launch l)
{
	struct qemu_cmd c = { .vmdk_fd = -1 };
	struct vial_err err = VIAL_ERR_INIT;

	assert_int_equal(qemu_args(&l, &c, &err), VIAL_E_INVALID);
	assert_non_null(strstr(err.msg, "launch description lacks"));
	assert_int_equal(c.argv.n, 0);
}

static void test_incomplete(void **state _unused_)
{
	struct launch l = launch_of(LAUNCH_COLD, 1);

	l.accel = NULL;
	refused(l);
	l = launch_of(LAUNCH_COLD, 1);
	l.program = NULL;
	refused(l);
	l = launch_of(LAUNCH_COLD, 1);
	l.machine = NULL;
	refused(l);
	l = launch_of(LAUNCH_COLD, 1);
	l.cmdline = NULL;
	refused(l);
	refused(launch_of(LAUNCH_COLD, 0));
	l = launch_of(LAUNCH_COLD, 1);
	l.n_extents = 2; /* more lengths than descriptors */
	refused(l);
	l = launch_of(LAUNCH_COLD, 1);
	l.n_roles--;
	refused(l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cold),
		cmocka_unit_test(test_modes),
		cmocka_unit_test(test_same_devices),
		cmocka_unit_test(test_disks),
		cmocka_unit_test(test_middle_of_a_template),
		cmocka_unit_test(test_extents),
		cmocka_unit_test(test_most_extents),
		cmocka_unit_test(test_kvm),
		cmocka_unit_test(test_incomplete),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
