"""Trains P-Nano from scratch. See README.md for the stages and the commands.

    python train.py --out RUN --steps 9000 --seed 1          # a run counted in steps
    python train.py --out RUN --minutes 90 --seed 1          # a run that ends by the clock
    python train.py --out RUN --resume                       # goes on after an interruption
"""

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from data import Loader, Packer
from metrics import evaluate, fixed_batches
from model import Config, Nano, to_device
from muon import Optimisers
from tokenizer import Tokenizer

DENSE_WEIGHTS = (0.25, 0.25, 0.25, 0.25, 0.25, 0.25)


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("--out", type=Path, required=True, help="folder of checkpoint and log")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--batch", type=int, default=24, help="images a step")
    p.add_argument("--text-len", type=int, default=104, help="text slots a row")
    p.add_argument("--answers", type=int, default=0, help="answer slots a batch (default 48 a row)")
    p.add_argument("--steps", type=int, default=0, help="length of the run in steps")
    p.add_argument("--minutes", type=float, default=0, help="length of the run by the clock")
    p.add_argument("--stop-at", type=float, default=0, help="end of the run as a Unix time")
    p.add_argument("--horizon", type=int, default=150_000, help="records until the full curriculum")
    p.add_argument("--decay", type=float, default=0.35, help="share of the run with a falling rate")
    p.add_argument("--lr", type=float, default=0.02, help="Muon's learning rate")
    p.add_argument("--dense", type=float, default=0.5, help="weight of the dense labels' loss")
    p.add_argument("--save-every", type=float, default=120, help="seconds between checkpoints")
    p.add_argument("--eval-every", type=float, default=240, help="seconds between evaluations")
    p.add_argument("--set", action="append", default=[], metavar="KEY=INT", help="field of Config")
    p.add_argument("--no-compile", action="store_true")
    p.add_argument("--resume", action="store_true")
    return p.parse_args()


def dense_loss(logits, labels, classes):
    """Cross-entropy of the dense heads; empty patches together weigh as much as the rest."""
    total = 0.0
    for plane, part in enumerate(logits.split(classes, -1)):
        want = labels[:, plane].long()
        want = torch.where(want == 255, -1, want)
        loss = F.cross_entropy(part.flatten(0, 1).float(), want.flatten(), ignore_index=-1, reduction="none")
        some, none = (want.flatten() > 0).float(), (want.flatten() == 0).float()
        total = total + DENSE_WEIGHTS[plane] * (
            (loss * some).sum() / some.sum().clamp(min=1) + (loss * none).sum() / none.sum().clamp(min=1)
        )
    return total


def losses(model, batch, classes):
    logits, dense = model(batch["pixels"], batch["ids"], batch["seg"], batch["pos"], batch["where"])
    answer = F.cross_entropy(logits.float(), batch["target"].long(), ignore_index=-1)
    return answer, dense_loss(dense, batch["dense"], classes)


def grown(saved, model):
    """The saved state with new rows of the dense heads (labels added since) as the model has them."""
    out = dict(saved)
    for name in ("dense.weight", "dense.bias"):
        fresh = model.state_dict()[name].clone()
        fresh[: len(saved[name])] = saved[name]
        out[name] = fresh
    return out


class Run:
    """One training run: model, optimisers, progress, checkpoint."""

    def __init__(self, args):
        self.args = args
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        torch.manual_seed(args.seed)
        self.tok = Tokenizer()
        changes = dict(pair.split("=") for pair in args.set)
        self.cfg = Config(vocab=len(self.tok), **{k: int(v) for k, v in changes.items()})
        self.model = Nano(self.cfg).to(self.device)
        self.opt = Optimisers(self.model, lr=args.lr)
        self.step, self.spent = 0, 0.0
        answers = args.answers or 48 * args.batch
        self.packer = Packer(self.tok, args.batch, args.text_len, answers)
        args.out.mkdir(parents=True, exist_ok=True)
        self.file = args.out / "checkpoint.pt"
        if args.resume and self.file.exists():
            self.load()
        self.forward = losses if args.no_compile else torch.compile(losses, dynamic=False)
        self.began = time.time()

    def load(self):
        state = torch.load(self.file, map_location=self.device, weights_only=True)
        self.model.load_state_dict(grown(state["model"], self.model))
        self.opt.load_state_dict(state["opt"])
        self.step, self.spent = state["step"], state["spent"]

    def save(self):
        state = {
            "model": self.model.state_dict(),
            "opt": self.opt.state_dict(),
            "step": self.step,
            "spent": self.elapsed(),
            "config": self.cfg.to_dict(),
            "args": {k: str(v) for k, v in vars(self.args).items()},
        }
        partial = self.file.with_suffix(".tmp")
        torch.save(state, partial)
        os.replace(partial, self.file)

    def elapsed(self):
        return self.spent + time.time() - self.began

    def progress(self):
        """Share of the run that is over, in [0, 1]: the farthest of the limits given."""
        a = self.args
        parts = [0.0]
        if a.steps:
            parts.append(self.step / a.steps)
        if a.minutes:
            parts.append(self.elapsed() / (60 * a.minutes))
        if a.stop_at:
            first = self.began - self.spent
            parts.append((time.time() - first) / (a.stop_at - first))
        return min(1.0, max(parts))

    def rate(self, progress):
        """Learning-rate factor: a short warm-up, a plateau, then linear to zero."""
        warm = min(1.0, (self.step + 1) / 100)
        fall = min(1.0, (1.0 - progress) / self.args.decay)
        return warm * max(fall, 0.0)

    def train_step(self, batch):
        with torch.autocast(self.device, torch.bfloat16):
            answer, dense = self.forward(self.model, batch, list(self.cfg.dense))
            total = answer + self.args.dense * dense
        total.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.opt.step(self.rate(self.progress()))
        for p in self.model.parameters():
            p.grad = None
        self.step += 1
        return float(answer.detach()), float(dense.detach())


def main():
    args = arguments()
    run = Run(args)
    log = (args.out / "log.jsonl").open("a")

    def note(**entry):
        line = json.dumps(entry)
        print(line, flush=True)
        log.write(line + "\n")
        log.flush()

    count = sum(p.numel() for p in run.model.parameters())
    note(event="start", step=run.step, params=count, vocab=len(run.tok), device=run.device)
    tests = fixed_batches(run.packer, seed=999_999, batches=6)
    loader = Loader(run.packer, args.seed, run.step * args.batch, args.horizon)
    saved = evaluated = shown = time.time()
    since, sums = run.step, np.zeros(2)
    while run.progress() < 1.0:
        sums += run.train_step(to_device(loader.next(), run.device))
        now = time.time()
        if now - shown > 15:
            done = run.step - since
            speed = done * args.batch / (now - shown)
            note(step=run.step, min=round(run.elapsed() / 60, 1), loss=round(sums[0] / done, 4),
                 dense=round(sums[1] / done, 4), rate=round(run.rate(run.progress()), 3), images_s=round(speed, 1))
            shown, since, sums = now, run.step, np.zeros(2)
        if now - saved > args.save_every:
            run.save()
            saved = time.time()
        if now - evaluated > args.eval_every:
            note(event="eval", step=run.step, **evaluate(run.model, tests, run.device))
            evaluated = time.time()
    run.save()
    note(event="eval", step=run.step, **evaluate(run.model, tests, run.device))
    note(event="end", step=run.step, minutes=round(run.elapsed() / 60, 2))
    loader.close()


if __name__ == "__main__":
    main()
