"""Exact match of whole answers under the reference prefix (equal to greedy exact match)."""

import re

import torch

from data import IMAGE_TOKENS, fetch
from model import to_device


def category(kind, text):
    """Name of the task that a rendered segment belongs to."""
    if "<tool_call>" in text:
        return "slope" if '"slope"' in text else "sum"
    if re.search(r"(A|An) \w+ \w+ at the", text):
        return "caption%d" % len(re.findall(r" at the ", text.split("<|assistant|>")[-1]))
    if "chart with" in text or "chart from" in text:
        return f"{kind}_all"
    if "The value" in text:
        return f"{kind}_value"
    if "It says" in text:
        return "read"
    return f"{kind}_other" if kind else "text"


def fixed_batches(packer, seed, batches):
    """Batches of the full curriculum from another seed than the training's."""
    limit = batches * packer.batch
    records = fetch(seed, 1, 1, limit)
    return [packer.collate(records[i : i + packer.batch]) for i in range(0, limit, packer.batch)]


@torch.no_grad()
def evaluate(model, tests, device):
    """Share of segments whose every answer token is the arg max, by category."""
    model.eval()
    right, total = {}, {}
    letters = [0, 0]
    for batch, rows in tests:
        inputs = to_device(batch, device)
        with torch.autocast(device, torch.bfloat16):
            logits, _ = model(*(inputs[k] for k in ("pixels", "ids", "seg", "pos", "where")))
        hit = (logits.argmax(-1) == inputs["target"]).cpu().tolist()
        slots = inputs["where"].cpu().tolist()
        wrong, seen = {}, set()
        for ok, slot, want in zip(hit, slots, inputs["target"].cpu().tolist()):
            if want >= 0:
                seen.add(slot)
                wrong[slot] = not ok
        length = inputs["seg"].shape[1]
        for i, (kind, placed) in enumerate(rows):
            for segment, first, size, number in placed:
                span = [i * length + IMAGE_TOKENS + k for k in range(first, first + size)]
                asked = [s for s in span if s in seen]
                if not asked:
                    continue
                text = "".join(part["text"] for part in segment["parts"])
                name = category("" if number >= 100 else kind, text)
                total[name] = total.get(name, 0) + 1
                right[name] = right.get(name, 0) + (not any(wrong[s] for s in asked))
                if name == "read":
                    spot = text.index('It says "')
                    letters[0] += 1
                    letters[1] += not wrong[asked[min(4, len(asked) - 1)]] if spot >= 0 else 0
    model.train()
    out = {k: round(right[k] / total[k], 3) for k in sorted(total)}
    out["first_letter"] = round(letters[1] / max(1, letters[0]), 3)
    return out
