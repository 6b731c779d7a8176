/* SPDX-License-Identifier: Apache-2.0 */
/* `vial doctor --selftest`: boxes are started, restored, paused, forked and saved on this host to see that they work. */
#ifndef CLI_SELFTEST_H
#define CLI_SELFTEST_H

#include "vial/vial.h"

/**
 * selftest() - run all steps
 * @fn:	called once for each step, as by vial_doctor(); names begin with "self-"
 *
 * A step that fails is a finding and the next ones still run; without a first box there are none. Takes seconds, up to minutes
 * where templates must be built under emulation. Leaves nothing but templates.
 *
 * Return: the worst result (enum vial_check_result).
 */
int selftest(struct vial *v, void (*fn)(void *data, const struct vial_check *c), void *data);

#endif
