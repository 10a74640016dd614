"""Lines as the exporters of GPUs show them, with all of their labels."""

from __future__ import annotations


def dcgm(gpu: int, usage: float | str, pod: str = "", exporter: str = "dcgm-exporter-x7k2p") -> str:
    """NVIDIA's dcgm-exporter: one line a GPU, and one more label while a pod has it.

    Args:
        gpu: its number.
        usage: percent, a whole number.
        pod: who uses the GPU; empty: nobody.
        exporter: the exporter's own pod.
    """
    labels = {
        "gpu": str(gpu),
        "UUID": f"GPU-8f6d1c52-3a7e-4a9b-9c1d-00000000000{gpu}",
        "pci_bus_id": f"00000000:0{gpu}:00.0",
        "device": f"nvidia{gpu}",
        "modelName": "NVIDIA A2",
        "Hostname": exporter,
        "DCGM_FI_DRIVER_VERSION": "535.161.08",
        "container": "analyzer" if pod else "",
        "namespace": "posture-farm" if pod else "",
        "pod": pod,
    }
    return line("DCGM_FI_DEV_GPU_UTIL", labels, usage)


def nvidia_smi(uuid: str, ratio: float | str) -> str:
    """nvidia_gpu_exporter: what nvidia-smi tells, a share of 1."""
    return line("nvidia_smi_utilization_gpu_ratio", {"uuid": uuid}, ratio)


def line(metric: str, labels: dict[str, str], value: float | str) -> str:
    """One line of Prometheus' text format."""
    inner = ",".join(f'{name}="{text}"' for name, text in labels.items())
    return f"{metric}{{{inner}}} {value}"
