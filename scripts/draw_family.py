# SPDX-License-Identifier: Apache-2.0
"""Draws the family of the default sizes for CIFAR-10's images: docs/explanation/family.svg.

python scripts/draw_family.py [docs/explanation/family.svg]
"""

import sys
from pathlib import Path

from learn2compress.compression.family.drawing import draw_family
from learn2compress.compression.family.sizing import solve_family
from learn2compress.schemas.config import StudentsConfig

if __name__ == "__main__":
    picture = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/explanation/family.svg")
    picture.write_text(draw_family(solve_family(StudentsConfig().sizes, (32, 32, 3), 10)), encoding="utf-8")
    print(picture)
