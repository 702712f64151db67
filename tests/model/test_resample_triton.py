"""The Triton kernel under Triton's interpreter, or on a CUDA device where there is one, against the plain version; and
its compilation.

The interpreter must be chosen before Triton is imported, hence a process of its own for it.
"""

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import cache

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton", minversion="3.2", reason="Triton is not installed, or too old")
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile

from thiscxr.model import resample, resample_triton
from thiscxr.model.discriminator import Discriminator, DiscriminatorConfig
from thiscxr.model.resample import downsample2, filter2d, filter_leaky, leaky_filter, upsample2, use_triton
from thiscxr.train.losses import gradient_penalty

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if INTERPRETED else "cuda"
POINTERS = ("x", "before", "after", "scale", "bias", "noise", "y")


@pytest.mark.slow
def test_under_the_interpreter() -> None:
    options = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
    command = [sys.executable, "-m", "pytest", *options, f"{__file__}::TestKernel"]
    result = subprocess.run(command, env={**os.environ, "TRITON_INTERPRET": "1"}, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "skipped" not in result.stdout


@pytest.mark.skipif(INTERPRETED, reason="nothing is compiled under the interpreter")
@pytest.mark.parametrize(
    ("dtype", "given"),
    [
        ("fp32", ("x", "y")),
        ("bf16", ("x", "y", "after")),
        ("fp64", ("x", "y", "scale", "bias", "noise")),
        ("bf16", ("x", "y")),
    ],
)
def test_it_compiles_for_a_gpu_that_is_not_here(
    dtype: str, given: tuple[str, ...], tmp_path: os.PathLike, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    constants: dict[str, object] = {name: None for name in POINTERS if name not in given}
    constants |= {"UP": 1, "DOWN": 1, "PADDING": 1, "GAIN": 4.0, "OWN": len(given) == 2, "SLOPE": 0.2}
    constants |= {"SIDE": 8, "PIXELS": 64, "CHANNELS": 32, "SUM": tl.float64 if dtype == "fp64" else tl.float32}
    names = resample_triton._kernel.arg_names
    signature = {
        name: "constexpr" if name in constants else f"*{dtype}" if name in POINTERS else "i32" for name in names
    }
    aligned = {(i,): [["tt.divisibility", 16]] for i, name in enumerate(names) if name in given or name == "channels"}
    source = ASTSource(resample_triton._kernel, signature, constants, aligned)
    assembly = compile(source, target=GPUTarget("cuda", 80, 32)).asm["ptx"]
    assert "ld.global.v" in assembly
    assert "st.global.v" in assembly  # neighbouring channels travel together


@pytest.fixture
def switched_on(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Tensor]]:
    """Turn the kernel on, as if nothing had been checked yet, and return the inputs of its launches."""
    launch, launched = resample_triton._launch, []

    def recorded(x: Tensor, *rest: object, **options: object) -> Tensor:
        launched.append(x)
        return launch(x, *rest, **options)

    monkeypatch.setattr(resample_triton, "_launch", recorded)
    monkeypatch.setattr(resample_triton, "agrees", cache(resample_triton.agrees.__wrapped__))
    use_triton(True)
    yield launched
    use_triton(False)


@pytest.fixture
def trusted(switched_on: list[Tensor], monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """As `switched_on`, but leave out the first check, which takes seconds under the interpreter."""
    monkeypatch.setattr(resample_triton, "agrees", lambda *_: True)
    return switched_on


def normal(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, device=DEVICE, requires_grad=True)


@pytest.mark.gpu
class TestKernel:
    __test__ = INTERPRETED or torch.cuda.is_available()

    @pytest.mark.parametrize("shape", [(1, 1, 34, 2), (2, 3, 8, 6), (1, 40, 4, 10)])
    def test_every_function_equals_its_plain_version(self, shape: tuple[int, ...], trusted: list[Tensor]) -> None:
        torch.manual_seed(0)
        x = normal(*shape).detach()
        affine = [normal(*shape[:2]), normal(shape[1]), normal(shape[0], 1, shape[2] - 1, shape[3] - 1)]
        calls = [lambda: upsample2(x), lambda: downsample2(x), lambda: filter_leaky(x, *affine, 1, 4.0)]
        calls += [lambda p=padding: filter2d(x, p, 2.0) for padding in (1, 2, 3)]
        calls += [lambda: leaky_filter(x.clone(), 2), lambda: filter_leaky(x, *affine[:2], affine[2][:1], 1)]
        for call in calls:
            launches = len(trusted)
            fused = call()
            assert len(trusted) == launches + 1
            use_triton(False)
            torch.testing.assert_close(fused, call(), atol=1e-12, rtol=0)
            use_triton(True)

    def test_other_layouts_are_read_rightly(self, trusted: list[Tensor]) -> None:
        x = normal(2, 4, 6, 3).detach()
        torch.testing.assert_close(filter2d(x.transpose(2, 3), 1), filter2d(x, 1).transpose(2, 3), atol=1e-12, rtol=0)

    @pytest.mark.parametrize("geometry", [(2, 1, 2), (1, 2, 1), (1, 1, 0), (1, 1, 2)])
    @pytest.mark.parametrize("active", [False, True])
    def test_gradients_and_double_gradients(self, geometry: tuple[int, int, int], active: bool) -> None:
        torch.manual_seed(0)
        for check in (torch.autograd.gradcheck, torch.autograd.gradgradcheck):
            assert check(
                lambda x: resample_triton.resample(x, *geometry, 3.0, active=active), normal(1, 1, 4, 4), fast_mode=True
            )

    def test_gradients_of_the_activation_after_the_filter(self) -> None:
        torch.manual_seed(0)
        inputs = [normal(2, 2, 3, 4), normal(2, 2), normal(2), normal(1, 1, 2, 3)]
        for check in (torch.autograd.gradcheck, torch.autograd.gradgradcheck):
            assert check(lambda *inputs: resample_triton.filter_leaky(*inputs, 1, 4.0), inputs, fast_mode=True)

    def test_the_penalty_of_a_discriminator_is_the_same(self, trusted: list[Tensor]) -> None:
        torch.manual_seed(0)
        discriminator = Discriminator(DiscriminatorConfig(32, 0, channel_base=64, channel_max=4)).double().to(DEVICE)
        films, gradients = normal(2, 1, 32, 32), []
        for on in (True, False):
            use_triton(on)
            penalty = gradient_penalty(discriminator(films, films.new_zeros(2, 0)), films)
            gradients.append(torch.autograd.grad(penalty, list(discriminator.blocks.parameters()), allow_unused=True))
        assert trusted
        torch.testing.assert_close(gradients[0], gradients[1])

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    def test_the_first_call_for_a_dtype_checks_the_kernel(
        self, dtype: torch.dtype, switched_on: list[Tensor], caplog
    ) -> None:
        with torch.inference_mode():
            upsample2(torch.zeros(1, 1, 4, 4, dtype=dtype, device=DEVICE))
        launches = len(switched_on)
        assert launches > 10
        upsample2(torch.zeros(1, 1, 4, 4, dtype=dtype, device=DEVICE))
        assert len(switched_on) == launches + 1
        assert not caplog.records

    def test_a_wrong_kernel_is_left_alone(self, switched_on: list[Tensor], monkeypatch, caplog) -> None:
        launch = resample_triton._launch
        monkeypatch.setattr(
            resample_triton, "_launch", lambda x, *rest, **options: launch(x, *rest, **options).roll(1, 3)
        )
        caplog.set_level(logging.WARNING)
        x = torch.randn(1, 1, 4, 4, device=DEVICE)
        fused = upsample2(x)
        assert "is off by" in caplog.text
        torch.testing.assert_close(fused, resample._plain(x, 2, 1, 2, 4.0))

    def test_a_kernel_that_does_not_compile_is_left_alone(self, switched_on: list[Tensor], monkeypatch, caplog) -> None:
        def failing(*_: object, **__: object) -> None:
            raise RuntimeError("Failed to find C compiler.\nSet CC")

        monkeypatch.setattr(resample_triton, "_launch", failing)
        caplog.set_level(logging.WARNING)
        x = torch.randn(1, 1, 4, 4, device=DEVICE)
        torch.testing.assert_close(upsample2(x), resample._plain(x, 2, 1, 2, 4.0))
        assert "does not run here, the plain version does its work: Failed to find C compiler." in caplog.text
