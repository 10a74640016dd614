"""Pictures in a bucket of a real S3 server: the contract of a folder, and what the server's faults become."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from s3_server import BUCKET, S3Server

from posture.pictures.base import Pictures, PicturesRefusedError, PicturesUnavailableError, marked
from posture.pictures.opening import open_pictures
from posture.settings.table import Analyzer

ROOT = Path(__file__).resolve().parents[3]
JPEG = b"\xff\xd8 a picture \xff\xd9"
HERE, ELSEWHERE = "ab" * 32, "cd" * 32


def options(s3: S3Server, **changed: Any) -> Analyzer:
    keys = {"pictures_url": s3.url, "pictures_key_id": s3.key_id, "pictures_secret_key": s3.secret_key}
    return Analyzer(**{**keys, **changed})


@pytest.fixture(params=["folder", "bucket"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Pictures]:
    """Open the store of a stream's pictures, with settings."""
    if request.param == "folder":
        return lambda pi_id="pi1", **changed: open_pictures(
            Analyzer(pictures_dir=str(tmp_path / "pictures"), **changed), pi_id
        )
    s3 = request.getfixturevalue("s3")
    return lambda pi_id="pi1", **changed: open_pictures(options(s3, **changed), pi_id)


def test_what_was_written_can_be_read_and_written_again(opened: Callable[..., Pictures]) -> None:
    pictures = opened()
    pictures.check()
    pictures.write_many((f"{number}~x.jpg", JPEG + bytes([number])) for number in range(10))
    pictures.write_many([("3~x.jpg", b"again")])
    pictures.write_many([])
    assert pictures.read("3~x.jpg") == b"again"
    assert pictures.read("4~x.jpg") == JPEG + bytes([4])
    assert pictures.has("4~x.jpg")
    assert not pictures.has("11~x.jpg")
    assert pictures.read("11~x.jpg") is None
    assert opened("pi2").read("4~x.jpg") is None, "another stream's"


@pytest.mark.parametrize("name", ["../pi2/a.jpg", "/etc/passwd", "a.txt", "", "..", "a\x00.jpg", "sub/a.jpg"])
def test_a_name_that_is_none_of_ours_names_nothing(opened: Callable[..., Pictures], name: str) -> None:
    pictures = opened()
    assert pictures.read(name) is None
    assert not pictures.has(name)


def test_the_picture_of_another_frame_is_known_by_its_mark(opened: Callable[..., Pictures]) -> None:
    pictures = opened()
    pictures.write_many([("a.jpg", marked(JPEG, HERE)), ("empty.jpg", b"")])
    assert not pictures.has_another("a.jpg", HERE)
    assert pictures.has_another("a.jpg", ELSEWHERE)
    assert pictures.has_another("empty.jpg", HERE)
    assert not pictures.has_another("b.jpg", HERE)


def test_all_of_a_stream_are_deleted_and_nobody_elses(opened: Callable[..., Pictures]) -> None:
    one, other = opened("pi1"), opened("pi10")
    for pictures in (one, other):
        pictures.write_many([("a.jpg", JPEG), ("b.jpg", JPEG)])
    assert one.delete_all() == 2
    assert one.delete_all() == 0
    assert one.read("a.jpg") is None
    assert other.read("a.jpg") == JPEG


def test_the_oldest_go_first_and_nothing_that_is_none_of_ours(s3: S3Server) -> None:
    pictures = open_pictures(options(s3, pictures_max_bytes=350), "pi1")
    folder = s3.data / BUCKET / "analyzed_images_from_pi1"
    pictures.write_many((f"{number}.jpg", bytes(100)) for number in range(6))
    (folder / "notes.txt").write_bytes(bytes(1000))
    for number in range(6):
        changed = time.time() - 100 * number
        os.utime(folder / f"{number}.jpg", (changed, changed))
    pictures.prune()
    assert sorted(s3.pictures()) == ["0.jpg", "1.jpg", "2.jpg"]
    open_pictures(options(s3, pictures_keep_days=150 / 86_400), "pi1").prune()
    assert sorted(s3.pictures()) == ["0.jpg", "1.jpg"]
    assert (folder / "notes.txt").exists()


