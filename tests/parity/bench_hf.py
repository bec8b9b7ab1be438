#!/usr/bin/env python3
"""Times transformers and PEFT on a model folder: LoRA training, with and without cached image features, and answers.
Prints one JSON object. Photos are decoded and resized before the clock starts, except where a figure says "from_files"."""
import argparse
import csv
import json
import os
import resource
import sys
import time
import warnings

os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", TOKENIZERS_PARALLELISM="false", TRANSFORMERS_NO_ADVISORY_WARNINGS="1")
warnings.filterwarnings("ignore")

import peft  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402
from PIL import Image  # noqa: E402

PROMPT = "Question: {} Answer: "
DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}


def options():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--model", required=True, help="model folder in Hugging Face layout")
    p.add_argument("--images", required=True, help="folder of the photos")
    p.add_argument("--csv", required=True, help="id,Question,Answer")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--batch", type=int, default=64)
    p.add_argument("--steps", type=int, default=8, help="training steps that are timed")
    p.add_argument("--photos", type=int, default=64, help="photos that are asked")
    p.add_argument("--questions", type=int, default=3, help="questions a photo")
    p.add_argument("--max-new-tokens", type=int, default=16)
    p.add_argument("--dtype", choices=DTYPES, default="f32")
    p.add_argument("--device", default="cpu", help="cpu or cuda:N")
    p.add_argument("--only", choices=("train", "answers"), help="one of the two, for its peak memory alone")
    return p.parse_args()


def read_rows(args, wanted):
    """The first rows → (path, question, answer)."""
    out = []
    with open(args.csv, newline="", encoding="utf-8") as f:
        for row in csv.DictReader(f):
            stem = os.path.join(args.images, row["id"])
            path = next((stem + e for e in (".jpg", ".jpeg", ".png", ".webp") if os.path.exists(stem + e)), None)
            if path is None:
                sys.exit(f"{stem}: no photo")
            out.append((path, row["Question"], row["Answer"]))
            if len(out) == wanted:
                break
    return out


def now(args):
    """The clock, when all that was asked of the device is done."""
    if args.device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter()


def load(args):
    """→ model in eval mode, tokenizer, image processor."""
    model = transformers.Blip2ForConditionalGeneration.from_pretrained(args.model, dtype=DTYPES[args.dtype]).to(args.device, DTYPES[args.dtype]).eval()
    slow = os.path.exists(os.path.join(args.model, "spiece.model"))
    kind = transformers.T5Tokenizer if slow else transformers.T5TokenizerFast
    size = model.config.vision_config.image_size
    return model, kind.from_pretrained(args.model), transformers.BlipImageProcessor(size={"height": size, "width": size})


def pixels_of(args, processor, paths):
    pixels = processor(images=[Image.open(p).convert("RGB") for p in paths], return_tensors="pt")["pixel_values"]
    return pixels.to(args.device, DTYPES[args.dtype])


def encode(model, pixels):
    """Projected image tokens: a tensor in transformers 4, with other outputs around it in 5."""
    out = model.get_image_features(pixels)
    return out if torch.is_tensor(out) else getattr(out, "pooler_output", None) if getattr(out, "pooler_output", None) is not None else out[0]


def texts(args, tok, rows):
    """→ prompt ids, their mask, labels."""
    prompt = tok([PROMPT.format(q) for _, q, _ in rows], padding=True, return_tensors="pt")
    answer = tok([a for _, _, a in rows], padding=True, return_tensors="pt")
    labels = answer["input_ids"].masked_fill(answer["attention_mask"] == 0, -100)
    return tuple(x.to(args.device) for x in (prompt["input_ids"], prompt["attention_mask"], labels))


def prefix(model, tokens, ids, mask):
    """Image tokens in front of the prompt's embeddings, and the mask over both."""
    ones = torch.ones(tokens.shape[:2], dtype=mask.dtype, device=mask.device)
    return torch.cat([tokens, model.get_input_embeddings()(ids).to(tokens.dtype)], 1), torch.cat([ones, mask], 1)


