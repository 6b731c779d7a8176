// SPDX-License-Identifier: Apache-2.0
// The one table of all fields, and the checks of those that have a range or a syntax.
#include "box/spec.h"

#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/suggest.h"

#define LABEL_MAX 63 /* [RFC 1123 2.1, RFC 1035 2.3.4] */

/* What people see. Built fields first, at the index that enum spec_id gives them. */
static const struct vial_field fields[] = {
	[SPEC_IMAGE] = { "image", VIAL_FIELD_STRING, 1, "IMAGE",
			 "image to run: a name, or a path that begins with /, ./ or ../" },
	[SPEC_COMMAND] = { "command", VIAL_FIELD_LIST, 1, "CMD",
			   "command and its arguments instead of the image's" },
	[SPEC_ENTRYPOINT] = { "entrypoint", VIAL_FIELD_LIST, 1, "PROG",
			      "program instead of the image's entrypoint; '' for none" },
	[SPEC_INTERACTIVE] = { "interactive", VIAL_FIELD_BOOL, 1, NULL, "pass stdin to the command" },
	[SPEC_TTY] = { "tty", VIAL_FIELD_BOOL, 1, NULL, "give the command a terminal" },
	[SPEC_ENV] = { "env", VIAL_FIELD_MAP, 1, "K=V", "set a variable; K alone passes on your own value" },
	[SPEC_ENV_FILE] = { "env_file", VIAL_FIELD_LIST, 1, "FILE",
			    "read variables from a file of K=V lines" },
	[SPEC_WORKDIR] = { "workdir", VIAL_FIELD_STRING, 1, "DIR", "working directory of the command" },
	[SPEC_USER] = { "user", VIAL_FIELD_STRING, 1, "USER[:GROUP]",
			"user and group of the command, by name or number" },
	[SPEC_HOSTNAME] = { "hostname", VIAL_FIELD_STRING, 1, "NAME", "host name inside the box" },
	[SPEC_CPUS] = { "cpus", VIAL_FIELD_UINT, 1, "N", "processors (default 2)" },
	[SPEC_MEMORY] = { "memory", VIAL_FIELD_SIZE, 1, "SIZE",
			  "memory, such as 512M or 4G; a bare number is MiB (default 2048)" },
	[SPEC_TIMEOUT] = { "timeout", VIAL_FIELD_DURATION, 1, "TIME",
			   "end the command after this long, exit 124; 90, 90s, 5m" },
	[SPEC_ULIMIT] = { "ulimit", VIAL_FIELD_LIST, 1, "NAME=SOFT[:HARD]",
			  "resource limit of the command, such as nofile=1024" },
	[SPEC_INIT] = { "init", VIAL_FIELD_BOOL, 1, NULL,
			"run a small init as the command's parent, which reaps orphans" },
	[SPEC_RM] = { "rm", VIAL_FIELD_BOOL, 1, NULL,
		      "remove the box when the command ends (always so without a name)" },
	[SPEC_ROOTFS] = { "rootfs", VIAL_FIELD_STRING, 1, "PATH",
			  "root file system: directory, tar, OCI layout or disk image" },
	[SPEC_KERNEL] = { "kernel", VIAL_FIELD_STRING, 1, "FILE", "guest kernel to boot" },
	[SPEC_INITRD] = { "initrd", VIAL_FIELD_STRING, 1, "FILE",
			  "initial ramdisk that vial's own is appended to" },
	[SPEC_BOOT_ARG] = { "boot_arg", VIAL_FIELD_LIST, 1, "ARG",
			    "one more argument for the kernel's command line" },
	[SPEC_CONSOLE] = { "console", VIAL_FIELD_BOOL, 1, NULL,
			   "attach to the serial console instead of running a command" },
	[SPEC_DEFAULT_IMAGE] = { "default_image", VIAL_FIELD_STRING, 1, "IMAGE", "image when none is named" },
	[SPEC_MAX_CPUS] = { "max_cpus", VIAL_FIELD_UINT, 1, "N",
			    "processors it can be given while it runs (default: as many as cpus)" },
	[SPEC_MAX_MEMORY] = { "max_memory", VIAL_FIELD_SIZE, 1, "SIZE",
			      "memory it can be given while it runs (default: as much as memory)" },
	[SPEC_FROM] = { "from", VIAL_FIELD_STRING, 1, "FILE", "start from a snapshot instead of an image" },
	/* Not built yet: known, so that asking for one is a clear error. */
	{ "name", VIAL_FIELD_STRING, 0, "NAME", "keep the box under this name" },
	{ "label", VIAL_FIELD_MAP, 0, "K=V", "label of the box" },
	{ "detach", VIAL_FIELD_BOOL, 0, NULL, "run in the background" },
	{ "replace", VIAL_FIELD_BOOL, 0, NULL, "remove a box of the same name first" },
	{ "boot_init", VIAL_FIELD_BOOL, 0, NULL, "give PID 1 to the image's own init" },
	{ "disk_size", VIAL_FIELD_SIZE, 0, "SIZE", "size of the box's own disk" },
	{ "max_duration", VIAL_FIELD_DURATION, 0, "TIME", "end the box after this long" },
	{ "idle_timeout", VIAL_FIELD_DURATION, 0, "TIME", "end the box when idle for this long" },
	{ "restart", VIAL_FIELD_STRING, 0, "no|on-failure|always", "start again when the command ends" },
	{ "health_cmd", VIAL_FIELD_STRING, 0, "LINE", "command that tells whether the box is well" },
	{ "health_interval", VIAL_FIELD_DURATION, 0, "TIME", "time between health checks" },
	{ "health_timeout", VIAL_FIELD_DURATION, 0, "TIME", "time limit of a health check" },
	{ "health_retries", VIAL_FIELD_UINT, 0, "N", "failed checks until the box counts as unwell" },
	{ "health_start_period", VIAL_FIELD_DURATION, 0, "TIME", "time in which failed checks do not count" },
	{ "pull", VIAL_FIELD_STRING, 0, "always|missing|never", "when to ask the registry" },
	{ "platform", VIAL_FIELD_STRING, 0, "OS/ARCH", "which variant of the image" },
	{ "registry", VIAL_FIELD_LIST, 0, "HOST", "where short image names are looked for" },
	{ "registries", VIAL_FIELD_STRING, 0, "FILE", "settings of registries" },
	{ "root_mode", VIAL_FIELD_STRING, 0, "copy|bind", "how a root directory is given to the box" },
	{ "fstype", VIAL_FIELD_STRING, 0, "TYPE", "file system of a disk image" },
	{ "volume", VIAL_FIELD_LIST, 0, "SRC:DST[:ro]", "share a directory or a named volume" },
	{ "publish", VIAL_FIELD_LIST, 0, "[ADDR:]HOST:GUEST", "publish a port" },
	{ "mount", VIAL_FIELD_LIST, 0, "SPEC", "mount something" },
	{ "tmpfs", VIAL_FIELD_LIST, 0, "DIR", "file system in memory" },
	{ "share", VIAL_FIELD_LIST, 0, "HOST TAG", "share a directory under a tag" },
	{ "patch", VIAL_FIELD_LIST, 0, "SPEC", "change the root file system before boot" },
	{ "network", VIAL_FIELD_STRING, 0, "none|public|all|NAME", "network of the box" },
	{ "policy", VIAL_FIELD_STRING, 0, "FILE", "network policy" },
	{ "allow_net", VIAL_FIELD_BOOL, 0, NULL, "let the box reach the public internet" },
	{ "allow_host", VIAL_FIELD_LIST, 0, "NAME", "host the box may reach" },
	{ "deny_host", VIAL_FIELD_LIST, 0, "NAME", "host the box may not reach" },
	{ "allow_host_port", VIAL_FIELD_LIST, 0, "PORT", "port of this machine the box may reach" },
	{ "net_rule", VIAL_FIELD_LIST, 0, "RULE", "one network rule" },
	{ "net_rate", VIAL_FIELD_SIZE, 0, "RATE", "network rate limit" },
	{ "mtu", VIAL_FIELD_UINT, 0, "N", "largest packet" },
	{ "dns", VIAL_FIELD_LIST, 0, "ADDR", "name server" },
	{ "tls_bypass", VIAL_FIELD_LIST, 0, "NAME", "host whose TLS is left alone" },
	{ "tls_ca", VIAL_FIELD_STRING, 0, "FILE", "further trusted authority" },
	{ "pcap", VIAL_FIELD_STRING, 0, "FILE", "record packets" },
	{ "secret", VIAL_FIELD_LIST, 0, "SPEC", "secret that never enters the box" },
	{ "on_secret_violation", VIAL_FIELD_STRING, 0, "block|log|stop", "what a misused secret does" },
	{ "profile", VIAL_FIELD_STRING, 0, "default|restricted|raw", "rights of the command in the guest" },
	{ "strict", VIAL_FIELD_BOOL, 0, NULL, "refuse to run what is not fully jailed" },
	{ "progress", VIAL_FIELD_STRING, 0, "auto|plain|none", "how progress is shown" },
};

