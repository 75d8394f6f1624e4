# The workflow with everything it needs. docs/clusters.md explains its use. `apptainer.def` is the same for Apptainer.
#
#     docker build --tag synaug .
#     docker run --rm --gpus all --volume "$PWD:/data" --workdir /data synaug --cores all --configfile mine.yaml
#
# The CUDA libraries come with the torch wheels. The host needs a driver, and the NVIDIA Container Toolkit for --gpus.
FROM docker.io/library/python:3.11-slim-bookworm

WORKDIR /opt/synaug

# Copied first and alone, so that a changed script does not install 6 GB again.
COPY requirements.lock .
RUN pip install --no-cache-dir --requirement requirements.lock

# .dockerignore lists what is copied.
COPY . .
RUN pip install --no-cache-dir --no-deps --editable . \
    && useradd --uid 1000 --no-create-home synaug \
    && chown synaug /opt/synaug

USER 1000
# For any other user (--user): Snakemake needs a user name, and every user can write to /tmp. These lines come after the
# pip commands, because root's pip leaves files in its home that no other user can write.
ENV USER=synaug \
    HOME=/tmp
ENTRYPOINT ["snakemake", "--snakefile", "/opt/synaug/Snakefile"]
