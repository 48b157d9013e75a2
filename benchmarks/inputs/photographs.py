# SPDX-License-Identifier: Apache-2.0
"""Generates the photographs of benchmarks/scale.py, the same ones in each run.

Crops of textures whose power falls with their frequency as that of natural images does, with edges, as JPEG files.
"""

import io
import os
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = 10
_TEXTURES, _TEXTURE_SIDE = 24, 1024


def photographs(output: Path, count: int, size: tuple[int, int]) -> Path:
    """Generates photographs in a folder for each class, unless they are there; sets of several numbers share files."""
    height, width = size
    every = output / f"photographs-{width}x{height}"
    folder = output / f"photographs-{width}x{height}-{count}"
    done = folder.with_suffix(".done")
    if done.exists():
        return folder
    for label in range(CLASSES):
        for place in (every, folder):
            (place / f"class_{label}").mkdir(parents=True, exist_ok=True)
    for index in range(count):
        name = f"class_{index % CLASSES}/{index:07d}.jpg"
        if not (every / name).exists():
            part = every / "part"
            part.write_bytes(photograph(index, height, width))
            part.replace(every / name)
        if not (folder / name).exists():
            os.link(every / name, folder / name)
    done.touch()
    return folder


def photograph(index: int, height: int, width: int) -> bytes:
    """Generates a photograph: a crop of a texture, in part another one behind an edge, with colours and contrast."""
    rng = np.random.default_rng([20, index])
    pixels = _crop(rng, height, width)
    y, x = np.ogrid[0:height, 0:width]
    angle, top, left = rng.uniform(0, 2 * np.pi), rng.uniform(0.2, 0.8) * height, rng.uniform(0.2, 0.8) * width
    behind = (x - left) * np.cos(angle) + (y - top) * np.sin(angle) > 0
    pixels[behind] = _crop(rng, height, width)[behind]
    stream = io.BytesIO()
    quality = int(rng.integers(75, 96))
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(stream, "JPEG", quality=quality)
    return stream.getvalue()


def _crop(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    texture = _texture(int(rng.integers(_TEXTURES)))
    top, left = int(rng.integers(_TEXTURE_SIDE - height)), int(rng.integers(_TEXTURE_SIDE - width))
    crop = texture[top : top + height, left : left + width]
    crop = crop[:, ::-1] if rng.integers(2) else crop
    colours = rng.uniform(25, 60) * rng.dirichlet(np.full(3, 4), 3).T
    return crop @ colours.astype(np.float32) + rng.uniform(60, 190, 3).astype(np.float32)


@cache
def _texture(number: int) -> np.ndarray:
    """Generates a texture whose amplitudes fall with a power of the frequency, [side, side, 3] float32."""
    rng = np.random.default_rng([21, number])
    side = _TEXTURE_SIDE
    frequency = np.hypot(np.fft.fftfreq(side)[:, None] * side, np.fft.rfftfreq(side)[None] * side)
    frequency[0, 0] = 1
    shape = (3, *frequency.shape)
    spectrum = (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)) / frequency ** rng.uniform(1.1, 1.6)
    spectrum[1:] += 2 * spectrum[0]  # the colours are correlated
    texture = np.fft.irfft2(spectrum, (side, side)).transpose(1, 2, 0)
    return ((texture - texture.mean((0, 1))) / texture.std((0, 1))).astype(np.float32)
