/* WebP stills through libwebp; alpha is dropped, animations are refused. */
#include "image/image.h"
#if B2_WITH_IMAGE
#include <webp/decode.h>

static blip2_status bad(blip2_error *e, VP8StatusCode code)
{
    switch (code) {
    case VP8_STATUS_OUT_OF_MEMORY: return B2_NOMEM(e, "a WebP image");
    case VP8_STATUS_UNSUPPORTED_FEATURE:
        return b2_fail(e, BLIP2_ERR_UNSUPPORTED, "WebP: unsupported feature");
    case VP8_STATUS_NOT_ENOUGH_DATA: return b2_fail(e, BLIP2_ERR_FORMAT, "WebP: the data ends early");
    default: return b2_fail(e, BLIP2_ERR_FORMAT, "WebP: damaged data (code %d)", (int)code);
    }
}

blip2_status b2_webp_decode(blip2_image *img, const void *p, size_t n, blip2_error *e)
{
    WebPDecoderConfig config;
    if (!WebPInitDecoderConfig(&config))
        return b2_fail(e, BLIP2_ERR_UNSUPPORTED, "WebP: wrong libwebp version");
    VP8StatusCode code = WebPGetFeatures(p, n, &config.input);
    if (code != VP8_STATUS_OK) return bad(e, code);
    if (config.input.has_animation) return b2_fail(e, BLIP2_ERR_UNSUPPORTED, "WebP: animated");
    B2_TRY(b2_image_alloc(img, config.input.width, config.input.height, e));
    config.output.colorspace = MODE_RGB;
    config.output.is_external_memory = 1;
    config.output.u.RGBA.rgba = img->pixels;
    config.output.u.RGBA.stride = (int)img->stride;
    config.output.u.RGBA.size = (size_t)img->stride * (size_t)img->height;
    code = WebPDecode(p, n, &config);
    WebPFreeDecBuffer(&config.output);
    return code == VP8_STATUS_OK ? BLIP2_OK : bad(e, code);
}
#endif
