"""Muon for matrices, AdamW for the rest, under one learning-rate factor."""

import torch


def orthogonalise(g, steps=5):
    """Newton-Schulz iteration on stacked matrices [N, r, c]: singular values towards 1."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = g.bfloat16()
    wide = x.shape[-2] > x.shape[-1]
    if wide:
        x = x.transpose(-1, -2)
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        s = x @ x.transpose(-1, -2)
        x = a * x + (b * s + c * s @ s) @ x
    return (x.transpose(-1, -2) if wide else x).to(g.dtype)


class Muon:
    """Momentum with orthogonalised updates for groups of equally shaped matrices."""

    def __init__(self, params, lr, momentum=0.95, decay=0.01):
        self.lr, self.momentum, self.decay = lr, momentum, decay
        groups = {}
        for p in params:
            groups.setdefault(tuple(p.shape), []).append(p)
        self.groups = list(groups.values())
        self.buffers = [torch.zeros(len(g), *g[0].shape, device=g[0].device) for g in self.groups]

    @torch.no_grad()
    def step(self, factor):
        for group, buffer in zip(self.groups, self.buffers):
            grad = torch.stack([p.grad for p in group])
            buffer.lerp_(grad, 1 - self.momentum)
            update = orthogonalise(grad.lerp(buffer, self.momentum))
            rows, cols = update.shape[-2:]
            lr = self.lr * factor * max(1.0, rows / cols) ** 0.5
            for p, u in zip(group, update):
                p.mul_(1 - self.lr * factor * self.decay).add_(u, alpha=-lr)

    def state_dict(self):
        return {"buffers": self.buffers}

    def load_state_dict(self, state):
        for mine, saved in zip(self.buffers, state["buffers"]):
            mine.copy_(saved)


class Optimisers:
    """Both optimisers behind one step; `factor` in [0, 1] scales all learning rates."""

    def __init__(self, model, lr=0.02, adam_lr=2e-3, embed_lr=5e-3):
        matrices, embeds, rest = [], [], []
        for name, p in model.named_parameters():
            if name.startswith(("token_embd", "output.")):
                embeds.append(p)
            elif p.ndim == 2 and not name.startswith("dense"):
                matrices.append(p)
            else:
                rest.append(p)
        self.muon = Muon(matrices, lr)
        groups = [{"params": embeds, "base": embed_lr}, {"params": rest, "base": adam_lr}]
        self.adam = torch.optim.AdamW(groups, lr=adam_lr, betas=(0.9, 0.98), weight_decay=0.0, fused=True)

    def step(self, factor):
        self.muon.step(factor)
        for group in self.adam.param_groups:
            group["lr"] = group["base"] * factor
        self.adam.step()

    def state_dict(self):
        return {"muon": self.muon.state_dict(), "adam": self.adam.state_dict()}

    def load_state_dict(self, state):
        self.muon.load_state_dict(state["muon"])
        self.adam.load_state_dict(state["adam"])
        for p, moments in self.adam.state.items():
            for key in ("exp_avg", "exp_avg_sq"):
                if moments[key].shape != p.shape:  # dense heads that grew since
                    grown = torch.zeros_like(p)
                    grown[: len(moments[key])] = moments[key]
                    moments[key] = grown
