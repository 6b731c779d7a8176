// SPDX-License-Identifier: Apache-2.0
// A monitor with everything around it played by the test.
#include "rig.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/un.h>
#include <unistd.h>

#include "box/boxdir.h"

/* ---- the machine ---- */

struct engine {
	struct rig *rig;
};

static struct rig *starting; /* engine_ops.start has no other way to its test */

static int fake_start(struct loop *loop _unused_, const struct launch *l _unused_,
		      const struct engine_events *ev, void *data, struct engine **ret,
		      struct vial_err *err _unused_)
{
	char c;

	/* Nobody has been told yet that he can connect: a reason why this fails would not reach him. */
	assert_int_equal(recv(starting->lifeline, &c, 1, MSG_PEEK | MSG_DONTWAIT), -1);
	*ret = calloc(1, sizeof(**ret));
	(*ret)->rig = starting;
	starting->ev = ev;
	starting->ev_data = data;
	return 0;
}

static int fake_agent_fd(struct engine *e)
{
	return e->rig->agent_theirs;
}

static int fake_console_fd(struct engine *e)
{
	return e->rig->console_theirs;
}

static int fake_save(struct engine *e, struct vial_err *err _unused_)
{
	e->rig->saves++;
	if (!e->rig->save_fails)
		return 0;
	err->code = VIAL_E_ENGINE;
	snprintf(err->msg, sizeof(err->msg), "no saving today");
	return VIAL_E_ENGINE;
}

static int fake_pause(struct engine *e, struct vial_err *err _unused_)
{
	e->rig->pauses++;
	return 0;
}

static int fake_resume(struct engine *e, struct vial_err *err _unused_)
{
	e->rig->resumes++;
	return 0;
}

static int fake_write_ahead(struct engine *e, int mem_fd, struct vial_err *err _unused_)
{
	if (mem_fd < 0)
		e->rig->drops++;
	else
		e->rig->aheads++;
	return 0;
}

static int fake_snapshot(struct engine *e, const struct engine_snapshot *to, struct vial_err *err _unused_)
{
	e->rig->snapshots++;
	e->rig->to = *to;
	return 0;
}

static void fake_kill(struct engine *e)
{
	e->rig->kills++;
}

static void fake_free(struct engine *e)
{
	free(e);
}

static int fake_connect(struct engine *e, uint32_t port, int fd)
{
	struct rig *r = e->rig;

	assert_int_equal(port, AGENT_PORT);
	assert_true(r->n_conns < RIG_CONNS_MAX);
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	assert_true(copy >= 0);
	r->conns[r->n_conns] =
		(struct rig_conn){ .number = (uint32_t)r->n_conns + 1, .fd = copy, .in.max = FRAME_MAX_EXEC };
	r->n_conns++;
	return 0;
}

static const struct engine_ops fake_engine = {
	.name = "fake",
	.start = fake_start,
	.agent_fd = RIG_VSOCK ? NULL : fake_agent_fd,
	.connect = RIG_VSOCK ? fake_connect : NULL,
	.console_fd = fake_console_fd,
	.save_template = fake_save,
	.pause = fake_pause,
	.resume = fake_resume,
	.write_ahead = fake_write_ahead,
	.snapshot = fake_snapshot,
	.form = ENGINE_FORM_STREAM,
	.kill = fake_kill,
	.free = fake_free,
};

/* ---- the agent ---- */

struct rig_conn *rig_conn(struct rig *r, uint32_t number)
{
	for (size_t i = 0; i < r->n_conns; i++)
		if (r->conns[i].number == number)
			return &r->conns[i];
	return NULL;
}

static void on_opened(void *owner, uint32_t conn)
{
	struct rig *r = owner;

	assert_true(r->n_conns < RIG_CONNS_MAX);
	r->conns[r->n_conns++] = (struct rig_conn){ .number = conn, .fd = -1, .in.max = FRAME_MAX_EXEC };
}

static void note(struct rig *r, uint32_t conn, const struct agent_host_msg *m)
{
	struct rig_seen *s = &r->seen[r->n_seen++];

	assert_true(r->n_seen <= RIG_SEEN_MAX);
	*s = (struct rig_seen){ .conn = conn, .type = m->type };
	if (m->type == AGENT_HOST_EXEC)
		snprintf(s->text, sizeof(s->text), "%s", m->exec.argv.v[0]);
	else if (m->type == AGENT_HOST_STDIN)
		snprintf(s->text, sizeof(s->text), "%.*s", (int)m->data.data.n, (const char *)m->data.data.p);
	else if (m->type == AGENT_HOST_SIGNAL)
		s->number = m->signal;
	else if (m->type == AGENT_HOST_CREDIT)
		s->number = m->credit.bytes;
}

