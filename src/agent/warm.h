/* SPDX-License-Identifier: Apache-2.0 */
/* A process that runs through what a command's start needs, over and over, while the machine is quiesced. */
#ifndef AGENT_WARM_H
#define AGENT_WARM_H

#include <stdbool.h>

#define WARM_ARG "--warm"

/* struct warm - @exe: our own program; @run: closed to end the process; @begun: ends when it is well under way */
struct warm {
	int exe;
	int run;
	int begun;
};

#define WARM_NONE ((struct warm){ .exe = -1, .run = -1, .begun = -1 })

void warm_init(struct warm *w);
/* warm_start() - from now on until warm_stop(); nothing happens where it cannot be had */
void warm_start(struct warm *w);
bool warm_has_begun(struct warm *w); /* or there is none */
void warm_stop(struct warm *w);

/* warm_main() - what our program does with WARM_ARG. Return: its exit status */
int warm_main(int argc, char **argv);

#endif
