"""Train the demo's models, stage by stage, resumably: python tests/demo/train.py --stage autoencoder --out DIR."""

from __future__ import annotations

import argparse
import copy
import logging
import math
import time
from pathlib import Path

import drawings
import here  # noqa: F401
import torch
import torch.nn.functional as F
from networks import CHANNELS, Autoencoder, Prompts, flux
from safetensors.torch import save_file
from sampling import euler, guided
from torch import Tensor, nn

from noise_optimize.objectives.features.demo import WIDTH, Tower

log = logging.getLogger("train")
GUIDANCE = 4.0
OFTEN = torch.tensor([1, 1, 1, 1, 1.5, 1, 2.5, 1.5])  # how often a teacher's batch has each prompt: the hard ones more
LEVELS = (1.0, 0.75, 0.5, 0.25, 0.0)  # the schedule "simple" of FLUX.1-schnell, 4 steps


def gradients(x: Tensor) -> tuple[Tensor, Tensor]:
    return x[..., 1:] - x[..., :-1], x[..., 1:, :] - x[..., :-1, :]


def mixed_prompts(count: int, generator: torch.Generator, uniform: float = 0.5) -> Tensor:
    """(N, attributes): a part drawn uniformly over all looks, the rest by the prompts' long tail."""
    prompts = torch.randint(len(drawings.PROMPTS), (count,), generator=generator)
    tail, flat = (drawings.sample_attributes(prompts, generator, uniform=u) for u in (False, True))
    return torch.where(torch.rand(count, 1, generator=generator) < uniform, flat, tail)


def crops(pictures: Tensor, side: int, generator: torch.Generator) -> Tensor:
    if side == pictures.shape[-1]:
        return pictures
    corners = torch.randint(pictures.shape[-1] - side + 1, (len(pictures), 2), generator=generator).tolist()
    return torch.stack([picture[:, y : y + side, x : x + side] for picture, (y, x) in zip(pictures, corners)])