static void on_data(void *owner, uint32_t conn, const uint8_t *p, size_t n)
{
	struct rig *r = owner;
	struct rig_conn *c = rig_conn(r, conn);
	struct agent_host_msg m;
	const uint8_t *frame;
	size_t len;

	assert_non_null(c);
	assert_int_equal(frame_in_push(&c->in, p, n), 0);
	while (frame_in_next(&c->in, &frame, &len) == 1) {
		assert_int_equal(agent_host_msg_decode(frame, len, &m), 0);
		note(r, conn, &m);
		agent_host_msg_done(&m);
	}
}

static void on_shut(void *owner, uint32_t conn)
{
	rig_conn(owner, conn)->shut = true;
}

static void on_aborted(void *owner, uint32_t conn)
{
	rig_conn(owner, conn)->gone = true;
}

static void on_reset(void *owner _unused_)
{
}

static const struct link_ops agent_link = { on_opened, on_data, on_shut, on_aborted, on_reset };

static void vsock_turn(struct rig *r)
{
	static uint8_t chunk[KIB(64)];
	ssize_t k = -1;

	for (size_t i = 0; r->agent_runs && i < r->n_conns; i++) {
		struct rig_conn *c = &r->conns[i];
		while (c->fd >= 0 && (k = recv(c->fd, chunk, sizeof(chunk), MSG_DONTWAIT)) > 0)
			on_data(r, c->number, chunk, (size_t)k);
		if (c->fd >= 0 && (k == 0 || errno != EAGAIN)) {
			c->shut = c->gone = true;
			fd_close(&c->fd);
		}
	}
}

