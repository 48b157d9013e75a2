# SPDX-License-Identifier: Apache-2.0
"""What travels between the layers: configuration, artifact types, manifests, reports, errors."""
