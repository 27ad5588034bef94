# docker build -t sigma_jax .              sets up, as `make run` would
# docker run --rm sigma_jax                make run
# docker run --rm sigma_jax make test      make test
# The report stays on your side with:  docker run --rm -v "$PWD/outputs:/sigma_jax/outputs" sigma_jax
FROM python:3.11-slim

RUN apt-get update \
    && apt-get install --yes --no-install-recommends make \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /sigma_jax
COPY . .
RUN make setup

CMD ["make", "run"]
