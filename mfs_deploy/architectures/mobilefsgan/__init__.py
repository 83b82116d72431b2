"""MobileFSGAN: an encoder-decoder whose channels are scaled and shifted by an embedding, which is constant for one person."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from mfs_deploy.architectures.base import Interface
from mfs_deploy.contract import (
    INPUT_NAME,
    SWAPPED_NAME,
    Contract,
    TensorSpec,
)
from mfs_deploy.faces.align import ALIGNMENT, SIMILARITY, AlignmentTemplate
from mfs_deploy.faces.paste_back import Ellipse

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

    from mfs_deploy.architectures import Architecture
    from mfs_deploy.architectures.mobilefaceswap.encode import Identity
    from mfs_deploy.faces.pixels import Image

SIZE = 256
SEEN = (26, 230)  # of its own crop, what the authors' code gives to the identity encoder, shrunk to ...
SHRUNK = 112
# The authors publish no alignment.  This one follows from that: in the middle of the crop, shrunk, the landmarks lie where encoders
# trained like ArcFace's have them, and such encoders' faces are turned and scaled but not sheared.
ALIGNED = AlignmentTemplate(
    base=SIZE,
    points=tuple(
        (SEEN[0] + x * (SEEN[1] - SEEN[0] - 1) / (SHRUNK - 1), SEEN[0] + y * (SEEN[1] - SEEN[0] - 1) / (SHRUNK - 1))
        for x, y in ALIGNMENT.points
    ),
    solver=SIMILARITY,
)
# Brow to chin and cheek to cheek of that crop; the network draws the whole crop and gives no mask.
PASTED = Ellipse(centre=(0.5, 0.575), radii=(0.36, 0.4), edge=0.25)


def contract(size: int) -> Contract:
    return Contract(
        arch="mobilefsgan",
        size=size,
        input=TensorSpec(INPUT_NAME, (1, 3, size, size), 0.0, 1.0, "RGB", "aligned crop of the target face"),
        outputs=(TensorSpec(SWAPPED_NAME, (1, 3, size, size), 0.0, 1.0, "RGB", "swapped crop, drawn whole; there is no mask"),),
    )


INTERFACE = Interface(
    name="mobilefsgan",
    title="MobileFSGAN",
    sizes=(SIZE,),
    contract=contract,
    identity={"embedding": (1, 512)},
    alignment=ALIGNED,
    paste_back=PASTED,
    source_size=SIZE,
    source_seen=SEEN,
    encoder_size=SIZE,
)


def build() -> Architecture:
    import numpy as np
    import torch

    from mfs_deploy.architectures import Architecture
    from mfs_deploy.architectures.mobilefaceswap.encode import Identity
    from mfs_deploy.architectures.mobilefsgan import encoder, generator
    from mfs_deploy.architectures.mobilefsgan.generator import Generator
    from mfs_deploy.faces import pixels

    def restore(net: nn.Module, state: Mapping[str, Tensor]) -> nn.Module:
        net.load_state_dict(dict(state), strict=False)  # complete by the reader's word; only BatchNorm's own counters are absent
        return net.eval()

    def encode(net: nn.Module, face: Image) -> Identity:
        with torch.inference_mode():
            embedding = net(torch.from_numpy(pixels.to_tensor(pixels.resize(face, SIZE) if len(face) != SIZE else face)))
        return Identity(embedding.numpy())

    def random(rng: np.random.Generator) -> Identity:
        embedding = rng.standard_normal((1, 512)).astype(np.float32)
        return Identity(embedding / np.linalg.norm(embedding))

    def reference(net: nn.Module, person: Identity) -> Callable[[Tensor], tuple[Tensor, ...]]:
        assert isinstance(net, Generator)
        embedding = torch.from_numpy(person.embedding)
        return lambda target: (net.swap(embedding, target),)

    return Architecture(
        interface=INTERFACE,
        generator=lambda state: restore(Generator(), state),
        encoder=lambda state: restore(encoder.MobileFaceNet(), state),
        encode=encode,
        random_identity=random,
        predictor=generator.Predictor,  # type: ignore[arg-type]
        bake=lambda net, person: generator.bake(net, torch.from_numpy(person.embedding)),  # type: ignore[arg-type]
        load=generator.load,
        blank=generator.BakedNet,
        reference=reference,
    )
