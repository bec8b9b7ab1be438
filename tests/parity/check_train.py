"""Ten losses of train_fashion against an equal loop with PEFT and torch.optim.AdamW, and what it leaves behind."""
import copy
import csv
import os

import torch
from transformers import Blip2ForConditionalGeneration

import models
import reference
from check_forward import MAX_NEW, equal_tokens, single
from results import relative

LIMIT = 1e-4
ROWS, BATCH, STEPS = 8, 4, 10
LORA_LR = 2e-3
RUN = ["--schedule", "constant", "--warmup", 0, "--shuffle", "off", "--augment", "none", "--dropout", 0, "--lora-dropout", 0,
       "--dtype", "f32", "--weight-decay", 0.01, "--clip", 1, "--beta1", 0.9, "--beta2", 0.999]


def write_rows(r, words, images, path, rows=ROWS):
    """id,Question,Answer → the rows written, images as indices."""
    pick = lambda n: " ".join(words[int(i)] for i in r.integers(0, len(words), n))
    out = [(int(r.integers(0, len(images))), pick(int(r.integers(1, 9))) + "?", pick(int(r.integers(1, 5)))) for _ in range(rows)]
    with open(path, "w", newline="") as f:
        w = csv.writer(f)
        w.writerow(["id", "Question", "Answer"])
        w.writerows((os.path.splitext(os.path.basename(images[i]))[0], q, a) for i, q, a in out)
    return out


def batches(case, rows, size, steps):
    pixels = case.pixels(case.images)
    all_rows = [rows[i : i + size] for i in range(0, len(rows), size)]
    made = [reference.Batch(pixels, [i for i, _, _ in b], [case.prompt_ids(q) for _, q, _ in b], [case.answer_ids(a) for _, _, a in b])
            for b in all_rows]
    return [made[i % len(made)] for i in range(steps)]


def compare_losses(out, name, metrics, losses, norms, noise):
    """`noise` is how far one bit in every weight moves the same run in torch: beyond a fifth of the limit the run says
    nothing about us."""
    got, want = [m["loss"] for m in metrics], losses
    if not out.equal(f"{name} steps", len(got), len(want)):
        return
    far = lambda a, b: max(abs(x - y) / abs(y) for x, y in zip(a, b))
    first = max(far(got[:1], want[:1]), far([metrics[0]["grad_norm"]], norms[:1]))
    out.check(f"{name} first loss and gradient norm", first <= LIMIT, f"error {first:.2e} (limit {LIMIT:g})")
    if noise[0] > LIMIT / 5:
        out.skip(f"{name} losses", f"one bit in the weights moves them by {noise[0]:.1e}")
        return
    out.check(f"{name} losses", far(got, want) <= LIMIT, f"error {far(got, want):.2e} (limit {LIMIT:g}, noise {noise[0]:.1e}); {want[0]:.4f} to {want[-1]:.4f}")
    error, limit = far([m["grad_norm"] for m in metrics], norms), max(10 * LIMIT, 5 * noise[1])
    out.check(f"{name} gradient norms", error <= limit, f"error {error:.2e} (limit {limit:.1e}, noise {noise[1]:.1e})")


def fresh(case):
    """A copy of the case's model: PEFT changes the one it is given."""
    return copy.deepcopy(case.model)


def steady(make, todo, lr):
    """Trains make() at `lr`, or at less when rounding would steer the run → the trained model, lr, losses, norms, noise."""
    for rate in (lr, lr / 4, lr / 16):
        model = make()
        losses, norms = reference.train(model, todo, rate)
        noise = reference.noise(make(), todo, rate, losses, norms)
        if noise[0] <= LIMIT / 5:
            break
    return model, rate, losses, norms, noise


