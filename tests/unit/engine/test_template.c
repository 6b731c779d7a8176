// SPDX-License-Identifier: Apache-2.0
// The template cache, with a builder that only writes files.
#include "test.h"

#include <sys/mman.h>
#include <sys/resource.h>

#include "base/err.h"
#include "engine/template.h"
#include "engine/template_build.h"
#include "engine/template_frozen.h"
#include "freeze/frozen.h"

#define MEM_DATA KIB(256)

static int builds, complaints;
static bool build_fails, try_fails;

/* Nothing runs here: files are all there is of what was frozen. */
int template_freeze(const struct template_env *env _unused_, const struct template_spec *spec _unused_,
		    int dir, struct template *t _unused_, struct vial_err *err _unused_)
{
	static const struct frozen_head head = { .magic = FROZEN_MAGIC };

	assert_int_equal(fd_write_file_at(dir, "frozen", &head, sizeof(head), 0600), 0);
	assert_int_equal(fd_write_file_at(dir, "frozen.upper", "upper", 5, 0600), 0);
	return 0;
}

int template_try_frozen(const struct template_env *env _unused_, const struct template_spec *spec _unused_,
			const struct template *t _unused_, struct vial_err *err)
{
	return try_fails ? err_set(err, VIAL_E_ENGINE, "it does not wake") : 0;
}

int template_build(const struct template_env *env, const struct template_spec *spec, const char *tmp,
		   struct template *ret, struct vial_err *err)
{
	_cleanup_fd_ int dir = openat(env->dir_fd, tmp, O_RDONLY | O_DIRECTORY);
	_cleanup_free_ char *data = malloc(MEM_DATA);

	builds++;
	memset(data, builds, MEM_DATA);
	assert_int_equal(fd_write_file_at(dir, "mem", data, MEM_DATA, 0600), 0);
	if (build_fails) {
		err->code = VIAL_E_ENGINE;
		snprintf(err->msg, sizeof(err->msg), "no machine today");
		return VIAL_E_ENGINE;
	}
	assert_int_equal(fd_write_file_at(dir, "state", "state", 5, 0600), 0);
	if (spec->root)
		assert_int_equal(fd_write_file_at(dir, "upper", "upper", 5, 0600), 0);
	ret->mem_fd = openat(dir, "mem", O_RDONLY | O_CLOEXEC);
	ret->state_fd = openat(dir, "state", O_RDONLY | O_CLOEXEC);
	ret->upper_fd = openat(dir, "upper", O_RDONLY | O_CLOEXEC);
	memset(ret->reset_key, builds, LINK_KEY_SIZE);
	return 0;
}

static void progress(void *data _unused_, const char *line)
{
	complaints += strstr(line, "damaged") != NULL;
}

struct rig {
	char name[32], cache_name[32];
	struct engine_host host;
	struct template_env env;
	struct template_spec spec;
	struct template_root root;
	struct template t;
	int base_fd;
};

static int setup(void **state)
{
	struct rig *r = calloc(1, sizeof(*r));

	builds = complaints = 0;
	build_fails = try_fails = false;
	strcpy(r->host.digest, "d1");
	strcpy(r->host.machine, "m");
	strcpy(r->host.accel, "tcg");
	r->env = (struct template_env){ .dir_fd = make_dir(r->name),
					.cache_fd = make_dir(r->cache_name),
					.log_fd = -1,
					.progress = progress };
	r->spec = (struct template_spec){ .host = &r->host,
					  .vcpus = 1,
					  .memory = MIB(128),
					  .kernel_fd = fd_memfd("k", "kernel", 6),
					  .kernel_name = "k",
					  .cmdline = "quiet" };
	r->base_fd = fd_memfd("b", "base", 4);
	r->root = (struct template_root){
		.digest = "r1", .fstype = "erofs", .base_fd = r->base_fd, .base_name = "b"
	};
	r->t = TEMPLATE_NONE;
	*state = r;
	return 0;
}

