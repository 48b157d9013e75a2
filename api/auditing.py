# SPDX-License-Identifier: Apache-2.0
"""Traces, checks and compares what runs have recorded, without TensorFlow.

Each report has a `status`: whole, unknown, tampered or incomplete, and lists its `problems`.
"""

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from learn2compress.api.options import name_of
from learn2compress.schemas.errors import LineageError

if TYPE_CHECKING:
    from learn2compress.kubeflow.records.cluster_records import ClusterRecords
    from learn2compress.lineage.graph import Graph
    from learn2compress.schemas.lineage import (
        DiffReport,
        HistoryReport,
        ImpactReport,
        LineageReport,
        Problem,
        RebuildReport,
        VerifyReport,
    )

Place = str | Path | None


class Signed(NamedTuple):
    """The outcome of signing records."""

    location: str
    records: int
    problems: "list[Problem]"  # records that are broken and were not signed


class BillOfMaterials(NamedTuple):
    """A bill of materials, and the lineage that it was made from."""

    text: str  # CycloneDX 1.6 JSON; empty if no record lists the file
    lineage: "LineageReport"


def trace(file: str | Path, at: Place = None, *, metadata_grpc: str | None = None, chains: int = 10) -> "LineageReport":
    """Trace a file from its bytes alone: teacher, data, steps and measurements.

    Args:
        file: A .tflite file, whatever its name, or any other file of a run.
        at: Location of the run's outputs, a folder or an fsspec URL; by default near the file, or here.
        metadata_grpc: HOST:PORT of a cluster's ML Metadata service to query as well.
        chains: If several runs made the same bytes, return this many, newest first.

    Returns:
        The lineage.

    Raises:
        LineageError: The file does not exist, or there are no records.
    """
    from learn2compress.lineage.queries.trace import lineage_of_file

    path = Path(file)
    if not path.is_file():
        raise LineageError(f"{file} must be a file; it does not exist. Check the path.")
    cluster = _cluster_for(metadata_grpc)
    graph = cluster.open_graph(_text(at)) if cluster else graph_for(at, path)
    report = lineage_of_file(graph, path, chains)
    return cluster.judge(report, graph) if cluster else report


def verify(
    path: str | Path, at: Place = None, *, metadata_grpc: str | None = None, public_key: Path | None = None
) -> "VerifyReport":
    """Check that files, records and the links between records are as they were recorded.

    Args:
        path: An output folder or a part of it, a bucket's URL, or a single file.
        at: Location of the records; by default near the path, or here.
        metadata_grpc: HOST:PORT of a cluster's ML Metadata service to query as well.
        public_key: Check the signature of each record with this key (PEM).

    Returns:
        What was checked, and each changed, missing or added file or record.

    Raises:
        LineageError: There are no records.
    """
    from learn2compress.lineage.queries.verify import open_for_verifying, verify_file, verify_place

    cluster = _cluster_for(metadata_grpc)
    file = Path(path)
    if file.is_file():
        graph = cluster.open_graph(_text(at)) if cluster else graph_for(at, file)
        report = verify_file(graph, file, public_key)
        if cluster:
            from learn2compress.lineage.queries.trace import lineage_of_file

            report = cluster.judge(report, graph, lineage_of_file(graph, file))
        return report
    graph, place, inside = open_for_verifying(str(path), _text(at))
    report = verify_place(graph, place, inside, public_key)
    return cluster.judge(report, graph) if cluster else report


def impact(subject: str | Path, at: Place = None, *, metadata_grpc: str | None = None) -> "ImpactReport":
    """List the executions and models that derive from a subject.

    Args:
        subject: A file or folder (a teacher, a picture …), a digest or its first digits, or an example's id.
        at: Location of the records; by default near the subject, or here.
        metadata_grpc: HOST:PORT of a cluster's ML Metadata service to query as well.

    Returns:
        What derives from it.

    Raises:
        LineageError: There are no records.
    """
    from learn2compress.lineage.queries.impact import impact_of

    path = Path(subject)
    cluster = _cluster_for(metadata_grpc)
    graph = cluster.open_graph(_text(at)) if cluster else graph_for(at, path if path.exists() else None)
    report = impact_of(graph, str(subject))
    return cluster.judge(report, graph) if cluster else report