static int check_cpus(uint64_t v, struct vial_err *err)
{
	if (v < 1 || v > SPEC_CPUS_MAX)
		return err_set(err, VIAL_E_INVALID, "%" PRIu64 " is out of range (1 to %d)", v,
			       SPEC_CPUS_MAX);
	return 0;
}

static int check_memory(uint64_t v, struct vial_err *err)
{
	long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);

	if (v < SPEC_MEMORY_MIN)
		return err_set(err, VIAL_E_INVALID, "%" PRIu64 "%s is too little (at least %zuM)",
			       v % MIB(1) ? v / KIB(1) : v / MIB(1), v % MIB(1) ? "K" : "M",
			       SPEC_MEMORY_MIN / MIB(1));
	if (pages <= 0 || page <= 0)
		return 0; /* unknown: the engine will say */
	uint64_t host = (uint64_t)pages * (uint64_t)page;
	if (v > host)
		return err_set(err, VIAL_E_INVALID,
			       "%" PRIu64 "M is more than this host has (choose at most %" PRIu64 "M)",
			       v / MIB(1), host / MIB(1));
	return 0;
}

static int check_timeout(uint64_t v, struct vial_err *err)
{
	if (v < 1 || v > SPEC_TIMEOUT_MAX)
		return err_set(err, VIAL_E_INVALID, "out of range (1ms to 366d)");
	return 0;
}