static int teardown(void **state)
{
	struct rig *r = *state;

	template_done(&r->t);
	rm_dir(r->name, r->env.dir_fd);
	rm_dir(r->cache_name, r->env.cache_fd);
	close(r->spec.kernel_fd);
	close(r->base_fd);
	free(r);
	return 0;
}

/* Opens; the builder must have run @n times altogether. */
static void open_expect(struct rig *r, int n)
{
	struct vial_err err = VIAL_ERR_INIT;
	uint8_t key[LINK_KEY_SIZE];
	char byte;

	template_done(&r->t);
	r->t = TEMPLATE_NONE;
	if (template_open(&r->env, &r->spec, false, &r->t, &err) < 0)
		fail_msg("%s", err.msg);
	assert_int_equal(builds, n);
	assert_int_equal(pread(r->t.mem_fd, &byte, 1, 9), 1);
	memset(key, byte, sizeof(key)); /* of the same build */
	assert_memory_equal(r->t.reset_key, key, sizeof(key));
}

static int file(struct rig *r, const char *name, int flags)
{
	char path[80];

	snprintf(path, sizeof(path), "%s/%s", r->t.key, name);
	assert_int_equal(fchmodat(r->env.dir_fd, path, 0600, 0), 0);
	return openat(r->env.dir_fd, path, flags | O_CLOEXEC, 0600);
}

static void test_built_once(void **state)
{
	struct rig *r = *state;
	struct stat st;
	char key[33];

	open_expect(r, 1);
	assert_int_equal(fstat(r->t.mem_fd, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0400);
	assert_int_equal(fcntl(r->t.mem_fd, F_GETFL) & O_ACCMODE, O_RDONLY);
	assert_int_equal(r->t.upper_fd, -1);
	strcpy(key, r->t.key);
	open_expect(r, 1);
	assert_string_equal(key, r->t.key);
}

static void test_key(void **state)
{
	struct rig *r = *state;

	open_expect(r, 1);
	r->spec.cmdline = "other";
	open_expect(r, 2);
	r->spec.memory *= 2;
	open_expect(r, 3);
	r->spec.vcpus++;
	open_expect(r, 4);
	strcpy(r->host.digest, "d2");
	open_expect(r, 5);
	assert_int_equal(pwrite(r->spec.kernel_fd, "Kernel!", 7, 0), 7);
	open_expect(r, 6);
	r->spec.root = &r->root;
	open_expect(r, 7);
	r->root.digest = "r2";
	open_expect(r, 8);
	assert_int_equal(pwrite(r->base_fd, "BASE!", 5, 0), 5);
	open_expect(r, 9);
	open_expect(r, 9);
	assert_true(r->t.upper_fd >= 0);
}

static void test_rebuild(void **state)
{
	struct rig *r = *state;

	open_expect(r, 1);
	template_done(&r->t);
	assert_int_equal(template_open(&r->env, &r->spec, true, &r->t, NULL), 0);
	assert_int_equal(builds, 2);
	open_expect(r, 2);
}

/* Touched but whole: checked in full once, then known again. */
static void test_touched(void **state)
{
	struct rig *r = *state;
	char before[300] = "", after[300] = "";

	open_expect(r, 1);
	int mem = file(r, "mem", O_RDWR), ok = file(r, "ok", O_RDONLY);
	assert_true(read(ok, before, sizeof(before) - 1) > 36);
	close(ok);
	assert_int_equal(futimens(mem, (struct timespec[]){ { 1, 0 }, { 1, 0 } }), 0);
	close(mem);
	open_expect(r, 1);
	ok = file(r, "ok", O_RDONLY);
	assert_true(read(ok, after, sizeof(after) - 1) > 36);
	close(ok);
	assert_string_not_equal(before, after);
	assert_int_equal(complaints, 0);
}

static void flip(struct rig *r, const char *name, bool keep_time)
{
	int fd = file(r, name, O_RDWR);
	struct stat st;
	char c;

	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(pread(fd, &c, 1, 4), 1);
	c ^= 0x40;
	assert_int_equal(pwrite(fd, &c, 1, 4), 1);
	if (keep_time)
		futimens(fd, (struct timespec[]){ st.st_atim, st.st_mtim });
	else
		futimens(fd, (struct timespec[]){ { 2, 0 }, { 2, 0 } });
	close(fd);
}

static void test_damaged(void **state)
{
	struct rig *r = *state;

	r->spec.root = &r->root;
	open_expect(r, 1);
	flip(r, "mem", false);
	open_expect(r, 2);
	flip(r, "state", false);
	open_expect(r, 3);
	flip(r, "upper", false);
	open_expect(r, 4);
	assert_int_equal(complaints, 3);
	open_expect(r, 4);
}

static void test_cut_short(void **state)
{
	struct rig *r = *state;

	open_expect(r, 1);
	int mem = file(r, "mem", O_RDWR);
	assert_int_equal(ftruncate(mem, MEM_DATA - 1), 0);
	close(mem);
	open_expect(r, 2);
}

/* After a reboot nothing is believed: a power cut may have eaten what "ok" was written for. */
static void test_another_boot(void **state)
{
	struct rig *r = *state;
	char text[300] = "", now[300] = "";
	ssize_t n;

	open_expect(r, 1);
	for (int damaged = 0; damaged < 2; damaged++) {
		int ok = file(r, "ok", O_RDWR);
		n = pread(ok, text, sizeof(text) - 1, 0);
		text[0] ^= 1;
		assert_int_equal(pwrite(ok, text, (size_t)n, 0), n);
		close(ok);
		if (damaged)
			flip(r, "mem", true);
		open_expect(r, 1 + damaged);
		ok = file(r, "ok", O_RDONLY);
		assert_true(pread(ok, now, sizeof(now) - 1, 0) > 0);
		assert_string_not_equal(now, text);
		close(ok);
	}
}

static void test_parts_missing(void **state)
{
	static const char *const names[] = { "mem", "state", "meta", "upper" };
	struct rig *r = *state;

	r->spec.root = &r->root;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		char path[80];
		open_expect(r, (int)i + 1);
		snprintf(path, sizeof(path), "%s/%s", r->t.key, names[i]);
		assert_int_equal(unlinkat(r->env.dir_fd, path, 0), 0);
		open_expect(r, (int)i + 2);
	}
}

