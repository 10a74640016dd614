"""Pictures in a bucket of a server that speaks S3's API: SeaweedFS, Garage, Supabase Storage, AWS and others.

S3 makes an object visible when all of it is there, so a write that is cut off leaves nothing under its name.
"""

from __future__ import annotations

import contextlib
import functools
import io
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import urllib3
from minio import Minio
from minio.deleteobjects import DeleteObject
from minio.error import InvalidResponseError, MinioException, S3Error, ServerError
from urllib3.exceptions import HTTPError, SSLError

from posture.pictures.base import (
    MARK_BYTES,
    MOST_BYTES,
    NAME,
    PICTURE,
    PicturesRefusedError,
    PicturesUnavailableError,
    beyond_bounds,
    is_marked,
)
from posture.settings.picture_store import BucketAddress

TIMEOUT_S = 10.0
"""To connect, to send a picture, and between two parts of an answer."""
WRITERS = 4
"""Pictures on their way at once: a server far away takes long for each, and is not busy."""
PROBE = ".writable"
PASSES = ("RequestTimeTooSkewed", "SlowDown", "RequestTimeout", "OperationAborted")
"""Refusals that heal by themselves: a board's clock may be wrong until the network has set it."""
FULL = ("quota", "full", "storage")
"""In the code of a refusal that ends when there is room again, whatever its status."""


