# SPDX-License-Identifier: Apache-2.0
"""Holds all code that depends on the kind of example, behind one protocol.

Public names: `modality_of` returns the modality of a task, `modality_named` that of a name, and `Modality` is the
protocol (protocol.py); images and texts are the implementations. Importing this package imports neither TensorFlow nor
Pillow.
"""

from learn2compress.modalities.opened import OpenedClassifier
from learn2compress.modalities.protocol import InputFiles, Modality
from learn2compress.modalities.registry import MODALITIES, modality_named, modality_of

__all__ = ["MODALITIES", "InputFiles", "Modality", "OpenedClassifier", "modality_named", "modality_of"]
