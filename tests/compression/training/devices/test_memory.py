# SPDX-License-Identifier: Apache-2.0
import gc
import weakref

from learn2compress.compression.training.devices.memory import return_freed_memory


class Cycle:
    def __init__(self):
        self.itself = self


def test_return_freed_memory_frees_objects_in_cycles():
    gc.disable()
    try:
        gone = weakref.ref(Cycle())
        return_freed_memory(collect=False)
        assert gone() is not None
        return_freed_memory()
    finally:
        gc.enable()
    assert gone() is None


def test_return_freed_memory_does_without_a_c_library_that_can(monkeypatch):
    monkeypatch.setattr("ctypes.CDLL", lambda _: object())
    return_freed_memory()