def check_lora(out, programs, case, work, csv_path, rows):
    """From an adapter PEFT wrote, back to PEFT; with and without feature cache, recompute, and in micro-batches."""
    make = lambda: reference.add_lora(fresh(case), ["q", "v"], 4, 8, case.seed)
    start, photos = os.path.join(work, "start"), os.path.dirname(case.images[0])
    models.save_adapter(make(), start)
    model, lr, losses, norms, noise = steady(make, batches(case, rows, BATCH, STEPS), LORA_LR)
    common = [*RUN, "--lr", lr, "--max-steps", STEPS, "--init-adapter", start, "--trainable", "lora"]
    for name, args in (("lora", ["--batch-size", BATCH, "--feature-cache", "on"]), ("lora without cache", ["--batch-size", BATCH, "--feature-cache", "off"]),
                       ("lora recomputed", ["--batch-size", BATCH, "--feature-cache", "off", "--recompute"]),
                       ("lora accumulated", ["--batch-size", BATCH // 2, "--accumulate", 2, "--feature-cache", "on"])):
        output = os.path.join(work, name.replace(" ", "-"))
        compare_losses(out, name, programs.train(case.folder, photos, csv_path, output, *common, *args), losses, norms, noise)
    if noise[0] <= LIMIT / 5:
        ours = check_adapter_back(out, case, model, os.path.join(work, "lora"), batches(case, rows, BATCH, 1)[0])
        check_same_adapter(out, programs, case, work, os.path.join(work, "lora"), ours, rows[0])


def check_adapter_back(out, case, trained, folder, batch):
    """PEFT reads what train_fashion wrote: the same tensors and logits as its own run ended with."""
    from peft import PeftModel
    ours = PeftModel.from_pretrained(fresh(case), folder).eval()
    a, b = reference.lora_tensors(ours), reference.lora_tensors(trained)
    out.equal("PEFT finds the trained tensors", sorted(a), sorted(b))
    error = max(relative(a[k], b[k])[0] for k in b if k in a)
    out.check("trained tensors", error <= 1e-3, f"error {error:.2e} (limit 1e-3), {len(b)} tensors")
    with torch.no_grad():
        out.close("logits of the trained adapter in PEFT", reference.forward(ours, batch)[1]["logits"], reference.forward(trained, batch)[1]["logits"], 100 * LIMIT)
    return ours


def check_same_adapter(out, programs, case, work, folder, model, row):
    """vqa with the adapter train_fashion wrote, and PEFT with the same."""
    image, question, _ = row
    batch = single(case, case.pixels(case.images)[image : image + 1], question)
    ids, steps, _ = reference.greedy(model, batch, MAX_NEW)
    answer, got = programs.trace(case.folder, case.images[image], question, os.path.join(work, "trace.safetensors"), "--dtype", "f32",
                                 "--max-new-tokens", MAX_NEW, adapter=folder)
    if equal_tokens(out, "trained adapter: tokens", answer["tokens"], ids[0], steps[0]):
        out.close("trained adapter: logits of vqa and PEFT", got["logits"], steps[0], LIMIT)


def check_full(out, programs, case, work, csv_path, rows, what, wanted, lr):
    """Q-Former alone, or everything: losses, and the model folder that is left."""
    def make():
        m = fresh(case)
        for name, p in m.named_parameters():
            p.requires_grad_(wanted(name))
        return m

    model, lr, losses, norms, noise = steady(make, batches(case, rows, BATCH, STEPS), lr)
    output = os.path.join(work, what)
    metrics = programs.train(case.folder, os.path.dirname(case.images[0]), csv_path, output, *RUN, "--lr", lr, "--max-steps", STEPS, "--trainable", what,
                             "--batch-size", BATCH)
    compare_losses(out, what, metrics, losses, norms, noise)
    # Key biases have no gradient but rounding noise, which AdamW blows up to full steps.
    skip = lambda n: n.endswith(".key.bias") or n.endswith("self_attn.qkv.bias")
    got, want = models.load_weights(output), models.checkpoint(model)
    names = [n for n in want if not skip(n)]
    lost = [n for n in names if n not in got and "embed" not in n and "shared" not in n]
    out.equal(f"{what}: tensors missing from the folder", lost, [])
    moved = [(relative(got[n].float(), want[n])[0], n) for n in names if n in got]
    worst = max(moved) if moved else (1.0, "none")
    again = Blip2ForConditionalGeneration.from_pretrained(output, dtype=torch.float32)
    out.equal(f"{what}: transformers reads it", sorted(models.checkpoint(again)), sorted(want))
    if noise[0] <= LIMIT / 5:
        out.check(f"{what}: trained weights", worst[0] <= 1e-2, f"error {worst[0]:.2e} (limit 1e-2) in {worst[1]}")


def run_reference(out, case, work, csv_path, rows):
    """What the checks below lean on, without our programs: PEFT's loop learns, and its adapter survives its own folder."""
    model = reference.add_lora(fresh(case), ["q", "v"], 4, 8, case.seed)
    losses, _ = reference.train(model, batches(case, rows, BATCH, STEPS), LORA_LR)
    out.check("PEFT learns", losses[-1] < losses[0], f"{losses[0]:.4f} to {losses[-1]:.4f}")
    models.save_adapter(model, os.path.join(work, "own"))
    check_adapter_back(out, case, model, os.path.join(work, "own"), batches(case, rows, BATCH, 1)[0])


def run(out, programs, cases, work, r, words):
    chosen = [c for c in cases if c.plan["file"] == "f32"]
    for case in chosen:
        out.prefix = f"train/{case.name} "
        folder = os.path.join(work, "train-" + case.name)
        os.makedirs(folder, exist_ok=True)
        csv_path = os.path.join(folder, "rows.csv")
        rows = write_rows(r, words, case.images, csv_path)
        if programs is None:
            run_reference(out, case, folder, csv_path, rows)
            continue
        check_lora(out, programs, case, folder, csv_path, rows)
        side = ("qformer.", "query_tokens", "language_projection.")
        check_full(out, programs, case, folder, csv_path, rows, "qformer", lambda n: n.startswith(side), 3e-3)
        check_full(out, programs, case, folder, csv_path, rows, "all", lambda n: True, 1e-3)