static void test_meta_nonsense(void **state)
{
	static const char *const texts[] = { "", "vial-template 2 zz\n", "vial-template 1 00 1 2 3\n",
					     "vial-template 2 00 a b c\n" };
	struct rig *r = *state;

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		open_expect(r, (int)i + 1);
		int meta = file(r, "meta", O_RDWR | O_TRUNC);
		assert_int_equal(fd_write_full(meta, texts[i], strlen(texts[i])), 0);
		close(meta);
		open_expect(r, (int)i + 2);
	}
}

static void test_build_fails(void **state)
{
	struct rig *r = *state;
	struct vial_err err = VIAL_ERR_INIT;
	struct template t = TEMPLATE_NONE;

	build_fails = true;
	assert_int_equal(template_open(&r->env, &r->spec, false, &t, &err), VIAL_E_ENGINE);
	assert_string_equal(err.msg, "no machine today");
	build_fails = false;
	open_expect(r, 2); /* nothing of the failed one is in the way */
}

static void want_frozen(struct rig *r)
{
	r->env.freezer_path = "freezer";
	r->host.engine = LAUNCH_QEMU;
	r->spec.root = &r->root;
}

static ino_t frozen_meta(struct rig *r)
{
	_cleanup_fd_ int fd = file(r, "frozen.meta", O_RDONLY);
	struct stat st;

	assert_int_equal(fstat(fd, &st), 0);
	return st.st_ino;
}

