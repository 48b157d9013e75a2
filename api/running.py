# SPDX-License-Identifier: Apache-2.0
"""Runs the whole pipeline: from a configuration, or from a teacher and data alone."""

import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from learn2compress.api.options import checked
from learn2compress.api.results import Result
from learn2compress.api.terminal import Detail, Screen, quiet_output
from learn2compress.api.time_left import TimeLeft, earlier_durations, planned_epochs
from learn2compress.schemas.errors import ConfigError

if TYPE_CHECKING:
    from learn2compress.schemas.config import Config

Settings = Mapping[str, Any] | Iterable[str]
"""Overrides of fields: `{"distill.epochs": 3}` or `["distill.epochs=3"]`."""

CONFIG = "config.yaml"

__all__ = ["CONFIG", "Detail", "Settings", "compress", "list_settings", "run", "take_part", "worker_index"]


def run(
    config: "str | Path | Config",
    output: str | Path,
    *,
    settings: Settings = (),
    limit: int | None = None,
    detail: Detail = "normal",
) -> Result:
    """Turn a TensorFlow classifier into a family of small TensorFlow Lite models.

    After an interruption, the same call resumes: finished work is not repeated.

    Args:
        config: The YAML configuration, or one that is loaded already.
        output: Folder for models, report and metadata; created if missing.
        settings: Overrides of fields, such as `{"distill.epochs": 3}`.
        limit: Use at most this many examples of each split of the data.
        detail: What is printed: `quiet`, `normal` or `verbose`. OUT/run.log holds everything.

    Returns:
        The result.

    Raises:
        Learn2CompressError: A user error; the message is one line.
    """
    from learn2compress.schemas.config import Config, load_config

    overrides = list_settings(settings)
    given = None
    if not isinstance(config, Config):
        given, config = Path(config), load_config(config, overrides)
    elif overrides:
        raise ConfigError("settings must come with the path of a configuration; got a loaded one. Change it instead.")
    worker = worker_index(config)
    if worker is not None:
        raise ConfigError(f"run must be called by the chief of TF_CONFIG; this is worker {worker}. Call take_part.")
    target = Path(output)
    return _run(config, target, limit, detail, lambda config, _: _forget_config(config, target, given))


def compress(
    teacher: str | Path,
    data: str | Path,
    output: str | Path = "out",
    *,
    max_size: int | str | None = None,
    max_latency_ms: float | str | None = None,
    max_macs: int | str | None = None,
    min_accuracy: float | str | None = None,
    max_accuracy_drop: float | str | None = None,
    objective: str | None = None,
    settings: Settings = (),
    limit: int | None = None,
    inspect: bool = True,
    detail: Detail = "normal",
) -> Result:
    """Compress a classifier without a configuration file.

    The configuration that was used is written to OUT/config.yaml; `run` with it repeats the run. Accuracies are those
    of the validation split.

    Args:
        teacher: SavedModel folder, .keras or .h5 file.
        data: Image folder, .npz, .csv or TFRecord files, or the word digits.
        output: Folder for models, report and metadata; created if missing.
        max_size: Largest size of the chosen file, such as 60KB.
        max_latency_ms: Largest latency in milliseconds.
        max_macs: Largest number of multiply-accumulates for an image, such as 2M.
        min_accuracy: Smallest accuracy.
        max_accuracy_drop: Largest drop from the teacher's accuracy.
        objective: What is optimized within the limits; see `select.objective`.
        settings: Further fields of the configuration, such as `{"distill.epochs": 3}`.
        limit: Use at most this many examples of each split of the data.
        inspect: Run the teacher on some images first, to find the scaling of pixels that it expects.
        detail: What is printed: `quiet`, `normal` or `verbose`. OUT/run.log holds everything.

    Returns:
        The result.

    Raises:
        Learn2CompressError: A user error; the message is one line.
    """
    from learn2compress.schemas.config import SelectConfig, build_config

    limits = {
        "max_size": max_size, "max_latency_ms": max_latency_ms, "max_macs": max_macs, "min_accuracy": min_accuracy,
        "max_accuracy_drop": max_accuracy_drop, "objective": objective,
    }  # fmt: skip
    select = checked(SelectConfig, limits).model_dump(mode="json", exclude_unset=True)
    tree = {"teacher": {"path": str(teacher)}, "data": {"path": str(data)}, "select": select}
    config = build_config(tree, list_settings(settings))
    if config.distill.strategy == "multi_worker":
        raise ConfigError(
            "distill.strategy must not be multi_worker without a configuration file, which every worker reads. "
            "Write one with init, and call run on each worker."
        )
    target = Path(output)
    return _run(config, target, limit, detail, lambda config, screen: _complete(config, screen, target, limit, inspect))


