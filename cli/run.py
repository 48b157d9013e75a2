# SPDX-License-Identifier: Apache-2.0
"""`learn2compress run`: runs the whole pipeline, with progress on the screen and library output in OUT/run.log."""

import time
from pathlib import Path

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("run")(run)


def run(
    config: Path = typer.Argument(..., help="The YAML configuration; `learn2compress init` writes one."),
    output: Path = typer.Option(..., "--output", "-o", help="Folder for models, report, metadata; created if missing."),
    limit: int | None = typer.Option(None, min=1, help="Use at most this many examples of each split of the data."),
    settings: list[str] = typer.Option([], "--set", help="Override a field: --set distill.epochs=3 (repeatable)."),
) -> int:
    """Turn a TensorFlow classifier into a family of small TensorFlow Lite models.

    After an interruption, run the same command again to resume: finished work is not repeated.

    With distill.strategy multi_worker, run the same command on every worker in
    TF_CONFIG; the chief runs the pipeline, and the others take part in training.

    The exit status is 3 if no candidate satisfies the limits, or if the accuracy of
    the chosen one is near chance.
    """
    from learn2compress.cli.interruption import resumable
    from learn2compress.cli.screen import Screen, quiet_output
    from learn2compress.compression.training.devices.workers import check_divisible, read_cluster
    from learn2compress.pipeline.environment import prepare_environment
    from learn2compress.pipeline.output.folder import claim_output
    from learn2compress.pipeline.output.lock import hold_output
    from learn2compress.schemas.config import load_config

    chosen = load_config(config, settings)
    if chosen.distill.strategy == "multi_worker":
        cluster = read_cluster()
        check_divisible(chosen.distill.batch_size, len(cluster.addresses))
        if not cluster.is_chief:
            _run_worker(output, cluster.index)
            return 0
    began = time.monotonic()
    claim_output(output, chosen.pipeline.name)
    prepare_environment()
    with resumable(), hold_output(output, "run"), Screen() as screen:
        screen.say("Starting TensorFlow and TFX …")
        with quiet_output(output / "run.log"):
            from learn2compress.pipeline.local_run import bundle_run, collect_outputs, report_run, run_pipeline
            from learn2compress.report.shortfall import is_near_chance
            from learn2compress.schemas.progress import listening

            with listening(screen.show_progress):
                result = run_pipeline(chosen, output, limit, screen.show_node)
                selected = collect_outputs(result, output)
                report = report_run(chosen, result, output)
                bundle = bundle_run(result, output, report, selected)
        screen.summary(report, output, bundle, selected, time.monotonic() - began)
    return 3 if is_near_chance(report) else 0


def _run_worker(output: Path, index: int) -> None:
    """Take part in the chief's training as another worker; only the chief claims the output folder."""
    import signal

    from learn2compress.cli.screen import Screen, quiet_output
    from learn2compress.pipeline.environment import prepare_environment

    # While a worker waits for the others it is inside TensorFlow, where Python does not handle signals.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    prepare_environment()
    with Screen() as screen:
        screen.say("Starting TensorFlow and TFX …")
        with quiet_output(output.parent / f"{output.name}-worker-{index}.log"):
            from learn2compress.pipeline.worker import take_part
            from learn2compress.schemas.progress import listening

            with listening(screen.show_progress):
                trained = take_part()
        screen.say(f"Done: took part in training {', '.join(trained) or 'nothing, since all nodes were cached'}.")
