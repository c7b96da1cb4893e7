# Sourced: sets PATH so that `node` is new enough for Vite. Debian 12 has an older one; the
# npm package `node` has the programs of the releases, and is kept outside of the tree.
node_version=20.19.5
node_need='import process from "node:process"; const [a, b] = process.versions.node.split(".").map(Number); process.exit(a > 20 || (a === 20 && b >= 19) ? 0 : 1)'
node_old() { ! node --input-type=module -e "$node_need" 2>/dev/null; }
if node_old; then
    node_dir=${XDG_CACHE_HOME:-$HOME/.cache}/underlane/node-$node_version
    if [ ! -x "$node_dir/node_modules/node/bin/node" ]; then
        echo "the dashboard's tools need Node 20.19 or newer, this is $(node --version 2>/dev/null || echo none): installing $node_version in $node_dir" >&2
        mkdir -p "$node_dir"
        npm install --prefix "$node_dir" --no-audit --no-fund --loglevel=error "node@$node_version" >&2
    fi
    PATH=$node_dir/node_modules/node/bin:$PATH
    export PATH
    if node_old; then
        echo "building the dashboard needs Node 20.19 or newer, and installing it has failed; Go builds with the bundle that is in the repository" >&2
        exit 1
    fi
fi
