/* The parts of the adapter program. */
#ifndef EXAMPLES_ADAPTER_H
#define EXAMPLES_ADAPTER_H
#include "examples/common.h"

typedef struct settings {
    const char *command, *model, *adapter, *output, *dtype;
    const char *keep, *data, *images; /* quantise */
    int64_t rows;
    double most;
    int json;
    device_settings device;
} settings;

/* adapter quantise: measures, writes the folder, says what it did. Exit code. */
int quantise(const program *p, const settings *s, blip2_device *d);
#endif
