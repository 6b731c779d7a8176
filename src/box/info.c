// SPDX-License-Identifier: Apache-2.0
// vial info: facts as JSON.
#include "box/info.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/mem.h"
#include "base/str.h"
#include "box/kernel.h"
#include "engine/layout.h"

static void count_dir(int dir_fd, size_t *ret_n)
{
	int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;

	if (!d)
		return;
	while ((e = readdir(d)))
		*ret_n += strlen(e->d_name) == 32;
	closedir(d);
}

static json_t *engine_info(struct vial *v)
{
	struct vial_err err = VIAL_ERR_INIT;

	if (home_host(v, &err) < 0)
		return json_pack("{s:b, s:s}", "usable", 0, "problem", err.msg);
	return json_pack("{s:b, s:s, s:s, s:s, s:s*, s:s, s:s, s:s*}", "usable", 1, "name",
			 engine_host_name(&v->host), "why", home_engine_why(v), "program", v->host.program,
			 "version", v->host.version[0] ? v->host.version : NULL, "machine", v->host.machine,
			 "accelerator", v->host.accel, "kvm_problem",
			 v->host.kvm_why[0] ? v->host.kvm_why : NULL);
}

static json_t *kernel_info(struct vial *v)
{
	struct vial_err err = VIAL_ERR_INIT;
	_cleanup_(kernel_done) struct kernel k = KERNEL_INIT;
	_cleanup_free_ char *version = NULL;

	if (v->kernel)
		return json_pack("{s:s}", "path", v->kernel);
	(void)home_host(v, NULL);
	if (kernel_installed(v, &k, &err) < 0)
		return json_pack("{s:s}", "problem", err.msg);
	_cleanup_fd_ int fd = home_asset(v, k.version, NULL, &err);
	if (fd < 0 || fd_read_all(fd, 256, &version, NULL) < 0)
		return json_pack("{s:s}", "problem", err.msg);
	version[strcspn(version, "\n")] = '\0';
	return json_pack("{s:s, s:s}", "version", version, "directory", v->assets);
}

int info_json(struct vial *v, char **ret, struct vial_err *err)
{
	size_t templates = 0, boxes = 0;
	json_t *j;

	count_dir(v->templates_fd, &templates);
	count_dir(v->boxes_fd, &boxes);
	j = json_pack("{s:s, s:s, s:o, s:o, s:I, s:I, s:{s:I, s:I, s:i}}", "version", VIAL_VERSION, "home",
		      v->path, "engine", engine_info(v), "kernel", kernel_info(v), "templates",
		      (json_int_t)templates, "boxes", (json_int_t)boxes, "host", "cpus",
		      (json_int_t)sysconf(_SC_NPROCESSORS_ONLN), "memory_bytes",
		      (json_int_t)sysconf(_SC_PHYS_PAGES) * (json_int_t)sysconf(_SC_PAGESIZE), "layout",
		      LAYOUT_VERSION);
	char *text = j ? json_dumps(j, JSON_INDENT(2)) : NULL;
	json_decref(j);
	if (!text)
		return err_sys(err, -ENOMEM, "collect facts");
	*ret = text;
	return 0;
}
