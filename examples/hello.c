// SPDX-License-Identifier: Apache-2.0
/*
 * The quick start: a command in a micro-VM of its own, and what it wrote.
 * With vial installed: cc -o hello hello.c $(pkg-config --cflags --libs vial) && ./hello
 */
#include <stdio.h>
#include <vial/vial.h>

static void tell(void *data, const char *line)
{
	(void)data;
	fprintf(stderr, "%s\n", line);
}

static int run(struct vial_box *box, struct vial_err *err)
{
	static const char *const argv[] = { "sh", "-c", "echo hello from $(uname -sr); exit 7", NULL };
	const struct vial_exec_opts opts = { .size = sizeof(opts), .argv = argv, .timeout_ms = 10000 };
	struct vial_output out = { .size = sizeof(out) };
	int r = vial_box_run(box, &opts, NULL, 0, 1 << 20, &out, err);

	if (r < 0)
		return r;
	printf("%s(exit code %d)\n", out.out, out.code);
	vial_free(out.out);
	vial_free(out.err);
	return 0;
}

int main(void)
{
	const struct vial_opts opts = { .size = sizeof(opts), .progress = tell };
	struct vial_err err = VIAL_ERR_INIT;
	struct vial *vial = NULL;
	struct vial_spec *spec = NULL;
	struct vial_box *box = NULL;
	int r = vial_open(&opts, &vial, &err);

	if (r == 0)
		r = vial_spec_new(&spec, &err);
	if (r == 0)
		r = vial_spec_set(spec, "memory", "256M", &err);
	if (r == 0)
		r = vial_box_create(vial, spec, &box, &err);
	if (r == 0)
		r = vial_box_start(box, &err); /* the first start on a machine boots it once: seconds */
	if (r == 0)
		r = run(box, &err);
	if (r < 0)
		fprintf(stderr, "hello: %s (%s)\n", err.msg, vial_error_name(err.code));
	vial_box_free(box); /* the machine ends here, or with this process, however that ends */
	vial_spec_free(spec);
	vial_close(vial);
	return r < 0;
}
