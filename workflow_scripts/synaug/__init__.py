"""The library behind the workflow: importable without Snakemake."""
