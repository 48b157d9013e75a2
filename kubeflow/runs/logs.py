# SPDX-License-Identifier: Apache-2.0
"""The log of a step, where the launcher has left it: ROOT/PIPELINE/RUN/NODE/…/executor-logs-TRY.

The launcher publishes it from KFP 2.5 on, of a step that failed as well, unless the cluster's administrator has turned
that off (PUBLISH_LOGS). A container that was killed leaves none.
"""

import re
from dataclasses import dataclass

from learn2compress.kubeflow.runs.pods import Kube
from learn2compress.kubeflow.runs.states import RunState
from learn2compress.schemas.errors import ClusterError
from learn2compress.storage import object_store

_LOG = re.compile(r"executor-logs(?:-(\d+))?")
_OWN_ERROR = re.compile(r"learn2compress: .*")


@dataclass(frozen=True)
class StepLog:
    """A step's log.

    Attributes:
        url: Where it lies.
        text: Its content.
    """

    url: str
    text: str

    @property
    def own_error(self) -> str | None:
        """The step's own last line, with the reason of the failure."""
        found = _OWN_ERROR.findall(self.text)
        return found[-1].strip() if found else None

    @property
    def last_line(self) -> str | None:
        """The last line that is not empty."""
        lines = [line.strip() for line in self.text.splitlines() if line.strip()]
        return lines[-1] if lines else None


def read_log(root: str, run: str, node: str) -> StepLog | None:
    """Read the log of a step's last try.

    Args:
        root: The pipeline root that the run was given.
        run: Its id.
        node: The step's name.

    Returns:
        The log; None: there is none.

    Raises:
        ClusterError: The object store refuses or cannot be reached.
    """
    found = []
    for folder in object_store.match(f"{root.partition('?')[0].rstrip('/')}/*/{run}/{node}"):
        for url in object_store.find(folder):
            name = _LOG.fullmatch(url.rsplit("/", 1)[1])
            if name:
                found.append((int(name[1] or 0), url))
    if not found:
        return None
    _, url = max(found)
    return StepLog(url, object_store.read(url).decode(errors="replace"))


def fetch_log(state: RunState, node: str, kube: Kube | None = None) -> str:
    """The log of a step's last try, from the object store, or from its pod while it runs.

    Raises:
        ClusterError: The run has no such step, or its log is nowhere.
    """
    names = [one.node for one in state.nodes]
    if node not in names:
        raise ClusterError(f"--log must name a step of run {state.run}; got {node}. They are {', '.join(names)}.")
    log = read_log(state.root, state.run, node) if state.root else None
    if log is not None:
        return log.text.rstrip("\n")
    if kube is not None:
        pods = [pod for pod in kube.pods_of(state.run) if pod.node == node]
        if pods:
            return kube.log_of(pods[-1].name).rstrip("\n")
    raise ClusterError(
        f"{node} must have left a log below {state.root}; there is none. Kubeflow Pipelines 2.5 or later publishes it "
        "when the step ends; pass --kube while its pod is there."
    )