def take_part(config: "str | Path | Config", output: str | Path, *, settings: Settings = ()) -> list[str]:
    """Take part in the chief's training as another worker of TF_CONFIG (`distill.strategy: multi_worker`).

    Args:
        config: The YAML configuration of the chief, or one that is loaded already.
        output: The chief's output folder; the log is written beside it.
        settings: The chief's overrides of fields.

    Returns:
        The trainings in which it took part.

    Raises:
        Learn2CompressError: A user error; the message is one line.
    """
    import signal

    from learn2compress.pipeline.environment import prepare_environment
    from learn2compress.schemas.config import Config, load_config

    if not isinstance(config, Config):
        config = load_config(config, list_settings(settings))
    index = worker_index(config)
    if index is None:
        raise ConfigError("take_part must be called by a worker of TF_CONFIG; this is the chief. Call run.")
    output = Path(output)
    # While a worker waits for the others it is inside TensorFlow, where Python does not handle signals.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    prepare_environment()
    with Screen() as screen:
        screen.say("Starting TensorFlow and TFX …")
        with quiet_output(output.parent / f"{output.name}-worker-{index}.log"):
            from learn2compress.pipeline.worker import take_part as train
            from learn2compress.schemas.progress import listening

            with listening(screen.show_progress):
                trained = train()
        screen.say(f"Done: took part in training {', '.join(trained) or 'nothing, since all nodes were cached'}.")
    return list(trained)


def worker_index(config: "Config") -> int | None:
    """Return the index of this process among the workers of a multi-worker training.

    Returns:
        The index from 1; None for the chief, and for a training in one process.

    Raises:
        ConfigError, TrainingError: TF_CONFIG does not fit the configuration.
    """
    if config.distill.strategy != "multi_worker":
        return None
    from learn2compress.compression.training.devices.workers import check_divisible, read_cluster

    cluster = read_cluster()
    check_divisible(config.distill.batch_size, len(cluster.addresses))
    return None if cluster.is_chief else cluster.index


def list_settings(settings: Settings) -> list[str]:
    """Write overrides as `section.field=value`."""
    if not isinstance(settings, Mapping):
        return [settings] if isinstance(settings, str) else list(settings)
    import yaml

    def text(value: Any) -> str:
        return yaml.safe_dump(value, default_flow_style=True, width=10**6).removesuffix("...\n").strip()

    return [f"{name}={text(value)}" for name, value in settings.items()]


def _run(
    config: "Config",
    output: Path,
    limit: int | None,
    detail: Detail,
    complete: "Callable[[Config, Screen], Config]",
) -> Result:
    """Run all nodes in an output folder and write its files.

    Args:
        complete: Completes the configuration once TensorFlow can be used.
    """
    from learn2compress.components.beam.runners import check_runner, has_own_workers
    from learn2compress.pipeline.environment import prepare_environment
    from learn2compress.pipeline.output.folder import RUN_FILE, claim_output
    from learn2compress.pipeline.output.lock import hold_output

    began = time.monotonic()
    claim_output(output, config.pipeline.name)
    prepare_environment()
    check_runner(config.pipeline)  # at once: importing TensorFlow and TFX takes half a minute
    with hold_output(output, "run"), Screen(detail) as screen:
        screen.say("Starting TensorFlow and TFX …")
        with quiet_output(output / "run.log") as log:
            if has_own_workers(config.pipeline):
                from learn2compress.components.beam.jobs import check_workers

                check_workers(config.pipeline, output / RUN_FILE)
            from learn2compress.pipeline.local_run import bundle_run, collect_outputs, report_run, run_pipeline
            from learn2compress.schemas.progress import listening

            with screen.writing_to(log), listening(screen.show_progress):
                config = complete(config, screen)
                screen.expect(TimeLeft(earlier_durations(output), planned_epochs(config)))
                result = run_pipeline(config, output, limit, screen.show_node)
                selected = collect_outputs(result, output)
                report = report_run(config, result, output)
                bundle = bundle_run(result, output, report, selected)
        screen.summary(report, output, bundle, selected, time.monotonic() - began)
    return Result(output)


def _complete(config: "Config", screen: Screen, output: Path, limit: int | None, inspect: bool) -> "Config":
    """Set the scaling that the teacher expects, unless it is given, and write and show the configuration."""
    from learn2compress.schemas.config import build_config

    if inspect:
        from learn2compress.api.examining import examine_inputs

        found = examine_inputs(config.teacher, config.data, limit)
        for section, field, text in found.comments:
            if field in ("path", "scaling"):
                screen.say(f"    {section}: {text}")
        if found.scaling is not None and "scaling" not in config.teacher.model_fields_set:
            tree = config.model_dump(mode="json", exclude_unset=True)
            tree["teacher"]["scaling"] = found.scaling
            config = build_config(tree)
    for line in _write_config(config, output):
        screen.say(f"    {line}")
    return config


def _forget_config(config: "Config", output: Path, given: Path | None) -> "Config":
    """Remove the configuration that an earlier `compress` wrote to the folder, unless this run was given that one."""
    path = output / CONFIG
    if given is None or given.resolve() != path.resolve():
        path.unlink(missing_ok=True)
    return config


def _write_config(config: "Config", output: Path) -> list[str]:
    """Write OUT/config.yaml, and return it in three lines: the teacher, the data, and all else."""
    import yaml

    from learn2compress.schemas.files.whole import write_whole

    path = output / CONFIG
    tree = config.model_dump(mode="json", exclude_unset=True)
    if config.teacher.scaling.name is not None and "scaling" in tree["teacher"]:
        tree["teacher"]["scaling"] = config.teacher.scaling.name
    lines = [
        f"{name}: {yaml.safe_dump(fields, default_flow_style=True, sort_keys=False, width=10**6).strip()}"
        for name, fields in tree.items()
        if fields
    ]
    head = f"# Written by `learn2compress compress`. Repeat the run: learn2compress run {path} --output {output}\n"
    write_whole(path, head + "\n".join(lines) + "\n")
    return [*lines[:2], ", ".join([*lines[2:], f"all else by default ({path})"])]
