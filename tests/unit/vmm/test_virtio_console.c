// SPDX-License-Identifier: Apache-2.0
// The console device: output and input, readers that are slow, absent or gone, snapshots.
#include "driver.h"

#include <errno.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "vmm/virtio/console.h"

#define IN     0u
#define OUT    1u
#define IN_AT  DRV_DATA_AT
#define OUT_AT (DRV_DATA_AT + MIB(1))
#define BIG    KIB(64)

struct fixture {
	struct drv d;
	int fds[2]; /* ours, the device's */
};

static void new_device(struct fixture *f)
{
	const struct virtio_env env = drv_env(&f->d);

	assert_int_equal(console_new(&env, f->fds[1], &f->d.dev), 0);
}

static int setup(void **state)
{
	static struct fixture f;

	drv_open(&f.d);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, f.fds), 0);
	new_device(&f);
	drv_start(&f.d);
	*state = &f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	drv_close(&f->d);
	fd_close(&f->fds[0]);
	fd_close(&f->fds[1]);
	return 0;
}

static void say(struct fixture *f, const char *text)
{
	memcpy(drv_ram(&f->d, OUT_AT), text, strlen(text));
	drv_put(&f->d, OUT, &(struct drv_seg){ OUT_AT, (uint32_t)strlen(text), false }, 1);
	drv_kick(&f->d, OUT);
}

static unsigned int taken(struct fixture *f, uint32_t q)
{
	unsigned int n = 0;
	uint16_t head;
	uint32_t len;

	while (drv_take(&f->d, q, &head, &len))
		n++;
	return n;
}

static size_t read_all(struct fixture *f)
{
	static char buf[KIB(512)];
	size_t sum = 0;
	ssize_t n;

	while ((n = read(f->fds[0], buf, sizeof(buf))) > 0)
		sum += (size_t)n;
	return sum;
}

/* Writes BIG bytes at a time until the device takes no more; chains put */
static unsigned int fill(struct fixture *f)
{
	unsigned int n = 0;

	do {
		drv_put(&f->d, OUT, &(struct drv_seg){ OUT_AT, BIG, false }, 1);
		drv_kick(&f->d, OUT);
		n++;
	} while (taken(f, OUT) && n < 32);
	assert_true(n < 32);
	return n;
}

static void test_output(void **state)
{
	struct fixture *f = *state;
	char buf[32];

	say(f, "hello ");
	say(f, "world");
	assert_int_equal(taken(f, OUT), 2);
	assert_int_equal(read(f->fds[0], buf, sizeof(buf)), 11);
	assert_memory_equal(buf, "hello world", 11);
}

static void test_input(void **state)
{
	struct fixture *f = *state;
	uint16_t head;
	uint32_t len;

	assert_int_equal(write(f->fds[0], "type", 4), 4);
	drv_turn(&f->d); /* no buffer yet */
	drv_put(&f->d, IN, &(struct drv_seg){ IN_AT, 3, true }, 1);
	drv_kick(&f->d, IN);
	drv_turn(&f->d);
	assert_true(drv_take(&f->d, IN, &head, &len));
	assert_int_equal(len, 3);
	assert_memory_equal(drv_ram(&f->d, IN_AT), "typ", 3);
	drv_put(&f->d, IN, &(struct drv_seg){ IN_AT + 16, 1, false }, 1); /* no room in it */
	drv_put(&f->d, IN, &(struct drv_seg){ IN_AT + 16, 64, true }, 1);
	drv_kick(&f->d, IN);
	drv_turn(&f->d);
	assert_true(drv_take(&f->d, IN, &head, &len));
	assert_int_equal(len, 0);
	assert_true(drv_take(&f->d, IN, &head, &len));
	assert_int_equal(len, 1);
	assert_memory_equal(drv_ram(&f->d, IN_AT + 16), "e", 1);
	/* The end of input leaves output alone. */
	drv_put(&f->d, IN, &(struct drv_seg){ IN_AT, 3, true }, 1);
	drv_kick(&f->d, IN);
	shutdown(f->fds[0], SHUT_WR);
	drv_turn(&f->d);
	assert_int_equal(taken(f, IN), 0);
	say(f, "x");
	assert_int_equal(read_all(f), 1);
}

static void test_slow_reader_loses_nothing(void **state)
{
	struct fixture *f = *state;
	unsigned int put = fill(f);
	size_t got = 0;

	for (int i = 0; i < 20 && got < put * BIG; i++) {
		got += read_all(f);
		drv_turn(&f->d);
	}
	assert_int_equal(got, put * BIG);
	assert_int_equal(taken(f, OUT), 1);
}

