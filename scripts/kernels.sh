#!/bin/sh
# Gets what test/kernels boots, and keeps it in ~/.cache/underlane/kernels. Nothing of it
# is installed on this machine, whose package lists stay as they are. It prints a directory:
#
#   kernels.sh kernel LINE ARCH    Debian's kernel for clouds: boot/vmlinuz-*, lib/modules/*
#   kernels.sh programs ARCH       the programs that a guest needs: a root file system
#
# LINE is a line of kernels (5.10, 6.1, 6.12, …) or newest; ARCH is amd64 or arm64. Without
# a network it takes what it has. MIRROR and SECURITY are addresses of Debian's archive.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/underlane/kernels
mirror=${MIRROR:-http://deb.debian.org/debian}
security=${SECURITY:-http://deb.debian.org/debian-security}
keys=/usr/share/keyrings/debian-archive-keyring.gpg

# sources LINE: where Debian has it.
sources() {
    suite() { echo "deb [signed-by=$keys] $1 $2 main"; }
    case $1 in
    5.10)
        suite "$mirror" bullseye
        suite "$security" bullseye-security ;;
    programs | 6.1)
        suite "$mirror" bookworm
        suite "$security" bookworm-security ;;
    6.12)
        suite "$mirror" trixie
        suite "$security" trixie-security ;;
    newest) # of backports and sid now this one, now that one is ahead
        suite "$mirror" trixie-backports
        suite "$mirror" sid ;;
    *)
        suite "$mirror" trixie-backports
        suite "$mirror" forky ;;
    esac
}

# private COMMAND ARGS...: apt-get or apt-cache with lists, cache and dpkg's status in $dir.
# The machine's own settings of apt hold, such as a proxy, but not its hooks.
private() {
    case $1 in
    depends | pkgnames) tool=apt-cache ;;
    *) tool=$here/apt.sh ;;
    esac
    command=$1
    shift
    "$tool" "$command" -c "$dir/apt.conf" "$@"
}

# lists LINE: the package lists in $dir. They are a day old at most, if there is a network.
lists() {
    dir=$cache/$arch/lists-$1
    mkdir -p "$dir/state/lists/partial" "$dir/cache/archives/partial"
    : >"$dir/status"
    sources "$1" >"$dir/sources.list.new"
    cmp -s "$dir/sources.list.new" "$dir/sources.list" || rm -f "$dir/updated"
    mv "$dir/sources.list.new" "$dir/sources.list"
    cat >"$dir/apt.conf" <<END
Dir::State "$dir/state";
Dir::State::status "$dir/status";
Dir::Cache "$dir/cache";
Dir::Etc::sourcelist "$dir/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
APT::Architecture "$arch";
APT::Architectures "$arch";
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::Check-Valid-Until "false";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear Acquire::IndexTargets::deb::DEP-11;
#clear Acquire::IndexTargets::deb::DEP-11-icons;
END
    [ -z "$(find "$dir/updated" -mmin -1440 2>/dev/null)" ] || return 0
    if private update -qq >&2; then
        : >"$dir/updated"
    else
        echo "kernels.sh: the package lists for $1 cannot be had" >&2
        [ -e "$dir/updated" ]
    fi
}

# unpack TO PACKAGE...: downloads packages and unpacks them into one directory.
unpack() {
    to=$1
    shift
    rm -rf "$to.new"
    mkdir -p "$to.new" "$to.debs"
    (cd "$to.debs" && private download -qq "$@" >&2)
    for deb in "$to.debs"/*.deb; do
        dpkg-deb -x "$deb" "$to.new"
    done
    rm -rf "$to.debs" "$to"
    mv "$to.new" "$to"
}

# with_parts PACKAGE: the package, and those with the same kernel's modules: Debian has
# them in one package or in several.
with_parts() {
    version=${1#linux-image-}
    version=${version%%-cloud-*}
    echo "$1"
    private depends "$1" | sed -n 's/^ *|\{0,1\}\(Pre\)\{0,1\}Depends: //p' | grep -E '^linux-(modules|binary|image)' | grep -F -- "$version" || true
}

# newest LINE: the newest kernel of the line, of names of packages.
newest() {
    pattern="$(echo "$1" | sed 's/\./\\./g')[.+-]"
    [ "$1" != newest ] || pattern='[0-9]'
    grep -E "^linux-image-$pattern.*-cloud-$arch\$" | grep -v -- -rc | sort -V | tail -n 1
}

kernel() {
    line=$1
    if lists "$line"; then
        package=$(private pkgnames linux-image- | newest "$line")
    else # what is there
        package=$(find "$cache/$arch" -mindepth 1 -maxdepth 1 -printf '%f\n' | newest "$line")
    fi
    if [ -z "$package" ]; then
        echo "kernels.sh: Debian has no kernel $line for $arch" >&2
        exit 3
    fi
    to=$cache/$arch/$package
    if [ ! -e "$to" ]; then
        parts=$(with_parts "$package" | sort -u)
        # shellcheck disable=SC2086 # a list
        unpack "$to" $parts
    fi
    echo "$to"
}

# The closure of dependencies is downloaded as for an empty machine.
programs() {
    to=$cache/$arch/programs
    if [ ! -e "$to" ]; then
        lists programs
        private install -qq --download-only --no-install-recommends -y nftables busybox-static bpftool >&2
        rm -rf "$to.new"
        for deb in "$dir"/cache/archives/*.deb; do
            dpkg-deb -x "$deb" "$to.new"
        done
        mv "$to.new" "$to"
    fi
    echo "$to"
}

case "${1:-} $#" in
"kernel 3") arch=$3; kernel "$2" ;;
"programs 2") arch=$2; programs ;;
*)
    echo "usage: kernels.sh kernel LINE ARCH | programs ARCH" >&2
    exit 2 ;;
esac