static int check_rm(uint64_t v, struct vial_err *err)
{
	if (!v)
		return err_set(err, VIAL_E_UNSUPPORTED, "false: keeping a box is not built yet");
	return 0;
}

/* [RFC 1123 2.1]: labels of letters, digits and inner hyphens, joined by dots; Linux limits the whole. */
static int check_hostname(const char *name, struct vial_err *err)
{
	static const char rule[] = "is not a host name (letters, digits and inner hyphens; dots between)";
	size_t label = 0, n = strlen(name);

	if (n > SPEC_HOSTNAME_MAX)
		return err_set(err, VIAL_E_INVALID, "longer than %d characters", SPEC_HOSTNAME_MAX);
	for (size_t i = 0; i <= n; i++) {
		bool end = i == n || name[i] == '.';

		if (end && (label == 0 || label > LABEL_MAX || name[i - 1] == '-'))
			return err_set(err, VIAL_E_INVALID, "'%s' %s", name, rule);
		if (end) {
			label = 0;
			continue;
		}
		/* ASCII only: isalnum() would follow the locale */
		bool good =
			strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", name[i]) ||
			(name[i] == '-' && label > 0);
		if (!good)
			return err_set(err, VIAL_E_INVALID, "'%s' %s", name, rule);
		label++;
	}
	return 0;
}

static int check_workdir(const char *dir, struct vial_err *err)
{
	if (dir[0] != '/')
		return err_set(err, VIAL_E_INVALID, "'%.128s' is not an absolute path", dir);
	return 0;
}

