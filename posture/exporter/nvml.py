"""A discrete GPU of NVIDIA, or that of a Jetson Thor, through NVIDIA's management library."""

from __future__ import annotations

import contextlib
from typing import Any

from posture.exporter.source import UnreadableError


class NvmlGpu:
    """The busiest of a machine's GPUs: a stream uses one, and the fullest one is full first."""

    about = "NVML"

    def __init__(self) -> None:
        self._library: Any = None

    def read(self) -> float:
        """Return percent, 0 to 100.

        Raises:
            UnreadableError: the package, the driver, a GPU, or its figure is missing.
        """
        library = self._opened()
        try:
            count = library.nvmlDeviceGetCount()
            handles = [library.nvmlDeviceGetHandleByIndex(number) for number in range(count)]
            loads = [float(library.nvmlDeviceGetUtilizationRates(handle).gpu) for handle in handles]
        except library.NVMLError as error:
            # after a driver's update it answers again only when it is opened anew
            self._close()
            raise UnreadableError(f"NVML: {error}") from None
        if not loads:
            raise UnreadableError("NVML: no GPU")
        return max(loads)

    def _opened(self) -> Any:
        if self._library is None:
            try:
                import pynvml  # noqa: PLC0415 - most nodes have no use for it
            except ImportError:
                raise UnreadableError("NVML: the Python package nvidia-ml-py is not installed") from None
            try:
                pynvml.nvmlInit()
            except pynvml.NVMLError as error:
                raise UnreadableError(f"NVML: {error}") from None
            self._library = pynvml
        return self._library

    def _close(self) -> None:
        with contextlib.suppress(self._library.NVMLError):  # it was gone already
            self._library.nvmlShutdown()
        self._library = None
