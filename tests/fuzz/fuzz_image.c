/* Any bytes as a picture: decoded whole or refused with a reason; a small one is also resized. */
#include <stdlib.h>
#include "image/image.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    blip2_image img, small;
    blip2_error e = BLIP2_ERROR_INIT;
    if (blip2_image_decode(&img, data, size, &e) != BLIP2_OK) {
        if (img.pixels || !e.text[0]) abort();
        return 0;
    }
    if (img.width < 1 || img.height < 1 || img.stride < (ptrdiff_t)img.width * 3) abort();
    unsigned sum = 0;
    for (ptrdiff_t i = 0; i < img.stride * img.height; i++) sum += img.pixels[i]; /* all of it is there */
    if (img.width <= 512 && img.height <= 512) {
        if (blip2_image_resize(&small, &img, 1 + (int)(sum % 61), 1 + (int)(sum % 53), &e) != BLIP2_OK)
            abort();
        blip2_image_free(&small);
    }
    blip2_image_free(&img);
    return 0;
}
