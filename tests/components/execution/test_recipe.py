# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace

from learn2compress.components.execution.recipe import training_recipe
from learn2compress.compression.training.training_data import TrainingData
from learn2compress.schemas.config import DistillConfig, QuantizeConfig


def test_recipe_divides_batches_of_large_student_images_into_parts(stripes_artifacts):
    data = TrainingData.open(*stripes_artifacts, batch_size=32, seed=3)
    loss = DistillConfig()
    for pace in (loss, QuantizeConfig()):
        assert training_recipe("stage", pace, loss, data).parts == 1
        assert training_recipe("stage", pace, loss, replace(data, input_shape=(160, 160, 3))).parts == 2
        large = replace(data, task=data.task.model_copy(update={"input_shape": (224, 224, 3)}))
        assert training_recipe("stage", pace, loss, large).parts == 4
