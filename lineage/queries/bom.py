# SPDX-License-Identifier: Apache-2.0
"""Writes a CycloneDX ML-BOM of a model: its teacher, data and packages, and its measured figures.

The document is built and validated by cyclonedx-python-lib. That library does not support model cards yet, so the card
(parameters, data sets, figures) is inserted into the JSON that it writes, and the result is validated by the library
against the strict schema of CycloneDX 1.6. The same lineage gives the same bytes.
"""

import json
import uuid
from datetime import datetime, timezone
from typing import Any

from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType, Pedigree
from cyclonedx.model.tool import ToolRepository
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL

from learn2compress import __version__
from learn2compress.modalities import Modality, modality_named, modality_of
from learn2compress.schemas.errors import LineageError
from learn2compress.schemas.lineage import Chain, LineageReport
from learn2compress.schemas.manifests import Task

_SCHEMA = SchemaVersion.V1_6
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "urn:learn2compress:bom")


def bom_of(report: LineageReport) -> str:
    """Write the BOM of a traced file, for the latest execution that made it.

    Args:
        report: Lineage of the file.

    Returns:
        CycloneDX JSON, valid against its schema.

    Raises:
        LineageError: No record lists the file, or the document would not be valid.
    """
    if not report.chains:
        raise LineageError(
            f"{report.file} must be a file that a record lists; at {report.location} none does. Name another location."
        )
    chain = report.chains[0]
    bom = _bom(report, chain)
    document = json.loads(make_outputter(bom, OutputFormat.JSON, _SCHEMA).output_as_string())
    document["metadata"]["component"]["modelCard"] = _model_card(chain)
    text = json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    fault = JsonStrictValidator(_SCHEMA).validate_str(text)
    if fault is not None:
        reason = str(fault).splitlines()[0].rstrip(".")
        raise LineageError(f"The BOM of {report.file} must be valid CycloneDX {_SCHEMA.to_version()}; {reason}.")
    return text


def _bom(report: LineageReport, chain: Chain) -> Bom:
    bom = Bom(serial_number=uuid.uuid5(_NAMESPACE, f"{report.sha256} {chain.made_by} {chain.finished}"))
    if chain.finished:
        bom.metadata.timestamp = datetime.fromisoformat(chain.finished.replace("Z", "+00:00"))
    else:
        bom.metadata.timestamp = datetime.fromtimestamp(0, timezone.utc)
    bom.metadata.tools = ToolRepository(
        components=[Component(name="learn2compress", version=__version__, type=ComponentType.APPLICATION)]
    )
    teacher, data = _teacher(chain), _data(chain)
    packages = [
        Component(
            name=name,
            version=version,
            type=ComponentType.PLATFORM if name == "python" else ComponentType.LIBRARY,
            bom_ref=f"package:{name}",
            purl=None if name == "python" else PackageURL("pypi", None, name, version),
        )
        for name, version in sorted(chain.steps[0].packages.items())
    ]
    model = Component(
        name=_name(report, chain),
        version=report.sha256[:12],
        type=ComponentType.MACHINE_LEARNING_MODEL,
        bom_ref="model",
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=report.sha256)],
        pedigree=Pedigree(ancestors=[_teacher(chain, "ancestor")]) if teacher else None,
        properties=_properties(
            record=chain.made_by, run=chain.run, pipeline=chain.pipeline, uri=chain.uri, bytes=report.bytes,
            status=report.status, **{f"choice:{choice.record}": choice.reason for choice in chain.choices},
        ),
    )  # fmt: skip
    bom.metadata.component = model
    made_of = [component for component in (teacher, data, *packages) if component is not None]
    bom.components.update(made_of)
    bom.register_dependency(model, made_of)
    for component in made_of:
        bom.register_dependency(component)
    return bom


