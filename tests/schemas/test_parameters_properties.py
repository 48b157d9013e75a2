# SPDX-License-Identifier: Apache-2.0
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.strategies.properties import examples
from support.strategies.sections import sections

from learn2compress.schemas import parameters
from learn2compress.schemas.config import Config

SECTIONS = {name: info.annotation for name, info in Config.model_fields.items()}


@pytest.mark.parametrize("name", SECTIONS)
@examples(25)
@given(data=st.data())
def test_decode_returns_any_encoded_section(name: str, data: st.DataObject) -> None:
    kind: Any = SECTIONS[name]
    section = data.draw(sections(kind))

    encoded = parameters.encode(**{name: section})

    types = parameters.scalar_types(**{name: kind})
    assert {key: type(value) for key, value in encoded.items()} == {key: types[key] for key in encoded}
    assert parameters.decode(kind, name, encoded) == section
