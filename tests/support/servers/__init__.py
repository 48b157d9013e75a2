# SPDX-License-Identifier: Apache-2.0
"""Servers that tests talk to, on this machine: object stores, Kubeflow Pipelines, Kubernetes."""
