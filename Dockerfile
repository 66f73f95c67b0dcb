# wss with CUDA. Build: docker build -t wss .
#
# The image under it is NVIDIA's CUDA "base" for Ubuntu 24.04: the settings by which the container runtime passes the
# host's driver in, and little else. The larger "runtime" image would hold the CUDA libraries a second time, since torch's
# wheels bring their own; 24.04 because wss needs Python 3.11 or later (it has 3.12). The compiler stays in
# the image: it builds the CPU kernels, and torch.compile (train.compile) needs one while training.
FROM nvidia/cuda:12.8.1-base-ubuntu24.04

# Another build of torch, where the host's driver is too old for the one on PyPI: --build-arg
# TORCH_INDEX=https://download.pytorch.org/whl/cu126; a small image without GPU: .../whl/cpu
ARG TORCH_INDEX=

ENV VENV=/opt/wss \
    PATH=/opt/wss/bin:$PATH \
    PYTHONUNBUFFERED=1

WORKDIR /source

# One layer each, from what changes seldom to what changes often.
COPY docker/install.sh docker/
RUN docker/install.sh system
COPY pyproject.toml constraints.txt ./
RUN docker/install.sh dependencies
COPY setup.py MANIFEST.in README.md ./
COPY data data
COPY pipelines pipelines
COPY wss wss
RUN docker/install.sh package

# Any user id works (docker run --user "$(id -u):$(id -g)"), so that results belong to whoever started the container.
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /home/wss wss \
    && install -d -m 1777 /home/wss /workspace
ENV HOME=/home/wss \
    WSS_WORKSPACE=/workspace
USER wss
WORKDIR /workspace
VOLUME /workspace

ENTRYPOINT ["wss"]
CMD ["--help"]
