"""The address of a bucket: what is accepted, and what it says."""

from __future__ import annotations

import pytest

from posture.errors import UserError
from posture.settings import loading
from posture.settings.picture_store import BucketAddress, bucket_address


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("s3+http://h:8333/posture", BucketAddress("h:8333", False, "posture", "", "us-east-1")),
        ("s3+http://h:8333/posture/", BucketAddress("h:8333", False, "posture", "", "us-east-1")),
        (
            "s3+https://s3.example.com/a.b/north/x?region=eu-1",
            BucketAddress("s3.example.com", True, "a.b", "north/x", "eu-1"),
        ),
        ("s3+http://[::1]:8333/posture", BucketAddress("[::1]:8333", False, "posture", "", "us-east-1")),
    ],
)
def test_an_address_names_server_bucket_prefix_and_region(url: str, says: BucketAddress) -> None:
    assert bucket_address(url) == says
    assert loading.load(environ={"POSTURE_PICTURES_URL": url}).analyzer.pictures_url == url


@pytest.mark.parametrize(
    "url",
    [
        *("http://h/posture", "s3://posture", "posture", "s3+http://h", "s3+http://h/", "s3+http:///posture"),
        *("s3+http://h:0/posture", "s3+http://h:99999/posture", "s3+http://h:x/posture", "s3+http://[::1/posture"),
        *("s3+http://h/Posture", "s3+http://h/ab", "s3+http://h/posture/../x", "s3+http://h/posture//x"),
        *("s3+http://h/posture?zone=x", "s3+http://h/posture?region=", "s3+http://h/posture?region=a&region=b"),
        *("s3+http://h/posture?x", "s3+http://h/posture#x", "s3+http://h h/posture", "s3+http://h/posture/\u00e9"),
    ],
)
def test_what_names_no_bucket_is_refused_with_what_is_accepted(url: str) -> None:
    with pytest.raises(UserError, match=r"POSTURE_PICTURES_URL.*accepted: s3\+http://host:port/bucket or s3"):
        loading.load(environ={"POSTURE_PICTURES_URL": url})


def test_a_key_in_the_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(UserError, match="POSTURE_PICTURES_SECRET_KEY") as caught:
        loading.load(environ={"POSTURE_PICTURES_URL": "s3+http://key:hidden@h/posture"})
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize("path", ["relative/x", "/", "//", "/a/../b", "/a b", "/..", "C:/x", "/a/./b"])
def test_a_folder_of_the_nodes_is_an_absolute_path_with_no_way_out(path: str) -> None:
    with pytest.raises(UserError, match="accepted: an absolute path below /, or empty"):
        loading.load(environ={"POSTURE_KUBERNETES_PICTURES_HOST_PATH": path})