def autoencoder(out: Path, steps: int, batch: int = 32, noise: float = 0.07) -> None:
    """L1 and L2 of pictures, L1 of their gradients; a thousand steps on 32-pixel crops, then on whole pictures."""
    path, generator = out / "autoencoder.pt", torch.Generator().manual_seed(1)
    model = Autoencoder().to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.99), weight_decay=1e-4)
    first = 0
    if path.exists():
        saved = torch.load(path)
        model.load_state_dict(saved["model"]), optimiser.load_state_dict(saved["optimiser"])
        first = saved["step"]
        generator.manual_seed(1 + first)
    start, running = time.time(), None
    pool = drawings.draw(mixed_prompts(1024, generator), generator)
    for step in range(first, steps):
        if step % 200 == 199:
            pool = drawings.draw(mixed_prompts(1024, generator), generator)
        whole = step >= 1000
        rows = torch.randint(len(pool), (batch // 4 if whole else batch,), generator=generator)
        x = crops(pool[rows], 64 if whole else 32, generator)
        for group in optimiser.param_groups:
            group["lr"] = 2e-3 * cosine(step, steps)
        x = x.contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            z = model.encode(x)
            y = model.decode(z + noise * torch.randn(z.shape, generator=generator)).float()
        detail = sum(F.l1_loss(a, b) for a, b in zip(gradients(y), gradients(x)))
        loss = F.l1_loss(y, x) + 2 * F.mse_loss(y, x) + 0.5 * detail
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        error = F.mse_loss(y.detach(), x).item()
        running = error if step < first + 50 else 0.98 * running + 0.02 * error
        if step % 50 == 0:
            log.info(
                "ae %d/%d loss %.4f psnr %.2f  %.3f s/step",
                step,
                steps,
                loss.item(),
                -10 * torch.tensor(running).log10().item(),
                (time.time() - start) / (step - first + 1),
            )
        if step % 200 == 199 or step == steps - 1:
            torch.save({"model": model.state_dict(), "optimiser": optimiser.state_dict(), "step": step + 1}, path)


def pictures(out: Path, steps: int) -> None:
    """Draw `steps` thousand pictures by the prompts' long tail, and half as many uniformly for the judge."""
    for name, thousands, uniform, seed in (("uniform", steps // 2, 1.0, 2), ("tail", steps, 0.0, 3)):
        generator, drawn, rows = torch.Generator().manual_seed(seed), [], []
        for _ in range(4 * thousands):
            rows.append(mixed_prompts(256, generator, uniform))
            drawn.append(drawings.draw(rows[-1], generator).mul(255).round().byte())
        torch.save({"pictures": torch.cat(drawn), "attributes": torch.cat(rows)}, out / f"{name}.pt")
        log.info("drew %d %s", len(drawn) * 256, name)


def spoil(x: Tensor, generator: torch.Generator) -> Tensor:
    """Blur and grain, a random amount for each picture, as a decoder may leave them."""
    share = torch.rand(2, len(x), 1, 1, 1, generator=generator)
    soft = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1)
    x = x + share[0] * (soft - x) + 0.08 * share[1] ** 2 * torch.randn(x.shape, generator=generator)
    return x.contiguous(memory_format=torch.channels_last)


def judge(out: Path, steps: int, batch: int = 64) -> None:
    """A classifier of every attribute, on drawings of all looks alike; neither optimiser nor features see it."""
    data, generator = torch.load(out / "uniform.pt"), torch.Generator().manual_seed(4)
    torch.manual_seed(4)
    model = Tower(sum(drawings.COUNTS)).to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(model.parameters(), weight_decay=0.01)
    held = 1024
    start = time.time()
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = 2e-3 * cosine(step, steps)
        rows = held + torch.randint(len(data["pictures"]) - held, (batch,), generator=generator)
        x, labels = spoil(data["pictures"][rows].float() / 255, generator), data["attributes"][rows]
        heads = model(x).split(drawings.COUNTS, 1)
        loss = sum(F.cross_entropy(head, labels[:, k], label_smoothing=0.02) for k, head in enumerate(heads))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if step % 100 == 99 or step == steps - 1:
            with torch.no_grad():
                heads = model(data["pictures"][:held].float() / 255).split(drawings.COUNTS, 1)
            right = torch.stack([head.argmax(1) for head in heads], 1) == data["attributes"][:held]
            log.info(
                "judge %d loss %.3f right %s  %.2f s/step",
                step + 1,
                loss.item(),
                [f"{r:.3f}" for r in right.float().mean(0)],
                (time.time() - start) / (step + 1),
            )
            torch.save(model.state_dict(), out / "judge.pt")


def score(out: Path, steps: int, batch: int = 64) -> None:
    """What a drawing shows, as a CLIP score would: other data and seed than the judge's; mixtures show nothing."""
    data, generator = torch.load(out / "tail.pt"), torch.Generator().manual_seed(9)
    torch.manual_seed(9)
    model, kinds = Tower(len(drawings.PROMPTS)).to(memory_format=torch.channels_last), len(drawings.PROMPTS)
    optimiser = torch.optim.AdamW(model.parameters(), weight_decay=0.01)
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = 2e-3 * cosine(step, steps)
        rows = torch.randint(len(data["pictures"]), (batch,), generator=generator)
        x, what = spoil(data["pictures"][rows].float() / 255, generator), data["attributes"][rows, 0]
        target = F.one_hot(what, kinds).float()
        half = batch // 3
        other = torch.randperm(batch, generator=generator)[:half]
        differ = (what[other] != what[:half])[:, None].float()
        share = 0.35 + 0.3 * torch.rand(half, 1, 1, 1, generator=generator)
        x = torch.cat([x[:half].lerp(x[other], share), x[half:]])
        target[:half] = target[:half] * (1 - differ) + differ / kinds
        loss = F.cross_entropy(model(x), target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if step % 100 == 99 or step == steps - 1:
            log.info("score %d loss %.3f", step + 1, loss.item())
            torch.save(model.state_dict(), out / "score.pt")


def features(out: Path, steps: int, batch: int = 64, temperature: float = 0.3) -> None:
    """SimCLR without labels: two spoiled, slightly moved, partly hidden views of a drawing are one, others are not."""
    data, generator = torch.load(out / "tail.pt")["pictures"], torch.Generator().manual_seed(5)
    torch.manual_seed(5)
    model = Tower(WIDTH).to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(model.parameters(), weight_decay=0.01)
    start = time.time()

    def view(x: Tensor) -> Tensor:
        x = spoil(x, generator)
        move = torch.randint(-2, 3, (2,), generator=generator).tolist()
        x = F.pad(x, (2, 2, 2, 2), mode="replicate")[:, :, 2 + move[0] : 66 + move[0], 2 + move[1] : 66 + move[1]]
        tint = 1 + 0.1 * (torch.rand(len(x), 3, 1, 1, generator=generator) - 0.5)
        hidden = F.interpolate((torch.rand(len(x), 1, 8, 8, generator=generator) < 0.15).float(), scale_factor=8)
        return x * tint * (1 - hidden) + 0.5 * hidden

    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = 2e-3 * cosine(step, steps)
        rows = torch.randint(len(data), (batch,), generator=generator)
        x = data[rows].float() / 255
        phi = F.normalize(model(torch.cat([view(x), view(x)])), dim=1)
        logits = phi @ phi.T / temperature - 1e4 * torch.eye(2 * batch)
        loss = F.cross_entropy(logits, torch.arange(2 * batch).roll(batch))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if step % 100 == 99 or step == steps - 1:
            log.info("features %d loss %.3f  %.2f s/step", step + 1, loss.item(), (time.time() - start) / (step + 1))
            torch.save(model.state_dict(), out / "features.pt")


def cosine(step: int, steps: int, warm: int = 50) -> float:
    return min(1.0, (step + 1) / warm) * max(0.01, 0.5 * (1 + math.cos(math.pi * step / steps)))


@torch.no_grad()
def latents(out: Path, steps: int) -> None:
    """Draw `steps` thousand pictures by the prompts' long tail and encode them."""
    model, generator = Autoencoder().to(memory_format=torch.channels_last), torch.Generator().manual_seed(10)
    model.load_state_dict(torch.load(out / "autoencoder.pt")["model"])
    model.eval()
    encoded, prompts = [], []
    for part_ in range(4 * steps):
        rows = mixed_prompts(256, generator, uniform=0.0)
        x = drawings.draw(rows, generator).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            encoded.append(model.encode(x).half().contiguous())
        prompts.append(rows[:, 0])
        if part_ % 16 == 15:
            torch.save({"latents": torch.cat(encoded), "prompts": torch.cat(prompts)}, out / "latents.pt")
            log.info("%d latents of deviation %.3f", 256 * len(encoded), encoded[-1].float().std().item())


def teacher(out: Path, steps: int, batch: int = 128, rate: float = 1.5e-3, dropout: float = 0.12) -> None:
    """Flow matching: predict noise - data; the prompt is dropped for guidance; the rate falls over the last fifth."""
    path, generator = out / "teacher.pt", torch.Generator().manual_seed(6)
    torch.manual_seed(6)
    data = torch.load(out / "latents.pt")
    model = nn.ModuleDict({"flux": flux(), "prompts": Prompts(len(drawings.PROMPTS))})
    average = copy.deepcopy(model).requires_grad_(False)
    optimiser = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.98), weight_decay=0.01)
    first = 0
    if path.exists():
        saved = torch.load(path)
        model.load_state_dict(saved["model"]), average.load_state_dict(saved["average"])
        optimiser.load_state_dict(saved["optimiser"])
        first = saved["step"]
        generator.manual_seed(6 + first)
    start, running = time.time(), 0.0
    for step in range(first, steps):
        for group in optimiser.param_groups:
            group["lr"] = rate * min(1, (step + 1) / 200, max(0.02, (steps - step) / (0.2 * steps)))
        rows = torch.multinomial(OFTEN[data["prompts"]], batch, generator=generator)
        clean = data["latents"][rows].float()
        noise = torch.randn(clean.shape, generator=generator)
        time_ = torch.randn(batch, generator=generator).sigmoid()
        time_ = torch.where(torch.rand(batch, generator=generator) < 0.2, torch.rand(batch, generator=generator), time_)
        level = time_[:, None, None, None]
        names = data["prompts"][rows].masked_fill(
            torch.rand(batch, generator=generator) < dropout, len(drawings.PROMPTS)
        )
        context, pooled = model["prompts"](names)
        with torch.autocast("cpu", torch.bfloat16):
            v = model["flux"].velocity(level * noise + (1 - level) * clean, time_, context, pooled)
        loss = F.mse_loss(v, noise - clean)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        follow(average, model, min(0.999, (step + 1) / (step + 10)))
        running = loss.item() if step < first + 10 else 0.99 * running + 0.01 * loss.item()
        if step % 100 == 99 or step == steps - 1:
            log.info("teacher %d loss %.4f  %.3f s/step", step + 1, running, (time.time() - start) / (step - first + 1))
            state = {"model": model.state_dict(), "average": average.state_dict()}
            torch.save(state | {"optimiser": optimiser.state_dict(), "step": step + 1}, path)


@torch.no_grad()
def follow(average: nn.Module, model: nn.Module, decay: float) -> None:
    for slow, fast in zip(average.parameters(), model.parameters()):
        slow.lerp_(fast, 1 - decay)


@torch.no_grad()
def trajectories(out: Path, steps: int, batch: int = 256) -> None:
    """`steps` hundred paths of the guided teacher, kept at the student's noise levels."""
    path, generator = out / "paths.pt", torch.Generator().manual_seed(7)
    average = torch.load(out / "teacher.pt")["average"]
    model = nn.ModuleDict({"flux": flux(), "prompts": Prompts(len(drawings.PROMPTS))})
    model.load_state_dict(average)
    paths, names = [], []
    for _ in range(math.ceil(100 * steps / batch)):
        rows = torch.randint(len(drawings.PROMPTS), (batch,), generator=generator)
        x = torch.randn(batch, CHANNELS, 8, 8, generator=generator)
        velocity, path_ = guided(model["flux"], model["prompts"], rows, GUIDANCE), [x]
        with torch.autocast("cpu", torch.bfloat16):
            for now, then in zip(LEVELS[:-1], LEVELS[1:]):
                x = euler(velocity, x, torch.linspace(now, then, 4))
                path_.append(x)
        paths.append(torch.stack(path_, 1).half())
        names.append(rows)
        torch.save({"paths": torch.cat(paths), "prompts": torch.cat(names)}, path)
        log.info("%d paths", len(paths) * batch)


def student(out: Path, steps: int, batch: int = 128, rate: float = 8e-4) -> None:
    """From the teacher's weights, predict each segment's mean velocity, with the guidance folded in."""
    path, generator = out / "student.pt", torch.Generator().manual_seed(8)
    data = torch.load(out / "paths.pt")
    model = nn.ModuleDict({"flux": flux(), "prompts": Prompts(len(drawings.PROMPTS))})
    model.load_state_dict(torch.load(out / "teacher.pt")["average"])
    model["prompts"].requires_grad_(False)  # the teacher's table serves both
    average = copy.deepcopy(model).requires_grad_(False)
    optimiser = torch.optim.AdamW(model["flux"].parameters(), betas=(0.9, 0.98), weight_decay=0.01)
    levels, start, running = torch.tensor(LEVELS), time.time(), 0.0
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = rate * cosine(step, steps)
        rows = torch.randint(len(data["paths"]), (batch,), generator=generator)
        segment = torch.randint(len(LEVELS) - 1, (batch,), generator=generator)
        begin, end = (data["paths"][rows, segment + k].float() for k in (0, 1))
        gap = (levels[segment] - levels[segment + 1])[:, None, None, None]
        context, pooled = model["prompts"](data["prompts"][rows])
        with torch.autocast("cpu", torch.bfloat16):
            v = model["flux"].velocity(begin, levels[segment], context, pooled)
        loss = F.mse_loss(v, (begin - end) / gap)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model["flux"].parameters(), 1.0)
        optimiser.step()
        follow(average, model, min(0.998, (step + 1) / (step + 10)))
        running = loss.item() if step < 10 else 0.99 * running + 0.01 * loss.item()
        if step % 100 == 99 or step == steps - 1:
            log.info("student %d loss %.4f  %.3f s/step", step + 1, running, (time.time() - start) / (step + 1))
            torch.save({"average": average.state_dict()}, path)


def export(out: Path, steps: int) -> None:
    """Write what the pack ships, in half precision."""
    assets = Path(__file__).resolve().parents[2] / "assets" / "demo"
    vae = Autoencoder()
    vae.load_state_dict(torch.load(out / "autoencoder.pt")["model"])
    average = {name: torch.load(out / f"{name}.pt")["average"] for name in ("teacher", "student")}
    files = {
        assets / "vae": vae.export(),
        assets / "prompts": part(average["teacher"], "prompts."),
        assets / "teacher": part(average["teacher"], "flux."),
        assets / "student": part(average["student"], "flux."),
        assets / "features": torch.load(out / "features.pt"),
        assets / "score": torch.load(out / "score.pt"),
        Path(__file__).with_name("judge"): torch.load(out / "judge.pt"),
    }
    for path, state in files.items():
        state = {key: value.detach().half().contiguous() for key, value in state.items()}
        save_file(state, path.with_suffix(".safetensors"), {"licence": "MIT", "made_by": "tests/demo/train.py"})
        log.info("%s: %.2f MB", path.stem, path.with_suffix(".safetensors").stat().st_size / 1e6)


def part(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stage", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", force=True)
    torch.set_num_threads(options.threads)
    torch.set_flush_denormal(True)
    options.out.mkdir(parents=True, exist_ok=True)
    globals()[options.stage](options.out, options.steps)
