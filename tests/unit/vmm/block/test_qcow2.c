// SPDX-License-Identifier: Apache-2.0
/*
 * qcow2 images against a plain buffer, with qemu-img as the judge: random operations on every kind of image, a kill and
 * a failure at each single write, repair, live fork.
 */
#include "disk.h"

#include <limits.h>
#include <sys/uio.h>

/*
 * The linker puts these in front of the C library's: after @left more writes (or holes punched) of this process comes
 * what @then says.
 */
static struct {
	long left; /* -1: never */
	enum { DIE_BEFORE, DIE_AFTER, DIE_HALF, FAIL_ONCE, FAIL_ALWAYS } then;
} fault = { .left = -1 };

ssize_t __real_pwritev64(int fd, const struct iovec *v, int n, off_t off);
int __real_fallocate64(int fd, int mode, off_t off, off_t len);
ssize_t __wrap_pwritev64(int fd, const struct iovec *v, int n, off_t off);
int __wrap_fallocate64(int fd, int mode, off_t off, off_t len);

static bool now(void)
{
	if (fault.left < 0)
		return false;
	if (fault.left > 0) {
		fault.left--;
		return false;
	}
	if (fault.then != FAIL_ALWAYS)
		fault.left = -1;
	return true;
}

ssize_t __wrap_pwritev64(int fd, const struct iovec *v, int n, off_t off)
{
	if (!now())
		return __real_pwritev64(fd, v, n, off);
	if (fault.then == FAIL_ONCE || fault.then == FAIL_ALWAYS) {
		errno = ENOSPC;
		return -1;
	}
	if (fault.then == DIE_HALF) /* the kernel's copy may stop at a page */
		__real_pwritev64(fd, &(struct iovec){ v[0].iov_base, v[0].iov_len / 2 & ~(size_t)511 }, 1,
				 off);
	if (fault.then == DIE_AFTER)
		__real_pwritev64(fd, v, n, off);
	_exit(42);
}

int __wrap_fallocate64(int fd, int mode, off_t off, off_t len)
{
	if (!now())
		return __real_fallocate64(fd, mode, off, len);
	if (fault.then == FAIL_ONCE || fault.then == FAIL_ALWAYS) {
		errno = ENOSPC;
		return -1;
	}
	if (fault.then == DIE_AFTER)
		__real_fallocate64(fd, mode, off, len);
	_exit(42);
}

/* A disk and what must be on it */
struct model {
	struct block *b;
	uint8_t *want;
	uint64_t size;
	uint64_t seed;
	/* shared with a child that is killed: the range that is being changed */
	uint64_t *busy;
};

static const char JSON[] =
	"'json:{\"driver\":\"qcow2\",\"file\":{\"driver\":\"file\",\"filename\":\"%s\"}%s}'";
static const char RAW_BELOW[] =
	",\"backing\":{\"driver\":\"raw\",\"file\":{\"driver\":\"file\",\"filename\":\"%s\"}}";

/* Runs qemu-img convert on image "q" over raw file @base (NULL: none) and compares with @want. */
static void judge_content(const struct model *m, const char *base)
{
	char below[256] = "", image[512];

	if (base)
		snprintf(below, sizeof(below), RAW_BELOW, base);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	snprintf(image, sizeof(image), JSON, "q", below);
#pragma GCC diagnostic pop
	assert_int_equal(sh("qemu-img convert -O raw %s raw >out 2>&1 || { cat out; false; }", image), 0);
	_cleanup_fd_ int fd = open_file("raw", O_RDONLY);
	uint8_t *got = mmap(NULL, m->size, PROT_READ, MAP_PRIVATE, fd, 0);
	assert_true(got != MAP_FAILED);
	for (uint64_t i = 0; i < m->size; i += 512)
		if (memcmp(got + i, m->want + i, 512) != 0)
			fail_msg("qemu-img reads another sector %llu", (unsigned long long)i / 512);
	munmap(got, m->size);
}

static int check_image(const char *name)
{
	return sh("qemu-img check -f qcow2 %s >out 2>&1", name);
}

static void judge(const struct model *m, const char *base)
{
	if (check_image("q") != 0) {
		sh("cat out");
		fail_msg("qemu-img check finds fault");
	}
	judge_content(m, base);
}

