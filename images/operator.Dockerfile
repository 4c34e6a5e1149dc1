# The operator: kopf and the Kubernetes client, no Ray. Built from the repository's root by `make images`.
ARG BASE_IMAGE=python:3.11-slim-bookworm

FROM ${BASE_IMAGE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python3 -m venv /build
COPY requirements/build.lock requirements/operator.lock /src/requirements/
RUN /build/bin/pip install --no-deps --require-hashes -r /src/requirements/build.lock \
 && python3 -m venv --without-pip /opt/hybridroute \
 && /build/bin/pip --python /opt/hybridroute/bin/python install --no-deps --require-hashes \
      -r /src/requirements/operator.lock
COPY pyproject.toml README.md LICENSE /src/
COPY operator /src/operator
COPY serve_apps /src/serve_apps
COPY cli /src/cli
RUN /build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /dist /src \
 && /build/bin/pip --python /opt/hybridroute/bin/python install --no-deps /dist/*.whl

FROM ${BASE_IMAGE}
LABEL org.opencontainers.image.title="hybridroute-operator" org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/hybridroute /opt/hybridroute
ENV PATH=/opt/hybridroute/bin:$PATH PYTHONUNBUFFERED=1
# A number, so that `runAsNonRoot` can be checked without the image's user table.
USER 1000:1000
EXPOSE 8080
ENTRYPOINT ["python", "-m", "hybridroute_operator"]
