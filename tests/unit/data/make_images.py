#!/usr/bin/env python3
"""Makes the pictures of test_image.c and images.json: what Pillow's convert("RGB") makes of each.

    pip install pillow numpy && python make_images.py

With transformers at hand (4.57.6) it also prints the crc of BlipImageProcessor's pixels that the test holds.
"""
import io
import json
import os
import struct
import zlib

import numpy as np
from PIL import Image

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "images")
W, H = 37, 29


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(w, h, depth, kind, rows, extra=b"", interlace=0):
    head = struct.pack(">IIBBBBB", w, h, depth, kind, 0, 0, interlace)
    data = zlib.compress(b"".join(b"\0" + r for r in rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + extra + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def adam7(a):
    """Rows of the seven passes; a is [h][w][bytes]."""
    for x0, y0, dx, dy in ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)):
        for row in a[y0::dy, x0::dx]:
            if row.size:
                yield row.tobytes()


def files():
    rng = np.random.default_rng(3)
    base = Image.fromarray(rng.integers(0, 256, (6, 7, 3), dtype=np.uint8)).resize((W, H))
    alpha = Image.fromarray(rng.integers(0, 256, (H, W), dtype=np.uint8))
    grey = base.convert("L")
    rgba, la = base.copy(), grey.copy()
    rgba.putalpha(alpha)
    la.putalpha(alpha)
    words = rng.integers(0, 65536, (9, 11, 4)).astype(">u2")
    small = (np.arange(99).reshape(9, 11) * 3).astype(">u2")

    def saved(im, form, **options):
        b = io.BytesIO()
        im.save(b, form, **options)
        return b.getvalue()

    yield "rgb.png", saved(base, "png")
    yield "rgba.png", saved(rgba, "png")
    yield "grey.png", saved(grey, "png")
    yield "grey-alpha.png", saved(la, "png")
    yield "bits.png", saved(grey.convert("1"), "png")
    yield "palette.png", saved(base.quantize(200), "png")
    yield "palette4.png", saved(base.quantize(12), "png", bits=4)
    yield "palette2.png", saved(base.quantize(3), "png", bits=2)
    yield "palette-alpha.png", saved(base.quantize(20), "png", transparency=bytes(range(20)))
    yield "rgb-key.png", saved(base, "png", transparency=base.getpixel((3, 3)))
    yield "grey-key.png", saved(grey, "png", transparency=grey.getpixel((3, 3)))
    yield "grey16.png", png(11, 9, 16, 0, [small[y].tobytes() for y in range(9)])
    yield "grey16-laced.png", png(11, 9, 16, 0, adam7(small[..., None]), interlace=1)
    yield "rgb16.png", png(11, 9, 16, 2, [words[y, :, :3].tobytes() for y in range(9)])
    yield "rgba16.png", png(11, 9, 16, 6, [words[y].tobytes() for y in range(9)])
    yield "grey-alpha16.png", png(11, 9, 16, 4, [words[y, :, :2].tobytes() for y in range(9)])
    yield "grey2.png", png(11, 9, 2, 0, [bytes([27, 0x4E, 0x90])] * 9)
    yield "grey4.png", png(11, 9, 4, 0, [bytes(range(y, y + 6)) for y in range(9)])
    yield "laced.png", png(W, H, 8, 2, adam7(np.array(base)), interlace=1)
    yield "gamma.png", png(4, 2, 8, 2, [bytes(range(12)), bytes(range(50, 62))],
                           chunk(b"gAMA", struct.pack(">I", 100000)) + chunk(b"sRGB", b"\0"))
    # indices without a colour
    yield "palette-short.png", png(4, 2, 8, 3, [bytes([0, 1, 2, 200]), bytes([3, 4, 255, 0])],
                                   chunk(b"PLTE", bytes([10, 20, 30, 40, 50, 60])))
    yield "tail.png", saved(base, "png") + b"bytes after the end"
    for quality in (10, 75, 95):
        yield "q%d.jpg" % quality, saved(base, "jpeg", quality=quality)
    yield "444.jpg", saved(base, "jpeg", subsampling=0)
    yield "422.jpg", saved(base, "jpeg", subsampling=1)
    yield "rgb.jpg", saved(base, "jpeg", keep_rgb=True)
    yield "progressive.jpg", saved(base, "jpeg", progressive=True)
    yield "grey.jpg", saved(grey, "jpeg")
    yield "grey-progressive.jpg", saved(grey, "jpeg", progressive=True)
    yield "restart.jpg", saved(base, "jpeg", restart_marker_rows=1)
    yield "tail.jpg", saved(base, "jpeg") + b"bytes after the end"
    # orientation 6: not applied
    yield "turned.jpg", saved(base, "jpeg", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0")
    inks = Image.merge("CMYK", base.split() + (alpha.resize((3, 3)).resize((W, H)),))
    cmyk = saved(inks, "jpeg", quality=90, subsampling=0)
    yield "cmyk.jpg", cmyk
    at = cmyk.index(b"Adobe") + 11  # the transform: 2 makes it YCCK
    yield "ycck.jpg", cmyk[:at] + b"\2" + cmyk[at + 1:]
    yield "lossy.webp", saved(base, "webp", quality=80)
    yield "lossless.webp", saved(base, "webp", lossless=True)
    yield "lossy-alpha.webp", saved(rgba, "webp", quality=80)
    yield "lossless-alpha.webp", saved(rgba, "webp", lossless=True)
    yield "exact-alpha.webp", saved(rgba, "webp", lossless=True, exact=True)
    yield "animated.webp", saved(base, "webp", save_all=True, append_images=[grey.convert("RGB")])


def pattern(w, h):
    y, x, c = np.mgrid[0:h, 0:w, 0:3]
    return ((37 * x + 91 * y + 53 * c + 11 * ((x * y) % 7)) % 256).astype(np.uint8)


def main():
    os.makedirs(HERE, exist_ok=True)
    table = []
    for name, data in files():
        with open(os.path.join(HERE, name), "wb") as f:
            f.write(data)
        im = Image.open(io.BytesIO(data))
        rgb = im.convert("RGB")
        if name != "animated.webp":
            table.append({"file": name, "width": im.width, "height": im.height, "crc": zlib.crc32(rgb.tobytes())})
    with open(os.path.join(HERE, "images.json"), "w") as f:
        f.write("[\n" + ",\n".join(json.dumps(t) for t in table) + "\n]\n")
    try:
        from transformers import BlipImageProcessor
    except ImportError:
        return
    processor = BlipImageProcessor(size={"height": 224, "width": 224}, image_mean=[0.48145466, 0.4578275, 0.40821073],
                                   image_std=[0.26862954, 0.26130258, 0.27577711])
    for w, h in ((640, 480), (224, 224), (60, 80)):
        pixels = processor(Image.fromarray(pattern(w, h)), return_tensors="np")["pixel_values"]
        print(w, h, pixels.dtype, pixels.shape, "%08x" % zlib.crc32(np.ascontiguousarray(pixels).tobytes()))


main()