/* One process opens a template and waits for the lock; meanwhile another makes it anew, and freezes it. */
static void test_frozen_of_another(void **state)
{
	struct rig *r = *state;
	struct template old = TEMPLATE_NONE;

	want_frozen(r);
	open_expect(r, 1);
	assert_true(r->t.frozen_fd >= 0 && r->t.frozen_upper_fd >= 0);
	memcpy(old.key, r->t.key, sizeof(old.key));
	old.mem_fd = dup(r->t.mem_fd);
	assert_int_equal(frozen_open(&r->env, &old), 0);
	close(old.frozen_fd);
	close(old.frozen_upper_fd);
	old.frozen_fd = old.frozen_upper_fd = -1;

	template_done(&r->t);
	assert_int_equal(template_open(&r->env, &r->spec, true, &r->t, NULL), 0);
	assert_int_equal(builds, 2);
	ino_t meta = frozen_meta(r);
	assert_true(frozen_open(&r->env, &old) < 0);
	assert_int_equal(old.frozen_fd, -1);
	frozen_build(&r->env, &r->spec, &old);
	assert_int_equal(old.frozen_fd, -1);
	assert_int_equal(frozen_meta(r), meta);
	open_expect(r, 2);
	assert_true(r->t.frozen_fd >= 0);
	template_done(&old);
}

static void test_frozen_in_vain(void **state)
{
	struct rig *r = *state;
	char path[80];

	want_frozen(r);
	try_fails = true;
	open_expect(r, 1);
	assert_int_equal(r->t.frozen_fd, -1);
	for (int i = 0; i < 2; i++) {
		snprintf(path, sizeof(path), "%s/%s", r->t.key, i ? "frozen" : "frozen.upper");
		assert_int_equal(faccessat(r->env.dir_fd, path, F_OK, 0), -1);
	}
	try_fails = false;
	open_expect(r, 1);
	assert_int_equal(r->t.frozen_fd, -1); /* not tried each time */
}

/* Where it could not be given all its descriptors a machine is started the ordinary way. */
static void test_frozen_needs_descriptors(void **state)
{
	struct rig *r = *state;
	struct rlimit before, few;

	want_frozen(r);
	assert_true(frozen_wanted(&r->env, &r->spec));
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	few = (struct rlimit){ FROZEN_FDS_WANTED - 1, before.rlim_max };
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
	bool wanted = frozen_wanted(&r->env, &r->spec);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	assert_false(wanted);
}

/* The cache holds what fits; the longest unused go, never the one just built. */
static void test_eviction(void **state)
{
	struct rig *r = *state;
	char keys[6][33], cmdline[20];

	r->spec.cmdline = cmdline;
	for (int i = 0; i < 6; i++) {
		snprintf(cmdline, sizeof(cmdline), "machine %d", i);
		open_expect(r, i + 1);
		strcpy(keys[i], r->t.key);
		/* The first is used again and again. */
		struct timespec used[2] = { { 1000 + i, 0 }, { 1000 + i, 0 } };
		if (i == 0)
			used[0].tv_sec = used[1].tv_sec = 5000;
		assert_int_equal(utimensat(r->env.dir_fd, keys[i], used, 0), 0);
	}
	assert_int_equal(faccessat(r->env.dir_fd, keys[0], F_OK, 0), 0);
	assert_int_equal(faccessat(r->env.dir_fd, keys[1], F_OK, 0), -1);
	assert_int_equal(faccessat(r->env.dir_fd, keys[5], F_OK, 0), 0);
	open_expect(r, 6);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_built_once, setup, teardown),
		cmocka_unit_test_setup_teardown(test_key, setup, teardown),
		cmocka_unit_test_setup_teardown(test_rebuild, setup, teardown),
		cmocka_unit_test_setup_teardown(test_touched, setup, teardown),
		cmocka_unit_test_setup_teardown(test_damaged, setup, teardown),
		cmocka_unit_test_setup_teardown(test_cut_short, setup, teardown),
		cmocka_unit_test_setup_teardown(test_another_boot, setup, teardown),
		cmocka_unit_test_setup_teardown(test_parts_missing, setup, teardown),
		cmocka_unit_test_setup_teardown(test_meta_nonsense, setup, teardown),
		cmocka_unit_test_setup_teardown(test_build_fails, setup, teardown),
		cmocka_unit_test_setup_teardown(test_frozen_of_another, setup, teardown),
		cmocka_unit_test_setup_teardown(test_frozen_in_vain, setup, teardown),
		cmocka_unit_test_setup_teardown(test_frozen_needs_descriptors, setup, teardown),
		cmocka_unit_test_setup_teardown(test_eviction, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
