"""Small networks whose derivatives exist twice: a residual conv net and a causal transformer."""

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention, silu


class ResidualNet(nn.Module):
    """A stem that takes a third of the side, residual blocks of two convolutions with group norms, one head."""

    def __init__(self, outputs: int, channels: int, blocks: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, channels, 4, stride=3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.GroupNorm(2, channels),
                nn.SiLU(),
                nn.Conv2d(channels, channels, 3, padding=1),
                nn.GroupNorm(2, channels),
                nn.SiLU(),
                nn.Conv2d(channels, channels, 3, padding=1),
            )
            for _ in range(blocks)
        )
        self.head = nn.Linear(channels * 4, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, side, side) to outputs (B, outputs)."""
        h = self.stem(x[:, None])  # (B, C, side / 3, side / 3)
        for block in self.blocks:
            h = h + block(h)
        return self.head(nn.functional.adaptive_avg_pool2d(silu(h), 2).flatten(1))


class _Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, h: Tensor) -> Tensor:
        q, k, v = self.qkv(self.before(h)).unflatten(-1, (3, self.heads, -1)).movedim(2, 0).transpose(2, 3)
        mixed = scaled_dot_product_attention(q, k, v, is_causal=True)  # (B, heads, T, width / heads)
        h = h + self.out(mixed.transpose(1, 2).flatten(2))
        return h + self.down(silu(self.up(self.between(h))))


class Transformer(nn.Module):
    """A causal transformer over characters, all heads in one linear layer."""

    def __init__(self, vocabulary: int, length: int, outputs: int, *, width: int, heads: int, layers: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, width)
        self.position = nn.Parameter(0.02 * torch.randn(length, width))
        self.blocks = nn.ModuleList(_Block(width, heads) for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, outputs)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens (B, T) to outputs (B, T, outputs)."""
        h = self.embed(tokens) + self.position
        for block in self.blocks:
            h = block(h)
        return self.head(self.norm(h))
