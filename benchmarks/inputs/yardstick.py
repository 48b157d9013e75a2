# SPDX-License-Identifier: Apache-2.0
"""Measures the speed of the processor itself while something else runs."""

import io
import threading
import time

from inputs.photographs import photograph
from PIL import Image


class Yardstick:
    """Measures how fast the processor is while a block runs: it decodes the same photograph every quarter of a second.

    On a shared machine the processor time of the same work differs by a factor of up to two from minute to minute.

    Attributes:
        seconds: Processor time of each decoding.
    """

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._photograph = photograph(0, 375, 500)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def _sample(self) -> None:
        while True:
            began = time.thread_time()
            with Image.open(io.BytesIO(self._photograph)) as image:
                image.resize((224, 224))
            self.seconds.append(time.thread_time() - began)
            if self._ended.wait(0.25):
                return

    def __enter__(self) -> "Yardstick":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
