"""The demo's networks in layouts that ComfyUI's own loaders detect: FLUX.1-schnell and TAESD, both tiny."""

from __future__ import annotations

import here  # noqa: F401  # isort: skip

import comfy.options
import torch
import torch.nn.functional as F
from torch import Tensor, nn

comfy.options.enable_args_parsing(False)
from comfy.cli_args import args  # noqa: E402

args.cpu = not torch.cuda.is_available()
import comfy.model_management  # noqa: E402
from comfy.ldm.flux.layers import timestep_embedding  # noqa: E402
from comfy.ldm.flux.model import Flux  # noqa: E402
from comfy.taesd.taesd import TAESD  # noqa: E402

CHANNELS, TOKENS, WIDTH = 16, 2, 64  # latent channels; prompt tokens and their width
LATENT_SCALE, LATENT_SHIFT = 0.3611, 0.1159  # the host's latent format of FLUX


class Block(nn.Module):
    """TAESD's block, three convolutions beside an identity; without them what is left is a ReLU."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(_conv(width), nn.ReLU(), _conv(width), nn.ReLU(), _conv(width))
        self.conv[-1].weight.data *= 0.3

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv(x) + x)


class Autoencoder(nn.Module):
    """TAESD with most of its cost taken out: channels and blocks that are missing here are zeros in `export`.

    Widths are those at full, half, quarter and eighth resolution, blocks likewise (TAESD: 64 everywhere; 1, 3, 3, 3).
    """

    def __init__(self, widths: tuple[int, ...] = (16, 32, 64, 64), blocks: tuple[int, ...] = (0, 1, 2, 3)) -> None:
        super().__init__()
        levels = list(zip(widths, blocks, (1, 3, 3, 3)))
        encoder: list[nn.Module] = [_conv(3, widths[0]), *_blocks(*levels[0])]
        for above, level in zip(widths, levels[1:]):
            encoder += [_conv(above, level[0], stride=2, bias=False), *_blocks(*level)]
        decoder: list[nn.Module] = [_Clamp(), _conv(CHANNELS, widths[-1]), nn.ReLU()]
        for below, level in zip(widths[-2::-1], levels[:0:-1]):
            decoder += [*_blocks(*level), nn.Upsample(scale_factor=2), _conv(level[0], below, bias=False)]
        self.encoder = nn.Sequential(*encoder, _conv(widths[-1], CHANNELS))
        self.decoder = nn.Sequential(*decoder, *_blocks(*levels[0]), _conv(widths[0], 3))
        self.decoder[-1].weight.data *= 0.1
        nn.init.constant_(self.decoder[-1].bias, 0.5)
        self.norm = nn.BatchNorm2d(CHANNELS, affine=False, momentum=0.02)

    def encode(self, pictures: Tensor) -> Tensor:
        """(B, 3, H, W) in 0..1 -> (B, CHANNELS, H/8, W/8), each channel of zero mean and unit deviation."""
        return self.norm(self.encoder(pictures).float())

    def decode(self, latents: Tensor) -> Tensor:
        return self.decoder(latents)

    def export(self) -> dict[str, Tensor]:
        """A state dict of the host's TAESD whose latents, after the host's FLUX scaling, are `encode`'s."""
        encoder, deviation = dict(self.encoder.state_dict()), (self.norm.running_var + self.norm.eps).sqrt()
        last = max((key for key in encoder if key.endswith(".bias")), key=lambda key: int(key.split(".")[0]))
        weight = last.replace("bias", "weight")
        encoder[last] = (encoder[last] - self.norm.running_mean) / deviation
        encoder[weight] = encoder[weight] / deviation[:, None, None, None]
        narrow = {f"taesd_encoder.{key}": value for key, value in encoder.items()}
        narrow |= {f"taesd_decoder.{key}": value for key, value in self.decoder.state_dict().items()}
        narrow |= {"vae_scale": torch.tensor(LATENT_SCALE), "vae_shift": torch.tensor(LATENT_SHIFT)}
        full = {key: torch.zeros_like(value) for key, value in TAESD(latent_channels=CHANNELS).state_dict().items()}
        for key, value in narrow.items():
            full[key][tuple(slice(n) for n in value.shape)] = value
        return full

    @classmethod
    def from_export(cls, state: dict[str, Tensor]) -> Autoencoder:
        """The narrow network again, from the file that the host loads."""
        model = cls()
        for part in ("encoder", "decoder"):
            own = getattr(model, part).state_dict()
            getattr(model, part).load_state_dict(
                {
                    key: state[f"taesd_{part}.{key}"][tuple(slice(n) for n in value.shape)].float()
                    for key, value in own.items()
                }
            )
        model.norm.eps = 0.0  # its statistics are in the encoder's last layer already
        return model.eval()


def _blocks(width: int, kept: int, total: int) -> list[nn.Module]:
    return [Block(width) for _ in range(kept)] + [nn.ReLU() for _ in range(total - kept)]


class _Clamp(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x / 3) * 3


def _conv(inputs: int, outputs: int | None = None, **options) -> nn.Conv2d:
    layer = nn.Conv2d(inputs, outputs or inputs, 3, padding=1, **options)
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def flux() -> Flow:
    """FLUX.1-schnell's layout: width 128, one head, one double and three single blocks; modulation starts at zero."""
    model = Flow(
        in_channels=CHANNELS, out_channels=CHANNELS, vec_in_dim=WIDTH, context_in_dim=WIDTH, hidden_size=128,
        mlp_ratio=4.0, num_heads=1, depth=1, depth_single_blocks=3, axes_dim=[16, 56, 56], theta=10000, patch_size=2,
        qkv_bias=True, guidance_embed=False, txt_ids_dims=[], operations=nn, dtype=torch.float32, device="cpu",
    )  # fmt: skip
    for name, parameter in model.named_parameters():
        if ".lin." in name or "adaLN" in name or name.startswith("final_layer.linear"):
            nn.init.zeros_(parameter)
    return model


