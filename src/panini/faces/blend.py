"""Blends a restored face back into the photo without a visible seam."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from panini.faces.align import Transform, invert, scale_of, scaled, warp
from panini.photo.pixels import Pixels, resize

_FEATHER = 0.12  # of the crop's side: distance from the border at which the mask reaches 1
_MASK_SIZE = 256
_NEARNESS = 60.0  # how sharply overlapping faces are separated: at half a crop from its center, a face has e^-15
_FACE = (0.5, 0.52, 0.19, 0.3)  # relative to the crop: center and semi-axes of the ellipse of a face
_FACE_EDGE = 0.7  # width of the ellipse's soft edge, relative to the semi-axes
_TURNED = 0.33  # `Face.yaw` at which the far cheek ends next to the eye
_FAR_AXIS, _FAR_EDGE, _NEAR_AXIS = 0.84, 0.3, 1.25  # factors of the ellipse's horizontal axis and edge in such a face
_TEXTURES = (2.0, 4.0)  # pixels of the photo: sigmas of Gaussians that texture is the difference to, fine and coarse
_VISIBLE = (1.0, 3.0)  # of 255: spread of texture that is just visible, and plainly so
_SAMPLED = 7  # texture is measured at every seventh pixel
_BAND = 1 << 20  # pixels blended at once


def masks(transforms: Sequence[Transform], crop_size: int) -> list[NDArray[np.float32]]:
    """An opacity mask [256, 256] in [0, 1] for the patch of each face, to be pasted in this order.

    Where crops overlap, the opacity of a face grows toward the center of its crop, so that the margin of one crop does
    not cover the face of another. transforms: from the photo to crops of side `crop_size`.
    """
    whole = feathered_mask(_MASK_SIZE)
    if len(transforms) < 2:
        return [whole] * len(transforms)
    to_crops = [scaled(transform, target=1 / crop_size) for transform in transforms]
    grid = (np.stack(np.meshgrid(*2 * [np.arange(_MASK_SIZE)]), -1) + 0.5) / _MASK_SIZE
    backs = [invert(to_crop) for to_crop in to_crops]
    middles = np.array([back[:, :2] @ [0.5, 0.5] + back[:, 2] for back in backs])
    reach = np.array([scale_of(back) for back in backs]) * np.sqrt(0.5)
    found = []
    for i, back in enumerate(backs):
        points = grid @ back[:, :2].T + back[:, 2]
        near = np.flatnonzero(np.hypot(*(middles - middles[i]).T) <= reach + reach[i])
        cover, shares = [], []
        for j in near:
            place = points @ to_crops[j][:, :2].T + to_crops[j][:, 2]
            at = (place * _MASK_SIZE - 0.5).astype(np.float32)
            # The mask of the face is not remapped, so that zero at the border stays zero.
            cover.append(whole if j == i else cv2.remap(whole, at[..., 0], at[..., 1], cv2.INTER_LINEAR))
            shares.append(cover[-1] * np.exp(-_NEARNESS * np.square(place - 0.5).sum(-1)) + 1e-30)
        weights = np.max(cover, axis=0) * shares / np.sum(shares, axis=0)
        # Patches that are pasted later cover earlier ones.
        alpha = weights[near == i][0] / np.maximum(1 - weights[near > i].sum(0), 1e-6)
        found.append((whole > 0) * np.clip(alpha, 0, 1).astype(np.float32))
    return found


def share_around(before: Pixels, after: Pixels, pixel: float, yaw: float = 0.0) -> NDArray[np.float32]:
    """Opacity [256, 256] in [0, 1] that avoids a smooth patch around the head in textured photos, such as prints.

    It is 1 on the face. Around the face, it decreases with the texture (dots, canvas, grain) that restoration removed.

    before: the crop [S, S, 3]. after: the same restored, of any size. pixel: size of a pixel of the photo in the crop.
    yaw: see `Face.yaw`. A face in partial profile is narrower on the far side.
    """
    side = before.shape[0]
    y, x = (np.mgrid[:_MASK_SIZE, :_MASK_SIZE] + 0.5) / _MASK_SIZE
    turned, far = min(abs(yaw) / _TURNED, 1.0), (x - _FACE[0]) / _FACE[2] * np.sign(yaw)  # > 0: the far cheek
    axis = _FACE[2] * (1 + turned * (np.where(far > 0, _FAR_AXIS, _NEAR_AXIS) - 1))
    edge = _FACE_EDGE * (1 + turned * np.clip(far, 0, 1) * (_FAR_EDGE - 1))
    distance = np.hypot((x - _FACE[0]) / axis, (y - _FACE[1]) / _FACE[3])
    outside = np.clip((distance - 1) / edge, 0, 1).astype(np.float32)
    background = cv2.resize(outside, (side, side), interpolation=cv2.INTER_NEAREST) == 1
    places = np.flatnonzero(background)[::_SAMPLED]
    old, new = (part.astype(np.float32) for part in (before, resize(after, side, cv2.INTER_AREA)))
    lost = max(_lost_texture(old, new, places, sigma * max(pixel, 1.0)) for sigma in _TEXTURES)
    return 1 - np.float32(lost) * outside


def _lost_texture(
    before: NDArray[np.float32], after: NDArray[np.float32], places: NDArray[np.intp], sigma: float
) -> float:
    """How much of the visible texture of `before` [S, S, 3] is lost in `after`, in [0, 1]. Colored grain counts, too.

    places: flat indices of the pixels to look at. sigma: of the Gaussian that texture is the difference to, in pixels.
    """
    side = before.shape[0]
    small = max(1, round(side / max(1.0, sigma / _TEXTURES[0])))  # shows all that a wide Gaussian leaves
    spreads = []
    for picture in (before, after):
        smooth = cv2.resize(picture, (small, small), interpolation=cv2.INTER_AREA)
        smooth = cv2.GaussianBlur(smooth, (0, 0), sigma * small / side)
        smooth = cv2.resize(smooth, (side, side), interpolation=cv2.INTER_LINEAR)
        texture = picture.reshape(-1, 3)[places] - smooth.reshape(-1, 3)[places]
        spreads.append(1.4826 * float(np.median(np.abs(texture))) + 1e-6)
    visible = float(np.clip((spreads[0] - _VISIBLE[0]) / (_VISIBLE[1] - _VISIBLE[0]), 0, 1))
    return visible * float(np.sqrt(max(0.0, 1 - (spreads[1] / spreads[0]) ** 2)))


@dataclass(frozen=True)
class Patch:
    """The replacement of a face: `pixels` plus `kept` times the photo."""

    pixels: NDArray[np.float32]  # [S, S, 3]: the restored crop minus `kept` times the original crop
    kept: float  # in [0, 1]: the share of photo detail to keep that is too fine for a crop of side S


def patch(photo: Pixels, restored: Pixels, transform: Transform, crop_size: int, grain: float = 0.0) -> Patch:
    """Prepares the restored crop [S, S, 3] of `photo` [H, W, 3] for pasting.

    A face larger than the crop keeps the finest detail of the photo, fully if it is at least twice as large.
    grain: in [0, 1], the amount of photo grain to add.
    """
    side = restored.shape[0]
    to_crop = scaled(transform, target=side / crop_size)
    kept = float(np.clip(1 / scale_of(to_crop) - 1, 0, 1))
    pixels = restored.astype(np.float32)
    if kept or grain:
        before = np.asarray(warp(photo, to_crop, (side, side)), np.float32)
        if grain:
            pixels += grain * _lost_grain(before, pixels, max(scale_of(to_crop), 1.0))
        pixels -= kept * before
    return Patch(pixels, kept)


def paste(
    photo: Pixels,
    patch: Patch,
    mask: NDArray[np.float32],
    transform: Transform,
    crop_size: int,
    scale: int = 1,
) -> None:
    """Blends the patch of a face into `photo` [H, W, 3], in place, with the opacity `mask` [M, M].

    transform: from the photo, before it was enlarged `scale` times, to a crop of side `crop_size`. Nothing changes
    where the mask is zero, which includes everything outside the crop.
    """
    side = patch.pixels.shape[0]
    to_photo = invert(scaled(transform, source=scale, target=side / crop_size))
    corners = np.array([[0, 0], [1, 0], [0, 1], [1, 1]]) * side
    corners = corners @ to_photo[:, :2].T + to_photo[:, 2]
    limits = np.array(photo.shape[1::-1])
    x0, y0 = np.clip(np.floor(corners.min(0)), 0, limits).astype(int)
    x1, y1 = np.clip(np.ceil(corners.max(0)), 0, limits).astype(int)
    if x1 <= x0 or y1 <= y0:
        return
    # In bands, which bounds memory for faces of many megapixels. Shrinking happens once, before the bands.
    shrink = min(scale_of(to_photo), 1.0)
    small = min(side, max(1, round(2 * side * shrink)))
    pixels = patch.pixels
    if small < side:
        pixels = np.asarray(cv2.resize(pixels, (small, small), interpolation=cv2.INTER_AREA), np.float32)
    rows = max(1, _BAND // int(x1 - x0))
    for top in range(int(y0), int(y1), rows):
        part = photo[top : min(top + rows, int(y1)), x0:x1]
        to_part = to_photo - [[0, 0, x0], [0, 0, top]]
        size = (part.shape[1], part.shape[0])
        face = _warp(pixels, scaled(to_part, source=pixels.shape[0] / side), size, cv2.BORDER_REPLICATE)
        weight = _warp(mask, scaled(to_part, source=mask.shape[0] / side), size, cv2.BORDER_CONSTANT)[..., None]
        face += patch.kept * part
        part[:] = np.rint(np.clip(part + weight * (face - part), 0, 255)).astype(np.uint8)


def _warp(image: NDArray[np.float32], transform: Transform, size: tuple[int, int], border: int) -> NDArray[np.float32]:
    interpolation = cv2.INTER_CUBIC if image.ndim == 3 else cv2.INTER_LINEAR
    matrix = transform.copy()
    matrix[:, 2] += matrix[:, :2] @ [0.5, 0.5] - 0.5  # in OpenCV, integer coordinates are the centers of pixels
    return np.asarray(cv2.warpAffine(image, matrix, size, flags=interpolation, borderMode=border), np.float32)


def _lost_grain(before: NDArray[np.float32], after: NDArray[np.float32], pixel: float) -> NDArray[np.float32]:
    """The grain of `before` [S, S, 3] that `after` lacks. pixel: size of a pixel of the photo in both."""

    def fine(image: NDArray[np.float32]) -> NDArray[np.float32]:
        return image - cv2.GaussianBlur(image, (0, 0), 1.2 * pixel)

    layer, inner = fine(before), slice(before.shape[0] // 4, -before.shape[0] // 4)
    spread = [1.4826 * np.median(np.abs(part[inner, inner])) + 1e-6 for part in (layer, fine(after))]
    missing = np.sqrt(max(0.0, 1 - (spread[1] / spread[0]) ** 2))
    limit = 2 * spread[0]  # edges are not grain: large values are faded out
    return np.asarray(missing * layer * np.exp(-np.square(layer / limit) / 2), np.float32)


def feathered_mask(size: int) -> NDArray[np.float32]:
    """A mask [size, size]: 1 inside, falling smoothly to 0 at the border, with round corners."""
    ramp = np.minimum(np.arange(size), np.arange(size)[::-1]) / (_FEATHER * (size - 1))
    ramp = np.clip(ramp, 0, 1)
    # The distance from the inner square makes round corners.
    inward = 1 - np.minimum(np.hypot(1 - ramp[:, None], 1 - ramp[None, :]), 1)
    mask: NDArray[np.float32] = (inward * inward * (3 - 2 * inward)).astype(np.float32)
    return mask
