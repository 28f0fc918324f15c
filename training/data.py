"""Reads the generator's records and packs them into batches of fixed shape.

A row has 64 image slots followed by `text_len` text slots. All dialogs on one image share the
image's slots: a block mask keeps them apart, and positions are those of inference.
"""

import json
import multiprocessing as mp
import os
import struct
import subprocess
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
IMAGE_TOKENS = 64
PIXELS = 128 * 128 * 3
DENSE = 6 * 16 * 16
ALONE = 100  # first segment number of dialogs that do not see the image


def read_records(stream):
    """Yields (pixels uint8 [128,128,3], dense uint8 [6,256], meta dict) until the stream ends."""
    while True:
        head = stream.read(4)
        if len(head) < 4:
            return
        body = stream.read(struct.unpack("<I", head)[0])
        pixels = np.frombuffer(body, np.uint8, PIXELS).reshape(128, 128, 3)
        dense = np.frombuffer(body, np.uint8, DENSE, PIXELS).reshape(6, 256)
        yield pixels, dense, json.loads(body[PIXELS + DENSE :])


def generator_command():
    """Command that runs training/stream.ts; $NANO_STREAM names an already bundled script."""
    bundled = os.environ.get("NANO_STREAM")
    if bundled:
        return ["node", bundled]
    return ["npx", "tsx", str(ROOT / "training" / "stream.ts")]


def open_stream(seed, start, horizon, limit=None):
    """Starts the generator; the caller closes `.stdout` to stop it."""
    args = ["--seed", seed, "--start", start, "--horizon", horizon]
    if limit is not None:
        args += ["--limit", limit]
    command = generator_command() + [str(a) for a in args]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, bufsize=1 << 20)


def fetch(seed, start, horizon, count):
    """`count` records from number `start` on."""
    with open_stream(seed, start, horizon, count) as process:
        return list(read_records(process.stdout))


class Packer:
    """Turns records into numpy batches."""

    def __init__(self, tokenizer, batch, text_len, answers):
        self.tok = tokenizer
        self.batch, self.text_len, self.answers = batch, text_len, answers
        self.end = tokenizer.ids["<|end|>"]
        self.close_call = tokenizer.ids["</tool_call>"]
        # The pair that mtmd puts around an image of this projector type.
        self.open_image = tokenizer.ids["<|im_start|>"]
        self.close_image = [tokenizer.ids["<|im_end|>"]]
        self.pad = tokenizer.ids["<pad>"]

    def encode_parts(self, parts):
        """(ids, target ids or -1 for each position: the token to be written after it)."""
        ids, loss = [], []
        for part in parts:
            piece = self.tok.encode(part["text"])
            ids += piece
            loss += [part["loss"]] * len(piece)
        targets = [ids[i + 1] if loss[i + 1] else -1 for i in range(len(ids) - 1)] + [-1]
        for i, token in enumerate(ids):
            # A call ends the turn for clients that run tools themselves; ours continues it.
            if token == self.close_call:
                targets[i] = self.end
        return ids, targets

    def pack_row(self, meta):
        """Slots of one record: ids, segment, position, targets and the segments that fitted."""
        before = self.tok.encode(meta["before"]) + [self.open_image]
        base = len(before)
        first_after = base + IMAGE_TOKENS + len(self.close_image)
        ids = before + self.close_image
        seg = [0] * len(ids)
        pos = [*range(base), *range(base + IMAGE_TOKENS, first_after)]
        targets = [-1] * len(ids)
        placed = []

        def place(segment, number, first):
            new_ids, new_targets = self.encode_parts(segment["parts"])
            if len(ids) + len(new_ids) > self.text_len:
                return False
            placed.append((segment, len(ids), len(new_ids), number))
            pos.extend(range(first, first + len(new_ids)))
            seg.extend([number] * len(new_ids))
            ids.extend(new_ids)
            targets.extend(new_targets)
            return True

        alone = [(s, ALONE + k, 0) for k, s in enumerate(meta["alone"])]
        after = [(s, 1 + k, first_after) for k, s in enumerate(meta["after"])]
        for segment, number, first in after[:3] + alone + after[3:]:
            place(segment, number, first)
        return ids, seg, pos, targets, base, placed

    def collate(self, records):
        """A batch as a dict of arrays (see `train.py` for the shapes)."""
        b, t = self.batch, self.text_len
        length = IMAGE_TOKENS + t
        out = {
            "pixels": np.stack([r[0] for r in records]),
            "dense": np.stack([r[1] for r in records]),
            "ids": np.full((b, t), self.pad, np.int32),
            "seg": np.full((b, length), -1, np.int16),
            "pos": np.zeros((b, length), np.int16),
            "where": np.zeros(self.answers, np.int32),
            "target": np.full(self.answers, -1, np.int32),
        }
        rows, where, target = [], [], []
        for i, (_, _, meta) in enumerate(records):
            ids, seg, pos, targets, base, placed = self.pack_row(meta)
            out["ids"][i, : len(ids)] = ids
            out["seg"][i, :IMAGE_TOKENS] = 0
            out["seg"][i, IMAGE_TOKENS : IMAGE_TOKENS + len(ids)] = seg
            out["pos"][i, :IMAGE_TOKENS] = np.arange(base, base + IMAGE_TOKENS)
            out["pos"][i, IMAGE_TOKENS : IMAGE_TOKENS + len(ids)] = pos
            for k, token in enumerate(targets):
                if token >= 0:
                    where.append(i * length + IMAGE_TOKENS + k)
                    target.append(token)
            rows.append((meta["kind"], placed))
        kept = min(len(where), self.answers)
        out["where"][:kept] = where[:kept]
        out["target"][:kept] = target[:kept]
        out["dropped"] = len(where) - kept
        return out, rows


def _work(queue, packer, seed, start, horizon):
    cores = set(range(os.cpu_count() or 1)) - os.sched_getaffinity(0)
    if cores:  # leave the training's cores alone
        os.sched_setaffinity(0, cores)
    process = open_stream(seed, start, horizon)
    records = []
    for record in read_records(process.stdout):
        records.append(record)
        if len(records) == packer.batch:
            queue.put(packer.collate(records)[0])
            records = []
    queue.put(None)


class Loader:
    """Batches from a worker process, in order; `start` is the first record's number."""

    def __init__(self, packer, seed, start, horizon, depth=6):
        self.queue = mp.Queue(maxsize=depth)
        args = (self.queue, packer, seed, start, horizon)
        self.process = mp.Process(target=_work, args=args, daemon=True)
        self.process.start()

    def next(self):
        """The next batch; raises RuntimeError when the generator has died."""
        batch = self.queue.get(timeout=120)
        if batch is None:
            raise RuntimeError("the generator ended: see its error above")
        return batch

    def close(self):
        self.process.kill()