/* What the disk says, all of it or (with @tolerant) all but the busy range */
static void judge_own(const struct model *m, bool tolerant)
{
	uint8_t buf[64 * 512];

	for (uint64_t off = 0; off < m->size; off += sizeof(buf)) {
		size_t n = MIN(sizeof(buf), m->size - off);

		assert_int_equal(read_at(m->b, buf, n, off), 0);
		for (size_t i = 0; i < n; i += 512) {
			bool busy = tolerant && off + i >= m->busy[0] && off + i < m->busy[1];

			if (!busy && memcmp(buf + i, m->want + off + i, 512) != 0)
				fail_msg("sector %llu is wrong", (unsigned long long)(off + i) / 512);
		}
	}
}

/* What an operation leaves: @sure: each sector is new; else (it failed, or it was a discard) old or new. */
static void take_result(struct model *m, const uint8_t *new, uint64_t off, uint64_t len, bool sure)
{
	static uint8_t got[MIB(1)];

	assert_int_equal(read_at(m->b, got, len, off), 0);
	for (uint64_t i = 0; i < len; i += 512) {
		bool is_new = memcmp(got + i, new + i, 512) == 0;

		if (!is_new && (sure || memcmp(got + i, m->want + off + i, 512) != 0))
			fail_msg("sector %llu is neither what was written nor what was there",
				 (unsigned long long)(off + i) / 512);
	}
	memcpy(m->want + off, got, len);
}

/* Where a random operation goes: aligned to clusters now and then, for the shortcuts */
static uint64_t random_range(struct model *m, uint64_t most, uint64_t *ret_len)
{
	uint64_t off = rnd(&m->seed, m->size / 512) * 512, len = (1 + rnd(&m->seed, most / 512)) * 512;

	if (rnd(&m->seed, 4) == 0) {
		off &= ~(uint64_t)0xffff;
		len = MIN(ALIGN_UP(len, 65536ULL), most);
	}
	*ret_len = MIN(len, m->size - off);
	return off;
}

/* One random operation of at most @most bytes (up to 1 MiB), and whether what it leaves is right; its result */
static int random_op(struct model *m, uint64_t most)
{
	static uint8_t new[MIB(1)];
	uint64_t len, off = random_range(m, most, &len), kind = rnd(&m->seed, 15);
	int r;

	m->busy[0] = off;
	m->busy[1] = off + len;
	if (kind < 9) {
		fill_random(&m->seed, new, len);
		uint64_t cut = rnd(&m->seed, len);
		struct iovec v[] = { { new, cut }, { new + cut, len - cut } };
		r = block_writev(m->b, v, 2, off);
	} else {
		memset(new, 0, len);
		r = kind < 12	? block_write_zeroes(m->b, off, len, kind & 1)
		    : kind < 14 ? block_discard(m->b, off, len)
				: block_flush(m->b);
	}
	if (kind < 14)
		take_result(m, new, off, len, r == 0 && kind < 12);
	m->busy[0] = m->busy[1] = 0;
	return r;
}

static void *shared(size_t n)
{
	void *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	assert_true(p != MAP_FAILED);
	return p;
}

/* A model of @size, over @base_bytes random bytes in file "base" (0: nothing) */
static void model_start(struct model *m, uint64_t size, uint64_t base_bytes, uint64_t seed)
{
	*m = (struct model){ .want = shared(size), .size = size, .seed = seed, .busy = shared(4096) };
	int fd = new_file("base", base_bytes);
	for (uint64_t off = 0; off < base_bytes; off += 8192) {
		size_t n = MIN(4096, base_bytes - off);
		uint8_t bytes[4096];

		fill_random(&m->seed, bytes, n);
		assert_int_equal(pwrite(fd, bytes, n, (off_t)off), n);
		if (off < size)
			memcpy(m->want + off, bytes, MIN(n, size - off));
	}
	close(fd);
}

static void model_end(struct model *m)
{
	munmap(m->want, m->size);
	munmap(m->busy, 4096);
}

static struct block *open_base(uint64_t bytes)
{
	return bytes ? open_raw("base", O_RDONLY) : NULL;
}

struct kind {
	const char *options; /* of qemu-img create; NULL: our own */
	uint64_t size;
	uint64_t base;
	uint64_t most;
	int ops;
};

