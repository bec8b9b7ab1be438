"""Tiny BLIP-2 models in Hugging Face layout: configurations, weights that hide nothing, and the folders they are saved in."""
import json
import os
import shutil

import sentencepiece
import torch
from safetensors.torch import load_file, save_file
from transformers import Blip2Config, Blip2ForConditionalGeneration, BlipImageProcessor, T5Tokenizer, T5TokenizerFast

LM = "language_model."
EMBED_ALIASES = (LM + "shared.weight", LM + "encoder.embed_tokens.weight", LM + "decoder.embed_tokens.weight")

SENTENCES = """
Question: what is the article type? Answer: Article Type: T-shirt
Question: what is the category? Answer: Category: Apparel
Question: what is the sub category? Answer: Sub Category: Topwear
Question: which colour is it? Answer: Colour: navy blue
Question: what is this? Answer: this is a pair of ankle boots
a photo of a bag, a dress, a shirt, a coat, a pullover, sandals, sneakers and trousers
footwear, accessories, bags, bottomwear, shoes, 1 2 3 4 5 6 7 8 9 0
the quick brown fox jumps over the lazy dog; HOW VEXINGLY QUICK DAFT ZEBRAS JUMP
""".strip().split("\n")


def train_tokenizer(path, sentences=SENTENCES, pieces=100, byte_fallback=False):
    """Writes a SentencePiece unigram model with T5's ids (pad 0, eos 1, unk 2, no bos) to `path`."""
    prefix = path[: -len(".model")]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences), model_prefix=prefix, vocab_size=pieces, model_type="unigram", pad_id=0,
        eos_id=1, unk_id=2, bos_id=-1, normalization_rule_name="nmt_nfkc", character_coverage=1.0, num_threads=1,
        hard_vocab_limit=False, minloglevel=2, byte_fallback=byte_fallback)
    os.remove(prefix + ".vocab")


