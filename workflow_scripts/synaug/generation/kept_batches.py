"""Copies of finished batches in a place that outlives the machine, for jobs on machines that share no disk.

The place is a folder in a bucket, or on a mounted volume. It has a folder per shard with the same files as the work
folder of the job. A shard's name is a hash of the ids of its images, so several experiments may share the place.
"""

import logging
import os
from pathlib import Path

from synaug.runtime.errors import UserError, short_text
from synaug.runtime.files import atomic_path

log = logging.getLogger(__name__)

# The keys of Snakemake's storage plug-in, and the names under which Arrow looks for them.
_ACCESS_KEY = "SNAKEMAKE_STORAGE_S3_ACCESS_KEY"
_KEYS = {
    _ACCESS_KEY: "AWS_ACCESS_KEY_ID",
    "SNAKEMAKE_STORAGE_S3_SECRET_KEY": "AWS_SECRET_ACCESS_KEY",
    "SNAKEMAKE_STORAGE_S3_TOKEN": "AWS_SESSION_TOKEN",
}
_FAILURES = 3  # in a row, after which a job sends nothing more: every attempt may wait for minutes


class KeptBatches:
    """The batches of the shard `shard` at `place`, an absolute path or an address that Arrow understands (`s3://...`).

    work: the work folder of the job. Raises UserError if the place cannot be opened.
    """

    def __init__(self, place: str, shard: str, work: Path):
        from pyarrow.fs import FileSystem

        if place.startswith("s3://") and _ACCESS_KEY in os.environ:
            for name, arrow_name in _KEYS.items():
                os.environ.pop(arrow_name, None)  # a token of other keys
                if name in os.environ:
                    os.environ[arrow_name] = os.environ[name]
        self.place, self.work = place, work
        try:
            self.files, root = FileSystem.from_uri(place)
        except Exception as error:  # Arrow raises OSError, ValueError and others, by the kind of storage
            raise self._no_access(error) from error
        self.is_local = self.files.type_name == "local"
        if self.is_local and not Path(root).is_dir():
            raise UserError(
                f"generation.keep_batches_in: {place}: no such folder", advice="make it, or mount the volume"
            )
        self.folder = f"{root.rstrip('/')}/{shard}"
        self.unsent: list[str] = []
        self.failures = 0

    def fetch(self) -> None:
        """Copy the files that are missing in the work folder to it. Raises UserError if the place cannot be read."""
        from pyarrow.fs import FileSelector

        try:
            for info in self.files.get_file_info(FileSelector(self.folder, allow_not_found=True)):
                file = self.work / info.base_name
                # Empty: an upload that failed, or the mark of a folder.
                if not info.is_file or not info.size or info.base_name.startswith(".") or file.exists():
                    continue
                try:
                    with self.files.open_input_stream(info.path) as source:
                        data = source.read()
                except FileNotFoundError:  # another run has finished this shard
                    continue
                with atomic_path(file, info.size) as temporary:
                    temporary.write_bytes(data)
        except UserError:
            raise
        except Exception as error:
            raise self._no_access(error) from error

    def send(self, names: list[str]) -> None:
        """Copy these files of the work folder to the place, and those before them that could not be sent, in order.

        An error is only a warning: a copy saves time, and the shard does not need it.
        """
        self.unsent += names
        while self.unsent and self.failures < _FAILURES:
            try:
                self._write(self.unsent[0])
            except Exception as error:
                self.failures += 1
                log.warning("%s: a finished batch is not kept there (%s)", self.place, short_text(error))
                return
            self.failures = 0
            del self.unsent[0]

    def delete(self) -> None:
        """Delete the files of the shard at the place. An error is only a warning."""
        try:
            self.files.delete_dir(self.folder)
        except FileNotFoundError:
            pass  # nothing was sampled
        except Exception as error:
            log.warning("%s: the copies of finished batches stay there (%s)", self.folder, short_text(error))

    def _write(self, name: str) -> None:
        # Read before the file there is opened: what is closed after an error is complete for a bucket.
        data = (self.work / name).read_bytes()
        path = f"{self.folder}/{name}"
        if self.is_local:
            with atomic_path(path, len(data)) as temporary:
                temporary.write_bytes(data)
        else:
            with self.files.open_output_stream(path) as out:
                out.write(data)

    def _no_access(self, error: Exception) -> UserError:
        return UserError(
            f"generation.keep_batches_in: {self.place}: cannot be read ({short_text(error)})",
            advice="correct the address or the keys, or leave the key out",
        )