static void create(const struct kind *k)
{
	if (k->options) {
		assert_int_equal(sh("qemu-img create -q -f qcow2 -o %s q %llu", k->options,
				    (unsigned long long)k->size),
				 0);
		return;
	}
	_cleanup_fd_ int fd = new_file("q", 0);
	assert_int_equal(qcow2_init(fd, k->size), 0);
}

static const struct kind kinds[] = {
	{ NULL, MIB(8), 0, KIB(300), 400 },
	{ NULL, MIB(8), MIB(5) + 512, KIB(300), 400 },
	{ NULL, MIB(8) + 512 * 7, MIB(8) + 512 * 7, KIB(300), 400 },
	{ NULL, MIB(6), MIB(9), MIB(1), 200 },
	{ "compat=0.10", MIB(4) + 512, 0, KIB(200), 300 },
	{ "compat=0.10", MIB(4), MIB(3), KIB(200), 300 },
	{ "cluster_size=512", MIB(1), KIB(900), KIB(40), 400 },
	{ "cluster_size=4k", MIB(4), MIB(2), KIB(200), 400 },
	{ "cluster_size=2M", MIB(9), MIB(7), MIB(1), 60 },
	{ "preallocation=metadata", MIB(8), 0, KIB(300), 300 },
	{ "lazy_refcounts=on", MIB(8), MIB(8), KIB(300), 300 },
};

static void run_kind(const struct kind *k, uint64_t seed)
{
	const char *base = k->base ? "base" : NULL;
	struct model m;

	model_start(&m, k->size, k->base, seed);
	create(k);
	for (int round = 0; round < 3;
	     round++) { /* what is freed in one is leaked or used again in the next */
		m.b = open_qcow2("q", O_RDWR, open_base(k->base));
		assert_int_equal(m.b->size, k->size);
		for (int i = 0; i < k->ops; i++) {
			assert_int_equal(random_op(&m, k->most), 0);
			if (i % 16 == 0) /* neighbours may have suffered */
				judge_own(&m, false);
		}
		judge_own(&m, false);
		assert_int_equal(block_flush(m.b), 0);
		judge(&m, base);
		block_close(m.b);
	}
	m.b = open_qcow2("q", O_RDONLY, open_base(k->base));
	assert_true(m.b->read_only);
	judge_own(&m, false);
	assert_int_equal(write_at(m.b, m.want, 512, 0), -EROFS);
	block_close(m.b);
	model_end(&m);
}

static void test_random(void **state _unused_)
{
	need_qemu_img();
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		run_kind(&kinds[i], 0x9e3779b97f4a7c15ULL + i);
}

/* All space comes back: an image whose disk was filled and discarded is not larger than its tables, again and again. */
static void test_space(void **state _unused_)
{
	static uint8_t buf[MIB(1)];
	struct stat st;

	_cleanup_fd_ int fd = new_file("q", 0);
	assert_int_equal(qcow2_init(fd, MIB(16)), 0);
	struct block *b = open_qcow2("q", O_RDWR, NULL);
	memset(buf, 7, sizeof(buf));
	for (int round = 0; round < 5; round++) {
		for (uint64_t off = 0; off < MIB(16); off += sizeof(buf))
			assert_int_equal(write_at(b, buf, sizeof(buf), off), 0);
		assert_int_equal(fstat(fd, &st), 0);
		assert_in_range(st.st_size, MIB(16), MIB(17));
		assert_int_equal(block_discard(b, 0, MIB(16)), 0);
		if (round & 1)
			assert_int_equal(block_flush(b), 0);
	}
	assert_int_equal(block_flush(b), 0);
	assert_int_equal(fstat(fd, &st), 0);
	assert_in_range(st.st_blocks, 0, MIB(1) / 512);
	block_close(b);
}

/* The child of a kill test: operations until the fault ends it; exits 0 if it never came */
static void child(struct model *m, const struct kind *k, long left, int then, int ops)
{
	m->b = open_qcow2("q", O_RDWR, open_base(k->base));
	fault.left = left;
	fault.then = then;
	for (int i = 0; i < ops; i++)
		random_op(m, k->most);
	_exit(0);
}

