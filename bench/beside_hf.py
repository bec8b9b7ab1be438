#!/usr/bin/env python3
"""The library's programs beside transformers + PEFT on the same rows, the two taking turns on one machine: LoRA training with and
without cached image features, answers, peak memory. Prints a table of medians and ratios, and one JSON line.

    make -j2 all && build/parity/bin/python bench/beside_hf.py --bin build/bin --model examples/fashion-tiny \\
        --images build/quickstart/data/images --csv build/quickstart/data/vqa_train.csv

(`make parity` sets up that Python; `make quickstart` the photos.) PEFT has no cache of image features; the script gives it one. Ours runs as whole processes: answers include start, the reading of
weights and the decoding of photos, and so does the peak. Theirs are timed inside the process, imports and loading excluded."""
import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
THEIRS = os.path.join(HERE, "..", "tests", "parity", "bench_hf.py")


def options():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--bin", required=True, help="folder of the library's programs")
    p.add_argument("--model", required=True)
    p.add_argument("--images", required=True)
    p.add_argument("--csv", required=True)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--batch", type=int, default=64)
    p.add_argument("--steps", type=int, default=20)
    p.add_argument("--photos", type=int, default=64)
    p.add_argument("--dtype", default="f32")
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--device", default="cpu", help="cpu or cuda:N, for both")
    p.add_argument("--json", help="a file that gets the JSON line too, at its end")
    return p.parse_args()


def run(command):
    """→ standard output, seconds, peak resident MB of the process."""
    begin = time.perf_counter()
    p = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    out = p.stdout.read()
    _, status, usage = os.wait4(p.pid, 0)
    if status:
        sys.exit(f"{command[0]} failed: status {status}")
    return out, time.perf_counter() - begin, usage.ru_maxrss / 1024


def ours_train(args, cache):
    """Samples a second of the steps after the first, peak MB; the photos' share included when nothing is cached."""
    with tempfile.TemporaryDirectory() as out:
        _, _, peak = run([os.path.join(args.bin, "train_fashion"), "--model", args.model, "--images", args.images, "--train", args.csv, "--output", out,
                          "--batch-size", str(args.batch), "--max-steps", str(args.steps + 2), "--limit", str(args.batch * 4), "--epochs", "1000",
                          "--log-every", "1", "--sample-every", "0", "--resume", "no", "--dtype", args.dtype, "--threads", str(args.threads),
                          "--lora-rank", "8", "--device", args.device, "--feature-cache", "on" if cache else "off"])
        with open(os.path.join(out, "metrics.jsonl"), encoding="utf-8") as f:
            steps = [json.loads(line) for line in f]
    rates = [s["samples_per_s"] for s in steps if s.get("samples_per_s")][2:]
    return len(rates) / sum(1 / r for r in rates), peak


def photo(args, name):
    """The file of a row's id."""
    stem = os.path.join(args.images, name)
    return next((stem + e for e in (".jpg", ".jpeg", ".png", ".webp") if os.path.exists(stem + e)), stem + ".jpg")


def ours_answers(args):
    """Answers a second of a whole `vqa` process, peak MB."""
    with open(args.csv, newline="", encoding="utf-8") as f:
        rows = list(csv.DictReader(f))
    photos = list(dict.fromkeys(r["id"] for r in rows))[: args.photos]
    questions = list(dict.fromkeys(r["Question"] for r in rows))[:3]
    out, seconds, peak = run([os.path.join(args.bin, "vqa"), "--model", args.model, "--json", "--max-new-tokens", "16", "--batch-size", str(args.batch),
                              "--dtype", args.dtype, "--threads", str(args.threads), "--device", args.device, "--image", *(photo(args, p) for p in photos),
                              "--question", *questions])
    return len(out.splitlines()) / seconds, peak


def theirs(args, only):
    out, _, peak = run([sys.executable, "-W", "ignore", THEIRS, "--model", args.model, "--images", args.images, "--csv", args.csv, "--threads",
                        str(args.threads), "--batch", str(args.batch), "--steps", str(args.steps), "--photos", str(args.photos), "--dtype", args.dtype,
                        "--device", args.device, "--only", only])
    return json.loads(out.splitlines()[-1]), peak


def one_round(args):
    """→ {what: (ours, theirs)}."""
    train, train_peak = theirs(args, "train")
    lora, lora_peak = ours_train(args, False)
    cached, cached_peak = ours_train(args, True)
    answers, answers_peak = theirs(args, "answers")
    told, told_peak = ours_answers(args)
    return {"LoRA, samples/s": (lora, train["lora_samples_per_s"]),
            "LoRA with cached features, samples/s": (cached, train["lora_cached_samples_per_s"]),
            "the same, theirs without a cache": (cached, train["lora_samples_per_s"]),
            "answers/s, from photo files": (told, answers["answers_per_s_from_files"]),
            "peak MB, training": (max(lora_peak, cached_peak), train_peak),
            "peak MB, answers": (told_peak, answers_peak)}, {k: train[k] for k in ("transformers", "peft", "torch", "device")}


def cpu():
    with open("/proc/cpuinfo", encoding="utf-8") as f:
        return next((line.split(":", 1)[1].strip() for line in f if line.startswith("model name")), "unknown")


def main():
    args = options()
    rounds, versions = [], {}
    for _ in range(args.rounds):
        figures, versions = one_round(args)
        rounds.append(figures)
    print(f"{cpu()}, {args.threads} threads, {args.dtype}, batch {args.batch}, median of {args.rounds} rounds; " +
          ", ".join(f"{k} {v}" for k, v in versions.items()))
    print(f"| {'what':38} | {'libblip2':>9} | {'theirs':>9} | ratio |\n|{'-' * 40}|{'-' * 11}|{'-' * 11}|-------|")
    record = {}
    for what in rounds[0]:
        ours, other = (statistics.median(r[what][i] for r in rounds) for i in (0, 1))
        ratio = other / ours if what.startswith("peak") else ours / other
        record[what] = {"ours": round(ours, 1), "theirs": round(other, 1), "ratio": round(ratio, 2)}
        print(f"| {what:38} | {ours:9.1f} | {other:9.1f} | {ratio:5.2f} |")
    line = json.dumps({"bench": "beside_hf", "cpu": cpu(), "threads": args.threads, "model": os.path.basename(os.path.normpath(args.model)), "dtype": args.dtype,
                       "batch": args.batch, **versions, "figures": record})
    print(line)
    if args.json:
        with open(args.json, "a", encoding="utf-8") as f:
            f.write(line + "\n")


if __name__ == "__main__":
    main()
