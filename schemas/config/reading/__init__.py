# SPDX-License-Identifier: Apache-2.0
"""From the text of a configuration to its keys: YAML within bounds, and former names of keys, defaults by origin."""

__all__ = ["former_names", "origins", "yaml_text"]
