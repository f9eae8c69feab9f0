# docker build -t clinvit .                                 with whatever torch the index gives (CUDA on Linux)
# docker build -t clinvit:cpu --build-arg TORCH="torch torchvision --index-url ADDRESS" .   ADDRESS: of CPU wheels, see pytorch.org
# docker run --rm --network none -v "$PWD:/work" clinvit demo        offline; --gpus all where there are some
FROM python:3.12-slim AS build
ARG TORCH="torch torchvision"
RUN python -m venv /opt/clinvit
ENV PATH=/opt/clinvit/bin:$PATH PIP_NO_CACHE_DIR=1
RUN pip install $TORCH
COPY . /src
RUN pip install "/src[all]"

FROM python:3.12-slim
RUN useradd --create-home --uid 10001 clinvit && mkdir /work && chown clinvit /work
COPY --from=build /opt/clinvit /opt/clinvit
ENV PATH=/opt/clinvit/bin:$PATH PYTHONUNBUFFERED=1 NO_ALBUMENTATIONS_UPDATE=1
USER clinvit
WORKDIR /work
ENTRYPOINT ["clinvit"]
CMD ["--help"]
