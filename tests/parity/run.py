#!/usr/bin/env python3
"""Compares the programs in --bin with transformers, PEFT and Pillow on models made up for this run."""
import argparse
import os
import platform
import shutil
import sys
import tempfile
import time
import traceback
import warnings

os.environ.update(OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", TOKENIZERS_PARALLELISM="false", TRANSFORMERS_NO_ADVISORY_WARNINGS="1")
warnings.filterwarnings("ignore")
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import numpy  # noqa: E402
import peft  # noqa: E402
import PIL  # noqa: E402
import safetensors  # noqa: E402
import sentencepiece  # noqa: E402
import tokenizers  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402

import cases  # noqa: E402
import check_adapters  # noqa: E402
import check_folders  # noqa: E402
import check_forward  # noqa: E402
import check_images  # noqa: E402
import check_tokens  # noqa: E402
import check_train  # noqa: E402
import corpus  # noqa: E402
import models  # noqa: E402
from programs import Programs  # noqa: E402
from results import Results  # noqa: E402

AREAS = ("tokens", "images", "folders", "forward", "adapters", "train")
PIECES = 900


def options():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--bin", help="folder of the programs (none: only the reference side checks itself)")
    p.add_argument("--seed", type=int, help="of everything random (default: a new one each run)")
    p.add_argument("--cases", type=int, default=len(cases.PLANS), help="random models")
    p.add_argument("--only", choices=AREAS, action="append", help="areas to run; repeats")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--keep", metavar="DIR", help="leave the models and outputs there")
    return p.parse_args()


def versions(programs):
    named = ((torch, "torch"), (transformers, "transformers"), (peft, "peft"), (tokenizers, "tokenizers"), (sentencepiece, "sentencepiece"), (PIL, "pillow"),
             (safetensors, "safetensors"), (numpy, "numpy"))
    print("python " + platform.python_version() + "".join(f", {n} {m.__version__}" for m, n in named) + f", {programs.version() if programs else 'no programs'}")


def guarded(out, area, call):
    """A crash is a failure of its area, not the end of the run."""
    begin = time.time()
    out.prefix = area + "/"
    try:
        call()
    except Exception:
        out.check("stopped", False, traceback.format_exc().strip())
    print(f"       {area}: {time.time() - begin:.0f} s")


def run_all(args, out, programs, work):
    r = numpy.random.default_rng(args.seed)
    lines = corpus.license_lines()
    words = corpus.words_of(lines)
    spiece = os.path.join(work, "spiece.model")
    models.train_tokenizer(spiece, lines + models.SENTENCES, PIECES)
    pieces = sentencepiece.SentencePieceProcessor(model_file=spiece).get_piece_size()
    images = cases.make_images(r, os.path.join(work, "photos"))
    drawn = []
    wanted = args.only or AREAS
    if {"folders", "forward", "adapters", "train"} & set(wanted):
        drawn = [cases.make_case(i, args.seed, work, spiece, pieces, images) for i in range(args.cases)]
    for c in drawn:
        print(f"{c.name}: {cases.describe(c)}")
    calls = {"tokens": lambda: check_tokens.run(out, programs, work, r, spiece, cases.EXTRA_IDS, words),
             "images": lambda: check_images.run(out, programs, work, r, spiece, cases.EXTRA_IDS, pieces),
             "folders": lambda: check_folders.run(out, programs, drawn, work, r, spiece, words),
             "forward": lambda: check_forward.run(out, programs, drawn, work, r, words),
             "adapters": lambda: check_adapters.run(out, programs, drawn, work, r, words),
             "train": lambda: check_train.run(out, programs, drawn, work, r, words)}
    for area in wanted:
        guarded(out, area, calls[area])


def main():
    args = options()
    if args.seed is None:
        args.seed = int.from_bytes(os.urandom(3), "little")
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    programs = Programs(args.bin, args.threads) if args.bin else None
    if programs and not programs.exists("vqa"):
        sys.exit(f"{args.bin}/vqa: not there; `make` builds it")
    versions(programs)
    print(f"seed {args.seed}")
    work = args.keep or tempfile.mkdtemp(prefix="blip2-parity-")
    os.makedirs(work, exist_ok=True)
    out = Results()
    try:
        run_all(args, out, programs, work)
    finally:
        if not args.keep:
            shutil.rmtree(work, ignore_errors=True)
    print(f"repeat with: --seed {args.seed}")
    print(f"{out.passed} passed, {out.failed} failed, {out.skipped} skipped")
    sys.exit(out.failed != 0)


if __name__ == "__main__":
    main()
