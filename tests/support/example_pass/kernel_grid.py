# SPDX-License-Identifier: Apache-2.0
import numpy as np
import tf_keras as keras
from pydantic import Field

from learn2compress.compression.pruning.passes import Context, Pass, PassParameters, Work


class GridParameters(PassParameters):
    levels: int = Field(31, ge=1, description="values of a kernel on either side of zero")


class KernelGrid(Pass[GridParameters]):
    """Rounds the kernels of convolutions and dense layers to a grid: the files compress better."""

    name = "kernel_grid"
    parameters_type = GridParameters

    def run(self, work: Work, context: Context) -> Work:
        layers = [layer for layer in work.family.layers if isinstance(layer, keras.layers.Conv2D | keras.layers.Dense)]
        for layer in layers:
            kernel = layer.kernel.numpy()
            step = np.abs(kernel).max() / self.parameters.levels
            if step > 0:
                layer.kernel.assign(np.round(kernel / step) * step)
        return work.with_note(f"rounded the kernels of {len(layers)} layers")