/* Kills a child at its write number @left; whether it got so far. */
static bool kill_at(const struct kind *k, long left, int then)
{
	struct model m;
	int status;

	model_start(&m, k->size, k->base, 77 + (uint64_t)left / 20);
	create(k);
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		child(&m, k, left, then, k->ops);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status) && (WEXITSTATUS(status) == 42 || WEXITSTATUS(status) == 0));
	int r = left % 8 ? 0 : check_image("q");
	if (r != 0 && r != 3) { /* leaks are not wrong */
		sh("cat out");
		fail_msg("killed at write %ld (%d): qemu-img check finds errors", left, then);
	}
	m.b = open_qcow2("q", O_RDWR, open_base(k->base));
	judge_own(&m, true);
	/* Opened again, nothing is leaked either, and it can be worked with. */
	if (left % 8 == 0 && check_image("q") != 0) {
		sh("cat out");
		fail_msg("killed at write %ld (%d): not clean when opened again", left, then);
	}
	block_close(m.b);
	model_end(&m);
	return WEXITSTATUS(status) == 42;
}

static void test_killed(void **state _unused_)
{
	static const struct kind small[] = {
		{ NULL, MIB(4), MIB(2), KIB(200), 40 },
		{ "cluster_size=512", KIB(512), 0, KIB(20), 120 },
	};

	need_qemu_img();
	for (size_t k = 0; k < ARRAY_SIZE(small); k++) {
		int kills = 0;

		for (int then = DIE_BEFORE; then <= DIE_HALF; then++)
			for (long left = then; left < 75; left += 3)
				kills += kill_at(&small[k], left, then);
		assert_in_range(kills, 65, 75); /* a run may need fewer writes */
	}
}

/* A write that fails (the host's disk is full) is the guest's error, and nothing else breaks. */
static int fail_at(const struct kind *k, long left, int then)
{
	struct model m;
	int failures = 0;

	model_start(&m, k->size, k->base, 99 + (uint64_t)left / 16);
	create(k);
	m.b = open_qcow2("q", O_RDWR, open_base(k->base));
	fault.left = left;
	fault.then = then;
	for (int i = 0; i < 40; i++) {
		int r = random_op(&m, k->most);

		if (r < 0)
			assert_int_equal(r, -ENOSPC);
		failures += r < 0;
	}
	fault.left = -1;
	judge_own(&m, false);
	assert_int_equal(block_flush(m.b), 0);
	int r = check_image("q");
	if (r != 0 && r != 3) {
		sh("cat out");
		fail_msg("failed at write %ld: qemu-img check finds errors", left);
	}
	block_close(m.b);
	m.b = open_qcow2("q", O_RDWR, open_base(k->base));
	judge_own(&m, false);
	judge(&m, k->base ? "base" : NULL);
	block_close(m.b);
	model_end(&m);
	return failures;
}

static void test_full(void **state _unused_)
{
	static const struct kind small = { NULL, MIB(4), MIB(2), KIB(200), 0 };
	int once = 0;

	need_qemu_img();
	for (long left = 0; left < 90; left += 7) {
		once += fail_at(&small, left, FAIL_ONCE);
		assert_true(fail_at(&small, left + 1, FAIL_ALWAYS) > 5);
	}
	assert_in_range(once, 5, 13);
}

/* Live fork: the parent and each child see what was there, and then only their own. */
static void test_fork(void **state _unused_)
{
	struct vial_err err = VIAL_ERR_INIT;
	static uint8_t buf[KIB(64)], parent[KIB(64)], kid[KIB(64)];
	uint64_t seed = 5;

	need_qemu_img();
	fill_random(&seed, buf, sizeof(buf));
	fill_random(&seed, parent, sizeof(parent));
	fill_random(&seed, kid, sizeof(kid));
	const struct kind k = { NULL, MIB(4), 0, 0, 0 };
	create(&k);
	struct block *b = open_qcow2("q", O_RDWR, NULL);
	assert_int_equal(write_at(b, buf, sizeof(buf), 4096), 0);
	assert_int_equal(block_discard(b, MIB(1), MIB(1)), 0);
	int fd = new_file("next", 0);
	assert_int_equal(qcow2_init(fd, MIB(4)), 0);
	assert_int_equal(block_fork(&b, fd, BLOCK_SYNC, &err), 0);
	assert_int_equal(b->depth, 2);
	assert_false(b->read_only);

	fd = new_file("child", 0);
	assert_int_equal(qcow2_init(fd, MIB(4)), 0);
	close(fd);
	struct block *c = open_qcow2("child", O_RDWR, open_qcow2("q", O_RDONLY, NULL));
	assert_int_equal(write_at(b, parent, sizeof(parent), MIB(1)), 0);
	assert_int_equal(write_at(c, kid, 512, 4096), 0);
	memcpy(kid + 512, buf + 512, sizeof(buf) - 512);
	uint8_t got[KIB(64)];
	assert_int_equal(read_at(c, got, sizeof(got), 4096), 0);
	assert_memory_equal(got, kid, sizeof(got));
	assert_int_equal(read_at(b, got, sizeof(got), 4096), 0);
	assert_memory_equal(got, buf, sizeof(got));
	assert_int_equal(read_at(b, got, sizeof(got), MIB(1)), 0);
	assert_memory_equal(got, parent, sizeof(got));
	assert_int_equal(read_at(c, got, sizeof(got), MIB(1)), 0);
	for (size_t i = 0; i < sizeof(got); i++)
		assert_int_equal(got[i], 0);
	assert_int_equal(check_image("q"), 0);
	assert_int_equal(block_flush(b), 0);
	assert_int_equal(check_image("next"), 0);
	block_close(b);
	block_close(c);
}

