/* The schedule of kernels on the host: EMU_ORDER (forward, reverse, random), EMU_SEED, EMU_GREEDY, EMU_EARLY.
 * Chosen when the program or module starts. */
#include <stdlib.h>
#include <string.h>

void emu_schedule(int order, unsigned seed, int greedy, int late_copies);

__attribute__((constructor)) static void choose_schedule(void)
{
    const char *order = getenv("EMU_ORDER"), *seed = getenv("EMU_SEED");
    const int which = !order ? 0 : strcmp(order, "reverse") == 0 ? 1 : strcmp(order, "random") == 0 ? 2 : 0;
    emu_schedule(which, seed ? (unsigned)strtoul(seed, NULL, 10) : 1, getenv("EMU_GREEDY") != NULL,
                 !getenv("EMU_EARLY"));
}
