/* Opening and closing devices. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "device/device.h"

static bool is_cuda(const char *name)
{
    return strncmp(name, "cuda", 4) == 0 && (!name[4] || name[4] == ':');
}

static blip2_status check_name(const char *name, blip2_error *err)
{
    if (!name)
        return b2_fail(err, BLIP2_ERR_ARGUMENT, "device name: expected \"cpu\" or \"cuda:N\", found NULL");
    if (strcmp(name, "cpu") == 0 || is_cuda(name)) return BLIP2_OK;
    return b2_fail(err, BLIP2_ERR_DEVICE, "device \"%s\": unknown kind, expected \"cpu\" or \"cuda:N\"",
                   name);
}

static void describe_cpu(blip2_device *d)
{
    d->isa = b2_isa_best();
    b2_cpu_tables(d->tables, d->isa);
    snprintf(d->description, sizeof d->description, "cpu: %s, %s, %d thread%s", b2_cpu_name(),
             b2_isa_name(d->isa), b2_pool_threads(d->pool), b2_pool_threads(d->pool) == 1 ? "" : "s");
}

blip2_status blip2_device_open(const char *name, const blip2_device_options *options, blip2_device **out,
                               blip2_error *err)
{
    const blip2_device_options defaults = BLIP2_DEVICE_OPTIONS_INIT;
    const blip2_device_options *o = options ? options : &defaults;
    if (!out) return b2_fail(err, BLIP2_ERR_ARGUMENT, "blip2_device_open: out is NULL");
    *out = NULL;
    B2_TRY(check_name(name, err));
    if (o->size != sizeof *o)
        return b2_fail(err, BLIP2_ERR_ARGUMENT, "blip2_device_options.size: expected %zu, found %zu",
                       sizeof *o, o->size);
    if (o->threads < 0 || o->threads > 1024)
        return b2_fail(err, BLIP2_ERR_ARGUMENT, "threads: expected 0 to 1024, found %d", o->threads);
    blip2_device *d = calloc(1, sizeof *d);
    if (!d) return B2_NOMEM(err, "a device");
    d->refs = 1;
    d->log = (b2_log){o->log, o->log_user, o->log_level};
    blip2_status s = b2_pool_open(&d->pool, o->threads, err);
    if (s == BLIP2_OK && is_cuda(name)) s = b2_device_open_cuda(d, name, err);
    if (s != BLIP2_OK) {
        blip2_device_close(d);
        return s;
    }
    if (!d->gpu) describe_cpu(d);
    *out = d;
    return BLIP2_OK;
}

blip2_device *b2_device_ref(blip2_device *d)
{
    if (d) d->refs++;
    return d;
}

void blip2_device_close(blip2_device *d)
{
    if (!d || --d->refs > 0) return;
    b2_device_close_cuda(d);
    b2_pool_close(d->pool);
    free(d);
}

const char *blip2_device_description(const blip2_device *d) { return d ? d->description : ""; }

size_t blip2_device_memory(const blip2_device *d, size_t *peak)
{
    if (peak) *peak = d ? d->memory.peak : 0;
    return d ? d->memory.bytes : 0;
}
