/* libblip2: run and train BLIP-2 with Flan-T5.
 *
 * A complete program:
 *
#include <blip2.h>
#include <stdio.h>
int main(int argc, char **argv)
{
    blip2_error err = BLIP2_ERROR_INIT;
    blip2_device *device = NULL; blip2_model *model = NULL; blip2_session *session = NULL;
    blip2_image image = {0}; blip2_features *features = NULL; blip2_answer answer;
    blip2_request request = BLIP2_REQUEST_INIT;
    if (argc != 4) return fprintf(stderr, "usage: %s MODEL_DIR IMAGE PROMPT\n", argv[0]), 2;
    if (blip2_device_open("cpu", NULL, &device, &err) ||
        blip2_model_open(device, argv[1], NULL, &model, &err) ||
        blip2_session_open(model, NULL, &session, &err) || blip2_image_load(&image, argv[2], &err) ||
        blip2_session_encode(session, &image, 1, -1, &features, &err)) goto end;
    request.features = features;
    request.prompt = argv[3];
    if (blip2_session_generate(session, &request, 1, &answer, &err) == BLIP2_OK) puts(answer.text);
end:
    if (err.code) fprintf(stderr, "%s: %s\n", blip2_strerror(err.code), err.text);
    blip2_features_close(features); blip2_image_free(&image);
    blip2_session_close(session); blip2_model_close(model); blip2_device_close(device);
    return err.code != BLIP2_OK;
}
 *
 * Ownership: device and model are shared, immutable and thread-safe; a session or a trainer belongs to one
 * thread at a time; features and adapters are immutable and reference-counted. Every handle holds references
 * to what it needs, so any order of closing is right, and every close accepts NULL. Strings are copied.
 *
 * Errors: every function that can fail returns a blip2_status and fills the blip2_error it is given. Nothing
 * aborts, exits or prints.
 *
 * Options: structs that begin with their size; use the initialiser, then set fields. */
#ifndef BLIP2_H
#define BLIP2_H

#define BLIP2_VERSION_MAJOR 0
#define BLIP2_VERSION_MINOR 1
#define BLIP2_VERSION_PATCH 0

#include "blip2/status.h"
#include "blip2/device.h"
#include "blip2/image.h"
#include "blip2/data.h"
#include "blip2/tokenizer.h"
#include "blip2/model.h"
#include "blip2/adapter.h"
#include "blip2/session.h"
#include "blip2/train.h"

#ifdef __cplusplus
extern "C" {
#endif
/* "0.1.0": the version of the library in use, which may be newer than these headers. */
BLIP2_API const char *blip2_version(void);
#ifdef __cplusplus
}
#endif
#endif
