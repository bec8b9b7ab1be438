/* blip2/data.h: writing JPEG. */
#include "blip2/data.h"
#include "image/image.h"

blip2_status blip2_image_encode_jpeg(const blip2_image *img, int quality, unsigned char **out, size_t *size,
                                     blip2_error *err)
{
    if (!img || !out || !size)
        return b2_fail(err, BLIP2_ERR_ARGUMENT, "blip2_image_encode_jpeg: no argument may be NULL");
    *out = NULL;
    *size = 0;
    return b2_jpeg_encode(out, size, img, quality, err);
}