/* The kernel splits its command line at blanks; one entry must stay one argument. */
static int check_boot_arg(const char *arg, struct vial_err *err)
{
	if (!*arg)
		return err_set(err, VIAL_E_INVALID, "must not be empty");
	for (const char *p = arg; *p; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			return err_set(err, VIAL_E_INVALID, "has a control character");
	return 0;
}

/* '' alone takes the image's entrypoint away; otherwise the entries are program and first arguments. */
static int add_entrypoint(struct vial_spec *s, const char *value, struct vial_err *err)
{
	if (!*value && s->entrypoint.n == 0)
		return 0;
	if (s->entrypoint.n >= SPEC_LIST_MAX)
		return err_set(err, VIAL_E_LIMIT, "more than %d entries", SPEC_LIST_MAX);
	if (strv_add(&s->entrypoint, value) < 0)
		return err_set(err, VIAL_E_NO_MEMORY, "out of memory");
	return 0;
}

#define AT(m) .offset = offsetof(struct vial_spec, m)

static const struct spec_impl impls[SPEC_N_BUILT] = {
	[SPEC_IMAGE] = { AT(image) },
	[SPEC_COMMAND] = { AT(command) },
	[SPEC_ENTRYPOINT] = { AT(entrypoint), .or_string = true, .add = add_entrypoint },
	[SPEC_INTERACTIVE] = { AT(interactive) },
	[SPEC_TTY] = { AT(tty) },
	[SPEC_ENV] = { AT(env), .add = spec_env_add },
	[SPEC_ENV_FILE] = { .or_string = true, .add = spec_env_file_add },
	[SPEC_WORKDIR] = { AT(workdir), .check_str = check_workdir },
	[SPEC_USER] = { AT(user) },
	[SPEC_HOSTNAME] = { AT(hostname), .check_str = check_hostname },
	[SPEC_CPUS] = { AT(cpus), .def = "2", .check_num = check_cpus },
	[SPEC_MEMORY] = { AT(memory_bytes), .def = "2048", .check_num = check_memory },
	[SPEC_TIMEOUT] = { AT(timeout_ms), .check_num = check_timeout },
	[SPEC_ULIMIT] = { AT(ulimit), .add = spec_ulimit_add },
	[SPEC_INIT] = { AT(init) },
	[SPEC_RM] = { AT(rm), .check_num = check_rm },
	[SPEC_ROOTFS] = { AT(rootfs) },
	[SPEC_KERNEL] = { AT(kernel) },
	[SPEC_INITRD] = { AT(initrd) },
	[SPEC_BOOT_ARG] = { AT(boot_arg), .check_str = check_boot_arg },
	[SPEC_CONSOLE] = { AT(console) },
	[SPEC_DEFAULT_IMAGE] = { AT(default_image) },
	[SPEC_MAX_CPUS] = { AT(max_cpus), .check_num = check_cpus },
	[SPEC_MAX_MEMORY] = { AT(max_memory_bytes), .check_num = check_memory },
	[SPEC_FROM] = { AT(from) },
};

const struct vial_field *spec_fields(size_t *ret_n)
{
	*ret_n = ARRAY_SIZE(fields);
	return fields;
}

const struct spec_impl *spec_impl(enum spec_id id)
{
	return &impls[id];
}

int spec_field_find(const char *name, enum spec_id *ret, struct vial_err *err)
{
	struct suggest near = { .word = name };

	for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
		if (strcmp(fields[i].name, name) != 0) {
			suggest_offer(&near, fields[i].name);
			continue;
		}
		if (!fields[i].built)
			return err_set(err, VIAL_E_UNSUPPORTED, "not built yet");
		*ret = (enum spec_id)i;
		return 0;
	}
	if (near.best)
		return err_set(err, VIAL_E_INVALID, "unknown field (did you mean '%s'?)", near.best);
	return err_set(err, VIAL_E_INVALID, "unknown field");
}