/* A fork that cannot be leaves the disk writable, as it was. */
static void test_fork_refused(void **state _unused_)
{
	struct vial_err err = VIAL_ERR_INIT;
	const struct kind k = { NULL, MIB(4), 0, 0, 0 };
	uint8_t buf[512] = { 1 };

	create(&k);
	struct block *b = open_qcow2("q", O_RDWR, NULL), *same = b;
	int fd = new_file("next", 0);
	assert_int_equal(qcow2_init(fd, MIB(8)), 0);
	assert_int_equal(block_fork(&b, fd, BLOCK_SYNC, &err), VIAL_E_INVALID);
	err = (struct vial_err)VIAL_ERR_INIT;
	assert_int_equal(block_fork(&b, new_file("next", 4096), BLOCK_SYNC, &err), VIAL_E_INVALID);
	err = (struct vial_err)VIAL_ERR_INIT;
	fd = new_file("next", 0);
	assert_int_equal(qcow2_init(fd, MIB(4)), 0);
	close(fd);
	assert_int_equal(block_fork(&b, open_file("next", O_RDONLY), BLOCK_SYNC, &err), VIAL_E_INVALID);
	assert_ptr_equal(b, same);
	assert_int_equal(write_at(b, buf, 512, 0), 0);
	/* Layers end somewhere. */
	int r = 0;
	err = (struct vial_err)VIAL_ERR_INIT;
	unsigned int n = 0;
	for (; r == 0 && n <= BLOCK_DEPTH_MAX; n++) {
		fd = new_file("next", 0);
		unlink(at("next"));
		assert_int_equal(qcow2_init(fd, MIB(4)), 0);
		r = block_fork(&b, fd, BLOCK_SYNC, &err);
	}
	assert_int_equal(r, VIAL_E_LIMIT);
	assert_int_equal(n, BLOCK_DEPTH_MAX);
	assert_int_equal(write_at(b, buf, 512, 512), 0);
	block_close(b);
}

/* Opens "q" and expects a refusal whose message has @word in it. */
static void refused(int flags, int code, const char *word)
{
	struct vial_err err = VIAL_ERR_INIT;
	struct block *b = NULL;
	int fd = open_file("q", flags), r = qcow2_open(fd, NULL, BLOCK_SYNC, &b, &err);

	if (r != code || !strstr(err.msg, word))
		fail_msg("%d instead of %d, %s (%s)", r, code, err.msg, word);
	assert_null(b);
	assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC); /* still the caller's */
	close(fd);
}

