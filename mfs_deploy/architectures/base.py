"""What can be known of an architecture without PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mfs_deploy.contract import Contract
from mfs_deploy.faces.align import AlignmentTemplate
from mfs_deploy.faces.paste_back import Ellipse, PasteBack


@dataclass(frozen=True)
class Interface:
    """
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
