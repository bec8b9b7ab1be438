"""What transformers and PEFT say: activations, losses, greedy answers and training runs of a model in memory."""
import copy
import re

import torch

LM = "language_model."


class Batch:
    """Rows of (image index, prompt ids, answer ids), padded as the labels want it."""

    def __init__(self, pixels, images, prompts, answers):
        n = max(map(len, prompts))
        self.pixel_values = pixels[torch.tensor(images)]
        self.image_index = torch.tensor(images)
        self.input_ids = torch.tensor([p + [0] * (n - len(p)) for p in prompts])
        self.attention_mask = torch.tensor([[1] * len(p) + [0] * (n - len(p)) for p in prompts])
        m = max(map(len, answers))
        self.labels = torch.tensor([a + [-100] * (m - len(a)) for a in answers])

    def row(self, i):
        """Row i alone, without padding."""
        one = object.__new__(Batch)
        n, m = int(self.attention_mask[i].sum()), int((self.labels[i] != -100).sum())
        one.pixel_values, one.image_index = self.pixel_values[i : i + 1], self.image_index[i : i + 1]
        one.input_ids, one.attention_mask = self.input_ids[i : i + 1, :n], self.attention_mask[i : i + 1, :n]
        one.labels = self.labels[i : i + 1, :m]
        return one


def plain(model):
    """The Blip2 model below a PEFT wrapper."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def embed(model, batch):
    """→ encoder input [B, queries + T, d], its mask, and the image side's activations by name."""
    m = plain(model)
    projection, vision, qformer = m.get_image_features(batch.pixel_values, return_dict=True)
    text = m.get_input_embeddings()(batch.input_ids)
    mask = torch.cat([torch.ones(projection.shape[:2], dtype=torch.long), batch.attention_mask], 1)
    stages = {"vit": vision[0], "qformer": qformer[0], "projection": projection}
    return torch.cat([projection, text], 1), mask, stages


def forward(model, batch):
    """→ language model output (loss, logits, encoder_last_hidden_state), activations by name."""
    inputs, mask, stages = embed(model, batch)
    # transformers shrinks its cache to the encoder's layer count: use_cache=False.
    out = plain(model).language_model(inputs_embeds=inputs, attention_mask=mask, labels=batch.labels, use_cache=False)
    stages["encoder"], stages["logits"] = out.encoder_last_hidden_state, out.logits
    return out, stages


def narrow(x):
    """x rounded to bf16, in fp32."""
    return x.to(torch.bfloat16).to(torch.float32)


# Linears whose outputs attention or an activation reads: the ViT's, the Q-Former's, T5's.
READ_NARROW = re.compile(r"\.(qkv|fc1|query|key|value|intermediate(_query)?\.dense|q|k|v|wi|wi_0|wi_1)$")


def bf16_mode(model):
    """A copy that computes as the library's bf16 mode is defined: matrices, the input of every linear and what attention and
    activations read rounded to bf16, all else fp32 (docs/numerics.md)."""
    m = copy.deepcopy(model)
    for name, module in m.named_modules():
        if isinstance(module, (torch.nn.Linear, torch.nn.Conv2d)) or module is m.get_input_embeddings():
            module.weight.data = narrow(module.weight.data)
        if isinstance(module, (torch.nn.Linear, torch.nn.Conv2d)):
            module.register_forward_pre_hook(lambda _, args: (narrow(args[0]), *args[1:]))
        if READ_NARROW.search(name):
            module.register_forward_hook(lambda _, __, y: narrow(y))
    return m


def own_forward(model, batch):
    """transformers' own Blip2 forward, image placeholders in front: what `forward` must equal."""
    m = plain(model)
    cfg = m.config
    keep, image = cfg.image_token_index, cfg.image_token_index
    if image is None:
        image = cfg.text_config.vocab_size - 1
    cfg.image_token_index = image
    n = batch.input_ids.shape[0]
    ids = torch.cat([torch.full((n, cfg.num_query_tokens), image), batch.input_ids], 1)
    mask = torch.cat([torch.ones(n, cfg.num_query_tokens, dtype=torch.long), batch.attention_mask], 1)
    out = m(pixel_values=batch.pixel_values, input_ids=ids, attention_mask=mask, labels=batch.labels, use_cache=False)
    cfg.image_token_index = keep
    return out


