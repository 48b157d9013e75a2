# SPDX-License-Identifier: Apache-2.0
"""The options that every command on a cluster has: where the endpoint is, who calls it, and Kubernetes beside it."""

import typer

HOST = typer.Option(..., envvar="KF_PIPELINES_ENDPOINT", help="The endpoint, such as http://localhost:8888.")
NAMESPACE = typer.Option(None, "--namespace", "-n", help="Your namespace, if the cluster has several users.")
TOKEN = typer.Option(
    None, envvar="KF_PIPELINES_TOKEN", help="Bearer token; preferably set in the environment variable or a file."
)
TOKEN_FILE = typer.Option(
    None, envvar="KF_PIPELINES_SA_TOKEN_PATH", help="File that holds the token; read again for each call."
)
COOKIES = typer.Option(None, envvar="KF_PIPELINES_COOKIES", help="Cookie header of a logged-in session.")
CA_CERT = typer.Option(None, help="File with trusted certificates.")
VERIFY_TLS = typer.Option(True, "--verify-tls/--no-verify-tls", help="Check the server's certificate.")
PROXY = typer.Option(None, help="URL of a proxy.")
ROOT = typer.Option(None, help="Pipeline root, such as s3://BUCKET/PATH (default: kubeflow.pipeline_root).")
IMAGE = typer.Option(None, help="Container image of the steps (default: kubeflow.image).")
CONFIG = typer.Argument(..., help="The YAML configuration.")
SETTINGS = typer.Option([], "--set", help="Override a field: --set distill.epochs=3 (repeatable).")
KUBE = typer.Option(False, "--kube", help="Query Kubernetes as well, with the kubeconfig of kubectl.")
KUBE_CONTEXT = typer.Option(None, help="Context of the kubeconfig (default: the current one).")
