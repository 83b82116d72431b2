"""What depends on the architecture, behind one small interface.  The rest of the package knows only this.

Adding one: its networks under ``nets/``, a module here, a card under ``models/``; see ``docs/adding-an-architecture.md``.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mfs_deploy.architectures import mobilefaceswap, mobilefsgan
from mfs_deploy.architectures.base import Interface as Interface
from mfs_deploy.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

    from mfs_deploy.architectures.mobilefaceswap.encode import Identity
    from mfs_deploy.faces.pixels import Image

    Weights = dict[str, Tensor]
    Swap = Callable[[Tensor], tuple[Tensor, ...]]


@dataclass(frozen=True)
class Architecture:
    """One published face-swap network.

    Attributes:
        interface: what can be known of it without PyTorch.
        generator, encoder: from a checkpoint's state dicts, in eval mode.
        encode: encoder and an aligned source face to an identity.
        random_identity: somebody who does not exist, of the form that the generator takes.
        predictor: generator as a network from identities to the baked weights of the keys given, people in front.
        bake: generator and identity to the weights of one person's network.
        load: those weights as a network, in eval mode.
        blank: a person's network with unset weights, for counting.
        reference: generator and identity as one function, without baking; what a bake must reproduce.
    """

    interface: Interface
    generator: Callable[[Mapping[str, Tensor]], nn.Module]
    encoder: Callable[[Mapping[str, Tensor]], nn.Module]
    encode: Callable[[nn.Module, Image], Identity]
    random_identity: Callable[[np.random.Generator], Identity]
    predictor: Callable[[nn.Module, Sequence[str]], nn.Module]
    bake: Callable[[nn.Module, Identity], Weights]
    load: Callable[[Mapping[str, Tensor]], nn.Module]
    blank: Callable[[], nn.Module]
    reference: Callable[[nn.Module, Identity], Swap]


INTERFACES: dict[str, Interface] = {known.name: known for known in (mobilefaceswap.INTERFACE, mobilefsgan.INTERFACE)}


def interface(name: str) -> Interface:
    if name not in INTERFACES:
        raise UsageError(f"no architecture is called {name!r}", hint=f"choose from: {', '.join(INTERFACES)}")
    return INTERFACES[name]


def get(name: str) -> Architecture:
    """Needs PyTorch, as ``interface`` does not."""
    known = interface(name)
    built: Architecture = importlib.import_module(f"mfs_deploy.architectures.{known.name}").build()
    return built
