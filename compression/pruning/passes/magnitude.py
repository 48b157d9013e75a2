# SPDX-License-Identifier: Apache-2.0
"""The pass `magnitude`: sets the smallest weights to zero during training, fewer of them in sensitive layers.

It reduces the size of the compressed download. See compression/pruning/magnitude.py for the masks.
"""

from dataclasses import replace

from learn2compress.compression.pruning.magnitude import first_epoch_at_target, prunable_layers, prune_while_training
from learn2compress.compression.pruning.passes.base import Context, Pass, Work
from learn2compress.compression.pruning.sensitivity import layer_sensitivity
from learn2compress.compression.pruning.sparsity_allocation import allocate_sparsity
from learn2compress.compression.training.joint_trainer import JointTrainer
from learn2compress.schemas.config import MagnitudePassConfig
from learn2compress.schemas.manifests import Sensitivity


class MagnitudePass(Pass[MagnitudePassConfig]):
    """Measures the sensitivity of the layers, and trains with a rising fraction of the smallest weights set to zero."""

    name = "magnitude"
    parameters_type = MagnitudePassConfig

    def run(self, work: Work, context: Context) -> Work:
        """Prunes the kernels of dense and convolutional layers, if a sparsity is set; see `Pass.run`."""
        config = self.parameters
        if work.dictionary is not None:
            why = "of a dictionary, whole rows are removed instead, see prune.channels"
            return work.with_note(f"no magnitude pruning: {why}") if config.sparsity else work
        sparsity: float | dict[str, float] = config.sparsity if prunable_layers(work.family) else 0.0
        measured = self._measure(work, context)
        if measured is not None:
            if sparsity:
                sparsity = allocate_sparsity(measured.layers, config.sparsity, work.names)
                given = [layer.model_copy(update={"sparsity": sparsity.get(layer.layer)}) for layer in measured.layers]
                measured = measured.model_copy(update={"layers": given})
            channels = work.sensitivity.channels if work.sensitivity else []
            work = replace(work, sensitivity=measured.model_copy(update={"channels": channels}))
        if not sparsity:
            why = "no layer has a kernel that can be pruned" if config.sparsity else "prune.sparsity is 0"
            return work.with_note(f"no magnitude pruning: {why}")
        work, layers = self._train(work, context, sparsity)
        how = ", allocated by sensitivity" if measured else ""
        return work.with_note(f"magnitude pruning to a sparsity of {config.sparsity} in: {', '.join(layers)}{how}")

    def _measure(self, work: Work, context: Context) -> Sensitivity | None:
        images, labels = context.data.first_validation(self.parameters.sensitivity_images)
        if not len(images):
            return None
        return context.remembered(
            "layers.json",
            Sensitivity,
            lambda: Sensitivity(images=len(images), layers=layer_sensitivity(work.family, work.names, images, labels)),
        )

    def _train(self, work: Work, context: Context, sparsity: float | dict[str, float]) -> tuple[Work, tuple[str, ...]]:
        config, distribution, data = self.parameters, context.distribution, context.data_for(work)
        model = distribution.replicate(work.family)
        with distribution.scope():
            pruned = prune_while_training(model, sparsity, config.epochs * data.steps, config.block)
        recipe = replace(
            context.recipe,
            epochs=config.epochs,
            learning_rate=config.learning_rate,
            choose_from=first_epoch_at_target(config.epochs),  # only epochs at the target sparsity
        )
        trainer = JointTrainer(
            pruned.model,
            work.names,
            recipe,
            before_step=pruned.before_step,
            after_step=pruned.apply_masks,
            after_restore=pruned.apply_masks,
            state=pruned.state,
            distribution=distribution,
        )
        curves = trainer.train(data.epoch, data.validation(), context.checkpoint)
        distribution.gather(pruned.strip(), work.family)
        return work.after_training(curves), pruned.layers
