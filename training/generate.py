"""Greedy generation in PyTorch, in float32 and without a cache: the reference for the exports."""

import numpy as np
import torch

from data import IMAGE_TOKENS
from export import load
from model import Nano
from tokenizer import Tokenizer


class Reference:
    """The model of a checkpoint; `half` rounds matrices to float16 as the export does."""

    def __init__(self, checkpoint, half=True):
        cfg, state = load(checkpoint)
        self.tok = Tokenizer()
        self.model = Nano(cfg).eval()
        rounded = {
            k: torch.from_numpy(v.astype(np.float16).astype(np.float32) if half and v.ndim > 1 else v)
            for k, v in state.items()
        }
        self.model.load_state_dict(rounded)
        self.end = self.tok.ids["<|end|>"]

    @torch.no_grad()
    def logits(self, text, pixels=None):
        """Float32 logits [vocab] of the token after `text`; `<__media__>` stands for the image."""
        return self._next(*self._embed(text, pixels))

    @torch.no_grad()
    def generate(self, text, pixels=None, limit=120):
        """Greedy continuation of `text` without the final `<|end|>`."""
        x = self._embed(text, pixels)[0]
        out = []
        for _ in range(limit):
            token = int(self._next(x).argmax())
            if token == self.end:
                break
            out.append(token)
            x = torch.cat([x, self.model.token_embd(torch.tensor([[token]]))], 1)
        return self.tok.decode(out)

    def _embed(self, text, pixels):
        before, marker, after = text.partition("<__media__>")
        ids = self.tok.encode(before)
        if not marker:
            return (self.model.token_embd(torch.tensor([ids])),)
        ids.append(self.tok.ids["<|im_start|>"])
        rest = [self.tok.ids["<|im_end|>"], *self.tok.encode(after)]
        image, _ = self.model.vision(torch.from_numpy(np.asarray(pixels)[None].copy()))
        assert image.shape[1] == IMAGE_TOKENS
        parts = (self.model.token_embd(torch.tensor([ids])), image, self.model.token_embd(torch.tensor([rest])))
        return (torch.cat(parts, 1),)

    def _next(self, x):
        length = x.shape[1]
        pos = torch.arange(length)[None]
        mask = (pos[:, None, :] <= pos[:, :, None])[:, None]
        return self.model.logits(self.model.decode(x, pos, mask)[0, -1])
