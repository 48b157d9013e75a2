# SPDX-License-Identifier: Apache-2.0
"""Prunes a Keras classifier with Sony's Model Compression Toolkit, for a comparison; resnet56.py runs it.

    python mct_pruning.py MODEL.h5 IMAGES.npz PRUNED.h5 --parameters 430000 [--group 1]

It needs an environment of its own: `model-compression-toolkit==2.3.0` and `tensorflow==2.15.*` on Python 3.10. The
importance is the default of the toolkit, the label-free Hessian, approximated with random vectors, on IMAGES `images`
[n, h, w, c] float32 as the model takes them; --parameters is the number that is left. The toolkit removes channels in
groups of the width of a processor's vector, 32 by default, which leaves most of a narrow network; here it is one.
"""

import argparse

import model_compression_toolkit as mct
import numpy as np
import tensorflow as tf
from model_compression_toolkit.core.common.graph.base_node import BaseNode

BATCH = 32


def main() -> None:
    """Prunes the model, and writes the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("images")
    parser.add_argument("pruned")
    parser.add_argument("--parameters", type=int, required=True)
    parser.add_argument("--approximations", type=int, default=4, help="of the Hessian's trace for each channel")
    parser.add_argument("--group", type=int, default=1, help="channels that are removed together")
    given = parser.parse_args()
    BaseNode.get_simd = lambda _: given.group
    model = tf.keras.models.load_model(given.model, compile=False)
    images = np.load(given.images)["images"]

    def representative():
        for start in range(0, len(images), BATCH):
            yield [images[start : start + BATCH]]

    pruned, _ = mct.pruning.keras_pruning_experimental(
        model=model,
        target_resource_utilization=mct.core.ResourceUtilization(weights_memory=4 * given.parameters),
        representative_data_gen=representative,
        pruning_config=mct.pruning.PruningConfig(num_score_approximations=given.approximations),
    )
    pruned.save(given.pruned)


if __name__ == "__main__":
    main()
