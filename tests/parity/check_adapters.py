"""Adapters PEFT writes, read, described and merged by our programs."""
import copy
import os

import torch

import models
import reference
from check_forward import MAX_NEW, equal_tokens, single

LIMIT = 1e-4
# name → targets, rank, alpha, options of reference.add_lora
KINDS = {
    "q and v": (["q", "v"], 4, 8, {}),
    "every linear of T5": (["q", "k", "v", "o", "wi", "wi_0", "wi_1", "wo"], 3, 5, dict(b_scale=0.15)),
    "image side too": (["q", "v", "qkv", "query", "value"], 2, 7, dict(b_scale=0.1)),
    "rank-stabilised": (["q", "v"], 5, 8, dict(rslora=True, b_scale=0.1)),
    "patterns": (["q", "k", "v"], 4, 8, dict(rank_pattern={r"decoder.block.0.layer.0.SelfAttention.q": 2, "k": 6}, alpha_pattern={r"EncDecAttention.v": 3})),
    "one regular expression": (r".*decoder.*\.(q|wo)", 4, 8, {}),
}


def present(case, targets):
    """The targets that this model has (no gate, no wi_0)."""
    if isinstance(targets, str):
        return targets
    ends = {n.rsplit(".", 1)[-1] for n, _ in case.model.named_modules()}
    return [t for t in targets if t in ends]


def modules(model):
    return sum(1 for n in reference.lora_tensors(model) if "lora_A" in n)


def check_one(out, programs, case, work, kind, pixels, question):
    targets, rank, alpha, options = KINDS[kind]
    model = reference.add_lora(copy.deepcopy(case.model), present(case, targets), rank, alpha, case.seed + 1, **options)
    folder = os.path.join(work, kind.replace(" ", "-"))
    models.save_adapter(model, folder)
    batch = single(case, pixels[:1], question)
    ids, steps, sums = reference.greedy(model, batch, MAX_NEW)
    with torch.no_grad():
        stages, base = reference.forward(model, batch)[1], reference.forward(case.model, batch)[1]
    moved = float((stages["encoder"] - base["encoder"]).abs().max() / base["encoder"].abs().max() +
                  (stages["logits"] - base["logits"]).abs().max() / base["logits"].abs().max())
    out.check("the adapter matters", moved > 1e-3, f"moves encoder and logits by {moved:.3f}")
    if programs is None:
        return
    info = programs.adapter_info(case.folder, folder)["adapter"]
    out.equal("modules", (info["modules"], info["modules_matched"]), (modules(model), modules(model)))
    out.equal("parameters", info["parameters"], sum(t.numel() for t in reference.lora_tensors(model).values()))
    trace, merged = os.path.join(work, "trace.safetensors"), folder + "-merged"
    args = ("--dtype", "f32", "--max-new-tokens", MAX_NEW)
    programs.adapter_merge(case.folder, folder, merged)
    for name, place, adapter in (("adapter", case.folder, folder), ("merged", merged, None)):
        answer, got = programs.trace(place, case.images[0], question, trace, *args, adapter=adapter)
        if not equal_tokens(out, f"{name}: tokens", answer["tokens"], ids[0], steps[0]):
            continue
        for stage in ("vit", "qformer", "projection", "encoder"):
            out.close(f"{name}: {stage}", got[stage], stages[stage], LIMIT)
        out.close(f"{name}: logits", got["logits"], steps[0], LIMIT)
    check_merged(out, model, merged)


def check_merged(out, model, folder):
    """The merged folder holds what PEFT's merge_and_unload makes, and transformers reads it."""
    from transformers import Blip2ForConditionalGeneration
    plain = model.merge_and_unload()
    want, got = models.checkpoint(plain), models.load_weights(folder)
    wrong = [n for n in want if n not in got or not torch.allclose(got[n].float(), want[n], rtol=1e-6, atol=2e-6)]
    out.equal("merged: tensors that differ from PEFT's", wrong, [])
    again = Blip2ForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    out.equal("merged: transformers reads it", sorted(models.checkpoint(again)), sorted(want))


def run(out, programs, cases, work, r, words):
    chosen = [c for c in cases if c.plan["file"] == "f32"]
    for n, kind in enumerate(KINDS):
        case = chosen[n % len(chosen)]
        out.prefix = f"adapters/{case.name} {kind}: "
        folder = os.path.join(work, f"adapters-{n}")
        os.makedirs(folder, exist_ok=True)
        question = " ".join(words[int(i)] for i in r.integers(0, len(words), 7))
        check_one(out, programs, case, folder, kind, case.pixels(case.images), question)
