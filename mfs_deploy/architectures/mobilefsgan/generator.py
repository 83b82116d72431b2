"""The encoder-decoder in two forms: trained (modulated by an embedding) and baked for one person.

The head's features go into two branches: attribute blocks, which keep the target's features at each size, and identity blocks, down
to 8 x 8 and up again.  The decoder blends both, size by size, weighted by an attention map.  The embedding enters only the identity
blocks, as a scale and a shift of each channel.

Source: the authors' code, https://github.com/HoiM/MobileFSGAN/blob/7d630d7529d0d8290a03bf948368b904cd0c0d68/modules/EncoderDecoder.py
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CHANNELS = 64
EMBEDDING = 512
SLOPE = 0.01
DOWN = ("b256_down", "b128_down", "b64_down", "b32_down", "b16_down", "b8_down")  # identity blocks, from the input's size on
UP = ("b16_up", "b32_up", "b64_up")
ATTRIBUTES = {256: 2, 128: 3, 64: 4}  # attribute blocks by size; the decoder has one more of each, for what comes before them
IDENTITY = "identity_encoder."


def conv3x3() -> nn.Conv2d:
    return nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, bias=False)


class AttributeBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.normalize = nn.BatchNorm2d(CHANNELS)
        self.conv1x1 = nn.Conv2d(CHANNELS, CHANNELS, 1)
        self.conv3x3 = conv3x3()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv3x3(F.leaky_relu(self.conv1x1(self.normalize(x)), SLOPE))
        return y


class ModulatedBlock(nn.Module):
    """An identity block as it is trained: a scale and a shift of every channel are linear in the embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.normalize = nn.BatchNorm2d(CHANNELS, affine=False)
        self.fc_mean = nn.Linear(EMBEDDING, CHANNELS)
        self.fc_var = nn.Linear(EMBEDDING, CHANNELS)
        self.conv1x1 = nn.Conv2d(CHANNELS, CHANNELS, 1)
        self.conv3x3 = conv3x3()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        scale, shift = self.fc_var(embedding)[:, :, None, None], self.fc_mean(embedding)[:, :, None, None]
        y = F.leaky_relu(self.normalize(x) * scale + shift, SLOPE)
        y = F.leaky_relu(self.conv1x1(y), SLOPE)
        detail: Tensor = self.conv3x3(y)
        return detail

    def constants(self, embedding: Tensor) -> tuple[Tensor, Tensor]:
        """(N, C, 1, 1, 1) and (N, C): for these embeddings the block's first step as weight and bias of a depthwise convolution."""
        assert self.normalize.running_mean is not None
        assert self.normalize.running_var is not None
        scale = self.fc_var(embedding) * torch.rsqrt(self.normalize.running_var + self.normalize.eps)
        return scale[:, :, None, None, None], self.fc_mean(embedding) - self.normalize.running_mean * scale