def diff(a: str | Path, b: str | Path, at: Place = None, at_b: Place = None) -> "DiffReport":
    """Compare the latest executions that made each of two files.

    Args:
        a: A file of a run.
        b: Another file of a run.
        at: Location of the records; by default near each file, or here.
        at_b: Location of the second file's records, if it differs.

    Returns:
        The differences of histories, parameters, data and figures.

    Raises:
        LineageError: There are no records.
    """
    from learn2compress.lineage.queries.diff import diff_of
    from learn2compress.lineage.queries.trace import lineage_of_file

    places = ((Path(a), at), (Path(b), at_b or at))
    return diff_of(*[lineage_of_file(graph_for(place, file), file, max_chains=1) for file, place in places])


def history(location: Place = None) -> "HistoryReport":
    """List the runs with their times, the number of cached steps, and the chosen model.

    Args:
        location: A folder or an fsspec URL; by default the working directory.

    Returns:
        The runs, newest first.

    Raises:
        LineageError: There are no records.
    """
    from learn2compress.lineage.queries.history import history_of

    return history_of(graph_for(location))


def bill_of_materials(file: str | Path, at: Place = None) -> BillOfMaterials:
    """Write a bill of materials of a model: teacher, data, packages, parameters and figures, as CycloneDX 1.6 JSON.

    Args:
        file: A .tflite file; its name does not matter.
        at: Location of the records; by default near the file, or here.

    Returns:
        The text, and the lineage with its status.

    Raises:
        LineageError: There are no records.
    """
    from learn2compress.lineage.queries.trace import lineage_of_file

    path = Path(file)
    report = lineage_of_file(graph_for(at, path), path, max_chains=1)
    if report.status == "unknown":
        return BillOfMaterials("", report)
    # Imported here because it takes half a second, and its validator two more.
    from learn2compress.lineage.queries.bom import bom_of

    return BillOfMaterials(bom_of(report), report)


def sign(location: str | Path, key: str | Path) -> Signed:
    """Sign each provenance record by writing a DSSE envelope beside it; `verify` checks it with the public key.

    Args:
        location: A folder or an fsspec URL.
        key: Private key in PEM: Ed25519, ECDSA or RSA.

    Returns:
        How many records were signed, and the broken ones, which were not.

    Raises:
        LineageError: There are no records, or the key cannot be read.
    """
    from learn2compress.lineage.records.signing import sign_records

    graph = graph_for(location)
    count, problems = sign_records(graph, Path(key))
    return Signed(str(graph.home), count, problems)


def rebuild_metadata(location: str | Path, to: str | Path) -> "RebuildReport":
    """Rebuild an ML Metadata database from the provenance records, equal to the original one.

    Args:
        location: A folder or an fsspec URL.
        to: The SQLite file to create.

    Returns:
        What was written.

    Raises:
        LineageError: There are no records, or the file exists.
    """
    from learn2compress.lineage.mlmd import rebuild

    return rebuild.rebuild_metadata(graph_for(location), Path(to))


def graph_for(at: Place, file: Path | None = None) -> "Graph":
    """Open the records at a place, or near a file.

    Args:
        at: Folder or fsspec URL, or None to search.
        file: File near which the records are searched for.

    Returns:
        The graph of the records.

    Raises:
        LineageError: There are no records.
    """
    from learn2compress.lineage.graph import find_records_near, open_graph

    if at is not None:
        return open_graph(at)
    place = find_records_near(file or Path.cwd() / "any", Path.cwd())
    if place is None:
        beside = f"above {file} or " if file else ""
        raise LineageError(
            f"Provenance records must lie {beside}in the working directory; found none. "
            f"Name the location of the run's outputs with {name_of('at')}."
        )
    return open_graph(place)


def _cluster_for(address: str | None) -> "ClusterRecords | None":
    """Connect to the ML Metadata service of a cluster, if an address is given.

    Raises:
        ConfigError: The address is malformed.
        LineageError: The service cannot be reached, or holds no step of this project.
    """
    if address is None:
        return None
    from learn2compress.kubeflow.records.cluster_records import ClusterRecords

    return ClusterRecords(address)


def _text(place: Place) -> str | None:
    return None if place is None else str(place)