static void test_unsupported(void **state _unused_)
{
	need_qemu_img();
	assert_int_equal(sh("qemu-img create -q -f qcow2 -o extended_l2=on,cluster_size=128k q 4M"), 0);
	refused(O_RDONLY, VIAL_E_UNSUPPORTED, "subclusters");
	assert_int_equal(sh("qemu-img create -q -f qcow2 -o data_file=d q 4M"), 0);
	refused(O_RDONLY, VIAL_E_UNSUPPORTED, "another file");
	assert_int_equal(sh("qemu-img create -q -f qcow2 -o compression_type=zstd q 4M"), 0);
	refused(O_RDONLY, VIAL_E_UNSUPPORTED, "compression");
	assert_int_equal(sh("qemu-img create -q -f qcow2 -o refcount_bits=1 q 4M"), 0);
	refused(O_RDWR, VIAL_E_UNSUPPORTED, "refcounts");
	block_close(open_qcow2("q", O_RDONLY, NULL));
	assert_int_equal(sh("qemu-img create -q -f qcow2 q 4M && qemu-img bitmap --add q b"), 0);
	refused(O_RDWR, VIAL_E_UNSUPPORTED, "bitmaps");
	block_close(open_qcow2("q", O_RDONLY, NULL));
	assert_int_equal(sh("qemu-img create -q -f qcow2 q 4M && qemu-img snapshot -c s q"), 0);
	refused(O_RDWR, VIAL_E_UNSUPPORTED, "snapshots");
	block_close(open_qcow2("q", O_RDONLY, NULL));
	assert_int_equal(sh("yes | head -c 1M >z && qemu-img convert -O qcow2 -c z q"), 0);
	refused(O_RDONLY, VIAL_E_UNSUPPORTED, "compressed clusters");
	assert_int_equal(sh("qemu-img create -q -f qcow2 -F raw -b z q 4M"), 0);
	refused(O_RDONLY, VIAL_E_INVALID, "below");
	assert_int_equal(
		sh("qemu-img create -q -f qcow2 q 16384P 2>out || qemu-img create -q -f qcow2 q 17T"), 0);
	refused(O_RDWR, VIAL_E_INVALID, "a disk of");
	assert_int_equal(sh("qemu-img create -q -f qcow2 -o cluster_size=512 q 2G"), 0);
	refused(O_RDWR, VIAL_E_UNSUPPORTED, "refcount table");
	assert_int_equal(sh("echo hello >q"), 0);
	refused(O_RDWR, VIAL_E_INVALID, "not a qcow2");
}

static void poke(const char *name, uint64_t off, uint64_t value, size_t bytes)
{
	_cleanup_fd_ int fd = open_file(name, O_RDWR);
	uint8_t be[8];

	for (size_t i = 0; i < bytes; i++)
		be[i] = (uint8_t)(value >> 8 * (bytes - 1 - i));
	assert_int_equal(pwrite(fd, be, bytes, (off_t)off), bytes);
}

/* An image of ours with one cluster of data: 0 header, 1 refcount table, 2 its block, 3 L1, 4 L2, 5 data */
static void one_cluster(void)
{
	const struct kind k = { NULL, MIB(4), 0, 0, 0 };
	uint8_t buf[512] = { 1 };

	create(&k);
	struct block *b = open_qcow2("q", O_RDWR, NULL);
	assert_int_equal(write_at(b, buf, 512, 0), 0);
	block_close(b);
}

#define C KIB(64)

