"""MobileFaceSwap: a generator predicts a small network's weights, once a person."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from mfs_deploy.architectures.base import Interface
from mfs_deploy.contract import (
    INPUT_NAME,
    MASK_NAME,
    SWAPPED_NAME,
    Contract,
    TensorSpec,
)
from mfs_deploy.faces.align import ALIGNMENT, SOURCE_SIZE
from mfs_deploy.faces.paste_back import PASTE_BACK

if TYPE_CHECKING:
    from torch import Tensor, nn

    from mfs_deploy.architectures import Architecture
    from mfs_deploy.architectures.mobilefaceswap.encode import Identity


def contract(size: int) -> Contract:
    return Contract(
        arch="mobilefaceswap",
        size=size,
        input=TensorSpec(INPUT_NAME, (1, 3, size, size), 0.0, 1.0, "RGB", "aligned crop of the target face"),
        outputs=(
            TensorSpec(SWAPPED_NAME, (1, 3, size, size), 0.0, 1.0, "RGB", "swapped crop, blended with the target"),
            TensorSpec(MASK_NAME, (1, 1, size, size), 0.0, 1.0, "mask", "weight of the swapped face, before paste-back"),
        ),
    )


INTERFACE = Interface(
    name="mobilefaceswap",
    title="MobileFaceSwap",
    sizes=(224, 256),
    contract=contract,
    identity={"embedding": (1, 512), "feature_map": (1, 512, 7, 7)},
    alignment=ALIGNMENT,
    paste_back=PASTE_BACK,
    source_size=SOURCE_SIZE,
    source_seen=(0, SOURCE_SIZE),
    encoder_size=112,
)


def build() -> Architecture:
    import torch

    from mfs_deploy.architectures import Architecture
    from mfs_deploy.architectures.mobilefaceswap import arcface, bake, small_encoder
    from mfs_deploy.architectures.mobilefaceswap import encode as identity
    from mfs_deploy.architectures.mobilefaceswap.generator import BakedNet, Generator

    def restore(net: nn.Module, state: Mapping[str, Tensor]) -> nn.Module:
        net.load_state_dict(dict(state), strict=False)  # complete by the reader's word; only BatchNorm's own counters are absent
        return net.eval()

    def tensors(person: Identity) -> tuple[Tensor, Tensor]:
        assert person.feature_map is not None
        return torch.from_numpy(person.embedding), torch.from_numpy(person.feature_map)

    def reference(generator: nn.Module, person: Identity) -> Callable[[Tensor], tuple[Tensor, ...]]:
        assert isinstance(generator, Generator)
        with torch.inference_mode():
            predicted = generator(*tensors(person))
        return lambda target: generator.swap(predicted, target)

    return Architecture(
        interface=INTERFACE,
        generator=lambda state: restore(Generator(), state),
        encoder=lambda state: restore(small_encoder.SmallEncoder() if small_encoder.holds(state) else arcface.ArcFace(), state),
        encode=identity.encode,
        random_identity=identity.random,
        predictor=bake.Predictor,  # type: ignore[arg-type]
        bake=lambda generator, person: bake.bake(generator, *tensors(person)),  # type: ignore[arg-type]
        load=bake.load,
        blank=BakedNet,
        reference=reference,
    )
