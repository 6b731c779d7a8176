/* SPDX-License-Identifier: Apache-2.0 */
/* Checks on what callers of the library hand in. */
#ifndef API_CHECK_H
#define API_CHECK_H

#include <stddef.h>

#include "vial/error.h"

/**
 * check_options() - copy a caller's options struct, of whatever version
 * @given:	starts with a size_t: the struct's size as the caller knows it; NULL: all zero
 * @known:	sizeof the struct here; @ret has room for it
 * A smaller struct is filled up with zeros; a larger one is accepted if the unknown tail is zero.
 * Return: 0 or VIAL_E_INVALID.
 */
int check_options(const void *given, size_t known, void *ret, const char *what, struct vial_err *err);

/**
 * check_output() - whether a caller's output struct can be filled
 * @given:	starts with a size_t: the struct's size as the caller knows it
 * @first:	sizeof the struct in the first version of the library
 * Return: 0 or VIAL_E_INVALID.
 */
int check_output(const void *given, size_t first, const char *what, struct vial_err *err);

/**
 * give_output() - fill a caller's output struct, no further than its size, which it keeps
 * @to:		passed check_output()
 * @from:	@known bytes; what @to has beyond them becomes zero
 */
void give_output(void *to, const void *from, size_t known);

#endif