def train(args, model, tok, processor, cached):
    """LoRA on q and v, rank 8, dropout 0.05 → samples a second, seconds the features took, loss of the last step."""
    rows = read_rows(args, args.batch * 4)
    paths = sorted({p for p, _, _ in rows})
    where = {p: i for i, p in enumerate(paths)}
    pixels = pixels_of(args, processor, paths)
    lora = peft.LoraConfig(r=8, lora_alpha=32, lora_dropout=0.05, target_modules=["q", "v"], bias="none")
    wrapped = peft.get_peft_model(model, lora)
    model.language_model.train()
    optimizer = torch.optim.AdamW([p for p in wrapped.parameters() if p.requires_grad], lr=5e-4)
    begin = now(args)
    with torch.no_grad():
        features = torch.cat([encode(model, pixels[i : i + args.batch]) for i in range(0, len(pixels), args.batch)]) if cached else None
    feature_seconds = now(args) - begin
    for step in range(-2, args.steps):
        if step == 0:
            begin = now(args)
        at = (step + 2) * args.batch % len(rows)
        part = [rows[(at + i) % len(rows)] for i in range(args.batch)]
        ids, mask, labels = texts(args, tok, part)
        index = torch.tensor([where[p] for p, _, _ in part], device=args.device)
        with torch.no_grad():
            tokens = features[index] if cached else encode(model, pixels[index])
        inputs, full = prefix(model, tokens, ids, mask)
        loss = model.language_model(inputs_embeds=inputs, attention_mask=full, labels=labels, use_cache=False).loss
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_([p for p in wrapped.parameters() if p.requires_grad], 1.0)
        optimizer.step()
    seconds = now(args) - begin
    plain = wrapped.unload()
    plain.eval()
    return args.steps * args.batch / seconds, feature_seconds, loss.item()


def questions_of(args, tok):
    """photos, and args.questions questions for each → paths, ids and mask of every (photo, question)."""
    rows = read_rows(args, 1 << 30)
    paths, asked = list(dict.fromkeys(p for p, _, _ in rows))[: args.photos], list(dict.fromkeys(q for _, q, _ in rows))[: args.questions]
    prompt = tok([PROMPT.format(q) for _ in paths for q in asked], padding=True, return_tensors="pt")
    return paths, len(asked), prompt["input_ids"].to(args.device), prompt["attention_mask"].to(args.device)


@torch.no_grad()
def generate(args, model, tokens, ids, mask):
    inputs, full = prefix(model, tokens, ids, mask)
    t = model.config.text_config
    # transformers sizes its cache by the encoder's layers: with more of them in the decoder it cannot be used.
    return model.language_model.generate(inputs_embeds=inputs, attention_mask=full, max_new_tokens=args.max_new_tokens, do_sample=False, num_beams=1,
                                         use_cache=t.num_decoder_layers <= t.num_layers)


@torch.no_grad()
def answers(args, model, tok, processor):
    """Answers a second: each photo encoded once; once a question, as a processor's batch does it; and with files read."""
    paths, per_photo, ids, mask = questions_of(args, tok)
    pixels = pixels_of(args, processor, paths)
    photos = max(1, args.batch // per_photo)  # about args.batch rows at once

    def ask(source, once):
        done = 0
        begin = now(args)
        for i in range(0, len(paths), photos):
            p, rows = source(i), slice(i * per_photo, (i + photos) * per_photo)
            if once:
                tokens = encode(model, p).repeat_interleave(per_photo, 0)
            else:
                tokens = encode(model, p.repeat_interleave(per_photo, 0))
            out = generate(args, model, tokens, ids[rows], mask[rows])
            known = out.masked_fill(out >= len(tok), 0)  # rows of the vocabulary without a token
            done += len(tok.batch_decode(known, skip_special_tokens=True))
        return done / (now(args) - begin)

    memory = lambda i: pixels[i : i + photos]
    ask(lambda i: memory(i)[:1].expand_as(memory(i)), True)
    begin = now(args)
    for i in range(8):
        generate(args, model, encode(model, memory(0)[:1]), ids[:1], mask[:1])
    single = (now(args) - begin) / 8 * 1000
    return {"answers_per_s": ask(memory, True), "answers_per_s_encoding_each_question": ask(memory, False),
            "answers_per_s_from_files": ask(lambda i: pixels_of(args, processor, paths[i : i + photos]), True), "one_answer_ms": single}


def main():
    args = options()
    torch.set_num_threads(args.threads)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.manual_seed(1)
    model, tok, processor = load(args)
    out = {"transformers": transformers.__version__, "peft": peft.__version__, "torch": torch.__version__, "model": args.model, "dtype": args.dtype,
           "threads": args.threads, "batch": args.batch, "parameters": sum(p.numel() for p in model.parameters())}
    if args.only != "answers":
        out["lora_samples_per_s"], _, out["lora_loss"] = train(args, model, tok, processor, False)
        out["lora_cached_samples_per_s"], out["features_s"], _ = train(args, model, tok, processor, True)
    if args.only != "train":
        out.update(answers(args, model, tok, processor))
    out["device"] = torch.cuda.get_device_name(args.device) if args.device != "cpu" else "cpu"
    out["peak_device_mb"] = torch.cuda.max_memory_reserved() / 2**20 if args.device != "cpu" else 0
    out["peak_rss_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({k: round(v, 3) if isinstance(v, float) else v for k, v in out.items()}))


if __name__ == "__main__":
    main()
