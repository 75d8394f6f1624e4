"""List every real image of the splits that are used, with its class, or the reason why it is not usable; and faults."""

from pathlib import Path

import pyarrow as pa

from synaug.config import Dataset
from synaug.datasets import ANY_SIZE, index_dataset, index_parts
from synaug.manifests import write_manifest, write_sorted
from synaug.manifests.sorting import sorted_rows
from synaug.runtime.files import temporary_folder
from synaug.runtime.logs import job_log
from synaug.runtime.paths import local_path, logical_path, results_root


def main(dataset: dict, real: str, threads: int = 1) -> None:
    """Index `dataset` (block of the config) into the manifest `real`. threads: of the search for faults."""
    root = results_root(real)
    path = local_path(dataset["path"], root)
    settings = Dataset.model_validate(dataset | {"path": path, "image_size": ANY_SIZE})
    moved = path != dataset["path"]
    if settings.faults.find:
        from synaug.datasets.fault_search import find_faults  # torch takes seconds to import
        from synaug.datasets.faults import drop_faults

        rows = drop_faults(find_faults(index_dataset(settings), settings, threads), settings)
        if moved:
            rows["path"] = rows["path"].map(lambda image: logical_path(image, root))
        write_manifest("real", rows, real)
        return
    with temporary_folder(Path(f"{real}.index")) as folder:
        examined = folder / "examined.arrows"
        count, parts = index_parts(settings, examined)
        if moved:
            parts = (_with_logical_paths(rows, root) for rows in parts)
        write_sorted("real", sorted_rows("real", parts, Path(real), size=examined.stat().st_size), count, real)


def _with_logical_paths(rows: pa.Table, root: Path) -> pa.Table:
    paths = [logical_path(path, root) for path in rows["path"].to_pylist()]
    return rows.set_column(rows.column_names.index("path"), "path", pa.array(paths, pa.string()))


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main(snakemake.params.dataset, snakemake.output.real, snakemake.threads)
