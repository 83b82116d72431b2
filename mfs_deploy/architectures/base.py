"""What an architecture is: a folder with the names of ``Package``, and in it a module with the names of ``Architecture``.

The rest of the package knows an architecture by these alone.  ``docs/adding-an-architecture.md`` says how to add one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from mfs_deploy.contract import Contract
from mfs_deploy.faces.align import AlignmentTemplate
from mfs_deploy.faces.paste_back import Ellipse, PasteBack
from mfs_deploy.faces.pixels import Image

if TYPE_CHECKING:
    from torch import Tensor, nn

    StateDict = dict[str, Tensor]
    Swap = Callable[[Tensor], tuple[Tensor, ...]]
    Networks = Mapping[str, tuple[Callable[[], nn.Module], ...]]


@dataclass(frozen=True)
class Identity:
    """What a generator takes of a person.  Biometric data: it is never written into an artifact.

    ``embedding`` (1, 512) float32, L2-normalised; ``feature_map`` (1, 512, 7, 7) float32, or None.
    """

    embedding: NDArray[np.float32]
    feature_map: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Interface:
    """An architecture's numbers, to be read without PyTorch.

    Attributes:
        title: as people write it.
        sizes: crop sizes it can be exported at, the usual one first; multiples of its total stride.
        contract: what goes in and out at one size.
        identity: shapes of what an identity consists of, with one person in front.
        alignment: how crops are cut from photos, of sources and of targets.
        paste_back: how a swapped crop is weighed when it goes back.
        source_size: side at which a source is aligned.
        source_seen: the rows and columns of that crop that the identity encoder looks at.
        encoder_size: side of the face that the encoder is given.
    """

    name: str
    title: str
    sizes: tuple[int, ...]
    contract: Callable[[int], Contract]
    identity: Mapping[str, tuple[int, ...]]
    alignment: AlignmentTemplate
    paste_back: PasteBack | Ellipse
    source_size: int
    source_seen: tuple[int, int]
    encoder_size: int


@dataclass(frozen=True)
class CheckpointFiles:
    """How a checkpoint's files are called in a folder or an archive.

    Attributes:
        names: by role (``card.GENERATOR``, ``card.ENCODER``), a pattern of the name without suffix, in lower case.
        example: names of a generator's file, for messages.
    """

    names: Mapping[str, re.Pattern[str]]
    example: str


class Package(Protocol):
    """An architecture's folder; importing it does not import PyTorch."""

    INTERFACE: Interface
    FILES: CheckpointFiles

    def get(self) -> Architecture:
        """Its networks; imports PyTorch."""
        ...


class Architecture(Protocol):
    """A module with these names at top level.  It needs PyTorch."""

    INTERFACE: Interface
    NETWORKS: Networks  # by role; where a role has several, the keys of a file tell which one it is of

    def generator(self, state: Mapping[str, Tensor]) -> nn.Module:
        """The generator of a checkpoint's state dict, in eval mode."""
        ...

    def encoder(self, state: Mapping[str, Tensor]) -> nn.Module:
        """The identity encoder of a checkpoint's state dict, in eval mode."""
        ...

    def embed(self, encoder: nn.Module, face: Image) -> Identity:
        """The identity of an aligned source face (S, S, 3), of ``INTERFACE.source_size``."""
        ...

    def random_identity(self, rng: np.random.Generator) -> Identity:
        """A random identity, with the shapes and scale of an encoder's output."""
        ...

    def predictor(self, generator: nn.Module, keys: Sequence[str]) -> nn.Module:
        """A network from N identities to the baked weights called ``keys``, in that order, (N, ...) each."""
        ...

    def bake(self, generator: nn.Module, identity: Identity) -> StateDict:
        """The weights of one person's network, complete."""
        ...

    def load(self, state: Mapping[str, Tensor]) -> nn.Module:
        """One person's network with the weights that ``bake`` gave, in eval mode.  Raises RuntimeError on other keys."""
        ...

    def blank(self) -> nn.Module:
        """One person's network with unset weights, to count its operations."""
        ...

    def reference(self, generator: nn.Module, identity: Identity) -> Swap:
        """Crops (N, 3, S, S) to the contract's outputs without baking: what a bake must reproduce."""
        ...


def restore(net: nn.Module, state: Mapping[str, Tensor]) -> nn.Module:
    """``net`` with a checkpoint's weights, in eval mode."""
    net.load_state_dict(dict(state), strict=False)  # the reader checked the keys; BatchNorm's counters alone are absent
    return net.eval()
