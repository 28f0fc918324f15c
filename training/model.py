"""P-Nano: a ViT with 2-D rotary positions, a 2x2 patch merger and a decoder with grouped queries.

Everything here is what llama.cpp computes for projector type `lightonocr` and architecture
`qwen3`; names of the modules follow the tensors of the two GGUF files.
"""

from dataclasses import asdict, dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn


@dataclass
class Config:
    vocab: int = 0
    # encoder
    patch: int = 8
    grid: int = 16
    v_dim: int = 128
    v_layers: int = 3
    v_heads: int = 4
    v_ff: int = 256
    v_merge: int = 192
    v_theta: float = 10000.0
    # decoder
    dim: int = 192
    layers: int = 4
    heads: int = 4
    kv_heads: int = 4
    head: int = 64
    ff: int = 384
    theta: float = 10000.0
    context: int = 1024
    eps: float = 1e-6
    # classes of the dense heads (training only): color, shape, character, mark, category, level
    dense: tuple = (9, 7, 39, 17, 39, 22)

    def to_dict(self):
        return asdict(self)


class RMSNorm(nn.Module):
    """x / rms(x) * weight over the last dimension, computed in float32."""

    def __init__(self, dim, eps):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.eps = eps

    def forward(self, x):
        y = x.float()
        y = y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + self.eps)
        return (y * self.weight).to(x.dtype)


class Linear(nn.Linear):
    def __init__(self, n_in, n_out, bias=False):
        super().__init__(n_in, n_out, bias=bias)
        nn.init.normal_(self.weight, std=n_in**-0.5)
        if bias:
            nn.init.zeros_(self.bias)


def attend(q, k, v, mask=None):
    """Plain attention; q, k, v [B, H, L, D]; mask boolean [B, 1, L, L], True where visible."""
    scores = (q @ k.transpose(-1, -2)) * (q.shape[-1] ** -0.5)
    if mask is not None:
        scores = scores.masked_fill(~mask, -30000.0)
    return scores.softmax(-1) @ v


class FeedForward(nn.Module):
    """SwiGLU: down(silu(gate(x)) * up(x))."""

    def __init__(self, dim, ff):
        super().__init__()
        self.gate = Linear(dim, ff)
        self.up = Linear(dim, ff)
        self.down = Linear(ff, dim)
        nn.init.zeros_(self.down.weight)

    def forward(self, x):
        return self.down(F.silu(self.gate(x)) * self.up(x))


