"""The training loop: films in, run folder out.

One clock, `images_seen`. Every random number and every schedule is a function of (seed, images_seen), so a run that was stopped anywhere
goes on exactly as if it had not been. Source: Karras et al. 2020, arXiv:1912.04958 and arXiv:2006.06676.
"""

import copy
import json
import logging
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from thiscxr.config import AUTO, Config
from thiscxr.data.pixels import images_to_pixels, make_grid, pixels_to_images, save_png
from thiscxr.data.pool import Pool
from thiscxr.files import folder_lock
from thiscxr.model.conditions import Condition, Vocabulary, joint_table
from thiscxr.model.discriminator import Discriminator, DiscriminatorConfig
from thiscxr.model.generator import Generator, GeneratorConfig
from thiscxr.sample.sampling import Network, sample_films
from thiscxr.train.augment import augment, next_strength
from thiscxr.train.conditions import learnable_vocabulary, read_conditions
from thiscxr.train.losses import discriminator_loss, generator_loss, r1_penalty
from thiscxr.train.runs import NetworkInfo, find_run, load_state, new_run, save_network, save_state, write_text

AUGMENT_INTERVAL = 4  # steps between adjustments of the augmentation
TICK_KIMG = 1.0  # thousand films between lines of stats.jsonl
SAVE_SECONDS = 300.0  # between saved states when save_kimg is 0
GRID = 64  # films in fakes-*.png, seeds 0 to 63
log = logging.getLogger("thiscxr")


