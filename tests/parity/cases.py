"""Random models: every run other sizes, and among them each variant of a folder that users may bring."""
import os
import shutil
from dataclasses import dataclass, field

import numpy as np
import torch
from PIL import Image

import models

EXTRA_IDS = 20
ALIASES = models.EMBED_ALIASES
# What is fixed for the n-th case, so that each run has all of it; everything else is drawn.
PLANS = [
    dict(era="old", ff="gated-gelu", act="gelu", tied=False, head=88, file="f32"),
    dict(era="new", ff="gated-gelu", act=None, tied=True, head=64, file="f32", shards=3),
    dict(era="old", ff="gated-gelu", act="gelu", tied=False, file="bf16", alias=ALIASES[2], links=True),
    dict(era="new", ff="relu", act=None, tied=False, head=8, file="f16", tokenizer="json"),
    dict(era="new", ff="gated-gelu", act="gelu_new", tied=True, file="f32", alias=ALIASES[1], extra=True, buckets=True),
    dict(era="old", ff="gated-silu", act=None, tied=False, head=88, file="f32", qkv_bias=False, shards=2, tokenizer="json"),
]
DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}


@dataclass
class Case:
    name: str
    model: object
    folder: str
    tokenizer: object
    config: object
    seed: int
    plan: dict
    images: list = field(default_factory=list)

    def pixels(self, paths):
        p = models.image_processor(self.config.vision_config.image_size)
        return p(images=[Image.open(f).convert("RGB") for f in paths], return_tensors="pt")["pixel_values"]

    def prompt_ids(self, question, template="Question: {} Answer: "):
        return [1] if question is None else self.tokenizer(template.replace("{}", question))["input_ids"]

    def answer_ids(self, answer):
        return self.tokenizer(answer)["input_ids"]


def odd(r, lo, hi):
    return int(r.integers(lo, hi)) | 1


def draw_config(r, plan, tokens):
    """A Blip2Config; `tokens` is the number of ids the tokenizer knows."""
    head, heads = plan.get("head") or int(r.integers(8, 88)), int(r.integers(1, 3))
    patch = int(r.integers(5, 10))
    vision = dict(hidden_size=head * heads, num_attention_heads=heads, intermediate_size=odd(r, 20, 90), patch_size=patch,
                  num_hidden_layers=int(r.integers(1, 4)), image_size=patch * int(r.integers(2, 5)) + int(r.integers(0, patch)),
                  layer_norm_eps=float(r.choice([1e-6, 1e-5])), qkv_bias=plan.get("qkv_bias", True))
    qheads = int(r.integers(1, 5))
    qformer = dict(hidden_size=qheads * int(r.integers(8, 30)), num_attention_heads=qheads, intermediate_size=odd(r, 20, 80),
                   num_hidden_layers=int(r.integers(2, 5)), cross_attention_frequency=int(r.integers(1, 4)))
    encoder = int(r.integers(1, 4))
    text = dict(d_model=odd(r, 20, 70), d_kv=int(r.integers(8, 65)), num_heads=int(r.integers(1, 6)), d_ff=odd(r, 20, 90),
                num_layers=encoder, num_decoder_layers=int(r.choice([n for n in (1, 2, 3, 4) if n != encoder])),
                vocab_size=tokens + 1 + int(r.integers(0, 12)), feed_forward_proj=plan["ff"], tie_word_embeddings=plan["tied"])
    if plan["act"]:
        text["dense_act_fn"] = plan["act"]
    if plan.get("buckets"):
        text.update(relative_attention_num_buckets=2 * int(r.integers(4, 20)), relative_attention_max_distance=int(r.integers(24, 200)))
    image_token = tokens if plan["era"] == "new" else None
    return models.config(vision, qformer, text, int(r.integers(2, 9)), image_token)


def extra_tensors(cfg):
    """What files may hold besides: it means nothing."""
    t = cfg.text_config
    return {"qformer.embeddings.position_ids": torch.arange(5)[None],
            "language_model.decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight":
                torch.ones(t.relative_attention_num_buckets, t.num_heads)}


def link_folder(folder):
    """As huggingface_hub's cache: names are links into ../blobs."""
    blobs = folder + "-blobs"
    shutil.rmtree(blobs, ignore_errors=True)
    os.makedirs(blobs)
    for i, name in enumerate(sorted(os.listdir(folder))):
        os.rename(os.path.join(folder, name), os.path.join(blobs, f"{i:040x}"))
        os.symlink(os.path.join("..", os.path.basename(blobs), f"{i:040x}"), os.path.join(folder, name))


def make_case(index, seed, work, spiece, pieces, images):
    r = np.random.default_rng([seed, index])
    plan = PLANS[index % len(PLANS)]
    cfg = draw_config(r, plan, pieces + EXTRA_IDS)
    model = models.build(cfg, seed + index, spread=1.5)
    folder = os.path.join(work, f"case{index}")
    drop = ("dense_act_fn", "is_gated_act") if plan["act"] is None else ()
    if plan["tied"]:
        drop += ("tie_word_embeddings",)
    tok = models.save(model, folder, spiece, EXTRA_IDS, plan["era"], alias=plan.get("alias", ALIASES[0]), shards=plan.get("shards", 1),
                      dtype=DTYPES[plan["file"]], tokenizer=plan.get("tokenizer", "slow"), drop=drop,
                      extra=extra_tensors(cfg) if plan.get("extra") else None)
    if plan["file"] != "f32":  # what the file holds, in fp32
        model = model.to(DTYPES[plan["file"]]).float()
    if plan.get("links"):
        link_folder(folder)
    return Case(f"case{index}", model, folder, tok, cfg, seed + index, plan, images)


def describe(case):
    v, q, t = case.config.vision_config, case.config.qformer_config, case.config.text_config
    return (f"{case.plan}; vit {v.num_hidden_layers}x{v.hidden_size}/{v.num_attention_heads} image {v.image_size}/{v.patch_size}, "
            f"q-former {q.num_hidden_layers}x{q.hidden_size}/{q.num_attention_heads} every {q.cross_attention_frequency}, "
            f"t5 {t.num_layers}+{t.num_decoder_layers}x{t.d_model}/{t.num_heads}x{t.d_kv} ff {t.d_ff} vocabulary {t.vocab_size}, "
            f"{case.config.num_query_tokens} queries, {sum(p.numel() for p in case.model.parameters())} parameters")


def make_images(r, folder, count=3):
    """PNG photos of random sizes: gradients, stripes and noise."""
    os.makedirs(folder, exist_ok=True)
    paths = []
    for i in range(count):
        w, h = int(r.integers(20, 90)), int(r.integers(20, 90))
        y, x = np.mgrid[0:h, 0:w]
        p = np.stack([255 * x / w, 255 * y / h, 255 * ((x // 7 + y // 5 + i) % 2)], -1)[:, :, r.permutation(3)]
        p = np.clip((255 - p if i % 2 else p) + r.normal(0, 40, p.shape), 0, 255).astype(np.uint8)
        paths.append(os.path.join(folder, f"p{i}.png"))
        Image.fromarray(p).save(paths[-1])
    return paths
