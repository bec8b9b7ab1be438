"""Pixels as Pillow makes them: bytes after the resize, and floats after BlipImageProcessor."""
import os

import numpy as np
import torch
from PIL import Image

import models

MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073])[:, None, None]
STD = torch.tensor([0.26862954, 0.26130258, 0.27577711])[:, None, None]


def picture(r, w, h):
    y, x = np.mgrid[0:h, 0:w]
    p = np.stack([255 * x / w, 255 * y / h, 255 * ((x // 6 + y // 4) % 2)], -1)
    return Image.fromarray(np.clip(p + r.normal(0, 25, p.shape), 0, 255).astype(np.uint8))


def files(r, folder):
    """Every mode and coding a product photo may come in → paths."""
    os.makedirs(folder, exist_ok=True)
    size = lambda: (int(r.integers(3, 200)), int(r.integers(3, 200)))
    todo = []
    for w, h in [(1, 1), (1, 40), (57, 1), (3, 300), (500, 2), (640, 480), (31, 31), (224, 224), *[size() for _ in range(12)]]:
        todo.append((f"rgb-{w}x{h}.png", picture(r, w, h), {}))
    p = lambda: picture(r, *size())
    todo += [("grey.png", p().convert("L"), {}), ("palette.png", p().quantize(17), {}), ("one-bit.png", p().convert("1"), {}),
             ("grey-alpha.png", p().convert("LA"), {})]
    alpha = p().convert("RGBA")
    alpha.putalpha(Image.fromarray(r.integers(0, 256, (alpha.height, alpha.width), dtype=np.uint8)))
    keyed = p().quantize(9)
    todo += [("alpha.png", alpha, {}), ("palette-key.png", keyed, dict(transparency=3)),
             ("alpha.webp", alpha, dict(lossless=True)), ("alpha-lossy.webp", alpha, dict(quality=80))]
    for q, s in ((95, 0), (80, 1), (60, 2), (30, 2)):
        todo.append((f"q{q}-sub{s}.jpg", p(), dict(quality=q, subsampling=s)))
    todo += [("progressive.jpg", p(), dict(quality=75, progressive=True)), ("grey.jpg", p().convert("L"), {}), ("cmyk.jpg", p().convert("CMYK"), {}),
             ("big.jpg", picture(r, 1800, 2400), dict(quality=85)), ("lossy.webp", p(), dict(quality=75)), ("lossless.webp", p(), dict(lossless=True))]
    exif = Image.Exif()
    exif[0x0112] = 6
    todo.append(("turned.jpg", p(), dict(exif=exif)))
    paths = []
    for name, image, options in todo:
        paths.append(os.path.join(folder, name))
        image.save(paths[-1], **options)
    return paths


def tiny_model(work, size, spiece, extra_ids, tokens):
    cfg = models.config(dict(hidden_size=16, num_attention_heads=2, intermediate_size=16, num_hidden_layers=1, image_size=size, patch_size=max(8, size // 3)),
                        dict(hidden_size=8, num_attention_heads=1, intermediate_size=8, num_hidden_layers=1), dict(d_model=16, d_kv=8, num_heads=1, d_ff=16,
                        num_layers=1, vocab_size=tokens + extra_ids, feed_forward_proj="gated-gelu", dense_act_fn="gelu", tie_word_embeddings=False), 2)
    folder = os.path.join(work, f"image-model-{size}")
    models.save(models.build(cfg, size), folder, spiece, extra_ids, "old")
    return folder


def bytes_of(pixels):
    return torch.round((pixels.double() * STD + MEAN) * 255).to(torch.int64)


def resized(path, size):
    rgb = Image.open(path).convert("RGB").resize((size, size), Image.BICUBIC)
    return torch.from_numpy(np.array(rgb)).permute(2, 0, 1).to(torch.int64)


def run(out, programs, work, r, spiece, extra_ids, tokens):
    paths = files(r, os.path.join(work, "pictures"))
    for size in (int(r.integers(20, 60)), 224):
        out.prefix = f"images/{size} "
        processor = models.image_processor(size)
        want = {p: processor(images=np.array(Image.open(p).convert("RGB")), return_tensors="pt", input_data_format="channels_last")["pixel_values"][0] for p in paths}
        fair = all(torch.equal(bytes_of(want[p]), resized(p, size)) for p in paths)
        out.check("BlipImageProcessor is Pillow's resize", fair, f"{len(paths)} pictures")
        if programs is None:
            continue
        folder = tiny_model(work, size, spiece, extra_ids, tokens)
        for path in paths:
            _, got = programs.trace(folder, path, "x", os.path.join(work, "trace.safetensors"), "--dtype", "f32", "--max-new-tokens", 1)
            pixels = got["pixel_values"][0]
            off = (bytes_of(pixels) - resized(path, size)).abs()
            floats = float((pixels - want[path]).abs().max())
            out.check(os.path.basename(path), int(off.max()) == 0 and floats <= 5e-7,
                      f"{int((off > 0).sum())} bytes of {off.numel()} differ, by {int(off.max())} at most; floats by {floats:.1e}")
