/* SPDX-License-Identifier: Apache-2.0 */
/* Where a specification's values come from: $VIAL_HOME/config.json, project file, environment; flags go on top. */
#ifndef CLI_LAYERS_H
#define CLI_LAYERS_H

#include "cli/cli.h"

/**
 * layers_load() - a specification of everything below the flags
 * @config:	project file from --config, which must exist; NULL: vial.json, else shuru.json, in the current
 *		directory if there is one
 *
 * A higher layer's image takes a lower one's rootfs away, and the other way round.
 * Return: 0; the errors of vial_spec_load_file() and vial_spec_set().
 */
int layers_load(const struct cli *cli, const char *config, struct vial_spec **ret, struct vial_err *err);

/**
 * struct layers_info - what the loaded specification says that no single-value getter tells
 * @has_command: "command" or "entrypoint" is not empty
 * @has_term:	the environment has TERM
 */
struct layers_info {
	bool has_command;
	bool has_term;
};

void layers_inspect(const struct vial_spec *s, struct layers_info *ret);

#endif
