"""The passes through the networks in bfloat16 and compiled, for CUDA: one switch, which leaves weights, losses and R1 in float32.

Not measured on a GPU: a benchmark of it on an H100 was cut off. What torch cannot compile here runs uncompiled, and one line of the log
says so.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from thiscxr.model.discriminator import Discriminator
from thiscxr.model.generator import Generator

log = logging.getLogger("thiscxr")


class Fast:
    """The passes of a step through generator and discriminator: as they are, or fast where `on`."""

    def __init__(self, G: Generator, D: Discriminator, on: bool) -> None:
        self.synthesis, self.D, self.on = G.synthesis, D, on
        self.device = G.w_mean.device.type
        self._compiled: dict[Callable, Callable] = {net: torch.compile(net, dynamic=False) for net in (G.synthesis, D)} if on else {}
        self._tried = 0.0  # blocks at work when it was last tried

    def draw(self, ws: Tensor, noises: Sequence[Tensor], grown: float) -> Tensor:
        """Return the films that the synthesis draws, float32; see `SynthesisNetwork.forward`."""
        if self._compiled and grown.is_integer() and grown != self._tried:
            self._try(ws.detach().requires_grad_(), noises, grown)
        return self._pass(self.synthesis, grown.is_integer(), ws, noises, grown)

    def judge(self, images: Tensor, c: Tensor, blend: float, exact: bool = False) -> Tensor:
        """Return the discriminator's logits, in its shape, float32; `exact`: in float32 and uncompiled, as R1 is derived twice."""
        return self.D(images, c, blend) if exact else self._pass(self.D, blend == 1, images, c, blend)

    def judge_both(self, reals: Tensor, c_real: Tensor, fakes: Tensor, c_fake: Tensor, blend: float) -> tuple[Tensor, Tensor]:
        """Return the logits of two batches in one pass, which is faster than two: what depends on the weights alone is done once."""
        images, c = torch.cat([reals, fakes]), torch.cat([c_real, c_fake])
        real_logits, fake_logits = self._pass(self.D, blend == 1, images, c, blend, 2).chunk(2)
        return real_logits, fake_logits

    def _pass(self, network: Callable, steady: bool, *inputs: Any) -> Tensor:
        if not self.on:
            return network(*inputs)
        # While a block is blended in, every step has another number in it and would be compiled anew.
        with torch.autocast(self.device, torch.bfloat16):
            return (self._compiled.get(network, network) if steady else network)(*inputs).float()

    def _try(self, ws: Tensor, noises: Sequence[Tensor], grown: float) -> None:
        """Go through both networks and back as a step at these sides does; uncompiled from then on if that fails."""
        self._tried = grown
        torch.compiler.reset()  # what was compiled for smaller films is not needed again, and torch keeps only so many versions
        try:
            for films in (self.draw(ws, noises, grown).detach(), self.draw(ws, noises, grown)):
                self.D.requires_grad_(not films.requires_grad)
                c = ws.new_zeros(len(ws), self.D.config.c_dim)
                two = c[:, None].expand(-1, 2, -1)
                logits = self.judge(films, c, 1.0) if films.requires_grad else torch.cat(self.judge_both(films, two, films, two, 1.0))
                logits.sum().backward()
        except RuntimeError as error:  # no C compiler, no Triton, an operation that it does not know, …
            self._compiled = {}
            log.info("the networks run uncompiled: %s", str(error).strip().splitlines()[0])
        self.D.requires_grad_(True)
        for network in (self.synthesis, self.D):
            network.zero_grad(set_to_none=True)
