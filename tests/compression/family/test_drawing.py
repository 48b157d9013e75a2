# SPDX-License-Identifier: Apache-2.0
import re
from pathlib import Path
from xml.etree import ElementTree

from learn2compress.compression.family.drawing import draw_family
from learn2compress.compression.family.sizing import solve_family
from learn2compress.schemas.config import StudentsConfig

PICTURE = Path(__file__).parents[3] / "docs/explanation/family.svg"


def test_docs_picture_shows_the_default_family():
    family = solve_family(StudentsConfig().sizes, (32, 32, 3), 10)

    assert PICTURE.read_text(encoding="utf-8") == draw_family(family), "run: python scripts/draw_family.py"


def test_drawing_shows_each_block_once_with_its_output_shape(stripes):
    root = ElementTree.fromstring(draw_family(stripes.SPEC))
    texts = [element.text for element in root.iter() if element.tag.endswith("}text")]

    assert texts[:2] == ["image", "8×8×1"]
    assert texts.count("conv 3×3") == 1
    assert texts.count("separable") == 3 + 2  # three in the trunk, and one in each tail
    assert [text for text in texts if re.fullmatch(r"\d+×\d+×\d+", text)] == [
        *("8×8×1", "8×8×8", "8×8×8", "4×4×16"),  # to the first exit and its tail
        *("4×4×16", "4×4×16", "4×4×24"),
    ]
    assert [text for text in texts if "logits" in text] == ["16 → logits", "24 → logits"]
    assert ["shared by all" in texts, "only large" in texts] == [True, True]


def test_drawing_shows_fused_blocks_as_convolutions_with_an_addition_when_residual(stripes):
    drawn = draw_family(stripes.FUSED)

    assert [drawn.count(">conv 3×3<"), drawn.count(">separable<")] == [4, 3]
    assert drawn.count('class="plus"') == 2 + 1


def test_drawing_shows_an_addition_for_each_residual_block(stripes):
    drawn = draw_family(stripes.SPEC)

    # Residual blocks, and the legend.
    assert drawn.count('class="plus"') == 2 + 1


def test_drawing_shows_costs_and_escapes_names(stripes):
    from dataclasses import replace

    branches = (replace(stripes.SPEC.branches[0], student="a<b"), stripes.SPEC.branches[1])
    root = ElementTree.fromstring(draw_family(replace(stripes.SPEC, branches=branches)))
    texts = [element.text for element in root.iter() if element.tag.endswith("}text")]

    assert {"a<b", "507 parameters", "16.6K MACs", "large"} <= set(texts)
    assert any(re.fullmatch(r"together [\d,]+ parameters; [\d,]+ if nothing were shared", text) for text in texts)