@torch.no_grad()
def greedy(model, batch, max_new, min_new=0):
    """Greedy answers by transformers' generate: list of id lists without the start token, with </s> when it came;
    list of per-step logits [new, vocab]; list of summed log-probabilities."""
    inputs, mask, _ = embed(model, batch)
    out = plain(model).language_model.generate(
        inputs_embeds=inputs, attention_mask=mask, max_new_tokens=max_new, min_new_tokens=min_new or None, do_sample=False,
        num_beams=1, use_cache=False, output_logits=True, return_dict_in_generate=True)
    ids, steps, sums = [], [], []
    logits = torch.stack(out.logits, 1)
    for row, l in zip(out.sequences[:, 1:].tolist(), logits):
        n = row.index(1) + 1 if 1 in row else len(row)
        ids.append(row[:n])
        steps.append(l[:n].float())
        sums.append(float(torch.log_softmax(l[:n].double(), -1).gather(1, torch.tensor(row[:n])[:, None]).sum()))
    return ids, steps, sums


def label_logprob(logits, labels):
    """Summed log-probability of each row's labels."""
    lp = torch.log_softmax(logits.double(), -1)
    got = lp.gather(2, labels.clamp(min=0)[..., None])[..., 0]
    return (got * (labels != -100)).sum(1)


def margin(steps):
    """Smallest gap between the two best logits over all steps, relative to the largest logit."""
    gaps = []
    for l in steps:
        top = l.topk(2, -1).values
        gaps.append(((top[:, 0] - top[:, 1]) / l.abs().max()).min())
    return float(min(gaps))


def gradients(model, batch):
    """Gradients of the mean loss by checkpoint name."""
    model.zero_grad(set_to_none=True)
    out, _ = forward(model, batch)
    out.loss.backward()
    g = {}
    for name, p in model.named_parameters():
        if p.requires_grad and p.grad is not None:
            g[name] = p.grad.detach().clone()
    model.zero_grad(set_to_none=True)
    return g


def train(model, batches, lr, weight_decay=0.01, betas=(0.9, 0.999), eps=1e-8, clip=1.0):
    """AdamW, one step a batch, no schedule, eval mode (no dropout). Decay on matrices only. → losses, gradient norms."""
    model.eval()
    params = [p for p in model.parameters() if p.requires_grad]
    groups = [{"params": [p for p in params if p.squeeze().dim() > 1], "weight_decay": weight_decay},
              {"params": [p for p in params if p.squeeze().dim() <= 1], "weight_decay": 0.0}]
    opt = torch.optim.AdamW([g for g in groups if g["params"]], lr=lr, betas=betas, eps=eps)
    losses, norms = [], []
    for b in batches:
        opt.zero_grad(set_to_none=True)
        out, _ = forward(model, b)
        out.loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(params, clip).item())
        losses.append(out.loss.item())
        opt.step()
    return losses, norms


def noise(model, batches, lr, losses, norms, draws=6):
    """How far the losses and norms of that run move when every weight moves by its last bit: (relative, relative), the largest of
    several draws, for single ones differ by a factor of ten and more."""
    far = lambda a, b: max(abs(x - y) / abs(y) for x, y in zip(a, b))
    worst = (0.0, 0.0)
    for seed in range(5, 5 + draws):
        moved, g = copy.deepcopy(model), torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for p in moved.parameters():
                p.mul_(1 + 1e-7 * torch.randn(p.shape, generator=g))
        other = train(moved, batches, lr)
        worst = max(worst[0], far(other[0], losses)), max(worst[1], far(other[1], norms))
    return worst


def add_lora(model, targets, rank, alpha, seed, rslora=False, b_scale=0.3, rank_pattern=None, alpha_pattern=None):
    """PEFT LoRA without dropout, B re-initialised so that the adapter matters."""
    from peft import LoraConfig, get_peft_model
    cfg = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=0.0, target_modules=targets, use_rslora=rslora, bias="none",
                     rank_pattern=rank_pattern or {}, alpha_pattern=alpha_pattern or {})
    wrapped = get_peft_model(model, cfg).eval()
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in wrapped.named_parameters():
            if "lora_A" in name:
                p.copy_(torch.randn(p.shape, generator=g) / p.shape[1] ** 0.5)
            elif "lora_B" in name:
                p.copy_(b_scale * torch.randn(p.shape, generator=g) / p.shape[1] ** 0.5)
    return wrapped


def lora_tensors(model):
    """LoRA tensors by the names PEFT stores (the adapter's name left out)."""
    return {n.replace(".default.", "."): p.detach().clone() for n, p in model.named_parameters() if "lora_" in n}