def test_a_prefix_keeps_two_farms_in_one_bucket_apart(s3: S3Server) -> None:
    north, south = (
        open_pictures(options(s3, pictures_url=f"{s3.url}/{name}?region=us-east-1"), "pi1") for name in ("n", "s/s")
    )
    north.write_many([("a.jpg", b"north")])
    south.write_many([("a.jpg", b"south")])
    assert (north.read("a.jpg"), south.read("a.jpg")) == (b"north", b"south")
    assert (s3.data / BUCKET / "s/s/analyzed_images_from_pi1/a.jpg").exists()


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        pytest.param({"pictures_key_id": "nobody"}, r"accepted: POSTURE_PICTURES_KEY_ID and", id="wrong key"),
        pytest.param(
            {"pictures_secret_key": "wrong"}, r"SignatureDoesNotMatch.*accepted: POSTURE_", id="wrong secret"
        ),
        pytest.param(
            {"bucket": "nowhere"}, r"analyzer\.pictures_url: .*no bucket nowhere is there", id="no bucket"
        ),
        pytest.param({"pictures_key_id": ""}, r"^POSTURE_PICTURES_KEY_ID is not set", id="no key"),
        pytest.param({"pictures_secret_key": ""}, r"^POSTURE_PICTURES_SECRET_KEY is not set", id="no secret"),
        pytest.param(
            {"pictures_ca_file": "/none.pem"}, r"^analyzer\.pictures_ca_file: /none\.pem", id="no authority"
        ),
    ],
)
def test_what_a_person_must_mend_is_said_with_the_setting(s3: S3Server, changed: dict[str, Any], says: str) -> None:
    if bucket := changed.pop("bucket", ""):
        changed = {"pictures_url": s3.url_at(s3.port, bucket)}
    with pytest.raises(PicturesRefusedError, match=says) as caught:
        open_pictures(options(s3, **changed), "pi1").check()
    assert s3.secret_key not in str(caught.value)


def test_a_server_that_is_away_is_said_in_the_same_words_each_time(s3: S3Server) -> None:
    pictures = open_pictures(options(s3), "pi1")
    pictures.write_many([("a.jpg", JPEG)])
    s3.kill()
    said = set()
    for ask in (
        lambda: pictures.write_many([("a.jpg", JPEG), ("b.jpg", JPEG)]),
        lambda: pictures.read("a.jpg"),
    ) * 2:
        with pytest.raises(PicturesUnavailableError) as caught:
            ask()
        said.add(str(caught.value))
    assert len(said) <= 2, said
    assert f"{s3.url} can't be reached: Connection refused" in said
    s3.start()
    pictures.write_many([("a.jpg", b"back")])
    assert pictures.read("a.jpg") == b"back"


def test_a_full_server_is_said_and_takes_pictures_when_there_is_room(tmp_path: Path, small_disk: Path) -> None:
    s3 = S3Server(tmp_path, small_disk / "s3")
    s3.start()
    try:
        filler = small_disk / "filler"
        filler.write_bytes(bytes(900_000))
        pictures = open_pictures(options(s3), "pi1")
        with pytest.raises(PicturesUnavailableError, match="does not take pictures") as caught:
            pictures.write_many([("a.jpg", bytes(500_000))])
        assert not isinstance(caught.value, PicturesRefusedError), "no key of ours makes room"
        assert s3.pictures() == {}
        filler.unlink()
        pictures.write_many([("a.jpg", bytes(500_000))])
        assert s3.pictures() == {"a.jpg": bytes(500_000)}
    finally:
        s3.stop()


@pytest.fixture
def s3_with_tls(tmp_path: Path) -> Iterator[tuple[S3Server, Path]]:
    """A server with a certificate of a private authority, and the authority's file."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_pem.write_to_path(tmp_path / "tls.key")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "tls.crt")
    server = S3Server(tmp_path)
    at = server.command.index("posix")
    server.command[at:at] = ["--cert", str(tmp_path / "tls.crt"), "--key", str(tmp_path / "tls.key")]
    server.start()
    yield server, tmp_path / "ca.pem"
    server.stop()


def test_a_private_authority_is_trusted_where_it_is_named_and_not_elsewhere(
    s3_with_tls: tuple[S3Server, Path],
) -> None:
    s3, authority = s3_with_tls
    url = s3.url.replace("s3+http", "s3+https")
    with pytest.raises(PicturesRefusedError, match=r"its certificate is not accepted: .*pictures_ca_file"):
        open_pictures(options(s3, pictures_url=url), "pi1").check()
    pictures = open_pictures(options(s3, pictures_url=url, pictures_ca_file=str(authority)), "pi1")
    pictures.write_many([("a.jpg", JPEG)])
    assert pictures.read("a.jpg") == JPEG


def test_who_uses_a_folder_loads_no_client(tmp_path: Path) -> None:
    script = (
        "import sys; from posture.pictures.opening import open_pictures\n"
        "from posture.settings.table import Analyzer\n"
        "open_pictures(Analyzer(pictures_dir=sys.argv[1]), 'pi1').write_many([('a.jpg', b'x')])\n"
        "print(*{'minio', 'urllib3'} & set(sys.modules))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "\n", "")