class Flow(Flux):
    """The host's FLUX with a forward written for training on a CPU: same parameters, same function, no in-place ops."""

    def velocity(self, x: Tensor, t: Tensor, context: Tensor, pooled: Tensor) -> Tensor:
        """x (B, C, H, W), t (B,) in 0..1, context (B, N, WIDTH), pooled (B, WIDTH) -> noise - data, like x."""
        batch, channels, height, width = x.shape
        patches = x.reshape(batch, channels, height // 2, 2, width // 2, 2).permute(0, 2, 4, 1, 3, 5).flatten(3)
        image, text = self.img_in(patches.flatten(1, 2)), self.txt_in(context)
        mood = F.silu(self.time_in(timestep_embedding(t, 256)) + self.vector_in(pooled))[:, None]
        turn = _rotations(context.shape[1], height // 2, width // 2)
        for block in self.double_blocks:
            image_mod, text_mod = block.img_mod.lin(mood).chunk(6, -1), block.txt_mod.lin(mood).chunk(6, -1)
            text_qkv = _qkv(block.txt_attn, _modulate(text, *text_mod[:2]))
            image_qkv = _qkv(block.img_attn, _modulate(image, *image_mod[:2]))
            mixed = _attend(*(torch.cat(pair, 1) for pair in zip(text_qkv, image_qkv)), turn)
            text_mixed, image_mixed = mixed.split([text.shape[1], image.shape[1]], 1)
            image = image + image_mod[2] * block.img_attn.proj(image_mixed)
            image = image + image_mod[5] * block.img_mlp(_modulate(image, *image_mod[3:5]))
            text = text + text_mod[2] * block.txt_attn.proj(text_mixed)
            text = text + text_mod[5] * block.txt_mlp(_modulate(text, *text_mod[3:5]))
        tokens = torch.cat([text, image], 1)
        for block in self.single_blocks:
            shift, scale, gate = block.modulation.lin(mood).chunk(3, -1)
            hidden = block.linear1(_modulate(tokens, shift, scale))
            q, k, v, inner = hidden.split([128, 128, 128, 512], -1)
            mixed = _attend(_rms(q, block.norm.query_norm), _rms(k, block.norm.key_norm), v, turn)
            tokens = tokens + gate * block.linear2(torch.cat([mixed, block.mlp_act(inner)], -1))
        shift, scale = self.final_layer.adaLN_modulation[1](mood).chunk(2, -1)
        out = self.final_layer.linear(_modulate(tokens[:, text.shape[1] :], shift, scale)).float()
        out = out.reshape(batch, height // 2, width // 2, channels, 2, 2).permute(0, 3, 1, 4, 2, 5)
        return out.reshape(x.shape)


def _modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return torch.addcmul(shift, F.layer_norm(x, (x.shape[-1],), eps=1e-6).to(shift.dtype), 1 + scale)


def _rms(x: Tensor, norm: nn.RMSNorm) -> Tensor:
    x = x.float()
    return x * (x.square().mean(-1, keepdim=True) + (norm.eps or torch.finfo(torch.float32).eps)).rsqrt() * norm.weight


def _qkv(attention: nn.Module, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    q, k, v = attention.qkv(x).chunk(3, -1)
    return _rms(q, attention.norm.query_norm), _rms(k, attention.norm.key_norm), v


def _rotations(texts: int, rows: int, columns: int) -> Tensor:
    """(texts + rows * columns, 64, 2) cosine and sine of each pair's angle; text sits at the origin."""
    ids = torch.zeros(texts + rows * columns, 3)
    ids[texts:, 1] = torch.arange(rows).repeat_interleave(columns)
    ids[texts:, 2] = torch.arange(columns).repeat(rows)
    angles = [
        ids[:, k, None] * 10000.0 ** -(torch.arange(0, axis, 2, dtype=torch.float64) / axis).float()
        for k, axis in enumerate((16, 56, 56))
    ]
    angles = torch.cat(angles, 1)
    return torch.stack([angles.cos(), angles.sin()], -1)


def _attend(q: Tensor, k: Tensor, v: Tensor, turn: Tensor) -> Tensor:
    """One head of attention over (B, L, 128) with rotary positions on interleaved pairs."""

    def rotate(x: Tensor) -> Tensor:
        a, b = x.unflatten(-1, (-1, 2)).unbind(-1)
        cos, sin = turn.unbind(-1)
        return torch.stack([a * cos - b * sin, a * sin + b * cos], -1).flatten(-2)

    q, k = rotate(q).to(v.dtype), rotate(k).to(v.dtype)
    weights = (q @ k.transpose(1, 2)).float().mul(q.shape[-1] ** -0.5).softmax(-1)
    return weights.to(v.dtype) @ v


class Prompts(nn.Module):
    """A table of learned prompt embeddings; the last row is the empty prompt."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.context = nn.Parameter(torch.randn(count + 1, TOKENS, WIDTH))
        self.pooled = nn.Parameter(torch.randn(count + 1, WIDTH))

    def forward(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        return self.context[rows], self.pooled[rows]
