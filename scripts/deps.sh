#!/bin/sh
# Installs the Debian packages that running, testing or generating needs, those
# that are missing. Usage: deps.sh run|test|bench|programs|prometheus|cluster|generate|web|release|kernels-amd64|kernels-arm64...
set -eu

missing=
need() { # program package
    command -v "$1" >/dev/null 2>&1 || [ -e "/usr/sbin/$1" ] || missing="$missing $2"
}
for group in "$@"; do
    case $group in
    run) # ClusterIPs of the lab
        need nft nftables ;;
    test) # e2e tests look at the kernel with it
        need bpftool bpftool
        need gcc "gcc libc6-dev" # the race detector, and the benchmark's floor
        [ -e /usr/include/openssl/ssl.h ] || missing="$missing libssl-dev" ;;
    bench) # what Underlane is measured against
        need gcc "gcc libc6-dev"
        [ -e /usr/include/openssl/ssl.h ] || missing="$missing libssl-dev"
        need nginx nginx
        [ -e /usr/lib/nginx/modules/ngx_stream_module.so ] || missing="$missing libnginx-mod-stream"
        need haproxy haproxy ;;
    programs) # what test/programs runs in pods
        need nft nftables
        need curl curl
        need wget wget
        need openssl openssl
        need shasum perl
        need busybox busybox-static
        need socat socat
        need nc.openbsd netcat-openbsd
        need h2load nghttp2-client
        need nginx nginx-light
        need haproxy haproxy
        need caddy caddy
        need apache2 apache2
        need psql postgresql-client
        [ -n "$(ls /usr/lib/postgresql/*/bin/postgres 2>/dev/null)" ] || missing="$missing postgresql"
        need mariadbd mariadb-server
        need redis-server redis-server
        need memcached memcached
        need memccp libmemcached-tools
        need mosquitto mosquitto
        need mosquitto_pub mosquitto-clients
        need nats-server nats-server
        need git git
        need ssh openssh-client
        need sshd openssh-server
        need rsync rsync
        need slapd slapd
        need ldapsearch ldap-utils
        need vsftpd vsftpd
        need lftp lftp
        need php php-cli
        need node nodejs
        need npm npm # its libraries, and those of Python, are in test/programs/testdata
        need javac default-jdk-headless
        [ -e /usr/bin/python3 ] || missing="$missing python3"
        [ -e /usr/lib/python3/dist-packages/pip ] || missing="$missing python3-pip" ;;
    prometheus) # what reads the metrics, and checks rules
        need promtool prometheus ;;
    cluster) # a node's own programs: the rest is built from Go modules
        need runc runc
        need curl curl # a client outside
        [ -e /usr/lib/cni/ptp ] || missing="$missing containernetworking-plugins"
        need iptables iptables
        need nft nftables
        need conntrack conntrack ;;
    generate)
        # The major version is pinned: objects differ between versions.
        need clang-19 clang-19
        need llvm-strip-19 llvm-19
        need protoc protobuf-compiler
        need node nodejs # the dashboard's bundle
        need npm npm
        [ -e /usr/include/bpf/bpf_helpers.h ] || missing="$missing libbpf-dev"
        [ -e /usr/include/google/protobuf/timestamp.proto ] || missing="$missing libprotobuf-dev" ;;
    kernels-amd64) # virtual machines of test/kernels, and what unpacks kernels and modules
        need qemu-system-x86_64 qemu-system-x86
        need xz xz-utils ;;
    kernels-arm64)
        need qemu-system-aarch64 qemu-system-arm
        need zstd zstd
        need xz xz-utils ;;
    release) # runs programs for arm64
        need qemu-aarch64 qemu-user ;;
    web) # tests of the dashboard
        need node nodejs
        need npm npm
        need chromium chromium ;;
    *)
        echo "deps.sh: unknown group $group" >&2
        exit 2 ;;
    esac
done
[ -z "$missing" ] && exit 0

if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "these Debian packages are needed:$missing" >&2
    exit 1
fi
# One deps.sh at a time: each removes the policy below when it ends, and the
# packages that another installs are not missing any more.
lock=/run/lock/underlane-deps.lock
exec 9>"$lock"
if ! flock -n 9; then
    limit=${APT_LOCK_WAIT:-300}
    echo "another deps.sh installs packages: waiting up to $limit s" >&2
    flock -w "$limit" 9 || { echo "deps.sh: $lock is still held after $limit s" >&2; exit 1; }
    exec "$0" "$@"
fi
echo "installing:$missing"
# None of them is to be started as a service of this machine.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
fi
export DEBIAN_FRONTEND=noninteractive
apt=$(dirname "$0")/apt.sh
"$apt" update -qq 9>&-
# shellcheck disable=SC2086 # a list
"$apt" install -y -qq --no-install-recommends $missing >/dev/null 9>&-
