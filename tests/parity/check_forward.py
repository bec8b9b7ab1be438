"""Activations, logits, greedy tokens and log-probabilities of random models against transformers."""
import os

import torch

import reference
from results import relative

MAX_NEW = 10
LIMIT = 1e-4
TIE = 1e-4  # greedy tokens say nothing where the two best logits are closer than this


def questions(r, words):
    """A short one, a longer one and one of at least 140 tokens (words are whole pieces or more)."""
    pick = lambda n: " ".join(words[int(i)] for i in r.integers(0, len(words), n))
    return [pick(2) + "?", pick(11) + ".", pick(150)]


def single(case, image_pixels, question, template="Question: {} Answer: "):
    return reference.Batch(image_pixels, [0], [case.prompt_ids(question, template)], [[1]])


def compare_trace(out, case, got, batch, ids, steps):
    with torch.no_grad():
        stages = reference.forward(case.model, batch)[1]
    for name in ("vit", "qformer", "projection", "encoder"):
        out.close(name, got[name], stages[name], LIMIT)
    n = min(len(steps[0]), len(got["logits"]))
    out.close("logits", got["logits"][:n], steps[0][:n], LIMIT)


def equal_tokens(out, name, got, want, steps):
    """Tokens must agree unless the first difference stands where two logits tie."""
    first = next((i for i, (a, b) in enumerate(zip(got, want)) if a != b), min(len(got), len(want)))
    if got != want and first < len(steps) and reference.margin([steps[first : first + 1]]) < TIE:
        out.skip(name, "two logits tie")
        return False
    return out.equal(name, got, want)


def check_traces(out, programs, case, work, asked, pixels):
    for n, question in enumerate([*asked, None]):
        prefix, label = out.prefix, "caption" if question is None else f"{len(case.prompt_ids(question))} tokens"
        out.prefix = f"{prefix}{label} "
        i = n % len(case.images)
        answer, got = programs.trace(case.folder, case.images[i], question, os.path.join(work, "trace.safetensors"), "--dtype", "f32",
                                     "--max-new-tokens", MAX_NEW)
        batch = single(case, pixels[i : i + 1], question)
        ids, steps, sums = reference.greedy(case.model, batch, MAX_NEW)
        out.close("pixel_values", got["pixel_values"], pixels[i : i + 1], 1e-6)
        if equal_tokens(out, "tokens", answer["tokens"], ids[0], steps[0]):
            out.check("log-probability", abs(answer["logprob"] - sums[0]) <= 1e-4 * max(1, abs(sums[0])), f"{answer['logprob']:.6f}, {sums[0]:.6f}")
            compare_trace(out, case, got, batch, ids, steps)
        out.prefix = prefix


def check_batch(out, programs, case, asked, pixels):
    """Every image meets every question in one call; and a shortest answer."""
    for least in (0, 4):
        lines = programs.vqa(case.folder, case.images, asked, "--dtype", "f32", "--max-new-tokens", MAX_NEW, "--min-new-tokens", least)
        out.equal(f"lines of a batch (at least {least} tokens)", len(lines), len(case.images) * len(asked))
        worst, wrong, ties = 0.0, [], 0
        for k, line in enumerate(lines):
            i, q = divmod(k, len(asked))
            ids, steps, sums = reference.greedy(case.model, single(case, pixels[i : i + 1], asked[q]), MAX_NEW, least)
            if line["tokens"] != ids[0]:
                tie = reference.margin(steps) < TIE
                ties += tie
                wrong += [] if tie else [(i, q, line["tokens"], ids[0])]
            elif least == 0:
                worst = max(worst, abs(line["logprob"] - sums[0]) / max(1, abs(sums[0])))
        out.check(f"tokens of a batch (at least {least} tokens)", not wrong, f"{len(lines)} rows, {ties} ties" + (f", wrong {wrong[:3]}" if wrong else ""))
        if least == 0:
            out.check("log-probabilities of a batch", worst <= 1e-4, f"error {worst:.2e} (limit 1e-4)")
        known = len(case.tokenizer)  # ids behind it stand for nothing
        # Blanks at the ends go, as T5Tokenizer has it; T5TokenizerFast (folders with tokenizer.json only) leaves one for a last "▁".
        texts = [case.tokenizer.decode([t for t in line["tokens"] if t < known], skip_special_tokens=True).strip() for line in lines]
        out.equal(f"texts of a batch (at least {least} tokens)", [line["answer"] for line in lines], texts)


def check_bf16(out, programs, case, work, question, pixels):
    """bf16 mode is what docs/numerics.md says (the file's own dtype is the default) → names of the image side's stages that agree to
    rounding. Where f32 sums in another order tip one rounding over, all that follows differs by steps of bf16: such a stage is held
    to twice the mode's own distance from fp32."""
    args = () if case.plan["file"] == "bf16" else ("--dtype", "bf16")
    mode_model, same = reference.bf16_mode(case.model), []
    for i, image in enumerate(case.images[:3]):
        _, got = programs.trace(case.folder, image, question, os.path.join(work, "trace.safetensors"), *args, "--max-new-tokens", 1)
        batch = single(case, pixels[i : i + 1], question)
        with torch.no_grad():
            exact, mode = (reference.forward(m, batch)[1] for m in (case.model, mode_model))
        mode["encoder"] = reference.narrow(mode["encoder"])  # traced as the decoder takes it
        for name in ("vit", "qformer", "projection", "encoder"):
            error, limit = relative(got[name], mode[name])[0], 2 * relative(mode[name], exact[name])[0]
            same += [name] if error <= 1e-5 else []
            out.check(f"bf16 {name} of image {i}", error <= limit, f"error {error:.2e} (limit {limit:.2e})")
    return same


def check_folder(out, case):
    """transformers reads the folder as the model it was made from: the case is a fair one."""
    from transformers import Blip2ForConditionalGeneration
    again = Blip2ForConditionalGeneration.from_pretrained(case.folder, dtype=torch.float32).eval()
    batch = single(case, torch.linspace(-1, 1, 3 * case.config.vision_config.image_size ** 2).reshape(1, 3, case.config.vision_config.image_size, -1), "x")
    with torch.no_grad():
        a, b = reference.forward(again, batch)[1]["logits"], reference.forward(case.model, batch)[1]["logits"]
        own = reference.own_forward(case.model, batch).logits
    out.check("transformers reads the folder", relative(a, b)[0] <= 1e-5, f"error {relative(a, b)[0]:.1e}")
    out.check("image placeholders equal concatenation", relative(own, b)[0] <= 1e-5, f"error {relative(own, b)[0]:.1e}")


def run(out, programs, cases, work, r, words):
    same = []
    for case in cases:
        out.prefix = f"forward/{case.name} "
        check_folder(out, case)
        if programs is None:
            continue
        asked, pixels = questions(r, words), case.pixels(case.images)
        out.check("a prompt of 140 tokens or more", len(case.prompt_ids(asked[2])) >= 140, f"{len(case.prompt_ids(asked[2]))}")
        check_traces(out, programs, case, work, asked, pixels)
        check_batch(out, programs, case, asked, pixels)
        same += check_bf16(out, programs, case, work, asked[0], pixels)
    out.prefix = "forward/"
    for name in ("vit", "qformer", "projection") if programs else ():
        out.check(f"bf16 rounds where it should up to {name}", name in same, f"agrees to 1e-5 {same.count(name)} times, once at least is needed")
