#!/bin/sh
# Generates everything anew in a copy of the tree and compares.
set -eu
cd "$(dirname "$0")/.."
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
git ls-files -z | tar --null -T - -cf - | tar -xf - -C "$copy"
(
    cd "$copy"
    go generate ./bpf ./api/... ./test/demo/proto ./daemonset ./pkg/dashboard
    go mod tidy
    for module in test/conformance test/cluster test/cluster/components/* test/crds test/interop/programs test/programs/grpctest test/tracing/collector internal/tools/sbom internal/tools/actionlint; do
        # Traefik is built with a file changed, without the thousand packages that this file
        # imports: tidy would have them all.
        [ "$module" = test/cluster/components/traefik ] || (cd "$module" && go mod tidy)
    done
)
status=0
git ls-files -z | xargs -0 -n1 | while read -r file; do
    cmp -s "$file" "$copy/$file" || echo "$file"
done >"$copy.diff"
if [ -s "$copy.diff" ]; then
    echo "these files are not what 'make generate' and 'go mod tidy' make:" >&2
    cat "$copy.diff" >&2
    status=1
fi
rm -f "$copy.diff"
exit $status
