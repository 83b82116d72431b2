"""MobileFaceSwap: a generator predicts a small network's weights, once a person.

Paper: Xu et al., "MobileFaceSwap: A Lightweight Framework for Video Face Swapping", AAAI 2022, https://arxiv.org/abs/2201.03808
Authors' code: https://github.com/Seanseattle/MobileFaceSwap
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mfs_deploy.architectures.mobilefaceswap.interface import FILES as FILES
from mfs_deploy.architectures.mobilefaceswap.interface import INTERFACE as INTERFACE

if TYPE_CHECKING:
    from mfs_deploy.architectures.base import Architecture


def get() -> Architecture:
    """This architecture's networks; imports PyTorch."""
    from mfs_deploy.architectures.mobilefaceswap import architecture

    return architecture
