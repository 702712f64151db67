"""Every option of a training, its default, its unit and its checks.

Order: default < TOML file < `--set key=value` < flag. What is "auto" is resolved before anything is printed or saved,
so that a saved config has no unknowns. Imports nothing of ours but the name helper, and no torch.
"""

import hashlib
import json
import math
import tomllib
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from thiscxr.files import nearest_name

RESOLUTIONS = (32, 64, 128, 256, 512, 1024)
# What may differ between two calls of the same training; everything else is its identity.
_PER_CALL = ("kimg", "minutes", "save_kimg", "max_returns", "threads", "out", "data", "init")
AUTO = "auto"
# Options that must not be 0; no number may be below it.
_ABOVE_0 = (
    "z_dim", "w_dim", "mapping_layers", "channel_base", "channel_max", "batch", "lr", "r1_interval", "ema_kimg", "kimg",
    "augment_kimg", "phantom_films", "threads",
)  # fmt: skip


def check_res(res: int, option: str = "--res") -> None:
    """Raise ValueError when `res` is none of RESOLUTIONS, naming the nearest."""
    if res not in RESOLUTIONS:
        nearest = min(RESOLUTIONS, key=lambda known: abs(known - res))
        raise ValueError(
            f"{option} {res} is not a power of two from {RESOLUTIONS[0]} to {RESOLUTIONS[-1]}; the nearest is {nearest}"
        )


@dataclass(frozen=True)
class Config:
    """One training. `auto` in a default means: derived from the resolution (or the machine) by `resolve`."""

    # Where
    data: str = ""  # pool folder; empty: a phantom pool is made in the cache
    pool_fingerprint: str = AUTO  # content of the pool, filled in when it is opened
    out: str = "runs"  # folder that holds the run folders
    # What
    res: int = 64  # resolution of the films in pixels
    z_dim: int = 128  # length of the latent
    w_dim: int = 128  # length of the style latent
    mapping_layers: int = 4
    # channels at full resolution = channel_base / res; auto: 1024 up to 128 px, then 8 channels at res
    channel_base: int | str = AUTO
    channel_max: int = 128  # channels of the small blocks
    patch: int = 2  # the networks work at res / patch; each position is patch × patch pixels; 1: pixel by pixel
    # larger patches are generated as a smooth value, Haar details and grain, and read as Haar bands; false: free pixels
    haar: bool = True
    conditional: bool = True  # learn findings, view, sex, age and source where the pool knows them
    condition_dropout: float = 0.5  # share of films with some conditions hidden; a further tenth have all hidden
    # films with a finding, view or source rarer than this share are shown more often (repeat factors); 0: off
    balance: float = 0.0
    init: str = ""  # network to start from: file, bundled name or run folder; empty: start from nothing
    init_sha256: str = ""  # of that network's file, filled in when it is opened
    # thousand films for which only the discriminator learns, after a start from `init`; auto: 10, and 0 where the
    # discriminator comes with the generator and knows the first films
    rest_kimg: float | str = AUTO
    # How
    grow_from: int = 16  # resolution of the first films; it doubles until res; 0: full resolution from the start
    grow_kimg: float = 10.0  # thousand films at each resolution below res
    fade_kimg: float = 5.0  # thousand films over which a new resolution is blended in
    fresh_fakes: bool = False  # generate other synthetic films for the generator's half of a step
    batch: int | str = AUTO  # films a step; auto: 16 up to 256 px, 8 above
    # Adam step of both networks; R1 is in the loss of every r1_interval-th step and takes none of its own
    lr: float = 0.003
    anneal_kimg: float = 80.0  # thousand films after which the step falls, as 1 / films seen; 0: it stays
    # compare real and synthetic films in pairs, with R1 and R2; false: the non-saturating loss, with R1
    relativistic: bool = True
    # initial weight of the loss that compares real films with their condition and with a wrong one; 0: none
    contrast: float = 1.0
    contrast_kimg: float = 80.0  # thousand films over which that weight falls to 0; 0: it stays
    r1_gamma: float | str = AUTO  # weight of R1 and R2; auto: 0.05 at 64 px, growing with the number of pixels
    r1_interval: int = 16  # steps between these penalties (lazy regularisation)
    ema_kimg: float = 5.0  # half-life of the averaged generator, in thousand films
    ema_rampup: float = 0.05  # the half-life is at most this share of the films seen
    # E[sign D(real)], in pairs E[sign(D(real) − D(fake))], that augmentation holds; 0: none
    augment_target: float = 0.6
    augment_kimg: float = 100.0  # thousand films for the strength to go from 0 to 1
    watch_kimg: float = 2.0  # thousand films between checks for a collapse; 0: no watch
    max_returns: int = 3  # how often a collapsed training goes back to its last good state before it gives up
    seed: int = 0  # of everything random
    device: str = AUTO  # cpu, cuda or mps
    # resampling by the Triton kernels on CUDA: right on an H100, and no faster while training waits for launches
    triton: bool = False
    threads: int | str = AUTO  # CPU threads; exactness holds for one count
    # How long
    kimg: float = 1000.0  # thousand films in total
    minutes: float = 0.0  # stop this call cleanly after that time; 0: no limit
    save_kimg: float = 0.0  # thousand films between saved states; 0: about every five minutes
    # The phantom pool, when there is no other
    phantom_films: int | str = AUTO  # auto: 2000 up to 64 px, then as many as are rendered in a minute or two
    phantom_seed: int = 0

    def __post_init__(self) -> None:
        check_res(self.res)
        for name, most in (("condition_dropout", 0.9), ("balance", 1), ("augment_target", 1)):
            if not 0 <= getattr(self, name) <= most:
                raise ValueError(f"{name} is {getattr(self, name)}, but must be between 0 and {most}")
        numbers = {name: value for name, value in asdict(self).items() if isinstance(value, int | float)}
        for name, value in numbers.items():
            if name in _ABOVE_0 and not value > 0:
                raise ValueError(f"{name} is {value}, but must be above 0")
            if not value >= 0:  # also refuses NaN
                raise ValueError(f"{name} is {value}, but must be 0 or more")
            if value == math.inf:
                raise ValueError(f"{name} is {value}, but must be a finite number")
        if self.seed >= 2**63:
            raise ValueError(f"seed is {self.seed}, but must be below 2^63 ({2**63})")
        if self.patch not in (1, 2, 4):
            raise ValueError(f"patch is {self.patch}, but must be 1, 2 or 4")
        first = self.grow_from
        if first and not (4 * self.patch <= first <= self.res and first & (first - 1) == 0):
            raise ValueError(
                f"grow_from is {first}, but must be 0 or a power of two from "
                f"{4 * self.patch} (4 patches) to res ({self.res})"
            )
        if self.batch != AUTO and int(self.batch) % 4 and int(self.batch) > 4:
            raise ValueError(
                f"batch is {self.batch}, but must be a multiple of 4 (the group of the "
                "minibatch statistics) or less than 4"
            )
        if self.device not in (AUTO, "cpu", "cuda", "mps"):
            raise ValueError(f"device is '{self.device}', but must be auto, cpu, cuda or mps")

    def resolve(self, device: str, threads: int) -> "Config":
        """Return the config with every "auto" replaced, except the pool's fingerprint and what `init` decides."""
        res = self.res
        auto: dict[str, Any] = {
            "channel_base": 1024 if res <= 128 else 8 * res,
            "batch": 16 if res <= 256 else 8,
            "r1_gamma": 0.05 * (res / 64) ** 2,
            "device": device,
            "threads": threads,
            "rest_kimg": AUTO if self.init else 10.0,
            "phantom_films": {128: 1000, 256: 500, 512: 200, 1024: 100}.get(res, 2000),
        }
        return replace(self, **{name: value for name, value in auto.items() if getattr(self, name) == AUTO})

    @property
    def bands(self) -> bool:
        """Whether the networks generate and read Haar bands; single pixels have none."""
        return self.haar and self.patch > 1

    @property
    def fingerprint(self) -> str:
        """Identity of the training: equal for two calls that may continue one another. The data counts by content, not
        by path."""
        identity = {name: value for name, value in asdict(self).items() if name not in _PER_CALL}
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]

    def to_toml(self) -> str:
        """Return the config as TOML that `load_config` reads back."""
        return "".join(f"{name} = {json.dumps(value)}\n" for name, value in asdict(self).items())


