# Everything that a developer or a machine does with this tree.
# `make run` is the program, `make test` is the proof.

STATICCHECK := go run honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOVULNCHECK := go run golang.org/x/vuln/cmd/govulncheck@v1.3.0
ESBUILD     := go run github.com/evanw/esbuild/cmd/esbuild@v0.28.2
# The generator and the library that the pages link are one version.
TEMPL        = go run github.com/a-h/templ/cmd/templ@$(shell go list -m -f '{{.Version}}' github.com/a-h/templ)

GENERATED := views/*_templ.go assets/dist app/account/aaguid_table.go
VERSION   ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)

export CGO_ENABLED := 0

.PHONY: run test setup bench generate check vuln image

run:
	go run ./app

# The race detector needs cgo. The browser tests run once, without it: they
# are the slowest, and every path of theirs is raced by the tests below them.
# So do the few that only repeat a thing thousands of times (-short).
test: setup
	go test ./...
	CGO_ENABLED=1 go test -race -short $$(go list ./... | grep -v '^bio/app/e2e')

# What the tests need beside Go.
setup:
	@.ci/setup

bench:
	go run ./app/e2e/bench

# Generated files are committed, so that Go alone builds the tree.
generate:
	$(TEMPL) generate -path views
	$(ESBUILD) --minify --charset=utf8 --log-level=warning --outdir=assets/dist assets/auth.js assets/bio.js assets/run.css assets/style.css
	@.ci/npm
	go generate ./app/account

check: generate
	@unformatted=$$(gofmt -l agent app assets views); test -z "$$unformatted" || \
		{ echo "not formatted, run gofmt -w on:"; echo "$$unformatted"; exit 1; }
	go vet ./...
	$(STATICCHECK) ./...
	go mod tidy -diff
	@git diff --exit-code --stat -- $(GENERATED) && test -z "$$(git ls-files --others --exclude-standard -- $(GENERATED))" || \
		{ echo "generated files were stale; commit what make generate made"; exit 1; }

# Known vulnerabilities, from vuln.go.dev.
vuln:
	$(GOVULNCHECK) ./...

image:
	docker build --build-arg VERSION=$(VERSION) --tag bio:$(VERSION) --tag bio:latest .