def _teacher(chain: Chain, ref: str = "teacher") -> Component | None:
    if chain.teacher is None:
        return None
    about = chain.teacher.manifest or {}
    return Component(
        name=str(about.get("model", "teacher")).rsplit("/", 1)[-1],
        version=chain.teacher.sha256[:12],
        type=ComponentType.MACHINE_LEARNING_MODEL,
        bom_ref=ref,
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=chain.teacher.sha256)],
        properties=_properties(record=chain.teacher.record, format=about.get("format"), bytes=about.get("bytes")),
    )


def _data(chain: Chain) -> Component | None:
    if chain.data is None:
        return None
    counts = (chain.data.manifest or {}).get("counts", {})
    return Component(
        name="training data",
        version=chain.data.digest[:12],
        type=ComponentType.DATA,
        bom_ref="data",
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=chain.data.digest)],
        properties=_properties(
            record=chain.data.record, **{f"{split}_images": count for split, count in counts.items()}
        ),
    )


def _model_card(chain: Chain) -> dict[str, Any]:
    """Build the model card that CycloneDX defines for machine-learning models."""
    card: dict[str, Any] = {
        "modelParameters": {
            "approach": {"type": "supervised"},
            "task": _modality(chain).task_name,
            "architectureFamily": "convolutional neural network",
        },
        "properties": [
            {"name": f"learn2compress:{step.node}:{key}", "value": str(value)}
            for step in reversed(chain.steps)
            for key, value in sorted({**step.parameters, "seed": step.seed}.items())
            if value is not None
        ],
    }
    if chain.data is not None:
        card["modelParameters"]["datasets"] = [{"ref": "data"}]
        task = (chain.data.manifest or {}).get("task")
        if task:
            described = Task.model_validate(task)
            shown = modality_of(described).presentation(described)
            card["modelParameters"]["inputs"] = [{"format": f"{shown.input_format}, {_input_type(chain)}"}]
            card["modelParameters"]["outputs"] = [{"format": f"scores of {len(described.classes)} classes"}]
    metrics = [metric for one in chain.measurements[:1] for metric in _metrics(one.figures)]
    if metrics:
        card["quantitativeAnalysis"] = {"performanceMetrics": metrics}
    return card


def _modality(chain: Chain) -> Modality:
    task = (chain.data.manifest or {}).get("task") if chain.data else None
    return modality_of(Task.model_validate(task)) if task else modality_named()


def _metrics(figures: dict[str, Any]) -> list[dict[str, Any]]:
    metrics = []
    for split, found in sorted(figures.get("figures", {}).items()):
        kinds = {
            "top1": "top-1 accuracy",
            "topk": f"top-{found.get('k')} accuracy",
            "agreement": "agreement with the teacher",
            "calibration_error": "calibration error",
        }
        for key, kind in kinds.items():
            if found.get(key) is None:
                continue
            metric: dict[str, Any] = {"type": kind, "value": str(found[key]), "slice": split}
            interval = found.get("top1_interval")
            if key == "top1" and interval:
                bounds = {"lowerBound": str(interval["low"]), "upperBound": str(interval["high"])}
                metric["confidenceInterval"] = bounds
            metrics.append(metric)
    for latency in figures.get("latency", []):
        kind = f"latency, median, ms, {latency['threads']} thread(s)"
        metrics.append({"type": kind, "value": str(latency["p50_ms"])})
    if figures.get("macs"):
        metrics.append({"type": "multiply-accumulates an image", "value": str(figures["macs"])})
    return metrics


def _input_type(chain: Chain) -> str:
    # int8-rescued and int8-mixed take integers as well.
    variant = str((chain.model or {}).get("variant")).split("-")[0]
    return variant if variant in ("int8", "uint8") else "float32"


def _name(report: LineageReport, chain: Chain) -> str:
    return (chain.model or {}).get("name") or chain.output.rsplit("/", 1)[-1] or report.file


def _properties(**values: Any) -> list[Property]:
    known = {key: value for key, value in values.items() if value is not None}
    return [Property(name=f"learn2compress:{key}", value=str(value)) for key, value in known.items()]
