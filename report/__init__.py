# SPDX-License-Identifier: Apache-2.0
"""What a run hands to a person: the report as JSON and HTML, the bundle for an app, the model card."""
