# docker build -t clinvit .                          torch as the package index gives it: with CUDA on Linux
# docker build --target cpu -t clinvit:cpu .         torch for CPUs alone: a much smaller image
# Offline, as you, with room for the workers of loaders; --gpus all where there are some:
# docker run --rm --network none --user "$(id -u):$(id -g)" --shm-size 2g -v "$PWD:/work" clinvit demo
FROM python:3.12-slim AS build
RUN python -m venv /opt/clinvit
ENV PATH=/opt/clinvit/bin:$PATH PIP_NO_CACHE_DIR=1

FROM build AS build-cpu
RUN pip install torch torchvision --index-url https://download.pytorch.org/whl/cpu
COPY . /src
RUN pip install "/src[all]"

FROM build AS build-cuda
RUN pip install torch torchvision
COPY . /src
RUN pip install "/src[all]"

FROM python:3.12-slim AS run
RUN useradd --create-home --uid 10001 clinvit && mkdir /work && chown clinvit /work
# HOME is where any user may write: the one of --user has no home of its own.
ENV PATH=/opt/clinvit/bin:$PATH HOME=/tmp PYTHONUNBUFFERED=1 NO_ALBUMENTATIONS_UPDATE=1
USER clinvit
WORKDIR /work
ENTRYPOINT ["clinvit"]
CMD ["--help"]

FROM run AS cpu
COPY --from=build-cpu /opt/clinvit /opt/clinvit

FROM run AS cuda
COPY --from=build-cuda /opt/clinvit /opt/clinvit
