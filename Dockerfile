# The farm's images: the analyzer of any stream, those with a script of their own (they share all layers but the last), one for
# scaler, balancer and exporter.
#   docker build --target analyzer -t posture-analyzer .
#   docker build --target analyzer --build-arg APP=Images_From_Pi1.py -t posture-pi1 .
#   docker build --target scheduler -t posture-scheduler .
#   docker build --target dashboard -t posture-dashboard .
# docs/containers.md says what they need at run time and how large they are.

ARG BASE=debian:bookworm-slim

FROM ${BASE} AS python
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates python3 \
    && apt-get clean && rm -rf /var/lib/apt/lists/* /var/log/apt /var/log/dpkg.log /var/cache/debconf/*-old \
    && useradd --uid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin farm
ENV PATH=/opt/venv/bin:$PATH \
    HOME=/tmp \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
WORKDIR /app
STOPSIGNAL SIGTERM

# pip stays in this stage. Nothing is compiled: every package has wheels for amd64 and arm64.
FROM python AS builder
ARG PIP_INDEX_URL
RUN apt-get update && apt-get install -y --no-install-recommends python3-pip python3-venv \
    && python3 -m venv --without-pip /opt/venv
ENV PIP_PYTHON=/opt/venv/bin/python3 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ONLY_BINARY=:all: \
    PIP_REQUIRE_HASHES=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1

FROM builder AS analyzer-packages
COPY requirements/analyzer.txt requirements/analyzer-armv8.0.txt ./
# arm64 gets both mediapipes, and posture/analyzer/fitting.py chooses: not every board can run the newer one.
# Neither the packages' own tests (23 MB) nor their type stubs are needed to run them.
RUN /usr/bin/python3 -m pip install -r analyzer.txt \
    && if [ "$(uname -m)" = aarch64 ]; then \
        /usr/bin/python3 -m pip install --no-deps --target /opt/venv/armv8.0 -r analyzer-armv8.0.txt; \
    fi \
    && find /opt/venv \( -type d -name tests -o -name '*.pyi' \) -prune -exec rm -r {} +

FROM python AS analyzer
# Shared libraries of mediapipe and its cv2. Mesa's drivers (180 MB) are removed again: the container runtime mounts a
# GPU's own drivers, and EGL finds NVIDIA's by 10_nvidia.json. For a GPU that Mesa drives (/dev/dri), build FROM this
# image: apt-get update && apt-get -f install
RUN apt-get update \
    && apt-get install -y --no-install-recommends libegl1 libgl1 libgles2 libglib2.0-0 \
    && dpkg --purge --force-depends libgl1-mesa-dri libllvm15 libz3-4 libxml2 libicu72 \
    && printf '{"file_format_version": "1.0.0", "ICD": {"library_path": "libEGL_nvidia.so.0"}}\n' \
        > /usr/share/glvnd/egl_vendor.d/10_nvidia.json \
    && apt-get clean && rm -rf /var/lib/apt/lists/* /var/log/apt /var/log/dpkg.log /var/cache/debconf/*-old \
    && install -d -o farm -g farm -m 0750 analyzed_images quarantine
ENV POSTURE_ANALYZER_PROGRESS_FILE=/tmp/progress
COPY --from=analyzer-packages /opt/venv /opt/venv
COPY models models
COPY samples samples
COPY posture posture
# besides /tmp the only places that are written to
VOLUME ["/app/analyzed_images", "/app/quarantine"]
USER 10001:10001
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --retries=3 CMD ["python3", "-m", "posture.health"]
ENTRYPOINT ["sh", "-c", "exec python3 \"$APP\" \"$@\"", "analyzer"]
ARG APP=Images_From_Pi.py
ENV APP=${APP}
COPY ${APP} ./

FROM builder AS scheduler-packages
COPY requirements/scheduler-image.txt ./
RUN /usr/bin/python3 -m pip install -r scheduler-image.txt \
    && find /opt/venv \( -type d -name tests -o -name '*.pyi' \) -prune -exec rm -r {} +

FROM python AS scheduler
COPY --from=scheduler-packages /opt/venv /opt/venv
COPY externalscaler_pb2.py externalscaler_pb2_grpc.py ./
COPY posture posture
COPY cpu_monitor_and_offload.py gpu_balancer.py gpu_exporter.py ./
USER 10001:10001
EXPOSE 50051 9464
HEALTHCHECK --interval=30s --timeout=10s --start-period=20s --retries=3 CMD ["python3", "-c", \
    "from urllib.request import urlopen; urlopen('http://127.0.0.1:9464/healthz', timeout=5)"]
ENTRYPOINT ["python3", "cpu_monitor_and_offload.py"]

FROM builder AS dashboard-packages
COPY requirements/dashboard.txt ./
RUN /usr/bin/python3 -m pip install -r dashboard.txt \
    && find /opt/venv \( -type d -name tests -o -name '*.pyi' \) -prune -exec rm -r {} +

FROM python AS dashboard
COPY --from=dashboard-packages /opt/venv /opt/venv
COPY posture posture
COPY dashboard.py ./
USER 10001:10001
EXPOSE 8470
HEALTHCHECK --interval=30s --timeout=10s --start-period=20s --retries=3 CMD ["python3", "-c", \
    "from urllib.request import urlopen; urlopen('http://127.0.0.1:8470/healthz', timeout=5)"]
ENTRYPOINT ["python3", "dashboard.py"]
