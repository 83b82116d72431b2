"""Scenes to pixels, with the exact result of a face swap.

The truth of a swap is ``mask * photo(source's face on the target's head) + (1 - mask) * photo(target)``: one mask, two
photographs of the same scene by the same camera.  Blur, grain (drawn by the scene's seed) and JPEG act on each photograph
before they are blended, so outside the mask the result equals the target to the bit, grain included, and inside it carries
the same grain as the target, which a network sees in its input.  Set the camera plain (``plain_camera``) for a truth without.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mfs_deploy.demo.rendering import features, skin
from mfs_deploy.demo.rendering.attributes import Attributes
from mfs_deploy.demo.rendering.camera import photograph
from mfs_deploy.demo.rendering.canvas import Canvas, smooth
from mfs_deploy.demo.rendering.hair import hair
from mfs_deploy.demo.rendering.head import (
    JAW_DROP,
    Grid,
    Surface,
    col,
    grid,
    landmarks,
    meet,
    normals,
    rotation,
)
from mfs_deploy.demo.rendering.head import features as feature_relief
from mfs_deploy.demo.rendering.light import highlight, lit
from mfs_deploy.demo.rendering.occluders import occlusion
from mfs_deploy.demo.rendering.people import People
from mfs_deploy.demo.rendering.surroundings import background, body, ears

AT_ONCE = {"cpu": 1 << 20, "cuda": 1 << 24}  # pixels rendered at a time: some 150 buffers of this many floats are alive
# where an aligned crop of 112 pixels has the eyes, the nose tip and the mouth corners (mfs_deploy.faces.align.ALIGNMENT)
TEMPLATE = ((38.29459953, 51.69630051), (73.53179932, 51.50139999), (56.02519989, 71.73660278), (41.54930115, 92.3655014),
            (70.72990036, 92.20410156))  # fmt: skip


@dataclass(frozen=True)
class Rendered:
    image: Tensor  # (N, 3, S, S) RGB in [0, 1]
    mask: Tensor  # (N, 1, S, S) in [0, 1]: the visible face a swap replaces; no hair, ears, neck or occluder
    landmarks: Tensor  # (N, 5, 2) x, y in pixels of the view, centres at integers: eyes, nose tip, mouth corners, image left first


def frame_view(n: int, size: int, device: torch.device | str = "cpu") -> Tensor:
    """(N, 2, 3) the whole frame at ``size``."""
    return torch.tensor([[1 / size, 0, 0.5 / size], [0, 1 / size, 0.5 / size]], device=device).expand(n, 2, 3)


def crop_view(points: Tensor, size: int) -> Tensor:
    """(N, 2, 3) the aligned crop of ``size``: the least-squares affine of the project's alignment, inverted.

    Args:
        points: (N, 5, 2) landmarks in the scene, as ``scene_landmarks`` gives them.
    """
    square = torch.cat([points, torch.ones_like(points[:, :, :1])], 2).double()
    wanted = points.new_tensor(TEMPLATE, dtype=torch.float64) * (size / 112)
    forward: Tensor = torch.linalg.lstsq(square, wanted.expand(len(points), 5, 2)).solution.transpose(1, 2)  # (N, 2, 3)
    inverse = torch.linalg.inv(forward[:, :, :2])
    view: Tensor = torch.cat([inverse, -inverse @ forward[:, :, 2:]], 2)
    return view.to(points.dtype)


def scene_landmarks(people: People, attributes: Attributes, face_of: People | None = None) -> Tensor:
    """(N, 5, 2) in the scene: eye centres, nose tip, mouth corners, image left first."""
    return landmarks(people, people if face_of is None else face_of, attributes)


def render(
    people: People, attributes: Attributes, size: int, view: Tensor | None = None, *, face_of: People | None = None
) -> Rendered:
    """Photographs of N people in N scenes, or of the swaps that put the faces of ``face_of`` on them.

    Args:
        size: pixels of each side of the view.
        view: (N, 2, 3) affine from the view's pixels (centres at integers) to the scene, whose frame is [0, 1] x [0, 1];
            the whole frame when absent.

    Returns:
        With ``face_of`` the mask is the target's, and the landmarks are those of the new face.
    """
    target, result = _pair(people, face_of, attributes, size, view)
    return target if result is None else result


def render_swap(
    target: People, source: People, attributes: Attributes, size: int, view: Tensor | None = None
) -> tuple[Rendered, Rendered]:
    """``render(target)`` and ``render(target, face_of=source)`` at less than the price of both."""
    before, after = _pair(target, source, attributes, size, view)
    assert after is not None
    return before, after


def _pair(head: People, face: People | None, a: Attributes, size: int, view: Tensor | None) -> tuple[Rendered, Rendered | None]:
    if len(head) != len(a) or (face is not None and len(face) != len(a)):
        raise ValueError(f"{len(head)} people, {len(a)} scenes and {len(face or a)} faces; the numbers must agree")
    view = frame_view(len(a), size, a.yaw.device) if view is None else view
    step = max(1, AT_ONCE.get(view.device.type, 1 << 20) // size**2)
    parts = [slice(i, i + step) for i in range(0, len(a), step)]
    with torch.no_grad():
        made = [_chunk(head.take(p), None if face is None else face.take(p), a.take(p), size, view[p]) for p in parts]
        before, mask, after = (torch.cat([m[i] for m in made]) for i in range(3))
        target = Rendered(before, mask, _in_view(landmarks(head, head, a), view))
        return target, None if face is None else Rendered(after, mask, _in_view(landmarks(head, face, a), view))


def _in_view(points: Tensor, view: Tensor) -> Tensor:
    inverse: Tensor = torch.linalg.inv(view[:, :, :2])
    return (points - view[:, None, :, 2]) @ inverse.transpose(1, 2)


def _chunk(head: People, face: People | None, a: Attributes, size: int, view: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The target, the mask, and the swap (the target again where there is none)."""
    g, turn = grid(a, view, size), rotation(a)
    locks, cover = hair(head, a, g, turn), occlusion(head, a, g)
    back = torch.lerp(background(a, g), locks.back, locks.back_alpha.expand(3, -1, -1, -1))
    ear, ear_alpha, before = ears(head, a, g, turn)
    back = torch.lerp(body(back, head, a, g), ear, (ear_alpha * (1 - before)).expand(3, -1, -1, -1))
    front = ((ear, ear_alpha * before), (locks.front, locks.front_alpha))
    own = meet(head, head, a, g.x, g.y, g.pixel, turn)

    def photo(surface: Surface, person: People, needed: Tensor) -> Tensor:
        picture = torch.lerp(
            back, _face(surface, head, person, a, g, turn, locks.shade, needed), surface.coverage.expand(3, -1, -1, -1)
        )
        for colour, alpha in front:
            picture = torch.lerp(picture, colour, alpha.expand(3, -1, -1, -1))
        picture = picture * (1 - cover.veil) + cover.glare
        return photograph(_develop(torch.lerp(picture, cover.colour, cover.alpha.expand(3, -1, -1, -1)), a), a)

    target = photo(own, head, own.coverage > 0)
    visible = own.coverage * (1 - cover.alpha)
    for _, alpha in front:
        visible = visible * (1 - alpha)
    region = _region(own, head, a)
    mask = (region * visible)[:, None]
    if face is None:
        return target, mask, target
    other = photo(meet(head, face, a, g.x, g.y, g.pixel, turn), face, _near(region) & (own.coverage > 0))
    return target, mask, mask * other + (1 - mask) * target


