#!/usr/bin/env python3
"""Makes the tokenizer files of test_text.c and what transformers' T5Tokenizer says about them.

    pip install transformers==4.57.6 sentencepiece protobuf tokenizers && python make_text.py

t5/      spiece.model with the nmt_nfkc character map and 100 extra ids
small/   spiece.model with a character map of a few rules, 5 extra ids, <image>, an added word
json/    the same as tokenizer.json
text_cases.json   texts, ids and decoded texts of t5/ and small/
"""
import json
import os
import random
import shutil
import tempfile

import sentencepiece
from transformers import T5Tokenizer, T5TokenizerFast
from transformers import AddedToken

HERE = os.path.dirname(os.path.abspath(__file__))
WORDS = """red blue green black white navy grey yellow pink purple olive maroon shirt trousers dress shoes sandals watch
belt wallet handbag backpack cap scarf socks jeans jacket sweater kurta saree cotton leather denim silk wool linen
casual formal sports summer winter autumn spring men women boys girls unisex size small medium large colour fabric
pattern striped checked printed solid round neck sleeve long short half full what is the of this product question answer
it made for a an and with in on not no yes café naïve Größe señor 漢字 かな привет""".split()


def training_text(path):
    rnd = random.Random(7)
    with open(path, "w", encoding="utf-8") as f:
        for _ in range(4000):
            n = rnd.randint(3, 12)
            s = " ".join(rnd.choice(WORDS) for _ in range(n))
            f.write(s.capitalize() + rnd.choice(".?!") + "\n")
            f.write("Question: what is the %s of this %s? Answer: %s, %d\n" % tuple(
                [rnd.choice(WORDS) for _ in range(3)] + [rnd.randint(0, 9999)]))


def rules(path):
    """Source and target as hexadecimal code points, one rule a line."""
    table = {0x9: [0x20], 0xA: [0x20], 0xD: [0x20], 0xA0: [0x20], 0x3000: [0x20], 0x200B: [], 0xFB01: [0x66, 0x69]}
    for c in range(0x21, 0x7F):
        table[0xFEE0 + c] = [c]  # full width
    with open(path, "w") as f:
        for c, to in table.items():
            f.write("%X\t%s\n" % (c, " ".join("%X" % t for t in to)))
        f.write("65 301\tE9\n")  # e and a combining accent


def train(text, prefix, size, **more):
    sentencepiece.SentencePieceTrainer.train(input=text, model_prefix=prefix, vocab_size=size, model_type="unigram", pad_id=0,
                                             eos_id=1, unk_id=2, bos_id=-1, num_threads=1, minloglevel=2, **more)


TEXTS = ["", " ", "\n", "red shirt", "  red   shirt  ", "Question: what is the colour of this shirt? Answer: ", "Answer:",
         "Hello, World!", "</s>", "red</s>", "red </s> blue", "red</s></s>", "<pad>red", "<unk>", "<extra_id_0>",
         "a<extra_id_0>b<extra_id_1> c", "a <extra_id_4>  b", "<extra_id_99>", "<extra_id_100>", "<extra_id_", "<image>red",
         "<image><image> red", "\u2581red", "red\u2581shirt", "caf\u00e9", "cafe\u0301", "\uff32\uff45\uff44\u3000shirt",
         "\ufb01ne", "red\u00a0shirt", "red\tshirt\r\nblue", "\u6f22\u5b57", "\U0001f600", "\U0001f600\U0001f601 \U0001f602 red",
         "\U0001f600red\U0001f600", "1234567890", "don't 's n't ' m", "a.b . c ? d ! e , f", "\u200b", "a\u200bb", "\u0001x",
         "zzzzqqqq", "<", "<<</s>", "s>", "\u00ad", "Gr\u00f6\u00dfe XXL", "FASHIONWORD red FASHIONWORD", "redFASHIONWORD",
         "red" * 300, "x" * 1000, "\u0915\u094d\u0937", "\u1100\u1161\u11a8", "\u2126 \u212b", "e\u0301" * 20]


def cases(tokenizer):
    out = []
    for t in TEXTS:
        ids = tokenizer(t).input_ids
        out.append({"text": t, "ids": ids, "decoded": tokenizer.decode(ids, skip_special_tokens=True)})
    rnd = random.Random(9)
    n = len(tokenizer)
    for _ in range(40):
        ids = [rnd.randrange(n) for _ in range(rnd.randint(1, 20))]
        out.append({"ids": ids, "decoded": tokenizer.decode(ids, skip_special_tokens=True)})
    return out


def main():
    with tempfile.TemporaryDirectory() as tmp:
        text, tsv = os.path.join(tmp, "text"), os.path.join(tmp, "rules.tsv")
        training_text(text)
        rules(tsv)
        train(text, os.path.join(tmp, "t5"), 400, normalization_rule_name="nmt_nfkc")
        train(text, os.path.join(tmp, "small"), 200, normalization_rule_tsv=tsv)
        for name in ("t5", "small", "json"):
            os.makedirs(os.path.join(HERE, name), exist_ok=True)
        shutil.copy(os.path.join(tmp, "t5.model"), os.path.join(HERE, "t5", "spiece.model"))
        t5 = T5Tokenizer(os.path.join(HERE, "t5", "spiece.model"), legacy=True)

        small = T5Tokenizer(os.path.join(tmp, "small.model"), extra_ids=5, legacy=True, clean_up_tokenization_spaces=True)
        small.add_tokens([AddedToken("<image>", normalized=False, special=True)], special_tokens=True)
        small.add_tokens([AddedToken("FASHIONWORD", normalized=False)])
        saved = os.path.join(tmp, "saved")
        small.save_pretrained(saved)
        for f in ("spiece.model", "tokenizer_config.json"):
            shutil.copy(os.path.join(saved, f), os.path.join(HERE, "small", f))
        fast = T5TokenizerFast.from_pretrained(saved)
        fast.save_pretrained(os.path.join(tmp, "fast"))
        for f in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(os.path.join(tmp, "fast", f), os.path.join(HERE, "json", f))
        with open(os.path.join(HERE, "text_cases.json"), "w") as f:
            json.dump({"t5": cases(t5), "small": cases(small)}, f, indent=0)
            f.write("\n")
        different = [t for t in TEXTS if fast(t).input_ids != small(t).input_ids]
        print("fast and slow differ on", different)


main()
