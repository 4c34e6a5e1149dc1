# Ray Serve with router, llm-proxy, keeper and SLM, and a small model; no kopf. Built from the repository's root by
# `make images`. KubeRay says what it runs.
ARG BASE_IMAGE=python:3.11-slim-bookworm

FROM ${BASE_IMAGE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python3 -m venv /build
# Without Ray's Java bindings: 33 MB that nothing here loads.
COPY requirements/build.lock requirements/serve.lock /src/requirements/
RUN /build/bin/pip install --no-deps --require-hashes -r /src/requirements/build.lock \
 && python3 -m venv --without-pip /opt/hybridroute \
 && /build/bin/pip --python /opt/hybridroute/bin/python install --no-deps --require-hashes \
      -r /src/requirements/serve.lock \
 && rm -r /opt/hybridroute/lib/python3*/site-packages/ray/jars
COPY pyproject.toml README.md LICENSE /src/
COPY operator /src/operator
COPY serve_apps /src/serve_apps
COPY cli /src/cli
RUN /build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /dist /src \
 && /build/bin/pip --python /opt/hybridroute/bin/python install --no-deps /dist/*.whl

FROM ${BASE_IMAGE}
LABEL org.opencontainers.image.title="hybridroute-serve" org.opencontainers.image.licenses="Apache-2.0"
# llama.cpp's threads; the only library of the system that the wheels do not bring.
RUN apt-get update && apt-get install --yes --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/*
# KubeRay's commands run in a login shell, which sets PATH anew.
RUN echo 'PATH=/opt/hybridroute/bin:$PATH' > /etc/profile.d/hybridroute.sh \
 && groupadd --gid 1000 hybridroute && useradd --uid 1000 --gid 1000 --create-home hybridroute \
 && install --directory --owner 1000 --group 1000 /var/lib/hybridroute
COPY --from=build /opt/hybridroute /opt/hybridroute
ENV PATH=/opt/hybridroute/bin:$PATH PYTHONUNBUFFERED=1
USER 1000:1000
WORKDIR /home/hybridroute
CMD ["python"]
