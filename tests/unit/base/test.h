/* SPDX-License-Identifier: Apache-2.0 */
/* cmocka needs these in front of it. */
#ifndef TEST_UNIT_BASE_TEST_H
#define TEST_UNIT_BASE_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#endif
