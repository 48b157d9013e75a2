# SPDX-License-Identifier: Apache-2.0
"""Everything that depends on the kind of example, behind one protocol.

Public face: `modality_of` finds the modality of a task; `Modality` says what one must provide (protocol.py). Images are
the first and only implementation. Importing this package imports neither TensorFlow nor Pillow.
"""

from learn2compress.modalities.protocol import Modality
from learn2compress.modalities.registry import MODALITIES, modality_named, modality_of

__all__ = ["MODALITIES", "Modality", "modality_named", "modality_of"]
