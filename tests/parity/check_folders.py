"""Model folders our programs write: transformers reads them, and both make the same of them."""
import os

import torch
from transformers import Blip2ForConditionalGeneration, T5Tokenizer

import models
import reference
from PIL import Image

LIMIT = 1e-4


def check_init(out, programs, name, args, work, photo, question):
    """A model from nothing."""
    folder = os.path.join(work, name)
    programs.run("init_model", "--output", folder, *args, "--dtype", "f32", "--seed", 7)
    model = Blip2ForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    out.equal(f"{name}: tensors", sorted(models.load_weights(folder)), sorted(models.checkpoint(model)))
    tok = T5Tokenizer.from_pretrained(folder, legacy=True)
    size = model.config.vision_config.image_size
    pixels = models.image_processor(size)(images=[Image.open(photo).convert("RGB")], return_tensors="pt")["pixel_values"]
    batch = reference.Batch(pixels, [0], [tok(f"Question: {question} Answer: ")["input_ids"]], [[1]])
    ids, steps, _ = reference.greedy(model, batch, 5)
    answer, got = programs.trace(folder, photo, question, os.path.join(work, "trace.safetensors"), "--dtype", "f32", "--max-new-tokens", 5)
    with torch.no_grad():
        stages = reference.forward(model, batch)[1]
    for stage in ("vit", "qformer", "projection", "encoder"):
        out.close(f"{name}: {stage}", got[stage], stages[stage], LIMIT)
    out.close(f"{name}: first logits", got["logits"][:1], steps[0][:1], LIMIT)
    spread = float(stages["encoder"].std())
    out.check(f"{name}: a realistic scale", 0.05 < spread < 20, f"standard deviation of the encoder's output {spread:.3f}")


def check_convert(out, programs, case, work):
    """Another dtype: every matrix rounded to the nearest even, nothing else changed."""
    for dtype, kind in (("bf16", torch.bfloat16), ("f32", torch.float32)):
        folder = os.path.join(work, f"{case.name}-{dtype}")
        programs.run("adapter", "convert", "--model", case.folder, "--output", folder, "--dtype", dtype)
        want, got = models.checkpoint(case.model), models.load_weights(folder)
        wrong = [n for n in want if n not in got or not torch.equal(got[n].float(), want[n].to(got[n].dtype).float()) or
                 (want[n].dim() > 1 and got[n].dtype != kind)]
        out.equal(f"convert to {dtype}: tensors that differ", wrong, [])
        again = Blip2ForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
        out.equal(f"convert to {dtype}: transformers reads it", sorted(models.checkpoint(again)), sorted(want))


def run(out, programs, cases, work, r, spiece, words):
    out.prefix = "folders/"
    if programs is None:
        out.skip("folders", "no programs")
        return
    folder = os.path.join(work, "folders")
    os.makedirs(folder, exist_ok=True)
    question, small = words[int(r.integers(0, len(words)))] + "?", os.path.join(folder, "spiece.model")
    models.train_tokenizer(small)
    check_init(out, programs, "fashion-tiny", ["--preset", "fashion-tiny", "--tokenizer", small], folder, cases[0].images[0], question)
    for case in [c for c in cases if c.config.image_token_index is None][:1] + [c for c in cases if c.plan["ff"] == "relu"][:1]:
        args = ["--config", os.path.join(case.folder, "config.json"), "--tokenizer", small]
        check_init(out, programs, f"config-of-{case.name}", args, folder, case.images[0], question)
    for case in cases:
        out.prefix = f"folders/{case.name} "
        check_convert(out, programs, case, folder)
