#!/usr/bin/env python3
"""Make pose_landmarker_full.task, the pose model in this folder, from a mediapipe 0.10.21 wheel.

That release is the last but one to carry the two TensorFlow Lite files of the full pose model. A ``.task``
file is a zip of the two, stored; each first needs to say how its input picture is normalised.

Run it with the Python of an environment that has that same release installed (Python 3.9 to 3.12),
because its metadata writer is used, too:

    pip download --no-deps mediapipe==0.10.21
    python models/make_model.py mediapipe-0.10.21-*.whl
    python models/make_model.py                       # the installed package instead of a wheel
    python models/make_model.py --check               # nothing written; exit 1 if the result differs
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import io
import struct
import sys
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
MODEL = HERE / "pose_landmarker_full.task"

# entry of the .task file: (file in the wheel, its SHA-256, mean, std); a pixel p enters as (p - mean) / std
PARTS = {
    "pose_detector.tflite": (
        "mediapipe/modules/pose_detection/pose_detection.tflite",
        "9ba9dd3d42efaaba86b4ff0122b06f29c4122e756b329d89dca1e297fd8f866c",
        127.5,
        127.5,
    ),
    "pose_landmarks_detector.tflite": (
        "mediapipe/modules/pose_landmark/pose_landmark_full.tflite",
        "e9a5c5cb17f736fafd4c2ec1da3b3d331d6edbe8a0d32395855aeb2cdfd64b9f",
        0.0,
        255.0,
    ),
}
ZIP_HEADER = 30  # bytes of a local file header before the name
ZIPALIGN_ID = 0xD935
ALIGNMENT = 4  # bytes; TensorFlow Lite maps an aligned entry, and copies any other with a warning


def read_part(wheel: Path | None, name: str) -> bytes:
    """The bytes of one file of the wheel, or of the installed package where no wheel is given."""
    if wheel is not None:
        with zipfile.ZipFile(wheel) as archive:
            return archive.read(name)
    spec = importlib.util.find_spec("mediapipe")
    if spec is None or spec.origin is None:
        raise SystemExit("mediapipe is not installed, and no wheel is named")
    return (Path(spec.origin).parent.parent / name).read_bytes()


def add_normalisation(model: bytes, mean: float, std: float) -> bytes:
    """The TensorFlow Lite model with NormalizationOptions metadata for its one picture input."""
    from mediapipe.tasks.python.metadata.metadata_writers import metadata_writer  # noqa: PLC0415

    writer = metadata_writer.MetadataWriter.create(bytearray(model))
    writer.add_image_input(norm_mean=[mean], norm_std=[std])
    return bytes(writer.populate()[0])


def bundle(parts: dict[str, bytes]) -> bytes:
    """A zip with the parts stored, each beginning at a multiple of ALIGNMENT, the same on every run."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, data in parts.items():
            entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            # An extra field that only pads: Android zipalign's header id, its length, the alignment, zeros.
            unpadded = buffer.tell() + ZIP_HEADER + len(name) + 6
            padding = -unpadded % ALIGNMENT
            entry.extra = struct.pack("<HHH", ZIPALIGN_ID, 2 + padding, ALIGNMENT) + bytes(padding)
            archive.writestr(entry, data)
    return buffer.getvalue()


def make(wheel: Path | None) -> bytes:
    """The whole .task file; refuses other TensorFlow Lite files than those that were measured."""
    parts = {}
    for entry, (name, expected, mean, std) in PARTS.items():
        data = read_part(wheel, name)
        found = hashlib.sha256(data).hexdigest()
        if found != expected:
            raise SystemExit(f"{name}: SHA-256 {found}, expected {expected} (mediapipe 0.10.21)")
        parts[entry] = add_normalisation(data, mean, std)
    return bundle(parts)


def main(argv: list[str] | None = None) -> int:
    """Write the model and print its SHA-256."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=Path, nargs="?", help="mediapipe-0.10.21-*.whl (default: the installed)")
    parser.add_argument("--out", type=Path, default=MODEL, help="where to write (default: %(default)s)")
    parser.add_argument("--check", action="store_true", help="compare with --out instead of writing it")
    options = parser.parse_args(argv)
    model = make(options.wheel)
    sys.stdout.write(f"{hashlib.sha256(model).hexdigest()}  {options.out.name}\n")
    if options.check:
        return 0 if options.out.read_bytes() == model else 1
    options.out.write_bytes(model)
    return 0


if __name__ == "__main__":
    sys.exit(main())
