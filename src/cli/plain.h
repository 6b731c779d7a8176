/* SPDX-License-Identifier: Apache-2.0 */
/* Commands without options of their own. */
#ifndef CLI_PLAIN_H
#define CLI_PLAIN_H

#include "cli/cli.h"

/* plain_opts() - just --help */
const struct opt *plain_opts(size_t *ret_n);

/**
 * plain_begin() - read the options of command @name, which takes at most @words further words
 * @ret_word:	the first of them, or NULL
 * Return: true to go on; false with the exit code in @ret_code (help was shown, or a usage error told).
 */
bool plain_begin(const char *name, int argc, char **argv, int words, const char **ret_word, int *ret_code);

#endif
