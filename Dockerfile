# The package on CPUs, and its demo: docker build -t nnunet-semisam . && docker run --rm --shm-size 2g nnunet-semisam
FROM python:3.12-slim
ENV PIP_NO_CACHE_DIR=1 MPLBACKEND=agg OMP_WAIT_POLICY=PASSIVE
RUN apt-get update && apt-get install -y --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*
RUN pip install torch torchvision --index-url https://download.pytorch.org/whl/cpu
WORKDIR /source
COPY setup.py pyproject.toml README.md LICENSE ./
COPY nnunet_semisam nnunet_semisam
COPY trainers trainers
COPY dataset_conversion dataset_conversion
RUN pip install . && rm -rf /source && nnunet-semisam register
WORKDIR /study
ENTRYPOINT ["nnunet-semisam"]
CMD ["demo", "--folder", "/study/demo"]
