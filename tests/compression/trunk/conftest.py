# SPDX-License-Identifier: Apache-2.0
"""Provides the small teachers' networks of support.photographs as trunks."""

import keras
import pytest
import tf_keras
from support.photographs import SHAPE, inverted_residuals, residuals, shake

from learn2compress.compression.trunk.exits import find_exits
from learn2compress.compression.trunk.folding import fold_batch_norms
from learn2compress.compression.trunk.plan import Trunk
from learn2compress.compression.trunk.rebuild import rebuild
from learn2compress.compression.trunk.scaling import with_student_input
from learn2compress.schemas.scaling import Scaling

LIBRARIES = {"keras3": keras, "keras2": tf_keras}
NETWORKS = {"inverted": inverted_residuals, "residual": residuals}


@pytest.fixture(params=[(library, network) for library in LIBRARIES for network in NETWORKS], ids="-".join)
def network(request):
    """A network with random weights and batch statistics."""
    library, name = request.param
    return shake(NETWORKS[name](LIBRARIES[library]))


@pytest.fixture(scope="session")
def trunk() -> Trunk:
    """The trunk of an inverted residual network of Keras 3, which scales pixels 0..255 itself."""
    model = shake(inverted_residuals(keras))
    scaled = with_student_input(fold_batch_norms(rebuild(model, "teacher.keras", SHAPE)), Scaling.named("none"))
    return Trunk(scaled, tuple(find_exits(scaled)), "teacher.keras")