class BakedBlock(nn.Module):
    """An identity block of one person: normalisation and modulation are one multiply-add a channel, a depthwise 1x1 convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.modulate = nn.Conv2d(CHANNELS, CHANNELS, 1, groups=CHANNELS)
        self.conv1x1 = nn.Conv2d(CHANNELS, CHANNELS, 1)
        self.conv3x3 = conv3x3()

    def forward(self, x: Tensor) -> Tensor:
        y = F.leaky_relu(self.modulate(x), SLOPE)
        y = F.leaky_relu(self.conv1x1(y), SLOPE)
        detail: Tensor = self.conv3x3(y)
        return detail


class Downsample(nn.Module):
    """Half the size; the zeros around the image are put there after the normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.normalize = nn.BatchNorm2d(CHANNELS)
        self.conv = nn.Conv2d(CHANNELS, CHANNELS, 4, stride=2, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(self.conv(self.normalize(x)), SLOPE)


class Upsample(nn.Module):
    """Twice the size, bilinear with aligned corners, then a convolution that sees the image mirrored beyond its edge."""

    def __init__(self) -> None:
        super().__init__()
        self.normalize = nn.BatchNorm2d(CHANNELS)
        self.conv = nn.Conv2d(CHANNELS, CHANNELS, 3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = F.interpolate(self.normalize(x), scale_factor=2.0, mode="bilinear", align_corners=True)
        return F.leaky_relu(self.conv(F.pad(y, (1, 1, 1, 1), mode="reflect")), SLOPE)


class Head(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv_image = nn.Conv2d(3, CHANNELS, 3, padding=1)
        self.conv1x1 = nn.Conv2d(CHANNELS, CHANNELS, 1)
        self.conv3x3 = conv3x3()

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """The inputs of the identity branch and of the attribute branch, (N, 64, S, S) each."""
        first = F.leaky_relu(self.conv_image(image), SLOPE)
        return self.conv3x3(F.leaky_relu(self.conv1x1(first), SLOPE)), first


class AttributeBranch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        for size, blocks in ATTRIBUTES.items():
            if size != 256:
                self.add_module(f"downsample{size}", Downsample())
            for i in range(1, blocks + 1):
                self.add_module(f"b{size}_{i}", AttributeBlock())

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Features by the name of the decoder's block that reads them."""
        found: dict[str, Tensor] = {}
        for size, blocks in ATTRIBUTES.items():
            if size != 256:
                x = self.get_submodule(f"downsample{size}")(x)
            found[f"b{size}_0"] = x
            for i in range(1, blocks + 1):
                x = found[f"b{size}_{i}"] = x + self.get_submodule(f"b{size}_{i}")(x)
        return found


class IdentityBranch(nn.Module):
    def __init__(self, block: type[nn.Module]) -> None:
        super().__init__()
        for i, name in enumerate(DOWN):
            if i:
                self.add_module(f"down{256 >> i}", Downsample())
            self.add_module(name, block())
        for name, size in zip(UP, (16, 32, 64), strict=True):
            self.add_module(f"up{size}", Upsample())
            self.add_module(name, block())

    def forward(self, x: Tensor, *style: Tensor) -> Tensor:
        """Features at a quarter of the input's size.  ``style`` is the embedding, where the blocks take one."""
        by_size: dict[int, Tensor] = {}
        for i, name in enumerate(DOWN):
            size = 256 >> i
            if i:
                x = self.get_submodule(f"down{size}")(x)
            x = by_size[size] = x + self.get_submodule(name)(x, *style)
        for name, size in zip(UP, (16, 32, 64), strict=True):
            x = self.get_submodule(f"up{size}")(x) + by_size[size]
            x = self.get_submodule(name)(x, *style) + x
        return x


class DecoderBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv_attention = nn.Conv2d(CHANNELS, 1, 1)
        self.basic_block = AttributeBlock()

    def forward(self, x: Tensor, attribute: Tensor) -> Tensor:
        attention = self.conv_attention(x)
        y: Tensor = self.basic_block(x * attention + (1 - attention) * attribute)
        return y


class ImageOutput(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(CHANNELS, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.conv(x))


class Decoder(nn.Module):
    """``sizes`` at which an image comes out: the smaller ones are for training and are never computed here."""

    def __init__(self, sizes: Sequence[int]) -> None:
        super().__init__()
        for size, blocks in reversed(ATTRIBUTES.items()):
            if size != 64:
                self.add_module(f"up{size}", Upsample())
            for i in range(blocks, -1, -1):
                self.add_module(f"b{size}_{i}", DecoderBlock())
            if size in sizes:
                self.add_module(f"image{size}_output", ImageOutput())

    def forward(self, x: Tensor, attributes: Mapping[str, Tensor]) -> Tensor:
        for size, blocks in reversed(ATTRIBUTES.items()):
            if size != 64:
                x = self.get_submodule(f"up{size}")(x)
            for i in range(blocks, -1, -1):
                name = f"b{size}_{i}"
                x = self.get_submodule(name)(x, attributes[name]) + x
        image: Tensor = self.get_submodule("image256_output")(x)
        return image


class Generator(nn.Module):
    """The network as it is trained: 2,517,781 parameters, of one face and an embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder_head = Head()
        self.identity_encoder = IdentityBranch(ModulatedBlock)
        self.attribute_encoder = AttributeBranch()
        self.decoder = Decoder(tuple(ATTRIBUTES))

    def swap(self, embedding: Tensor, target: Tensor) -> Tensor:
        """``target`` (N, 3, S, S) RGB in [0, 1], S a multiple of 32, to swapped (N, 3, S, S) in [0, 1]; trained at S = 256."""
        identity, attributes = self.encoder_head((target - 0.5) / 0.5)
        image: Tensor = self.decoder(self.identity_encoder(identity, embedding), self.attribute_encoder(attributes))
        return (1 + image) / 2

    def constants(self, embedding: Tensor) -> dict[str, Tensor]:
        """The weights of a ``BakedNet`` that depend on the person, by its keys, with N people in front."""
        found: dict[str, Tensor] = {}
        for name in (*DOWN, *UP):
            block = self.identity_encoder.get_submodule(name)
            assert isinstance(block, ModulatedBlock)
            weight, bias = block.constants(embedding)
            found |= {f"{IDENTITY}{name}.modulate.weight": weight, f"{IDENTITY}{name}.modulate.bias": bias}
        return found


class BakedNet(nn.Module):
    """One person's network.  Of its parameters 1,152 are the person's: a weight and a bias for 64 channels in nine blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder_head = Head()
        self.identity_encoder = IdentityBranch(BakedBlock)
        self.attribute_encoder = AttributeBranch()
        self.decoder = Decoder((256,))

    def forward(self, target: Tensor) -> tuple[Tensor]:
        """As ``Generator.swap``."""
        identity, attributes = self.encoder_head((target - 0.5) / 0.5)
        image: Tensor = self.decoder(self.identity_encoder(identity), self.attribute_encoder(attributes))
        return ((1 + image) / 2,)


def bake(generator: Generator, embedding: Tensor) -> dict[str, Tensor]:
    """One person's weights, a complete state dict of ``BakedNet``.

    Args:
        generator: in eval mode.
        embedding: (1, 512), L2-normalised.
    """
    state = BakedNet().state_dict()
    trained = generator.state_dict()
    with torch.inference_mode():
        own = {key: value[0] for key, value in generator.constants(embedding).items()}
    return {key: (own[key] if key in own else trained[key]).clone().contiguous() for key in state}


def load(state: Mapping[str, Tensor]) -> BakedNet:
    """The baked network in eval mode.  Every key must be there and no other."""
    net = BakedNet()
    net.load_state_dict(dict(state), strict=True)
    return net.eval()


class Predictor(nn.Module):
    """A generator that gives the weights called ``keys``, in that order, with N people in front."""

    def __init__(self, generator: Generator, keys: Sequence[str]) -> None:
        super().__init__()
        self.generator, self.keys = generator, keys

    def forward(self, embedding: Tensor) -> tuple[Tensor, ...]:
        found = self.generator.constants(embedding)
        return tuple(found[key] for key in self.keys)