static void agent_turn(struct rig *r)
{
	static uint8_t chunk[KIB(64)];
	const uint8_t *p;
	size_t n;
	ssize_t k;

	while ((k = recv(r->agent, chunk, sizeof(chunk), MSG_DONTWAIT)) > 0)
		assert_int_equal(link_feed(r->link, chunk, (size_t)k), 0);
	while ((n = link_pending(r->link, &p)) > 0) {
		k = send(r->agent, p, n, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (k <= 0)
			return;
		link_drained(r->link, (size_t)k);
	}
}

bool rig_ended(const struct rig *r)
{
	return r->m.state == MON_DEAD;
}

void rig_pump(struct rig *r)
{
	for (int i = 0; i < 40; i++) {
		if (RIG_VSOCK)
			vsock_turn(r);
		else if (r->link)
			agent_turn(r);
		if (!rig_ended(r))
			assert_int_equal(loop_turn(r->m.loop, 0), 0);
	}
}

void rig_wait(struct rig *r)
{
	if (!RIG_VSOCK)
		return;
	rig_pump(r);
	assert_int_equal(loop_turn(r->m.loop, 5000), 0);
}

void rig_agent_up(struct rig *r)
{
	if (RIG_VSOCK) {
		r->agent_runs = true;
		r->ev->agent_listens(r->ev_data);
		rig_pump(r);
		return;
	}
	assert_int_equal(link_new(LINK_GUEST, &agent_link, r, &r->link), 0);
	/* What engine_events.running does, but for locking this process in. */
	monitor_flush_agent(&r->m);
	rig_pump(r);
}

const struct rig_seen *rig_find(const struct rig *r, enum agent_host_type type, size_t nth)
{
	for (size_t i = 0; i < r->n_seen; i++)
		if (r->seen[i].type == type && nth-- == 0)
			return &r->seen[i];
	return NULL;
}

uint32_t rig_control(const struct rig *r)
{
	assert_true(r->n_conns > 0);
	return r->conns[0].number;
}

void rig_say(struct rig *r, uint32_t conn, const struct agent_guest_msg *g)
{
	_cleanup_buf_ struct buf b = { 0 };

	assert_int_equal(agent_guest_msg_put(&b, g), 0);
	rig_say_raw(r, conn, b.data, b.len);
}

void rig_say_raw(struct rig *r, uint32_t conn, const void *p, size_t n)
{
	/* -EPIPE where the monitor is done with it */
	if (!RIG_VSOCK) {
		(void)link_send(r->link, conn, p, n);
		agent_turn(r);
		return;
	}
	while (n > 0 && rig_conn(r, conn)->fd >= 0) {
		ssize_t k = send(rig_conn(r, conn)->fd, p, n, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (k < 0 && errno != EAGAIN)
			return;
		if (k < 0)
			rig_pump(r);
		else
			n -= (size_t)k;
		p = (const char *)p + MAX(k, 0);
	}
}

void rig_shut(struct rig *r, uint32_t conn)
{
	if (RIG_VSOCK)
		(void)shutdown(rig_conn(r, conn)->fd, SHUT_WR);
	else
		link_shut(r->link, conn);
}

void rig_drop(struct rig *r, uint32_t conn)
{
	if (RIG_VSOCK)
		fd_close(&rig_conn(r, conn)->fd);
	else
		link_abort(r->link, conn);
}

void rig_say_type(struct rig *r, uint32_t conn, enum agent_guest_type type)
{
	rig_say(r, conn, &(struct agent_guest_msg){ .type = type });
}

void rig_output(struct rig *r, uint32_t conn, uint32_t stream, const void *p, size_t n)
{
	struct agent_guest_msg g = { .type = AGENT_GUEST_OUTPUT, .data = { stream, { p, n } } };

	rig_say(r, conn, &g);
}

void rig_started(struct rig *r, uint32_t conn, uint32_t window)
{
	struct agent_guest_msg g = { .type = AGENT_GUEST_STARTED, .started = { 42, window } };

	rig_say(r, conn, &g);
}

/* ---- clients ---- */

struct rig_client rig_connect(struct rig *r)
{
	struct rig_client c = { .in.max = FRAME_MAX };
	struct sockaddr_un addr = { .sun_family = AF_UNIX };

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/%.32s/" BOXDIR_SOCKET, r->boxes_name,
		 r->m.launch.id);
	c.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(c.fd >= 0);
	assert_int_equal(connect(c.fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	return c;
}

void rig_hang_up(struct rig_client *c)
{
	fd_close(&c->fd);
	frame_in_done(&c->in);
}

void rig_put(struct rig_client *c, const struct mon_msg *m)
{
	_cleanup_buf_ struct buf b = { 0 };

	assert_int_equal(mon_msg_put(&b, m), 0);
	assert_int_equal(send(c->fd, b.data, b.len, MSG_NOSIGNAL), (ssize_t)b.len);
}

void rig_exec(struct rig_client *c, const char *program, uint32_t window)
{
	struct agent_exec x = { .window = window, .want_stdin = true };
	_cleanup_buf_ struct buf b = { 0 };

	assert_int_equal(strv_add(&x.argv, program), 0);
	assert_int_equal(mon_exec_put(&b, &x), 0);
	strv_done(&x.argv);
	assert_int_equal(send(c->fd, b.data, b.len, MSG_NOSIGNAL), (ssize_t)b.len);
}

struct rig_client rig_command(struct rig *r, const char *program, uint32_t window, uint32_t *ret)
{
	struct rig_client c = rig_connect(r);
	const struct rig_seen *s = NULL;

	rig_exec(&c, program, AGENT_WINDOW);
	rig_pump(r);
	for (size_t i = 0; i < r->n_seen; i++)
		if (r->seen[i].type == AGENT_HOST_EXEC && strcmp(r->seen[i].text, program) == 0)
			s = &r->seen[i];
	assert_non_null(s);
	*ret = s->conn;
	rig_started(r, s->conn, window);
	struct mon_msg m = rig_expect(r, &c, MON_STARTED);
	assert_int_equal(m.started.pid, 42);
	return c;
}

bool rig_next(struct rig *r, struct rig_client *c, struct mon_msg *ret)
{
	static uint8_t chunk[KIB(64)];
	const uint8_t *p;
	size_t n;

	for (int i = 0; i < 3; i++) {
		int k = frame_in_next(&c->in, &p, &n);
		assert_true(k >= 0);
		if (k == 1) {
			assert_int_equal(mon_msg_decode(p, n, ret), 0);
			return true;
		}
		rig_pump(r);
		ssize_t got = recv(c->fd, chunk, sizeof(chunk), MSG_DONTWAIT);
		c->eof = got == 0;
		if (got > 0)
			assert_int_equal(frame_in_push(&c->in, chunk, (size_t)got), 0);
	}
	return false;
}

struct mon_msg rig_expect(struct rig *r, struct rig_client *c, uint16_t type)
{
	struct mon_msg m = { 0 };

	assert_true(rig_next(r, c, &m));
	assert_int_equal(m.type, type);
	return m;
}

void rig_expect_error(struct rig *r, struct rig_client *c, int code, const char *text)
{
	struct mon_msg m = rig_expect(r, c, MON_ERROR);
	char got[MON_TEXT_MAX + 1];

	snprintf(got, sizeof(got), "%.*s", (int)m.error.text.n, (const char *)m.error.text.p);
	if (!strstr(got, text))
		fail_msg("'%s' is not in '%s'", text, got);
	assert_int_equal(m.error.code, code);
	assert_false(rig_next(r, c, &m));
}

/* ---- all of it ---- */

/* launch_fd() counts from LAUNCH_FD_FIRST: descriptors are moved to where their role's index says. */
static void give(struct rig *r, uint32_t role, int fd)
{
	struct launch *l = &r->m.launch;

	if (l->n_roles == 0)
		l->n_roles = 100; /* beyond what the test itself has open at that moment */
	l->roles[l->n_roles] = role;
	assert_true(dup2(fd, LAUNCH_FD_FIRST + (int)l->n_roles) >= 0);
	l->n_roles++;
	close(fd);
}

static void pair(int *ours, int *theirs)
{
	int sv[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sv), 0);
	*ours = sv[0];
	*theirs = sv[1];
}

/* The lifeline's first message. Tests read on from what follows. */
static void hear_made(struct rig *r)
{
	_cleanup_buf_ struct buf want = { 0 };
	uint8_t got[64];

	assert_int_equal(mon_msg_put(&want, &(struct mon_msg){ .type = MON_DONE }), 0);
	assert_in_range(want.len, 1, sizeof(got));
	assert_int_equal(recv(r->lifeline, got, want.len, 0), (ssize_t)want.len);
	assert_memory_equal(got, want.data, want.len);
}

static struct rig *new_rig(enum launch_mode mode, bool rooted)
{
	struct rig *r = calloc(1, sizeof(*r));
	int theirs, p[2];

	assert_non_null(r);
	r->err = (struct vial_err)VIAL_ERR_INIT;
	r->m.launch.mode = mode;
	r->m.launch.rooted = rooted;
	if (mode != LAUNCH_CONVERT) { /* which has no guest to tell */
		r->m.launch.fstype = strdup("erofs");
		r->m.launch.hostname = strdup("box");
	}
	memset(r->m.launch.id, 'a', 32);
	pair(&r->lifeline, &theirs);
	give(r, LAUNCH_FD_LIFELINE, theirs);
	assert_int_equal(pipe(p), 0);
	r->client_pipe = p[1];
	give(r, LAUNCH_FD_CLIENT, p[0]);
	strcpy(r->boxes_name, "/tmp/vial-test-XXXXXX");
	assert_non_null(mkdtemp(r->boxes_name));
	r->boxes = open(r->boxes_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	give(r, LAUNCH_FD_BOXES, dup(r->boxes));
	pair(&r->agent, &r->agent_theirs);
	pair(&r->console, &r->console_theirs);
	starting = r;
	assert_int_equal(monitor_start(&r->m, &fake_engine, &r->err), 0);
	hear_made(r);
	return r;
}

struct rig *rig_new(enum launch_mode mode)
{
	return new_rig(mode, false);
}

struct rig *rig_new_rooted(void)
{
	return new_rig(LAUNCH_RESTORE, true);
}

void rig_free(struct rig *r)
{
	size_t n = r->m.launch.n_roles;

	monitor_done(&r->m);
	for (size_t i = 100; i < n; i++)
		close(LAUNCH_FD_FIRST + (int)i);
	link_free(r->link);
	for (size_t i = 0; i < r->n_conns; i++) {
		frame_in_done(&r->conns[i].in);
		fd_close(&r->conns[i].fd);
	}
	fd_close(&r->lifeline);
	fd_close(&r->client_pipe);
	fd_close(&r->boxes);
	assert_int_equal(rmdir(r->boxes_name), 0); /* the monitor has removed its own in it */
	fd_close(&r->agent);
	fd_close(&r->agent_theirs);
	fd_close(&r->console);
	fd_close(&r->console_theirs);
	free(r);
}