/* One chain that is longer than a turn may be: the loop comes in between, however fast the reader is, and nothing is lost. */
static void test_long_chain(void **state)
{
	struct fixture *f = *state;
	struct drv_seg segs[16];
	int room = MIB(32), pending = 0;
	size_t got = 0, all = ARRAY_SIZE(segs) * MIB(1);

	for (size_t i = 0; i < ARRAY_SIZE(segs); i++)
		segs[i] = (struct drv_seg){ OUT_AT, MIB(1), false };
	/* A socket that takes everything; without the right to one it takes as much as usual. */
	bool fast = setsockopt(f->fds[1], SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof(room)) == 0;
	drv_put(&f->d, OUT, segs, ARRAY_SIZE(segs));
	drv_kick(&f->d, OUT);
	assert_int_equal(ioctl(f->fds[0], FIONREAD, &pending), 0);
	assert_true(pending > 0 && (size_t)pending < all);
	assert_int_equal(taken(f, OUT), 0);
	for (int i = 0; i < 2000 && got < all; i++) {
		got += read_all(f);
		drv_turn(&f->d);
	}
	assert_int_equal(got, all);
	assert_int_equal(taken(f, OUT), 1);
	if (!fast)
		print_message("(SO_SNDBUFFORCE is refused: only with an ordinary socket)\n");
}

static void test_absent_reader(void **state)
{
	struct fixture *f = *state;
	unsigned int put = fill(f), more = 0;
	uint64_t deadline = clock_mono_ns() + 30 * NS_PER_S, began = clock_mono_ns();

	/* In the end the guest goes on, and what it says is lost. */
	while (!more && clock_mono_ns() < deadline) {
		assert_int_equal(loop_turn(f->d.loop, 100), 0);
		more = taken(f, OUT);
	}
	assert_int_equal(more, 1);
	assert_true(clock_mono_ns() - began >= CONSOLE_PATIENCE_MS * NS_PER_MS / 2);
	say(f, "lost");
	assert_int_equal(taken(f, OUT), 1);
	assert_true(read_all(f) < put * BIG);
	/* A reader that comes back sees what is said from then on. */
	drv_turn(&f->d);
	say(f, "seen");
	assert_int_equal(read_all(f), 4);
}

static void test_reader_gone(void **state)
{
	struct fixture *f = *state;

	fd_close(&f->fds[0]);
	say(f, "to nobody");
	assert_int_equal(taken(f, OUT), 1);
	drv_turn(&f->d);
	drv_reset(&f->d);
	drv_start(&f->d);
	say(f, "still nobody");
	assert_int_equal(taken(f, OUT), 1);
}

static void test_no_socket(void **state)
{
	struct fixture *f = *state;

	drv_reset(&f->d);
	f->d.dev->ops->free(f->d.dev);
	fd_close(&f->fds[1]);
	new_device(f);
	drv_start(&f->d);
	say(f, "to nobody");
	assert_int_equal(taken(f, OUT), 1);
}

static void test_snapshot_in_mid_chain(void **state)
{
	struct fixture *f = *state;
	_cleanup_buf_ struct buf saved = { 0 };
	unsigned int put = fill(f);
	struct drv_queue q = f->d.q[OUT];

	assert_int_equal(f->d.dev->vq[OUT].in_flight, 0);
	assert_int_equal(f->d.dev->ops->save(f->d.dev, &saved), 0);
	struct vq vq = f->d.dev->vq[OUT];
	f->d.dev->ops->free(f->d.dev);
	new_device(f);
	f->d.dev->transport = &f->d;
	f->d.dev->vq[OUT] = vq;
	f->d.dev->active = true;
	f->d.q[OUT] = q;
	assert_int_equal(f->d.dev->ops->load(f->d.dev, saved.data, 3), -EBADMSG);
	saved.data[0]++;
	assert_int_equal(f->d.dev->ops->load(f->d.dev, saved.data, saved.len), -EBADMSG);
	saved.data[0]--;
	assert_int_equal(f->d.dev->ops->load(f->d.dev, saved.data, saved.len), 0);
	drv_kick(&f->d, OUT);
	size_t got = read_all(f);
	for (int i = 0; i < 20 && got < put * BIG; i++) {
		drv_turn(&f->d);
		got += read_all(f);
	}
	assert_int_equal(got, put * BIG);
}

static void test_broken(void **state)
{
	struct fixture *f = *state;

	drv_put(&f->d, OUT, &(struct drv_seg){ GMEM_HIGH_START, 8, false }, 1);
	drv_kick(&f->d, OUT);
	assert_true(f->d.dev->failed);
	drv_reset(&f->d);
	drv_start(&f->d);
	drv_put(&f->d, IN, &(struct drv_seg){ GMEM_HIGH_START, 8, true }, 1);
	drv_kick(&f->d, IN);
	assert_true(f->d.dev->failed);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_output, setup, teardown),
		cmocka_unit_test_setup_teardown(test_input, setup, teardown),
		cmocka_unit_test_setup_teardown(test_slow_reader_loses_nothing, setup, teardown),
		cmocka_unit_test_setup_teardown(test_long_chain, setup, teardown),
		cmocka_unit_test_setup_teardown(test_absent_reader, setup, teardown),
		cmocka_unit_test_setup_teardown(test_reader_gone, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_socket, setup, teardown),
		cmocka_unit_test_setup_teardown(test_snapshot_in_mid_chain, setup, teardown),
		cmocka_unit_test_setup_teardown(test_broken, setup, teardown),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
