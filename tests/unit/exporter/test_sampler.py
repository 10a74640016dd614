"""The mean of the last five seconds; what can't be read is unknown, never 0, and said once."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from boards import DEVFREQ, devfreq, proc

from posture.exporter.jetson import JetsonGpu
from posture.exporter.sampler import EACH_S, RETRY_S, WINDOW_S, Sampler


class Machine:
    """A made board whose time a test turns."""

    def __init__(self, folder: Path) -> None:
        self.now_s = 100.0
        self.proc, self.sys = folder / "proc", folder / "sys"
        self.busy, self.idle = 0, 0
        self.sys.mkdir()
        proc(self.proc, 0, 0)
        self.load = devfreq(self.sys, *DEVFREQ["Xavier"])
        self.sampler = Sampler(self.proc, [JetsonGpu(self.sys)], lambda: self.now_s)

    def run(self, seconds: float, *, cpu: int = 0) -> None:
        """Let time pass while this percentage of the processor is used."""
        for _ in range(round(seconds / EACH_S)):
            self.now_s += EACH_S
            self.busy += cpu
            self.idle += 100 - cpu
            proc(self.proc, self.busy, self.idle)
            self.sampler.sample()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_figures_are_the_mean_of_the_last_five_seconds(machine: Machine) -> None:
    machine.load.write_text("1000")
    machine.run(20, cpu=90)
    machine.load.write_text("0")
    machine.run(WINDOW_S / 2, cpu=10)
    figures = machine.sampler.figures()
    assert figures.gpu_percent == pytest.approx(50, abs=3)
    assert figures.cpu_percent == pytest.approx(50, abs=3)
    machine.run(WINDOW_S + EACH_S, cpu=10)
    figures = machine.sampler.figures()
    assert (figures.gpu_percent, figures.cpu_percent) == (0.0, pytest.approx(10.0))


def test_what_was_never_read_or_not_for_five_seconds_is_unknown(machine: Machine) -> None:
    figures = machine.sampler.figures()
    assert (figures.gpu_percent, figures.cpu_percent, figures.read_at) == (None, None, None)
    machine.load.write_text("500")
    machine.run(10)
    assert machine.sampler.figures().gpu_percent == 50
    machine.now_s += WINDOW_S + 1  # the program was stopped meanwhile
    figures = machine.sampler.figures()
    assert (figures.gpu_percent, figures.cpu_percent) == (None, None)


def test_a_load_that_vanishes_and_comes_back_is_said_once_each_time(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    machine.run(3)
    assert machine.sampler.figures().gpu_percent is None
    assert machine.sampler.problems.keys() >= {"GPU"}
    machine.load.write_text("300")
    machine.run(RETRY_S)
    assert machine.sampler.figures().gpu_percent == 30
    assert "GPU" not in machine.sampler.problems
    machine.load.unlink()
    machine.run(2 * WINDOW_S)
    assert machine.sampler.figures().gpu_percent is None
    machine.load.write_text("700")
    machine.run(RETRY_S)
    assert machine.sampler.figures().gpu_percent == 70
    said = [record.getMessage() for record in caplog.records if record.getMessage().startswith("GPU")]
    assert [line.startswith("GPU: no figure; tried: ") for line in said] == [True, False, True, False]