/* Hostile files: each change alone */
static void test_hostile(void **state _unused_)
{
	static const struct {
		uint64_t off, value;
		size_t bytes;
		int code, ro_code;
	} cases[] = {
		{ 4, 1, 4, VIAL_E_UNSUPPORTED, VIAL_E_UNSUPPORTED },
		{ 4, 4, 4, VIAL_E_UNSUPPORTED, VIAL_E_UNSUPPORTED },
		{ 20, 8, 4, VIAL_E_CORRUPT, VIAL_E_CORRUPT },
		{ 20, 22, 4, VIAL_E_CORRUPT, VIAL_E_CORRUPT },
		{ 20, UINT32_MAX, 4, VIAL_E_CORRUPT, VIAL_E_CORRUPT },
		{ 24, 0, 8, VIAL_E_INVALID, VIAL_E_INVALID },
		{ 24, 513, 8, VIAL_E_INVALID, VIAL_E_INVALID },
		{ 24, UINT64_MAX - 511, 8, VIAL_E_INVALID, VIAL_E_INVALID },
		{ 24, 1ULL << 40, 8, VIAL_E_CORRUPT, VIAL_E_CORRUPT },	/* L1 too short for it */
		{ 32, 1, 4, VIAL_E_UNSUPPORTED, VIAL_E_UNSUPPORTED },	/* encrypted */
		{ 36, 0, 4, VIAL_E_CORRUPT, VIAL_E_CORRUPT },		/* L1 entries */
		{ 36, UINT32_MAX, 4, VIAL_E_LIMIT, VIAL_E_LIMIT },	/* huge L1 */
		{ 36, 4 << 20, 4, VIAL_E_CORRUPT, VIAL_E_CORRUPT },	/* 32 MiB of it: not in the file */
		{ 40, 0, 8, VIAL_E_CORRUPT, VIAL_E_CORRUPT },		/* L1 in the header */
		{ 40, 3 * C + 512, 8, VIAL_E_CORRUPT, VIAL_E_CORRUPT }, /* unaligned */
		{ 40, UINT64_MAX - C + 1, 8, VIAL_E_CORRUPT, VIAL_E_CORRUPT },
		{ 40, C, 8, VIAL_E_CORRUPT, VIAL_E_CORRUPT }, /* L1 is the refcount table */
		{ 48, 0, 8, VIAL_E_CORRUPT, VIAL_E_CORRUPT }, /* refcount table in the header */
		{ 48, 3 * C, 8, VIAL_E_CORRUPT, 0 },	      /* and in L1 */
		{ 48, 1ULL << 60, 8, VIAL_E_CORRUPT, VIAL_E_CORRUPT },
		{ 56, 0, 4, VIAL_E_UNSUPPORTED, 0 },
		{ 56, UINT32_MAX, 4, VIAL_E_LIMIT, VIAL_E_LIMIT },
		{ 56, 100, 4, VIAL_E_CORRUPT, VIAL_E_CORRUPT },
		{ 72, 2, 8, VIAL_E_UNSUPPORTED, VIAL_E_UNSUPPORTED }, /* corrupt bit */
		{ 72, 1ULL << 40, 8, VIAL_E_UNSUPPORTED, VIAL_E_UNSUPPORTED },
		{ 100, 72, 4, VIAL_E_CORRUPT, VIAL_E_CORRUPT }, /* header length */
		{ C, 0, 8, VIAL_E_CORRUPT, 0 },			/* no refcount block for what is in use */
		{ C, 5 * C, 8, VIAL_E_CORRUPT, 0 },		/* it is the data */
		{ C, 2 * C + 8, 8, VIAL_E_CORRUPT, 0 },
		{ C + 8, 2 * C, 8, VIAL_E_CORRUPT, 0 }, /* twice the same */
		{ C + 8, 1ULL << 50, 8, VIAL_E_CORRUPT, 0 },
		{ 3 * C, 3 * C, 8, VIAL_E_CORRUPT, 0 },				  /* L2 is L1 */
		{ 3 * C, 4 * C + 512, 8, VIAL_E_CORRUPT, VIAL_E_CORRUPT },	  /* unaligned */
		{ 3 * C, 6 * C, 8, VIAL_E_CORRUPT, VIAL_E_CORRUPT },		  /* behind the end */
		{ 3 * C, 4 * C | 1ULL << 62, 8, VIAL_E_CORRUPT, VIAL_E_CORRUPT }, /* reserved bit */
		{ 3 * C, 1ULL << 63, 8, VIAL_E_CORRUPT, VIAL_E_CORRUPT },
		{ 4 * C, 4 * C | 1ULL << 63, 8, VIAL_E_CORRUPT, 0 }, /* data is L2: read, it is only bytes */
		{ 4 * C, 5 * C + 2, 8, VIAL_E_CORRUPT, VIAL_E_CORRUPT },
		{ 4 * C, 1ULL << 63, 8, VIAL_E_CORRUPT, VIAL_E_CORRUPT },
		{ 4 * C, 6 * C | 1ULL << 63, 8, VIAL_E_CORRUPT, VIAL_E_CORRUPT },
		{ 4 * C, (1ULL << 56) - C, 8, VIAL_E_CORRUPT, VIAL_E_CORRUPT },
		{ 4 * C, 1ULL << 62 | 5 * C, 8, VIAL_E_UNSUPPORTED, VIAL_E_UNSUPPORTED },
		{ 4 * C + 8, 5 * C | 1ULL << 63, 8, VIAL_E_CORRUPT, 0 }, /* two guest clusters in one place */
		{ 5 * C - 8, 1ULL << 61, 8, VIAL_E_CORRUPT, VIAL_E_CORRUPT }, /* behind the disk's end, too */
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		one_cluster();
		poke("q", cases[i].off, cases[i].value, cases[i].bytes);
		refused(O_RDWR, cases[i].code, "qcow2 image");
		if (cases[i].ro_code) {
			refused(O_RDONLY, cases[i].ro_code, "qcow2 image");
			continue;
		}
		struct block *b = open_qcow2("q", O_RDONLY, NULL);
		uint8_t buf[512];
		assert_int_equal(read_at(b, buf, 512, MIB(4) - 512), 0);
		block_close(b);
	}
}