class PictureBucket:
    """One stream's annotated pictures in a bucket, under ``[prefix/]folder/``.

    Args:
        address: of the bucket.
        folder: what stands before the pictures' names.
        key_id: who we are to the server.
        secret_key: of that key.
        ca_file: the authority that signed the server's certificate; empty: those that the system trusts.
        max_bytes: the oldest pictures go beyond this; None keeps all.
        max_age_s: older pictures go, in seconds since they were written; None keeps all.
    """

    def __init__(
        self,
        address: BucketAddress,
        folder: str,
        key_id: str,
        secret_key: str,
        ca_file: str = "",
        max_bytes: int | None = None,
        max_age_s: float | None = None,
    ) -> None:
        self._bucket, self._max_bytes, self._max_age_s = address.bucket, max_bytes, max_age_s
        self._prefix = f"{'/'.join(filter(None, (address.prefix, folder)))}/"
        self._store = str(address)
        self._client = _client(address, key_id, secret_key, ca_file)
        self.place = f"{address}/{folder}"

    def check(self) -> None:
        """See ``Pictures.check``; retention needs the right to delete, too."""
        with self._asked("does not let pictures be written"):
            self._put((PROBE, b""))
        with self._asked("does not let pictures be deleted"):
            self._client.remove_object(self._bucket, self._prefix + PROBE)

    def write_many(self, files: Iterable[tuple[str, bytes]]) -> None:
        """See ``Pictures.write_many``; the server has said of each that it keeps it."""
        files = list(files)
        for name, _ in files:
            if not NAME.fullmatch(name):
                raise ValueError(f"{name!r} is no name for a picture in {self.place}")
        with self._asked("does not take pictures"):
            if len(files) < 2:
                for file in files:
                    self._put(file)
                return
            with ThreadPoolExecutor(min(WRITERS, len(files)), thread_name_prefix="pictures") as writers:
                for _ in writers.map(self._put, files):
                    pass

    def has_another(self, name: str, digest: str) -> bool:
        """See ``Pictures.has_another``."""
        head = self._read(name, MARK_BYTES)
        return head is not None and not is_marked(head, digest)

    def has(self, name: str) -> bool:
        """See ``Pictures.has``."""
        return NAME.fullmatch(name) is not None and self._read(name, 1) is not None

    def read(self, name: str) -> bytes | None:
        """See ``Pictures.read``."""
        if not NAME.fullmatch(name):
            return None
        found = self._read(name, MOST_BYTES + 1)
        return found if found is not None and len(found) <= MOST_BYTES else None

    def prune(self) -> None:
        """See ``Pictures.prune``."""
        if self._max_bytes is None and self._max_age_s is None:
            return
        oldest_kept = time.time() - self._max_age_s if self._max_age_s is not None else None
        with self._asked("does not let old pictures be deleted"):
            self._remove(beyond_bounds(self._pictures(), oldest_kept=oldest_kept, max_bytes=self._max_bytes))

    def delete_all(self) -> int:
        """See ``Pictures.delete_all``."""
        with self._asked("does not let pictures be deleted"):
            names = [name for _, _, name in self._pictures()]
            self._remove(names)
        return len(names)

    def _put(self, file: tuple[str, bytes]) -> None:
        name, data = file
        kind = "image/jpeg" if name.endswith(PICTURE) else "application/octet-stream"
        self._client.put_object(self._bucket, self._prefix + name, io.BytesIO(data), len(data), content_type=kind)

    def _read(self, name: str, count: int) -> bytes | None:
        """Return the first bytes of an object; None if there is none of that name."""
        with self._asked("does not let pictures be read"):
            try:
                answer = self._client.get_object(self._bucket, self._prefix + name, offset=0, length=count)
            except S3Error as error:
                if error.code == "NoSuchKey":
                    return None
                if error.code == "InvalidRange":  # it is empty
                    return b""
                raise
            try:
                return answer.read(count)
            finally:
                answer.close()
                answer.release_conn()

    def _pictures(self) -> Iterator[tuple[float, int, str]]:
        """Yield (time of change in seconds, size in bytes, full name) of the stream's pictures."""
        for found in self._client.list_objects(self._bucket, self._prefix):
            name = found.object_name or ""
            if NAME.fullmatch(name.removeprefix(self._prefix)) and found.last_modified is not None:
                yield found.last_modified.timestamp(), found.size or 0, name

    def _remove(self, names: Iterable[str]) -> None:
        for failure in self._client.remove_objects(self._bucket, map(DeleteObject, names)):
            raise PicturesUnavailableError(f"{self._store} does not delete {failure.name}: {failure.code}")

    @contextlib.contextmanager
    def _asked(self, refuses: str) -> Iterator[None]:
        """Let what the server or the network answers become one of our errors, the same each time it comes."""
        try:
            yield
        except S3Error as error:
            raise self._refusal(error, refuses) from error
        except InvalidResponseError as error:
            raise PicturesUnavailableError(f"{self._store} {refuses}: it does not answer as S3 does") from error
        except ServerError as error:
            raise PicturesUnavailableError(f"{self._store} {refuses}: status {error.status_code}") from error
        except SSLError as error:
            raise PicturesRefusedError(
                f"{self._store}: its certificate is not accepted: {_cause(error)}; accepted: one of the authority "
                "in analyzer.pictures_ca_file, or of one that the system trusts"
            ) from error
        except (HTTPError, OSError, MinioException) as error:
            raise PicturesUnavailableError(f"{self._store} can't be reached: {_cause(error)}") from error

    def _refusal(self, error: S3Error, refuses: str) -> PicturesUnavailableError:
        code, status = error.code or "", error.response.status
        said = f"{self._store} {refuses}: {code}: {error.message or 'no reason given'}"
        heals = status >= 500 or code in PASSES or any(word in code.lower() for word in FULL)
        if heals:
            return PicturesUnavailableError(said)
        if code == "NoSuchBucket":
            return PicturesRefusedError(
                f"analyzer.pictures_url: {self._store}: no bucket {self._bucket} is there; accepted: one that is"
            )
        return PicturesRefusedError(
            f"{said}; accepted: POSTURE_PICTURES_KEY_ID and POSTURE_PICTURES_SECRET_KEY of a user who may list, "
            "read, write and delete there"
        )


@functools.lru_cache(maxsize=4)
def _client(address: BucketAddress, key_id: str, secret_key: str, ca_file: str) -> Minio:
    """Return a client with its connections: the pages of all streams share one."""
    connections = urllib3.PoolManager(
        timeout=urllib3.Timeout(connect=TIMEOUT_S, read=TIMEOUT_S),
        maxsize=WRITERS,
        cert_reqs="CERT_REQUIRED",
        ca_certs=ca_file or None,
        retries=False,  # whoever asks tries again, and says so
    )
    return Minio(
        address.endpoint,
        access_key=key_id,
        secret_key=secret_key,
        secure=address.secure,
        region=address.region,
        http_client=connections,
    )


def _cause(error: BaseException) -> str:
    """Return why a request failed, in the words of the system: urllib3's hold an object's address."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.strerror:
            return seen.strerror
        reason = getattr(seen, "reason", None)
        seen = reason if isinstance(reason, BaseException) else seen.__cause__ or seen.__context__
    if "timed out" in str(error):
        return f"no answer within {TIMEOUT_S:g} s"
    return "the connection broke"
