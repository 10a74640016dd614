"""NVML: the busiest GPU, through NVIDIA's own Python package over a library that stands in for the driver's."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from posture.exporter.nvml import NvmlGpu
from posture.exporter.source import UnreadableError

ROOT = Path(__file__).resolve().parents[3]
DRIVER = """
#include <stdio.h>
typedef struct { unsigned int gpu, memory; } rates;
static char *const names[] = {"gpu0", "gpu1"};
static int value(int number) {
  FILE *file = fopen(LOADS, "r");
  int loads[] = {-1, -1};
  if (file) { fscanf(file, "%d %d", &loads[0], &loads[1]); fclose(file); }
  return loads[number];
}
int nvmlInitWithFlags(unsigned int flags) { return 0; }
int nvmlShutdown(void) { return 0; }
int nvmlDeviceGetCount_v2(unsigned int *count) { *count = (value(0) >= 0) + (value(1) >= 0); return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned int index, void **handle) { *handle = names[index]; return 0; }
int nvmlDeviceGetUtilizationRates(void *handle, rates *found) {
  int load = value(handle == names[1]);
  if (load == 255) return 3; /* not supported, as on an Orin */
  found->gpu = load;
  return 0;
}
const char *nvmlErrorString(int code) { return code == 3 ? "Not Supported" : "other"; }
"""
READ = (
    "from posture.exporter.nvml import NvmlGpu\nfrom posture.exporter.source import UnreadableError\n"
    "try: print(NvmlGpu().read())\nexcept UnreadableError as error: print(error)\n"
)


def test_without_a_driver_it_is_said_and_nothing_is_made_up() -> None:
    with pytest.raises(UnreadableError, match="NVML: "):
        NvmlGpu().read()


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler: apt-get install gcc libc6-dev")
@pytest.mark.parametrize(
    ("loads", "said"),
    [("37", "37.0"), ("12 85", "85.0"), ("0", "0.0"), ("", "NVML: no GPU"), ("255", "NVML: Not Supported")],
)
def test_of_several_gpus_the_busiest_counts_and_what_is_not_supported_is_said(
    tmp_path: Path, loads: str, said: str
) -> None:
    (tmp_path / "loads").write_text(loads)
    (tmp_path / "driver.c").write_text(f'#define LOADS "{tmp_path}/loads"\n{DRIVER}')
    library = str(tmp_path / "libnvidia-ml.so.1")
    subprocess.run(["cc", "-shared", "-fPIC", "-w", "-o", library, str(tmp_path / "driver.c")], check=True)
    done = subprocess.run(
        [sys.executable, "-c", READ], env={"LD_LIBRARY_PATH": str(tmp_path)}, cwd=ROOT, capture_output=True,
        text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == said
