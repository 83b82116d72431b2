"""What depends on the architecture, behind one small interface.  The rest of the package knows only this.

Adding one: its networks under ``nets/``, an ``Architecture`` here, a card under ``models/``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mfs_deploy.contract import INPUT_NAME, MASK_NAME, SWAPPED_NAME, Contract, TensorSpec
from mfs_deploy.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

    from mfs_deploy.checkpoint.load import Checkpoint
    from mfs_deploy.identity import Identity
    from mfs_deploy.images import Image

    Weights = dict[str, Tensor]
    Swap = Callable[[Tensor], tuple[Tensor, Tensor]]

SIZES = (224, 256)


@dataclass(frozen=True)
class Architecture:
    """One published face-swap network.

    Attributes:
        sizes: crop sizes it can be exported at; multiples of its total stride.
        contract: what goes in and out at one size.
        generator, encoder: from a checkpoint, in eval mode.
        encode: encoder and an aligned source face to an identity.
        random_identity: somebody who does not exist, of the form that the generator takes.
        source: height and width of the face that ``encoder`` takes.
        predictor: generator as a network from identities to the baked weights of the keys given, people in front.
        bake: generator and identity to the weights of one person's network.
        load: those weights as a network, in eval mode.
        blank: a person's network with unset weights, for counting.
        reference: generator and identity as one function, without baking; what a bake must reproduce.
    """

    name: str
    sizes: tuple[int, ...]
    contract: Callable[[int], Contract]
    generator: Callable[[Checkpoint], nn.Module]
    encoder: Callable[[Checkpoint], nn.Module | None]
    encode: Callable[[nn.Module, Image], Identity]
    random_identity: Callable[[np.random.Generator], Identity]
    source: tuple[int, int]
    predictor: Callable[[nn.Module, Sequence[str]], nn.Module]
    bake: Callable[[nn.Module, Identity], Weights]
    load: Callable[[Weights], nn.Module]
    blank: Callable[[], nn.Module]
    reference: Callable[[nn.Module, Identity], Swap]


def get(name: str) -> Architecture:
    if name not in ARCHITECTURES:
        raise UsageError(f"no architecture is called {name!r}", hint=f"choose from: {', '.join(ARCHITECTURES)}")
    return ARCHITECTURES[name]()


def _mobilefaceswap() -> Architecture:
    import torch

    from mfs_deploy import bake, identity
    from mfs_deploy.nets import arcface, small_encoder
    from mfs_deploy.nets.arcface import ArcFace
    from mfs_deploy.nets.mobilefaceswap import BakedNet, Generator

    def restore(net: nn.Module, state: Weights) -> nn.Module:
        net.load_state_dict(state, strict=False)  # complete by the reader's word; only BatchNorm's own counters are absent
        return net.eval()

    def encoder(state: Weights) -> nn.Module:
        return restore(small_encoder.SmallEncoder() if small_encoder.holds(state) else ArcFace(), state)

    def tensors(person: Identity) -> tuple[Tensor, Tensor]:
        return torch.from_numpy(person.embedding), torch.from_numpy(person.feature_map)

    def reference(generator: nn.Module, person: Identity) -> Swap:
        assert isinstance(generator, Generator)
        with torch.inference_mode():
            predicted = generator(*tensors(person))
        return lambda target: generator.swap(predicted, target)

    return Architecture(
        name="mobilefaceswap",
        sizes=SIZES,
        contract=_mobilefaceswap_contract,
        generator=lambda checkpoint: restore(Generator(), checkpoint.generator),
        encoder=lambda checkpoint: None if checkpoint.encoder is None else encoder(checkpoint.encoder),
        encode=identity.encode,
        random_identity=identity.random,
        source=(arcface.SIZE, arcface.SIZE),
        predictor=bake.Predictor,  # type: ignore[arg-type]
        bake=lambda generator, person: bake.bake(generator, *tensors(person)),  # type: ignore[arg-type]
        load=bake.load,
        blank=BakedNet,
        reference=reference,
    )


def _mobilefaceswap_contract(size: int) -> Contract:
    return Contract(
        arch="mobilefaceswap",
        size=size,
        input=TensorSpec(INPUT_NAME, (1, 3, size, size), 0.0, 1.0, "RGB", "aligned crop of the target face"),
        outputs=(
            TensorSpec(SWAPPED_NAME, (1, 3, size, size), 0.0, 1.0, "RGB", "swapped crop, blended with the target"),
            TensorSpec(MASK_NAME, (1, 1, size, size), 0.0, 1.0, "mask", "weight of the swapped face, before paste-back"),
        ),
    )


ARCHITECTURES: dict[str, Callable[[], Architecture]] = {"mobilefaceswap": _mobilefaceswap}
# Sizes and contract of each: what can be known of them without PyTorch.
CONTRACTS: dict[str, tuple[tuple[int, ...], Callable[[int], Contract]]] = {"mobilefaceswap": (SIZES, _mobilefaceswap_contract)}