def load_config(
    file: Path | None = None,
    settings: tuple[str, ...] = (),
    resolution_of: Callable[[str], int] | None = None,
    **flags: Any,
) -> Config:
    """Return the config of a TOML file (a path, or the name of a shipped preset), `key=value` settings and flags (None:
    not given).

    Where `data` is given without `res`, `res` is `resolution_of(data)`.
    Raises ValueError for an unknown key, naming the nearest known one, and for a value of the wrong kind.
    """
    values: dict[str, Any] = {}
    if file is not None:
        path = find_preset(file)
        try:
            values.update(tomllib.loads(path.read_text()))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"{path} is not a TOML file: {error}") from None
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals:
            raise ValueError(f"--set {setting}: expected key=value, as in --set lr=0.002")
        try:
            values[key.strip()] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            values[key.strip()] = text.strip()  # a bare word is a string
    values.update({key: value for key, value in flags.items() if value is not None})
    kinds = {field.name: field.type for field in fields(Config)}
    for key, value in values.items():
        if key not in kinds:
            raise ValueError(
                f"unknown option '{key}'{nearest_name(key, kinds)}; `train_gan.py --dry-run` prints every option"
            )
        values[key] = _of_kind(key, value, kinds[key])
    if resolution_of and values.get("data") and "res" not in values:
        values["res"] = resolution_of(values["data"])
    return Config(**values)


def _of_kind(key: str, value: Any, kind: Any) -> Any:
    """Return the value in the kind of its field, where that loses nothing (3 for 3.0 and the reverse)."""
    allowed = kind.__args__ if hasattr(kind, "__args__") else (kind,)
    if str in allowed and value == AUTO and len(allowed) > 1:
        return value
    target = allowed[0]
    if isinstance(value, bool) is not (target is bool):
        pass
    elif target is float and isinstance(value, int | float):
        return float(value)
    elif target is int and isinstance(value, int | float) and math.isfinite(value) and value == int(value):
        return int(value)
    elif isinstance(value, target):
        return value
    raise ValueError(
        f"{key} is {value!r}, but must be {' or '.join(t.__name__ for t in allowed if t is not str or target is str)}"
    )


def preset_folder() -> Path:
    """Return the folder of the shipped presets: in the wheel, or at the top of a source checkout."""
    packaged = Path(__file__).parent / "configs"
    return packaged if packaged.is_dir() else Path(__file__).parent.parent / "configs"


def find_preset(file: Path) -> Path:
    """Return `file`, or the shipped preset of that name. Raises ValueError when there is neither."""
    if file.is_file():
        return file
    shipped = {path.stem: path for path in sorted(preset_folder().glob("*.toml"))}
    if str(file) in shipped:
        return shipped[str(file)]
    raise ValueError(
        f"no config file or preset '{file}'{nearest_name(str(file), shipped)}; presets: {', '.join(shipped)}"
    )
