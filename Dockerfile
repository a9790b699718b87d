FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=dev
RUN CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags "-s -w -X main.version=$VERSION" -o /out/bio ./app \
 && mkdir -m 0700 /out/data

# Nothing but the binary, the certificates of the authorities that it trusts
# when it calls out, and the one directory that it writes to. Run it with
# --read-only: it needs no other.
FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /out/bio /bio
COPY --from=build --chown=65532:65532 /out/data /data
USER 65532:65532
VOLUME /data
# There is no /tmp, so the database spills where it lives.
ENV BIO_DATA=/data TMPDIR=/data PORT=8080
EXPOSE 8080
HEALTHCHECK --interval=30s --timeout=3s --start-period=5s CMD ["/bio", "healthcheck"]
ENTRYPOINT ["/bio"]
