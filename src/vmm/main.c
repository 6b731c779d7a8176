// SPDX-License-Identifier: Apache-2.0
// vial-vmm: the kvm engine's machine.
#include <stdio.h>

int main(void)
{
	fputs("vial-vmm: to be started by vial-monitor\n", stderr);
	return 1;
}
