"""Checks an export against PyTorch through llama.cpp's own programs.

    python verify_export.py --checkpoint RUN/checkpoint.pt --model ../models/p-nano --bin LLAMA_BIN

1. Tokenizer: llama-server's ids equal ours on sentences of the generator and on odd Unicode.
2. Log-probabilities of the first answer token agree.
3. Greedy text of llama-mtmd-cli equals PyTorch's, image by image; a difference is printed with
   the gap between the two best logits where the texts part.
Exits with 1 when ids differ, when log-probabilities differ by more than 0.05, or when a text
differs at a place where the gap is larger than 0.05.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
from base64 import b64encode
from pathlib import Path

import torch

from data import fetch
from evaluate import MARKER, Server, items, picture, png, prompt
from generate import Reference

TOLERANCE = 0.05


def sentences(count):
    """Rendered dialogs of the generator."""
    for _, _, meta in fetch(4242, 1, 1, count):
        for segment in [*meta["after"], *meta["alone"]]:
            yield meta["before"] + "".join(part["text"] for part in segment["parts"])


def garbage(count, rng):
    """Random Unicode: ASCII, Latin, Greek, CJK, emoji, spaces, fragments of special tokens."""
    pools = [(32, 126), (160, 591), (880, 1023), (0x4E00, 0x9FFF), (0x1F300, 0x1F64F)]
    bits = ["  ", "\n", "\t", "<|", "|>", "<tool", "</", "{\"tool\":", ",\"y1\":", "The slope", " ( "]
    for _ in range(count):
        out = []
        for _ in range(rng.randint(1, 30)):
            if rng.random() < 0.2:
                out.append(rng.choice(bits))
            else:
                out.append(chr(rng.randint(*rng.choice(pools))))
        yield "".join(out)


def check_tokenizer(server, reference, rng):
    texts = [*sentences(150), *garbage(400, rng)]
    wrong = 0
    for text in texts:
        body = {"content": text, "add_special": False, "parse_special": True}
        theirs = server.call("/tokenize", body)["tokens"]
        if theirs != reference.tok.encode(text):
            wrong += 1
            print("ids differ:", json.dumps(text), theirs, reference.tok.encode(text))
    print(f"tokenizer: {len(texts) - wrong} of {len(texts)} texts have the same ids")
    return wrong == 0


def check_logits(server, reference, todo):
    worst = 0.0
    for item in todo:
        text, image = prompt(item), png(item) if "rgb" in item else None
        what = {"prompt_string": text, "multimodal_data": [b64encode(image).decode()]} if image else text
        body = {"prompt": what, "n_predict": 1, "temperature": 0, "n_probs": 5, "cache_prompt": False}
        top = server.call("/completion", body)["completion_probabilities"][0]["top_logprobs"]
        ours = torch.log_softmax(reference.logits(text, picture(item) if image else None), -1)
        for entry in top:
            if entry["logprob"] > -10:
                worst = max(worst, abs(entry["logprob"] - float(ours[entry["id"]])))
    print(f"log-probabilities: largest difference {worst:.4f} over {len(todo)} prompts")
    return worst <= TOLERANCE


def mtmd_cli(binary, model, item, folder):
    """Stdout of one run of llama-mtmd-cli."""
    path = folder / "image.png"
    path.write_bytes(png(item))
    first = item["order"] == "image-first"
    text = MARKER + item["question"] if first else item["question"] + MARKER
    command = [
        binary, "-m", str(model / "p-nano.gguf"), "--mmproj", str(model / "p-nano-mmproj.gguf"), "--jinja",
        "--image", str(path), "-p", text, "--temp", "0", "--top-k", "1", "-n", "120", "-t", "1", "-c", "1024",
    ]
    if item["tools"]:
        command += ["-sys", f"tools: {', '.join(item['tools'])}"]
    outputs = []
    for _ in range(3):
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        outputs.append(done.stdout)
        if done.stdout.endswith("\n\n"):
            return done.stdout.strip()
    # Its asynchronous log is sometimes cut at the exit of a busy machine; the ending tells.
    raise RuntimeError(f"llama-mtmd-cli ended without its final newlines: {outputs}")


def gap_where_they_part(reference, item, ours, theirs):
    """Difference of the two best logits after the common part of both texts."""
    common = 0
    while common < min(len(ours), len(theirs)) and ours[common] == theirs[common]:
        common += 1
    logits = reference.logits(prompt(item) + ours[:common], picture(item))
    best = logits.topk(2).values
    return float(best[0] - best[1])


def check_text(binary, model, reference, todo):
    same, fine = 0, True
    with tempfile.TemporaryDirectory() as folder:
        for item in todo:
            theirs = mtmd_cli(binary, model, item, Path(folder))
            ours = reference.generate(prompt(item), picture(item)).strip()
            if ours == theirs:
                same += 1
                continue
            gap = gap_where_they_part(reference, item, ours, theirs)
            fine = fine and gap <= TOLERANCE
            print(f"text differs ({item['task']} {item['seed']}, gap {gap:.4f}):\n  torch {ours}\n  cli   {theirs}")
    print(f"greedy text: {same} of {len(todo)} equal to llama-mtmd-cli")
    return fine


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("--checkpoint", type=Path, required=True)
    p.add_argument("--model", type=Path, required=True)
    p.add_argument("--bin", type=Path, required=True)
    p.add_argument("--items", type=int, default=15, help="items of each task with an image")
    args = p.parse_args()
    reference = Reference(args.checkpoint)
    todo = [item for item in items(args.items, 10_000) if "rgb" in item]
    server = Server(str(args.bin / "llama-server"), args.model)
    try:
        good = check_tokenizer(server, reference, random.Random(7))
        good = check_logits(server, reference, todo) and good
    finally:
        server.close()
    good = check_text(str(args.bin / "llama-mtmd-cli"), args.model, reference, todo) and good
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
