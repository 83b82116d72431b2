"""MobileFSGAN: an encoder-decoder whose channels are scaled and shifted by an embedding, which is constant for one person.

Paper: Yu et al., "Migrating Face Swap to Mobile Devices: A lightweight Framework and A Supervised Training Solution", ICME 2022,
https://arxiv.org/abs/2204.08339
Authors' code: https://github.com/HoiM/MobileFSGAN
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mfs_deploy.architectures.mobilefsgan.interface import FILES as FILES
from mfs_deploy.architectures.mobilefsgan.interface import INTERFACE as INTERFACE

if TYPE_CHECKING:
    from mfs_deploy.architectures.base import Architecture


def get() -> Architecture:
    """This architecture's networks; imports PyTorch."""
    from mfs_deploy.architectures.mobilefsgan import architecture

    return architecture