def _region(surface: Surface, head: People, a: Attributes) -> Tensor:
    """The face from forehead to chin in head coordinates, 1 inside, soft at its edge, exactly 0 outside."""
    return smooth(_distance(surface, head, a), 1.0, 0.66)


def _distance(surface: Surface, head: People, a: Attributes) -> Tensor:
    """0 in the middle of the face, 1 at its border before the ears, under the hairline and on the chin."""
    bottom = 0.93 * head.head_height + 0.8 * JAW_DROP * a.mouth_open
    top = -0.66 * head.head_height
    y = (surface.v - col((top + bottom) / 2)) / col((bottom - top) / 2)
    x = surface.u / col(0.93 * head.head_width) * (1 + 0.30 * y.clamp_min(0) * y)
    x, y = x * x, y * y
    return x * x * 0.5 + 0.5 * x + y * y


def _near(region: Tensor) -> Tensor:
    """Where the region or a pixel within reach of the camera's blur is not empty."""
    return torch.nn.functional.max_pool2d(region[:, None], 9, stride=1, padding=4)[:, 0] > 0


def _face(
    surface: Surface, head: People, face: People, a: Attributes, g: Grid, turn: Tensor, shade: Tensor, needed: Tensor
) -> Tensor:
    """(3, N, S, S) linear light from the head's skin with this face on it; detail is painted only where ``needed``."""
    u, v = surface.u, surface.v
    empty = torch.zeros_like(u)
    relief = feature_relief(face, a, u, v) * 0.93
    canvas = Canvas(needed, u, v, relief, empty.expand(3, -1, -1, -1).clone(), empty.clone(), shade.clone(), empty.clone())
    bare = face.skin.t()[:, :, None, None]
    if face is not head:  # towards the border a face takes on its new head's tone, as a blended swap does
        border = smooth(_distance(surface, head, a), 0.25, 1.0).expand(3, -1, -1, -1)
        bare = torch.lerp(bare, head.skin.t()[:, :, None, None], 0.8 * border)
    skin.complexion(canvas, face, bare)
    skin.marks(canvas, face, g.pixel)
    skin.wrinkles(canvas, face, a, g.pixel)
    features.mouth_relief(canvas, face, a, g.pixel)
    skin.beard(canvas, face, a, g.pixel)
    features.nose(canvas, face, a, g.pixel)
    features.mouth(canvas, face, a, g.pixel)
    features.eyes(canvas, face, a, g.pixel)
    features.brows(canvas, face, a, g.pixel)
    normal = normals(surface, canvas.relief, head, turn, g)
    light = lit(canvas.albedo, normal, a, canvas.occlusion)
    shine = highlight(normal, a, canvas.gloss * canvas.occlusion) + canvas.glow
    return light + shine * a.light.t()[:, :, None, None]


def _develop(linear: Tensor, a: Attributes) -> Tensor:
    """Exposure, white balance, a soft shoulder and a gamma of 2: (3, N, S, S) linear to (N, 3, S, S) in [0, 1]."""
    gain = (a.exposure[:, None] * a.white_balance).t()[:, :, None, None]
    x = (linear * gain).clamp_min(0)
    return (x * (1 + 0.08 * x) / (1 + 0.33 * x)).clamp(0, 1).sqrt().transpose(0, 1).contiguous()
