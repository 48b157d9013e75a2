# SPDX-License-Identifier: Apache-2.0
"""Writes a folder of images with one sub-folder for each class, as PNG and JPEG files of several sizes.

The images are scikit-learn's handwritten digits: the first four fifths in train/, the last fifth in test/.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

TRAIN_ROWS = 1437
SIDES = (8, 16, 24)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, help="the folder to write")
    output = parser.parse_args().output
    digits = load_digits()
    for row, (pixels, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        folder = output / ("train" if row < TRAIN_ROWS else "test") / str(label)
        folder.mkdir(parents=True, exist_ok=True)
        side = SIDES[row % len(SIDES)]
        image = Image.fromarray(np.rint(pixels * (255 / 16)).astype(np.uint8)).resize((side, side), Image.BILINEAR)
        if row % 5:
            image.save(folder / f"{row:04}.png")
        else:
            image.convert("RGB").save(folder / f"{row:04}.jpg", quality=95)
    print(f"wrote {len(digits.images)} images to {output}")


if __name__ == "__main__":
    main()
