// SPDX-License-Identifier: Apache-2.0
// What to run: the caller's options over the specification over the image.
#include <errno.h>
#include <string.h>

#include "base/err.h"
#include "box/exec.h"

#define DEFAULT_PATH "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

static int add_all(struct strv *to, const char *const *v)
{
	int r = 0;

	for (size_t i = 0; r == 0 && v && v[i]; i++)
		r = strv_add(to, v[i]);
	return r;
}

/* Docker's rule: entrypoint then command; an entrypoint given anew takes the image's command away. */
static int main_command(const struct vial_box *b, struct strv *argv)
{
	const struct vial_spec *s = b->spec;
	const struct image_config *c = &b->image.config;
	bool own = spec_is_set(s, SPEC_ENTRYPOINT);
	int r = strv_copy(argv, own ? &s->entrypoint : &c->entrypoint);

	if (r == 0 && s->command.n > 0)
		r = strv_copy(argv, &s->command);
	else if (r == 0 && !own)
		r = strv_copy(argv, &c->cmd);
	if (r == 0 && argv->n == 0)
		r = strv_add(argv, "/bin/sh");
	return r;
}

static int merge_env(struct strv *to, const struct strv *from)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < from->n; i++) {
		r = strv_setenv(to, from->v[i]);
		r = r == -EINVAL ? 0 : r; /* an image may carry nonsense: Docker drops it, too */
	}
	return r;
}

static int make_env(const struct vial_box *b, const struct vial_exec_opts *o, struct strv *env)
{
	int r = strv_add(env, DEFAULT_PATH);

	r = r
		    ?: strv_addf(env, "HOSTNAME=%s",
				 b->launcher.launch.hostname ? b->launcher.launch.hostname : "vial");
	r = r ?: merge_env(env, &b->image.config.env);
	r = r ?: merge_env(env, &b->spec->env);
	for (size_t i = 0; r == 0 && o->env && o->env[i]; i++)
		r = strv_setenv(env, o->env[i]);
	return r;
}

static struct slice first_of(const char *a, const char *b, const char *c)
{
	const char *s = a ? a : b ? b : c ? c : "";

	return slice_str(s);
}

int exec_request(const struct vial_box *b, const struct vial_exec_opts *o, struct agent_exec *ret,
		 struct vial_err *err)
{
	_cleanup_(exec_request_done) struct agent_exec x = { .window = AGENT_WINDOW };
	int r = o->argv && o->argv[0] ? add_all(&x.argv, o->argv) : main_command(b, &x.argv);

	r = r ?: make_env(b, o, &x.env);
	if (r == -EINVAL)
		return err_set(err, VIAL_E_INVALID, "environment: an entry is not of the form KEY=VALUE");
	if (r < 0)
		return err_sys(err, r, "prepare the command");
	x.cwd = first_of(o->cwd, b->spec->workdir, b->image.config.workdir);
	x.user = first_of(o->user, b->spec->user, b->image.config.user);
	x.tty = o->flags & VIAL_EXEC_TTY;
	x.rows = o->rows;
	x.cols = o->cols;
	x.want_stdin = o->flags & VIAL_EXEC_STDIN;
	x.timeout_ms = o->timeout_ms ? o->timeout_ms : b->spec->timeout_ms;
	x.init = b->spec->init;
	for (size_t i = 0; i < b->spec->n_rlimits && i < AGENT_RLIMITS_MAX; i++) {
		const struct spec_rlimit *l = &b->spec->rlimits[i];
		x.rlimits[x.n_rlimits++] = (struct agent_rlimit){ l->resource, l->soft, l->hard };
	}
	*ret = x;
	x = (struct agent_exec){ 0 };
	return 0;
}

void exec_request_done(struct agent_exec *r)
{
	strv_done(&r->argv);
	strv_done(&r->env);
}