/* Files that end early: in each table, and in mid-header */
static void test_truncated(void **state _unused_)
{
	static const uint64_t ends[] = { 0, 3, 71, 103, 511, C, 2 * C, 3 * C, 4 * C };

	for (size_t i = 0; i < ARRAY_SIZE(ends); i++) {
		struct vial_err err = VIAL_ERR_INIT;
		struct block *b;

		one_cluster();
		assert_int_equal(truncate(at("q"), (off_t)ends[i]), 0);
		_cleanup_fd_ int fd = open_file("q", O_RDWR);
		assert_true(qcow2_open(fd, NULL, BLOCK_SYNC, &b, &err) < 0);
	}
	/* The last cluster may be there in part: QEMU leaves it so. */
	one_cluster();
	assert_int_equal(truncate(at("q"), (off_t)(5 * C + 512)), 0);
	struct block *b = open_qcow2("q", O_RDWR, NULL);
	uint8_t buf[1024];
	assert_int_equal(read_at(b, buf, 1024, 0), 0);
	assert_int_equal(buf[0], 1);
	block_close(b);
}

/* Wrong refcounts, the dirty bit, missing COPIED flags: all follow from the tables, so they are put right. */
static void test_repair(void **state _unused_)
{
	static const struct {
		uint64_t off, value;
		size_t bytes;
	} cases[] = {
		{ 2 * C + 10, 0, 2 }, /* the data's: the machine crashed */
		{ 2 * C + 8, 0, 2 },  /* the L2 table's */
		{ 2 * C + 10, 2, 2 },
		{ 2 * C + 12, 1, 2 },	 /* a leak */
		{ 2 * C + 60000, 7, 2 }, /* far behind the end */
		{ 72, 1, 8 },		 /* dirty */
		{ 3 * C, 4 * C, 8 },	 /* COPIED */
		{ 4 * C, 5 * C, 8 },
	};

	need_qemu_img();
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		uint8_t buf[512];

		one_cluster();
		assert_int_equal(check_image("q"), 0);
		poke("q", cases[i].off, cases[i].value, cases[i].bytes);
		block_close(open_qcow2("q", O_RDWR, NULL));
		assert_int_equal(check_image("q"), 0);
		assert_int_equal(sh("! qemu-img info q | grep -q 'dirty flag: true'"), 0);
		struct block *b = open_qcow2("q", O_RDWR, NULL);
		assert_int_equal(read_at(b, buf, 512, 0), 0);
		assert_int_equal(buf[0], 1);
		block_close(b);
	}
}

/* A layer that can still be written is no layer; one with too many below it neither. */
static void test_backing_refused(void **state _unused_)
{
	struct vial_err err = VIAL_ERR_INIT;
	struct block *b;

	one_cluster();
	close(new_file("base", MIB(1)));
	struct block *base = open_raw("base", O_RDWR);
	_cleanup_fd_ int fd = open_file("q", O_RDWR);
	assert_int_equal(qcow2_open(fd, base, BLOCK_SYNC, &b, &err), VIAL_E_INVALID);
	base->read_only = true;
	base->depth = BLOCK_DEPTH_MAX;
	err = (struct vial_err)VIAL_ERR_INIT;
	assert_int_equal(qcow2_open(fd, base, BLOCK_SYNC, &b, &err), VIAL_E_LIMIT);
	block_close(base);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random),
		cmocka_unit_test(test_space),
		cmocka_unit_test(test_killed),
		cmocka_unit_test(test_full),
		cmocka_unit_test(test_fork),
		cmocka_unit_test(test_fork_refused),
		cmocka_unit_test(test_unsupported),
		cmocka_unit_test(test_hostile),
		cmocka_unit_test(test_truncated),
		cmocka_unit_test(test_repair),
		cmocka_unit_test(test_backing_refused),
	};

	return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
