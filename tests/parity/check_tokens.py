"""Ids of 10,000 lines against T5Tokenizer and against tokenizer.json's fast tokenizer."""
import os
import subprocess
import unicodedata

import sentencepiece
from transformers import T5Tokenizer, T5TokenizerFast

import corpus
import models

HERE = os.path.dirname(os.path.abspath(__file__))
TIE = 1e-3


def build_helper(programs, work):
    """tokens.c against the library beside the programs."""
    exe, lib = os.path.join(work, "tokens"), programs.library()
    subprocess.run([os.environ.get("CC", "cc"), "-std=c11", "-D_GNU_SOURCE", "-O1", "-I", os.path.join(HERE, "..", "..", "include"),
                    os.path.join(HERE, "tokens.c"), lib, f"-Wl,-rpath,{os.path.dirname(lib)}", "-o", exe], check=True)
    return exe


def ours(exe, folder, texts):
    """→ ids and decoded text of each line."""
    p = subprocess.run([exe, folder], input="".join(t + "\n" for t in texts).encode(), capture_output=True, check=False)
    if p.returncode:
        raise RuntimeError(p.stderr.decode(errors="replace"))
    rows = [line.split(b"\t", 1) for line in p.stdout.split(b"\n")[:-1]]
    return [[int(x) for x in ids.split()] for ids, _ in rows], [text.decode(errors="replace") for _, text in rows]


class Scores:
    """Explains a difference between two segmentations of one text."""

    def __init__(self, spiece):
        self.sp = sentencepiece.SentencePieceProcessor(model_file=spiece)
        self.unk = min(self.sp.get_score(i) for i in range(3, self.sp.get_piece_size())) - 10

    def score(self, ids):
        return sum(self.unk if i == 2 else self.sp.get_score(i) for i in ids if i not in (0, 1) and i < self.sp.get_piece_size())

    def text(self, ids):
        return "".join("?" if i == 2 else self.sp.id_to_piece(i) for i in ids if i > 1 and i < self.sp.get_piece_size())

    def why(self, a, b):
        """'tie': equal scores of the same text; 'normalisation': the texts differ; 'score': neither."""
        if self.text(a) != self.text(b):
            return "normalisation"
        return "tie" if abs(self.score(a) - self.score(b)) < TIE else "score"


def differences(texts, a, b):
    return [i for i in range(len(texts)) if a[i] != b[i]]


def explain(scores, texts, a, b):
    kinds = {}
    for i in differences(texts, a, b):
        kinds.setdefault(scores.why(a[i], b[i]), []).append(i)
    return kinds


def report_slow(out, name, texts, got, want):
    bad = differences(texts, got, want)
    out.check(name, not bad, f"{len(texts)} lines, {len(bad)} differ" + "".join(f"\n    {texts[i]!r}: {got[i]}, expected {want[i]}" for i in bad[:10]))


def report_fast(out, scores, name, texts, got, want):
    """Against the Rust tokenizer: ties, and grapheme-wise normalisation of what is not ASCII, are known; they are listed."""
    kinds = explain(scores, texts, got, want)
    known = kinds.get("tie", []) + [i for i in kinds.get("normalisation", []) if not plain(texts[i])]
    unknown = [i for v in kinds.values() for i in v if i not in set(known)]
    shown = "".join(f"\n    known: {texts[i]!r}: {got[i]}, {want[i]}" for i in known[:8])
    shown += "".join(f"\n    unexplained: {texts[i]!r}: {got[i]}, {want[i]}" for i in unknown[:10])
    out.check(name, not unknown and len(known) <= len(texts) // 20, f"{len(texts)} lines, {len(known)} known differences "
              f"({', '.join(f'{k} {len(v)}' for k, v in kinds.items()) or 'none'}), {len(unknown)} unexplained" + shown)


def plain(text):
    return all(unicodedata.category(c) != "Cc" and ord(c) < 127 for c in text)


def report_decode(out, name, tok, texts, ids, decoded):
    want = [tok.decode(i, skip_special_tokens=True) for i in ids]
    bad = [i for i in range(len(texts)) if decoded[i] != want[i]]
    out.check(name, not bad, f"{len(texts)} lines, {len(bad)} differ" + "".join(f"\n    {ids[i]}: {decoded[i]!r}, expected {want[i]!r}" for i in bad[:8]))


def special_lines(tok):
    """Added tokens inside text: the slow tokenizer's own rules."""
    return ["a <extra_id_0> b", "<extra_id_3>", "x<extra_id_1>y", "end</s>", "</s> start", "<pad>", "a <unk> b", "<image>", "one <extra_id_0><extra_id_1> two  ", "a</s> b</s>"]


def run(out, programs, work, r, spiece, extra_ids, words):
    out.prefix = "tokens/"
    texts = corpus.lines(r, 10000, words)
    slow_dir, fast_dir = os.path.join(work, "tokens-slow"), os.path.join(work, "tokens-json")
    for d in (slow_dir, fast_dir):
        os.makedirs(d, exist_ok=True)
    slow = models.write_tokenizer(spiece, slow_dir, extra_ids)
    fast = models.write_tokenizer(spiece, fast_dir, extra_ids, "json")
    want_slow, want_fast = slow(texts)["input_ids"], fast(texts)["input_ids"]
    scores = Scores(spiece)
    report_fast(out, scores, "transformers' slow and fast tokenizer", texts, want_slow, want_fast)
    if programs is None:
        return
    exe = build_helper(programs, work)
    got, decoded = ours(exe, slow_dir, texts)
    report_slow(out, "spiece.model against T5Tokenizer", texts, got, want_slow)
    report_decode(out, "text of ids against T5Tokenizer", slow, texts, want_slow, decoded)
    report_fast(out, scores, "spiece.model against tokenizer.json in transformers", texts, got, want_fast)
    got_json, _ = ours(exe, fast_dir, texts)
    report_fast(out, scores, "tokenizer.json against T5TokenizerFast", texts, got_json, want_fast)
    report_slow(out, "tokenizer.json against spiece.model, both ours", texts, got_json, got)
    odd = special_lines(slow)
    report_slow(out, "added tokens against T5Tokenizer", odd, ours(exe, slow_dir, odd)[0], slow(odd)["input_ids"])
