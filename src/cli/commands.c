// SPDX-License-Identifier: Apache-2.0
// The tables of commands and global options.
#include <string.h>

#include "base/attr.h"
#include "cli/cli.h"
#include "cli/plain.h"

static const struct command built[] = {
	{ "run", "[OPTIONS] [IMAGE] [--] [COMMAND…]", "Run a command in a fresh box and exit with its code",
	  "IMAGE is a path that begins with /, ./ or ../ (a directory, tar, OCI layout or disk image); "
	  "without\n"
	  "one the built-in \"base\" (busybox) is used. Options end at the first word that is none. With "
	  "--rootfs\n"
	  "there is no IMAGE: the first word is the command. Without a command the image's own is run; at a\n"
	  "terminal that is a shell to type in.\n"
	  "\n"
	  "Exit code: the command's; 128+N if signal N ended it; 124 timeout; 125 vial itself failed;\n"
	  "126 the command cannot be executed; 127 it was not found; 141 the reader of our output is gone.\n"
	  "SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1 and SIGUSR2 are passed on to the command.\n"
	  "\n"
	  "Any option can also stand in vial.json (or shuru.json) of the current directory, with "
	  "underscores:\n"
	  "{ \"cpus\": 4, \"env_file\": \".env\", \"command\": [\"make\", \"test\"] }\n",
	  EXIT_VIAL, run_opts, cmd_run },
	{ "init", "[OPTIONS]", "Prepare now what the first run would prepare", NULL, EXIT_USAGE, init_opts,
	  cmd_init },
	{ "info", "", "Show engine, kernel, templates and limits", NULL, EXIT_USAGE, plain_opts, cmd_info },
	{ "doctor", "[OPTIONS]", "Check this machine and say what to do", NULL, EXIT_USAGE, doctor_opts,
	  cmd_doctor },
	{ "version", "", "Show the version", NULL, EXIT_USAGE, plain_opts, cmd_version },
	{ "completion", "bash|zsh|fish", "Print a completion script for a shell",
	  "  bash: source <(vial completion bash)\n"
	  "  zsh:  vial completion zsh > \"${fpath[1]}/_vial\"\n"
	  "  fish: vial completion fish > ~/.config/fish/completions/vial.fish\n",
	  EXIT_USAGE, plain_opts, cmd_completion },
	{ "help", "[COMMAND]", "Show help", NULL, EXIT_USAGE, plain_opts, cmd_help },
};

static const char *const planned[] = {
	"create", "start",   "stop",	"restart", "kill",    "rm",	 "prune",  "rename",   "touch",
	"exec",	  "attach",  "shell",	"ps",	   "inspect", "wait",	 "stats",  "logs",     "events",
	"cp",	  "install", "mount",	"umount",  "session", "pause",	 "resume", "snapshot", "fork",
	"modify", "pull",    "images",	"rmi",	   "tag",     "commit",	 "image",  "login",    "logout",
	"volume", "disk",    "network", "tunnel",  "web",     "upgrade", "serve",  "mcp",      "ssh",
};

static const struct opt globals[] = {
	{ "home", 0, "DIR", "state directory (VIAL_HOME; default ~/.local/share/vial)", false },
	{ "engine", 0, "auto|kvm|qemu", "what runs the machines (VIAL_ENGINE; default auto)", false },
	{ "log-level", 0, "LEVEL", "error, warn, info, debug or trace (VIAL_LOG)", false },
	{ "json", 0, NULL, "machine-readable output (info, doctor, version)", false },
	{ "format", 0, "json|text", "the same, longer", false },
	{ "quiet", 'q', NULL, "no progress, no notes", false },
	{ "version", 'V', NULL, "show the version", false },
	{ "help", 'h', NULL, "show this help", false },
};

const struct command *commands(size_t *ret_n)
{
	*ret_n = ARRAY_SIZE(built);
	return built;
}

const struct command *command_find(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(built); i++)
		if (strcmp(built[i].name, name) == 0)
			return &built[i];
	return NULL;
}

bool command_is_planned(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(planned); i++)
		if (strcmp(planned[i], name) == 0)
			return true;
	return false;
}

const struct opt *global_opts(size_t *ret_n)
{
	*ret_n = ARRAY_SIZE(globals);
	return globals;
}
