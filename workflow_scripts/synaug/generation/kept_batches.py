"""Copies of finished batches in a place that outlives the machine, for jobs on machines that share no disk.

The place is a folder in a bucket, or on a mounted volume. It has a folder per shard with the same files as the work
folder of the job. A shard's name is a hash of the ids of its images, so several experiments may share the place.
"""

import logging
import os
import shutil
from contextlib import suppress
from pathlib import Path

from synaug.runtime.errors import UserError, short_text
from synaug.runtime.files import atomic_path

log = logging.getLogger(__name__)

# The keys of Snakemake's storage plug-in, and the names under which Arrow looks for them.
_KEYS = {
    "SNAKEMAKE_STORAGE_S3_ACCESS_KEY": "AWS_ACCESS_KEY_ID",
    "SNAKEMAKE_STORAGE_S3_SECRET_KEY": "AWS_SECRET_ACCESS_KEY",
    "SNAKEMAKE_STORAGE_S3_TOKEN": "AWS_SESSION_TOKEN",
}


class KeptBatches:
    """The batches of the shard `shard` at `place`, an absolute path or an address that Arrow understands (`s3://...`).

    work: the work folder of the job. Raises UserError if the place cannot be opened.
    """

    def __init__(self, place: str, shard: str, work: Path):
        from pyarrow.fs import FileSystem

        if place.startswith("s3://"):
            for name, arrow_name in _KEYS.items():
                if name in os.environ:
                    os.environ.setdefault(arrow_name, os.environ[name])
        self.place, self.work = place, work
        try:
            self.files, root = FileSystem.from_uri(place)
            self.folder = f"{root.rstrip('/')}/{shard}"
        except (OSError, ValueError) as error:
            raise self._no_access(error) from error
        self.sent: set[str] = set()

    def fetch(self) -> None:
        """Copy the files that are missing in the work folder to it. Raises UserError if the place cannot be read."""
        from pyarrow.fs import FileSelector

        try:
            kept = self.files.get_file_info(FileSelector(self.folder, allow_not_found=True))
            for info in kept:
                file = self.work / info.base_name
                if info.is_file and not file.exists():
                    with (
                        atomic_path(file, info.size) as temporary,
                        self.files.open_input_stream(info.path) as source,
                        temporary.open("wb") as out,
                    ):
                        shutil.copyfileobj(source, out, 1 << 22)
        except OSError as error:
            raise self._no_access(error) from error
        self.sent = {info.base_name for info in kept}

    def send(self, names: list[str]) -> None:
        """Copy these files of the work folder to the place, apart from those that are there.

        An error is only a warning: a copy saves time, and the shard does not need it.
        """
        try:
            for name in names:
                if name not in self.sent:
                    self.files.create_dir(self.folder)
                    with self.files.open_output_stream(f"{self.folder}/{name}") as out:
                        out.write((self.work / name).read_bytes())
                    self.sent.add(name)
        except OSError as error:
            log.warning("%s: a finished batch is not kept there (%s)", self.place, short_text(error))

    def delete(self) -> None:
        """Delete the files of the shard at the place, as far as that is possible."""
        with suppress(OSError):
            self.files.delete_dir(self.folder)

    def _no_access(self, error: Exception) -> UserError:
        return UserError(
            f"generation.keep_batches_in: {self.place}: cannot be read ({short_text(error)})",
            advice="correct the address or the keys, or leave the key out",
        )