def vision_rope(cfg):
    """cos and sin [256, head/2] for adjacent pairs: rows in the first half, columns in the second."""
    half = cfg.v_dim // cfg.v_heads // 2
    freq = cfg.v_theta ** (-2 * torch.arange(half // 2).float() / half)
    scale = cfg.v_theta ** (-2 / (2 * half))
    place = torch.arange(cfg.grid).float()
    row = place.repeat_interleave(cfg.grid)[:, None] * freq
    col = place.repeat(cfg.grid)[:, None] * freq * scale
    angle = torch.cat([row, col], -1)
    return angle.cos(), angle.sin()


def rotate_pairs(x, cos, sin):
    """Rotates (x0, x1), (x2, x3), ...; x [B, H, L, D], cos and sin [L, D/2]."""
    a, b = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack([a * cos - b * sin, a * sin + b * cos], -1).flatten(-2).to(x.dtype)


def rotate_halves(x, cos, sin):
    """Rotates (x_i, x_{i+D/2}); x [B, H, L, D], cos and sin [B, 1, L, D/2]."""
    a, b = x.float().chunk(2, -1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], -1).to(x.dtype)


class VisionLayer(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        d, self.heads = cfg.v_dim, cfg.v_heads
        self.ln1, self.ln2 = RMSNorm(d, cfg.eps), RMSNorm(d, cfg.eps)
        self.q, self.k, self.v = Linear(d, d), Linear(d, d), Linear(d, d)
        self.out = Linear(d, d)
        nn.init.zeros_(self.out.weight)
        head = d // cfg.v_heads
        self.q_norm, self.k_norm = RMSNorm(head, cfg.eps), RMSNorm(head, cfg.eps)
        self.ffn = FeedForward(d, cfg.v_ff)

    def forward(self, x, cos, sin):
        y = self.ln1(x)
        q, k, v = (f(y).unflatten(-1, (self.heads, -1)) for f in (self.q, self.k, self.v))
        q, k = self.q_norm(q).transpose(1, 2), self.k_norm(k).transpose(1, 2)
        z = attend(rotate_pairs(q, cos, sin), rotate_pairs(k, cos, sin), v.transpose(1, 2))
        x = x + self.out(z.transpose(1, 2).flatten(2))
        return x + self.ffn(self.ln2(x))


class Vision(nn.Module):
    """Pixels [B, 128, 128, 3] uint8 to 64 tokens [B, 64, dim] and patches [B, 256, v_dim]."""

    def __init__(self, cfg):
        super().__init__()
        self.cfg = cfg
        self.patch_embd = Linear(cfg.patch * cfg.patch * 3, cfg.v_dim, bias=True)
        self.pre_ln = RMSNorm(cfg.v_dim, cfg.eps)
        self.blk = nn.ModuleList(VisionLayer(cfg) for _ in range(cfg.v_layers))
        self.input_norm = RMSNorm(cfg.v_dim, cfg.eps)
        self.patch_merger = Linear(4 * cfg.v_dim, cfg.v_merge)
        self.mm1 = Linear(cfg.v_merge, cfg.dim, bias=True)
        self.mm2 = Linear(cfg.dim, cfg.dim, bias=True)
        cos, sin = vision_rope(cfg)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def forward(self, pixels):
        p, g = self.cfg.patch, self.cfg.grid
        x = pixels.float() / 127.5 - 1.0
        x = x.unflatten(1, (g, p)).unflatten(3, (g, p))  # B, gy, py, gx, px, C
        x = x.permute(0, 1, 3, 5, 2, 4).reshape(x.shape[0], g * g, 3 * p * p)  # C, py, px
        x = self.pre_ln(self.patch_embd(x))
        for layer in self.blk:
            x = layer(x, self.cos, self.sin)
        patches = x
        y = self.input_norm(x).unflatten(1, (g // 2, 2, g // 2, 2))  # B, Y, kh, X, kw, C
        y = y.permute(0, 1, 3, 5, 2, 4).reshape(x.shape[0], (g // 2) ** 2, -1)  # C, kh, kw
        y = self.patch_merger(y)
        return self.mm2(F.gelu(self.mm1(y), approximate="tanh")), patches


class DecoderLayer(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.cfg = cfg
        d = cfg.dim
        self.attn_norm, self.ffn_norm = RMSNorm(d, cfg.eps), RMSNorm(d, cfg.eps)
        self.q = Linear(d, cfg.heads * cfg.head)
        self.k = Linear(d, cfg.kv_heads * cfg.head)
        self.v = Linear(d, cfg.kv_heads * cfg.head)
        self.out = Linear(cfg.heads * cfg.head, d)
        nn.init.zeros_(self.out.weight)
        self.q_norm, self.k_norm = RMSNorm(cfg.head, cfg.eps), RMSNorm(cfg.head, cfg.eps)
        self.ffn = FeedForward(d, cfg.ff)

    def forward(self, x, cos, sin, mask):
        y = self.attn_norm(x)
        q, k, v = (f(y).unflatten(-1, (-1, self.cfg.head)) for f in (self.q, self.k, self.v))
        q, k = self.q_norm(q).transpose(1, 2), self.k_norm(k).transpose(1, 2)
        repeat = self.cfg.heads // self.cfg.kv_heads
        q = rotate_halves(q, cos, sin)
        k = rotate_halves(k, cos, sin).repeat_interleave(repeat, 1)
        v = v.transpose(1, 2).repeat_interleave(repeat, 1)
        z = attend(q, k, v, mask)
        x = x + self.out(z.transpose(1, 2).flatten(2))
        return x + self.ffn(self.ffn_norm(x))


class Nano(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.cfg = cfg
        self.vision = Vision(cfg)
        self.token_embd = nn.Embedding(cfg.vocab, cfg.dim)
        nn.init.normal_(self.token_embd.weight, std=0.5)
        self.blk = nn.ModuleList(DecoderLayer(cfg) for _ in range(cfg.layers))
        self.output_norm = RMSNorm(cfg.dim, cfg.eps)
        self.output = Linear(cfg.dim, cfg.vocab)
        nn.init.normal_(self.output.weight, std=0.02)
        self.dense = Linear(cfg.v_dim, sum(cfg.dense), bias=True)  # training only
        freq = cfg.theta ** (-2 * torch.arange(cfg.head // 2).float() / cfg.head)
        self.register_buffer("freq", freq, persistent=False)

    def decode(self, x, pos, mask):
        """Hidden states [B, L, dim] of inputs x at positions pos [B, L]."""
        angle = pos.float()[:, None, :, None] * self.freq
        cos, sin = angle.cos(), angle.sin()
        for layer in self.blk:
            x = layer(x, cos, sin, mask)
        return self.output_norm(x)

    def logits(self, hidden):
        return self.output(hidden)

    def forward(self, pixels, ids, seg, pos, where):
        """Logits [A, vocab] at the flat slots `where` and dense logits [B, 256, classes]."""
        tokens, patches = self.vision(pixels)
        text = self.token_embd(ids)
        x = torch.cat([tokens.to(text.dtype), text], 1)
        hidden = self.decode(x, pos, block_mask(seg, pos))
        return self.logits(hidden.flatten(0, 1)[where]), self.dense(patches)


def block_mask(seg, pos):
    """Who sees whom [B, 1, L, L]: own segment and, for dialogs on the image, segment 0, causally."""
    query, key = seg[:, :, None], seg[:, None, :]
    on_image = (key == 0) & (query >= 1) & (query < 100)
    visible = (query == key) | on_image
    return (visible & (pos[:, None, :] <= pos[:, :, None]))[:, None]


def to_device(batch, device):
    """The arrays of a packed batch as the tensors Nano takes."""
    arrays = {k: v for k, v in batch.items() if isinstance(v, np.ndarray)}
    out = {k: torch.from_numpy(v) for k, v in arrays.items()}
    for key in ("ids", "where"):
        out[key] = out[key].long()
    out["seg"], out["pos"] = out["seg"].int(), out["pos"].int()
    return {k: v.to(device, non_blocking=True) for k, v in out.items()}
