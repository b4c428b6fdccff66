"""The contrastive losses of AdvCL and of RoCL as the released code takes them, written anew in PyTorch and with nothing of this package.

After Asym-AdvCL (losses.py) and Asym-RoCL (loss.py) of https://github.com/yqy2001/A-InfoNCE. As there, the masks are made in every call.
"""
import math

import torch


def advcl_contrastive(rows, temperature, weight, alpha=None, beta=None, tau=None):
    """rows [4B, D] of unit length, view-major, the adversaries first."""
    n, batch = len(rows), len(rows) // 4
    same = torch.eye(batch, dtype=torch.bool, device=rows.device).repeat(4, 4)
    self_ = torch.eye(n, dtype=torch.bool, device=rows.device)
    positive = (same & ~self_).to(rows.dtype)
    adversarial = torch.arange(n, device=rows.device) < batch

    def terms(columns):
        s = rows @ columns.T / temperature
        shifted = s - s.max(1, keepdim=True).values.detach()
        if beta is None:
            return -(shifted - (shifted.exp() * ~self_).sum(1, keepdim=True).log())
        e = shifted.exp()
        negatives = e * ~same
        pos = (e * positive).sum(1) / 3
        importance = (negatives + 1e-9) ** beta
        count = (batch - 1) * 4
        weighed = importance * negatives / importance.mean(1)        # by broadcasting: column j is divided by the mean of row j
        ng = ((weighed.sum(1) - tau * count * pos) / (1 - tau)).clamp_min(count * math.exp(-2))
        return -(e / (pos + ng)).log()                               # the same slip: the denominator of the column

    def part(values, rows_, columns_):
        return (values * positive * rows_[:, None] * columns_[None]).sum()

    clean = ~adversarial
    l = terms(rows)
    if alpha is None:
        total = part(l, clean, clean) + (weight + weight ** 2) * part(l, adversarial, clean)
    else:
        detached = terms(rows.detach())
        total = part(l, clean, clean) + 2 * weight * (alpha * part(detached, clean, adversarial) + (1 - alpha) * part(detached, adversarial, clean))
    return temperature / 0.07 * total / (3 * n)


def rocl_contrastive(outputs, views, pairs, temperature, beta=None, tau=None):
    """outputs [views * B, D] of any length; `pairs` (row view, column view, weight)."""
    n, batch = len(outputs), len(outputs) // views
    z = outputs / (outputs.norm(dim=1, keepdim=True) + 1e-8)
    e = (z @ z.T.detach() / temperature).exp()
    eye = torch.eye(n, dtype=torch.bool, device=z.device)
    if beta is None:
        e = e * ~eye
        l = -(e / (e.sum(1, keepdim=True) + 1e-8) + 1e-8).log()
    else:
        same = torch.eye(batch, dtype=torch.bool, device=z.device).repeat(views, views)
        negatives, count = e * ~same, (batch - 1) * views
        pos = (e * (same & ~eye)).sum(1) / (views - 1)
        importance = (negatives + 1e-9) ** beta
        weighed = importance * negatives / importance.mean(1)
        ng = ((weighed.sum(1) - tau * count * pos) / (1 - tau)).clamp_min(count * math.exp(-2))
        l = -(e / (pos + ng)[:, None]).log()
    block = lambda row, column: l[row * batch:(row + 1) * batch, column * batch:(column + 1) * batch]
    return sum(weight * block(row, column).diagonal().sum() for row, column, weight in pairs) / n