def config(vision, qformer, text, queries, image_token=None):
    """A Blip2Config; dicts hold what differs from the class defaults."""
    text = {"model_type": "t5", "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 1, "decoder_start_token_id": 0, **text}
    return Blip2Config(vision_config=vision, qformer_config=qformer, text_config=text, num_query_tokens=queries,
                       image_token_index=image_token, tie_word_embeddings=text.get("tie_word_embeddings", True))


def _fill(name, p, g):
    """Random values of a realistic scale for one parameter."""
    z = torch.randn(p.shape, generator=g)
    if name.endswith("query_tokens"):
        return 0.5 * z
    if "position_embedding" in name:
        return 0.1 * z
    if "class_embedding" in name or "shared" in name or "embed_tokens" in name:
        return z
    if "relative_attention_bias" in name:
        return 0.5 * z
    if p.dim() == 1 and name.endswith("weight"):
        return 1 + 0.1 * z
    if p.dim() == 1:
        return 0.1 * z
    z = z / (p[0].numel() ** 0.5)
    # Attention that is not uniform: scores with a spread of about 2.
    if "qformer" in name and (".query." in name or ".key." in name):
        z = 1.5 * z
    return z


def build(cfg, seed, spread=None):
    """The model of `cfg` in fp32 and eval mode, every parameter re-initialised. `spread` bounds the standard deviation
    of T5's scores, which is sqrt(d_kv) otherwise: with 8 a rounding error grows from step to step of a training run."""
    model = Blip2ForConditionalGeneration(cfg).float().eval()
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(_fill(name, p, g))
            if name.endswith("self_attn.qkv.weight"):
                p[: 2 * p.shape[1]] *= 1.5
            if spread and name.endswith("ttention.q.weight"):
                p *= min(1.0, spread / cfg.text_config.d_kv ** 0.5)
        # </s> wins now and then, so that answers differ in length.
        model.language_model.lm_head.weight[1] *= 2
    return model


def checkpoint(model, alias=EMBED_ALIASES[0]):
    """name → tensor as a checkpoint holds them: one name for the shared embedding, no lm_head when it is tied."""
    out = {}
    for name, t in model.state_dict().items():
        if name in EMBED_ALIASES or name.endswith("position_ids"):
            continue
        if name == LM + "lm_head.weight" and t.data_ptr() == model.language_model.shared.weight.data_ptr():
            continue
        out[name] = t.detach()
    out[alias] = model.language_model.shared.weight.detach()
    return out


def write_config(model, folder, era, drop=()):
    """config.json: "old" spells every default out and knows no image token; "new" holds only what differs. `drop`
    names keys of text_config to leave out."""
    cfg = model.config
    data = cfg.to_dict() if era == "old" else cfg.to_diff_dict()
    if era == "old":
        for key in ("image_token_index", "image_text_hidden_size"):
            data.pop(key, None)
    data["architectures"] = ["Blip2ForConditionalGeneration"]
    data.pop("_name_or_path", None)
    for key in drop:
        data["text_config"].pop(key, None)
    with open(os.path.join(folder, "config.json"), "w") as f:
        json.dump(data, f, indent=2, sort_keys=True)
        f.write("\n")


def write_weights(tensors, folder, shards=1, dtype=torch.float32, extra=None):
    """model.safetensors, or `shards` files and their index."""
    tensors = {k: v.to(dtype).contiguous() for k, v in tensors.items()}
    tensors.update(extra or {})
    meta = {"format": "pt"}
    if shards == 1:
        save_file(tensors, os.path.join(folder, "model.safetensors"), metadata=meta)
        return
    names, where = list(tensors), {}
    total = sum(t.numel() * t.element_size() for t in tensors.values())
    for i in range(shards):
        file = f"model-{i + 1:05d}-of-{shards:05d}.safetensors"
        part = names[i::shards]
        save_file({k: tensors[k] for k in part}, os.path.join(folder, file), metadata=meta)
        where.update({k: file for k in part})
    with open(os.path.join(folder, "model.safetensors.index.json"), "w") as f:
        json.dump({"metadata": {"total_size": total}, "weight_map": where}, f, indent=2, sort_keys=True)


def image_processor(size):
    return BlipImageProcessor(size={"height": size, "width": size})


def write_tokenizer(spiece, folder, extra_ids, kind="slow", image_token=None):
    """Tokenizer files of the slow class (spiece.model), or tokenizer.json alone. Returns the tokenizer."""
    if kind == "slow":
        tok = T5Tokenizer(spiece, extra_ids=extra_ids, legacy=True)
    else:
        tok = T5TokenizerFast(spiece, extra_ids=extra_ids, add_prefix_space=True)
    if image_token is not None:
        from tokenizers import AddedToken
        tok.add_tokens([AddedToken("<image>", normalized=False, special=True)], special_tokens=True)
        assert tok.convert_tokens_to_ids("<image>") == image_token
    tok.save_pretrained(folder)
    if kind != "slow" and os.path.exists(os.path.join(folder, "spiece.model")):
        os.remove(os.path.join(folder, "spiece.model"))
    return tok


def save(model, folder, spiece, extra_ids, era, alias=EMBED_ALIASES[0], shards=1, dtype=torch.float32, tokenizer="slow",
         drop=(), extra=None):
    """Writes the whole folder; returns its tokenizer."""
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    write_config(model, folder, era, drop)
    write_weights(checkpoint(model, alias), folder, shards, dtype, extra)
    image_processor(model.config.vision_config.image_size).save_pretrained(folder)
    return write_tokenizer(spiece, folder, extra_ids, tokenizer, model.config.image_token_index)


def load_weights(folder):
    """Every tensor of a model folder, single file or shards."""
    out = {}
    for name in sorted(os.listdir(folder)):
        if name.endswith(".safetensors"):
            out.update(load_file(os.path.join(folder, name)))
    return out


def save_adapter(model, folder):
    """PEFT's own folder without its README, target_modules (a set) in order."""
    model.save_pretrained(folder)
    readme, path = os.path.join(folder, "README.md"), os.path.join(folder, "adapter_config.json")
    if os.path.exists(readme):
        os.remove(readme)
    with open(path) as f:
        data = json.load(f)
    if isinstance(data["target_modules"], list):
        data["target_modules"].sort()
    with open(path, "w") as f:
        json.dump(data, f, indent=2, sort_keys=True)
        f.write("\n")
