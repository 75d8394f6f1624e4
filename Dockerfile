# The workflow with everything that it needs. docs/clusters.md says how to use it; `apptainer.def` is the same for Apptainer.
#
#     docker build --tag synaug .
#     docker run --rm --gpus all --volume "$PWD:/data" --workdir /data synaug --cores all --configfile mine.yaml
#
# The CUDA libraries are those of the torch wheels; the host needs a driver, and the NVIDIA Container Toolkit for --gpus.
FROM docker.io/library/python:3.11-slim-bookworm

WORKDIR /opt/synaug

# First alone, so that a changed script does not install 6 GB again.
COPY requirements.lock .
RUN pip install --no-cache-dir --requirement requirements.lock

# .dockerignore says what that is.
COPY . .
RUN pip install --no-cache-dir --no-deps --editable . \
    && useradd --uid 1000 --no-create-home synaug \
    && chown synaug /opt/synaug

USER 1000
# Any user may run it (--user): Snakemake asks for a name, and /tmp is what all may write. Not further up: what root's
# pip leaves in its home nobody else may write.
ENV USER=synaug \
    HOME=/tmp
ENTRYPOINT ["snakemake", "--snakefile", "/opt/synaug/Snakefile"]