class Films:
    """The training films of a pool and their condition vectors; batches are a function of (seed, images_seen)."""

    def __init__(self, pool: Pool, config: Config) -> None:
        self.pool = pool
        self.indices = pool.indices("train")
        if len(self.indices) == 0:
            raise ValueError(f"{pool.path} has no training films (every patient is held out); add patients")
        self.conditions = read_conditions(pool, self.indices)
        patients = pool.codes("patient")[0][self.indices]
        self.vocabulary = learnable_vocabulary(self.conditions, patients) if config.conditional else Vocabulary((), (), (), (), False)
        self.table = joint_table(self.conditions, patients, self.vocabulary)
        self.seed = config.seed
        self._epoch, self._order = -1, self.indices  # the order of the epoch that was asked for last

    def batch(self, images_seen: int, size: int) -> tuple[Tensor, Tensor]:
        """Return images float32 [size, 1, res, res] and conditions [size, c_dim]: each film once an epoch, in the epoch's own order."""
        n = len(self.indices)
        rows = np.array([self._epoch_order(i // n)[i % n] for i in range(images_seen, images_seen + size)])
        images = pixels_to_images(self.pool.read(self.indices[rows]))
        return torch.from_numpy(images)[:, None], self.vectors(rows)

    def vectors(self, rows: np.ndarray) -> Tensor:
        """Return the condition vectors of training films, float32 [k, c_dim]."""
        return torch.from_numpy(self.conditions.take(rows).encode(self.vocabulary))

    def _epoch_order(self, epoch: int) -> np.ndarray:
        if self._epoch != epoch:
            rng = np.random.Generator(np.random.Philox(key=[self.seed, epoch]))
            self._epoch, self._order = epoch, rng.permutation(len(self.indices))
        return self._order


class Training:
    """Networks, optimizers and the few numbers that change: everything that a resume needs, and one step of it."""

    def __init__(self, config: Config, films: Films) -> None:
        self.config = config
        self.films = films
        c_dim = films.vocabulary.dim
        base, most = int(config.channel_base), config.channel_max
        torch.manual_seed(config.seed)  # initial weights only
        architecture = GeneratorConfig(config.res, c_dim, config.z_dim, config.w_dim, config.mapping_layers, base, most)
        layout: Any = {"device": torch.device(config.device), "memory_format": torch.channels_last}
        self.G: Generator = Generator(architecture).to(**layout)
        self.D: Discriminator = Discriminator(DiscriminatorConfig(config.res, c_dim, base, most)).to(**layout)
        self.G_ema = copy.deepcopy(self.G).eval().requires_grad_(False)
        self.opt_G = torch.optim.Adam(self.G.parameters(), lr=config.lr, betas=(0.0, 0.99), eps=1e-8)
        self.opt_D = torch.optim.Adam(self.D.parameters(), lr=config.lr, betas=(0.0, 0.99), eps=1e-8)
        self.images_seen = 0
        self.strength = 0.0  # of the augmentation
        self.signs: list[float] = []  # mean sign of D(real) of the steps since the last adjustment

    def state(self) -> dict[str, Any]:
        """Return everything that an exact resume needs; random streams and sampler position are functions of images_seen."""
        return {
            **{name: getattr(self, name).state_dict() for name in ("G", "D", "G_ema", "opt_G", "opt_D")},
            **{name: getattr(self, name) for name in ("images_seen", "strength", "signs")},
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take over what `state` returned."""
        for name in ("G", "D", "G_ema", "opt_G", "opt_D"):
            getattr(self, name).load_state_dict(state[name])
        for name in ("images_seen", "strength", "signs"):
            setattr(self, name, state[name])

    def step(self) -> dict[str, float]:
        """Train both networks on one batch and return the losses. Raises FloatingPointError before a step on non-finite gradients."""
        config, n = self.config, int(self.config.batch)
        number = self.images_seen // n
        rng = torch.Generator().manual_seed((config.seed << 40) + self.images_seen)  # all on the CPU: one seed, one training, any device
        images, c_real = self.films.batch(self.images_seen, n)
        c_real = thin(c_real, self.films.vocabulary, config.condition_dropout, rng)

        # Discriminator
        with torch.no_grad():
            fakes, c_fake, _ = self._fakes(n, rng)
            fakes = augment(fakes, self.strength, rng)
            reals = augment(images.to(config.device), self.strength, rng)
        with_r1 = number % config.r1_interval == 0
        reals.requires_grad_(with_r1)
        c_real = c_real.to(config.device)
        real_logits, fake_logits = self.D(reals, c_real), self.D(fakes, c_fake)
        loss = discriminator_loss(real_logits, fake_logits)
        losses = {"loss/D": loss.item(), "D/real": real_logits.mean().item(), "D/fake": fake_logits.mean().item()}
        if with_r1:
            # R1 is taken at the augmented films, the inputs of D, and weighted up for the steps on which it is left out (lazy: the 2020
            # paper, section 2.1).
            penalty = r1_penalty(real_logits, reals)
            losses["loss/R1"] = penalty.item()
            loss = loss + penalty * (float(config.r1_gamma) / 2 * config.r1_interval)
        self._descend(loss, self.opt_D, self.D, "discriminator")
        self.signs.append(real_logits.sign().mean().item())

        # Generator
        self.D.requires_grad_(False)
        fakes, c_fake, w = self._fakes(n, rng)
        self.G.w_mean.lerp_(w.detach().mean(dim=0), 0.005)  # the centre of truncation follows the generator that is being trained
        loss = generator_loss(self.D(augment(fakes, self.strength, rng), c_fake))
        losses["loss/G"] = loss.item()
        self._descend(loss, self.opt_G, self.G, "generator")
        self.D.requires_grad_(True)

        self.images_seen += n
        self._average(n)
        if config.augment_target and (number + 1) % AUGMENT_INTERVAL == 0:
            sign = float(np.mean(self.signs))
            self.strength = next_strength(self.strength, sign, n * AUGMENT_INTERVAL, config.augment_target, config.augment_kimg)
            self.signs = []
            losses["D/sign"] = sign
        losses["augment/strength"] = self.strength
        return losses

    def _fakes(self, n: int, rng: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Return n images, the conditions asked of them (drawn from the training films and thinned like theirs) and their w."""
        device = self.config.device
        rows = torch.randint(len(self.films.indices), (n,), generator=rng)
        c = thin(self.films.vectors(rows.numpy()), self.films.vocabulary, self.config.condition_dropout, rng).to(device)
        z = torch.randn(n, self.config.z_dim, generator=rng).to(device)
        noises = [torch.randn(n, 1, res, res, generator=rng).to(device) for res in self.G.config.noise_resolutions]
        w = self.G.mapping(z, c)
        return self.G.synthesis(w[:, None].expand(-1, self.G.config.num_ws, -1), noises), c, w

    def _descend(self, loss: Tensor, optimizer: torch.optim.Optimizer, network: torch.nn.Module, phase: str) -> None:
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.stack([p.grad.norm() for p in network.parameters() if p.grad is not None]).norm()
        if not torch.isfinite(loss) or not torch.isfinite(norm):
            term = "loss" if not torch.isfinite(loss) else "gradient"
            raise FloatingPointError(
                f"the {term} of the {phase} is not finite after {self.images_seen} films; nothing was updated. "
                "Lower lr or raise r1_gamma (--set lr=0.001), with --new"
            )
        optimizer.step()

    def _average(self, n: int) -> None:
        """Move the averaged generator: half-life ema_kimg, shorter in the beginning."""
        half_life = min(self.config.ema_kimg * 1000, self.images_seen * self.config.ema_rampup)
        keep = 0.5 ** (n / max(half_life, 1e-8))
        with torch.no_grad():
            for average, value in zip(self.G_ema.parameters(), self.G.parameters(), strict=True):
                average.lerp_(value, 1 - keep)
            self.G_ema.w_mean.copy_(self.G.w_mean)


def thin(c: Tensor, vocabulary: Vocabulary, dropout: float, rng: torch.Generator) -> Tensor:
    """Return condition vectors [N, c_dim] with factors hidden at random, so that any subset can be asked for later.

    One film in ten knows nothing and a share `dropout` is thinned: each film by a rate of its own, and in every second one all findings are
    hidden together, since "a PA film" without a word on findings is what people ask for most. The rest keep all that they know.
    """
    if c.shape[1] == 0:
        return c
    n, factors = len(c), len(vocabulary.factors)
    keep = torch.rand(n, factors, generator=rng) < torch.rand(n, 1, generator=rng)
    findings = torch.arange(factors) < len(vocabulary.findings)
    keep &= ~(findings & (torch.rand(n, 1, generator=rng) < 0.5))
    fate = torch.rand(n, 1, generator=rng)
    keep = (keep & (fate >= 0.1)) | (fate >= 0.1 + dropout)
    widths = torch.tensor([part.stop - part.start for part in vocabulary.factors])
    return c * keep.repeat_interleave(widths, dim=1)


class Stop:
    """SIGINT and SIGTERM ask for a clean stop after the current step; a second SIGINT interrupts at once."""

    def __init__(self) -> None:
        self.asked = ""

    def __enter__(self) -> "Stop":
        self._before = {number: signal.signal(number, self._ask) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, _: FrameType | None) -> None:
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked = signal.Signals(number).name


def train(config: Config, pool: Pool, name: str, new: bool = False) -> Path:
    """Train until `kimg`, `minutes` or a signal, and return the run folder; the same call again goes on exactly where this one stopped.

    `config` must be resolved; `name` goes into the folder's name. Raises ValueError for a pool that does not fit the config, and for a
    run folder that another process holds.
    """
    if pool.resolution != config.res:
        raise ValueError(f"{pool.path} holds films of {pool.resolution} px, but --res is {config.res}; prepare a pool at {config.res} px")
    config = replace(config, pool_fingerprint=pool.fingerprint)
    assert AUTO not in (config.batch, config.channel_base, config.r1_gamma, config.device, config.threads)
    torch.set_num_threads(int(config.threads))
    films = Films(pool, config)
    run = None if new else find_run(Path(config.out), config)
    found = run is not None
    run = run or new_run(Path(config.out), config, name)
    with folder_lock(run, f"{run} is being trained by another process; stop it, or start another run with --new"):
        for stale in run.glob(".*.part"):  # half-written by a process that was killed
            stale.unlink()
        state = load_state(run)
        training = Training(config, films)
        log_to(run / "log.txt")
        log.info("%s %s", "run folder" if not found else "going on in", run)
        if state is not None:
            training.restore(state)
            forget_later_ticks(run, training.images_seen)
            log.info("resumed from %d films", training.images_seen)
        else:
            show_reals(run, films)
        info = NetworkInfo(
            name=run.name,
            architecture=training.G.config,
            vocabulary=films.vocabulary,
            joint_table=films.table,
            images_seen=0,
            pool_fingerprint=pool.fingerprint,
            sources=pool.meta["sources"],
        )
        if training.images_seen >= config.kimg * 1000:
            log.info("finished: %d of %d films were seen; raise --kimg to go on", training.images_seen, config.kimg * 1000)
            return run
        with Stop() as stop:
            run_steps(run, training, info, stop)
    return run


def run_steps(run: Path, training: Training, info: NetworkInfo, stop: Stop) -> None:
    """Step, log and save until the end or a stop."""
    config = training.config
    started = last_save = time.monotonic()
    first = last_saved = training.images_seen
    tick: dict[str, list[float]] = {}
    tick_images, tick_time = training.images_seen, started
    end = int(config.kimg * 1000)
    board = SummaryWriter(run, purge_step=training.images_seen)
    bar = tqdm(
        total=end / 1000, initial=min(first, end) / 1000, unit="kimg", file=sys.stderr, mininterval=1.0, smoothing=0.05,
        bar_format="{l_bar}{bar}| {n:.2f}/{total:g} kimg [{elapsed}<{remaining}{postfix}]",
    )  # fmt: skip
    try:
        while True:
            for key, value in training.step().items():
                tick.setdefault(key, []).append(value)
            now = time.monotonic()
            bar.update(min(training.images_seen, end) / 1000 - bar.n)
            done = training.images_seen >= end
            late = config.minutes > 0 and now - started >= config.minutes * 60
            stopping = done or late or bool(stop.asked)
            if stopping or training.images_seen - tick_images >= TICK_KIMG * 1000:
                rate = (training.images_seen - tick_images) / (now - tick_time)
                write_tick(run, board, training, tick, rate)
                left = f", stops in {max(0.0, config.minutes - (now - started) / 60):.1f} min" if config.minutes else ""
                bar.set_postfix_str(f"{rate:.1f} img/s{left}")
                tick, tick_images, tick_time = {}, training.images_seen, now
            due = training.images_seen - last_saved >= config.save_kimg * 1000 if config.save_kimg else now - last_save >= SAVE_SECONDS
            if stopping or due:
                save(run, training, replace(info, images_seen=training.images_seen), board)
                last_save, last_saved = time.monotonic(), training.images_seen
            if stopping:
                break
    finally:
        bar.close()
        board.close()
    reason = "finished" if done else f"stopped by {stop.asked}" if stop.asked else f"stopped after {config.minutes:g} minutes"
    log.info(
        "%s at %d films (%d in this call, %.1f img/s); %s", reason, training.images_seen, training.images_seen - first,
        (training.images_seen - first) / (time.monotonic() - started), run,
    )  # fmt: skip


def write_tick(run: Path, board: SummaryWriter, training: Training, tick: dict[str, list[float]], rate: float) -> None:
    """Append one line to stats.jsonl and the same to TensorBoard: means over the steps since the line before."""
    stats = {key: float(np.mean(values)) for key, values in tick.items()}
    stats["img_per_sec"] = rate
    for key, value in stats.items():
        board.add_scalar(key, value, training.images_seen)
    with open(run / "stats.jsonl", "a") as file:
        file.write(json.dumps({"images_seen": training.images_seen, **{key: round(value, 6) for key, value in stats.items()}}) + "\n")


def save(run: Path, training: Training, info: NetworkInfo, board: SummaryWriter) -> None:
    """Write the state, the averaged network and its fixed-seed films."""
    save_state(run, training.state())
    kimg = round(training.images_seen / 1000)
    grid = fake_grid(training, info)
    save_png(run / f"fakes-{kimg:06d}.png", grid)
    board.add_image("fakes", grid, training.images_seen, dataformats="HW")
    board.flush()
    for name in (f"network-{kimg:06d}.safetensors", "network-latest.safetensors"):
        save_network(run / name, training.G_ema, info)


def fake_grid(training: Training, info: NetworkInfo) -> np.ndarray:
    """Return the films of seeds 0 to 63 as one picture."""
    network = Network(training.G_ema, info, "")
    seeds = range(GRID)
    films = sample_films(network, seeds, network.conditions(list(seeds), Condition()), batch=16)
    return make_grid(np.concatenate(list(films)), columns=8)


def show_reals(run: Path, films: Films) -> None:
    """Write reals.png: as many training films as a grid of samples has."""
    rows = np.random.Generator(np.random.Philox(key=films.seed)).permutation(len(films.indices))[:GRID]
    pixels = images_to_pixels(pixels_to_images(films.pool.read(films.indices[np.sort(rows)])))  # 16-bit pools are shown in 8 bits
    save_png(run / "reals.png", make_grid(pixels, columns=8))


def forget_later_ticks(run: Path, images_seen: int) -> None:
    """Drop the lines of stats.jsonl that a kill left behind after the last saved state: they will be written again."""
    path = run / "stats.jsonl"
    if path.exists():
        lines = [line for line in path.read_text().splitlines() if line.endswith("}") and json.loads(line)["images_seen"] <= images_seen]
        write_text(path, "".join(f"{line}\n" for line in lines))


def log_to(path: Path) -> None:
    """Send the log to this file too, and to no other run's file."""
    for handler in [h for h in log.handlers if isinstance(h, logging.FileHandler)]:
        log.removeHandler(handler)
        handler.close()
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    log.addHandler(handler)
