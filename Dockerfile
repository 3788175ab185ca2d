# Built on each platform for itself: docker buildx build --platform linux/amd64,linux/arm64 .
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN rustup target add "$(uname -m)-unknown-linux-musl"
RUN cargo build --release --locked --target "$(uname -m)-unknown-linux-musl"
RUN cp "target/$(uname -m)-unknown-linux-musl/release/mso" /mso

FROM build AS build-devkit
RUN cargo build --release --locked --target "$(uname -m)-unknown-linux-musl" --package devkit --bin broker --bin fake-model
RUN cd "target/$(uname -m)-unknown-linux-musl/release" && cp broker fake-model /

# What `cargo quickstart --cluster` runs: docker build --target demonstration -t mso-demonstration .
FROM scratch AS demonstration
COPY --from=build-devkit /mso /broker /fake-model /
USER 65532:65532
ENTRYPOINT ["/fake-model"]

FROM scratch
COPY --from=build /mso /mso
USER 65532:65532
ENTRYPOINT ["/mso"]
