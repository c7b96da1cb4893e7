#!/bin/sh
# Installs the command line of Underlane for one user:
#
#   curl -fsSL BASE/install.sh | sh
#
# It takes from the environment:
#
#   UNDERLANE_CHANNEL    stable (the default) or edge: the newest of that channel
#   UNDERLANE_VERSION    or this version, such as v0.2.0
#   UNDERLANE_BASE_URL   where the releases are
#   UNDERLANE_HOME       where it installs (default ~/.underlane)
#   UNDERLANE_TIMEOUT    seconds without progress after which a download is given up (30)
#   UNDERLANE_SIGNATURE  required: give up where the signature cannot be checked here
#
# What it can check depends on the system, and it says what it has checked: the
# checksum always, and the signature of the checksums with an underlane of before, or
# with an openssl that knows Ed25519 (3.0 or newer). Where there is neither, what is
# left is HTTPS; it gives up if that is not there either.
#
# All of it is a function that the last line calls, so that a part of it does nothing.

install_underlane() {
    set -eu
    umask 022
    # `make release` puts these in.
    base=${UNDERLANE_BASE_URL:-@BASE_URL@}
    public_key='@PUBLIC_KEY@'
    base=${base%/}
    home=${UNDERLANE_HOME:-${HOME:?HOME is not set, so there is no place to install to}/.underlane}
    timeout=${UNDERLANE_TIMEOUT:-30}

    platform
    bin=$home/bin
    mkdir -p "$bin" 2>/dev/null || fail "Cannot make the directory $bin: is the disk full, or is it not yours?"
    work=$(mktemp -d "$home/.install.XXXXXX") || fail "Cannot write to $home: is the disk full, or is it not yours?"
    trap 'rm -rf "$work"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    downloader
    checksums

    version=${UNDERLANE_VERSION:-}
    if [ -z "$version" ]; then
        channel=${UNDERLANE_CHANNEL:-stable}
        case $channel in
        stable | edge) ;;
        *) fail "There is no channel $channel: UNDERLANE_CHANNEL is stable or edge." ;;
        esac
        download "channels/$channel.json" channel "There is no channel $channel at $base."
        download "channels/$channel.json.sig" channel.sig "The channel $channel at $base has no signature."
        signature channel "the channel $channel"
        version=$(sed -n 's/^  "newest": "\(v[0-9][0-9a-z.-]*\)",$/\1/p' "$work/channel")
        [ -n "$version" ] || fail "The file of the channel $channel at $base is not one: it names no version."
    fi
    case $version in
    *[!0-9a-z.-]*) fail "$version is no version: they are called as v0.2.0." ;;
    [0-9]*) version=v$version ;;
    esac

    name=underlane-$version-$os-$arch
    say "Downloading Underlane $version for $os on $arch."
    download "$version/SHA256SUMS" sums "There is no version $version at $base."
    download "$version/SHA256SUMS.sig" sums.sig "Version $version at $base has no signature."
    signature sums "version $version"
    want=$(sed -n "s/^\([0-9a-f]\{64\}\)  $name\$/\1/p" "$work/sums")
    [ -n "$want" ] || fail "Version $version is not made for $os on $arch."
    download "$version/$name" program "Version $version at $base has no $name."
    got=$($sum "$work/program" | sed 's/ .*//')
    [ "$want" = "$got" ] || fail "The checksum of $name is wrong: $got, and not $want. It was damaged or changed on its way; nothing is installed."
    checked="its checksum${checked:+ and $checked}"

    chmod 755 "$work/program"
    "$work/program" version --client --short >"$work/says" 2>&1 ||
        fail "The program does not run on this system: $(cat "$work/says")"
    # Renaming replaces what is there at once: whoever calls it meanwhile has the one or the other.
    mv -f "$work/program" "$bin/underlane-$version" || fail "Cannot write to $bin."
    for link in underlane kubectl-underlane; do
        ln -s "underlane-$version" "$work/$link"
        mv -f "$work/$link" "$bin/$link" || fail "Cannot write to $bin."
    done

    say "Underlane $version is installed as $bin/underlane; checked: $checked."
    say ""
    case ":${PATH:-}:" in
    *":$bin:"*) ;;
    *)
        say "Add it to your PATH:"
        say ""
        say "    export PATH=\"$bin:\$PATH\""
        say ""
        ;;
    esac
    say "What to do next:"
    say ""
    say "    underlane check --pre            # can this cluster carry it?"
    say "    underlane install --apply        # install it"
    say "    underlane dashboard              # look at it"
}

say() { printf '%s\n' "$*"; }

fail() {
    printf '%s\n' "$*" >&2
    exit 1
}

# platform sets os and arch.
platform() {
    case $(uname -s) in
    Linux) os=linux ;;
    Darwin) os=darwin ;;
    MINGW* | MSYS* | CYGWIN*) fail "On Windows, download underlane-VERSION-windows-amd64.exe from $base and put it into your PATH." ;;
    *) fail "There is no Underlane for $(uname -s): only for Linux, macOS and Windows." ;;
    esac
    case $(uname -m) in
    x86_64 | amd64) arch=amd64 ;;
    aarch64 | arm64) arch=arm64 ;;
    *) fail "There is no Underlane for the processor $(uname -m): only for amd64 (x86_64) and arm64 (aarch64)." ;;
    esac
}

# downloader sets get, the program that downloads.
downloader() {
    if command -v curl >/dev/null 2>&1; then
        get=curl
    elif command -v wget >/dev/null 2>&1; then
        get=wget
        # That of busybox does not check certificates.
        case $(wget --version 2>&1 || :) in *"GNU Wget"*) ;; *) get=busybox ;; esac
    else
        fail "Neither curl nor wget is here, and one of them is needed."
    fi
}

# download fetches base/$1 to the file $2. $3 is what to say if there is no such file.
download() {
    status=0
    case $get in
    curl)
        code=$(curl -sSL --connect-timeout "$timeout" --speed-limit 100 --speed-time "$timeout" \
            --max-filesize 500000000 -o "$work/$2" -w '%{http_code}' "$base/$1" 2>"$work/error") || status=$?
        ;;
    wget) wget -nv -t 1 -T "$timeout" -O "$work/$2" "$base/$1" 2>"$work/error" || status=$? ;;
    busybox)
        # Without -T, with which some of them crash.
        wget -O "$work/$2" "$base/$1" 2>"$work/error" &
        watch $! "$work/$2" || status=$?
        ;;
    esac
    if [ $get != curl ]; then
        code=$(sed -n -e 's/.*ERROR \([45][0-9][0-9]\).*/\1/p' -e 's/.*HTTP\/1\.[01] \([45][0-9][0-9]\).*/\1/p' "$work/error" | head -n 1)
        [ -n "$code" ] || code=200
    fi
    case $code in
    404 | 403) fail "$3" ;;
    [45]*) fail "$base/$1 cannot be read: the server answers $code." ;;
    esac
    [ $status -eq 0 ] && return 0
    # A program that cannot write says so in many ways: this asks the disk itself.
    dd if=/dev/zero of="$work/probe" bs=1024 count=256 >/dev/null 2>&1 ||
        fail "Cannot write to $home: is the disk full?"
    rm -f "$work/probe"
    case $get:$status in
    curl:18) fail "$base/$1 has ended early: try again." ;;
    curl:28 | busybox:28) fail "$base/$1 did not come on for $timeout seconds: the network or the server is too slow (UNDERLANE_TIMEOUT)." ;;
    curl:23) fail "Cannot write to $home: is the disk full?" ;;
    curl:63) fail "$base/$1 is larger than any release." ;;
    esac
    fail "Cannot download $base/$1; is the network there? $(head -n 1 "$work/error")"
}

# watch waits for the process $1, which writes the file $2. It ends it when the file has
# not grown for some time, and returns 28 then, as curl.
watch() {
    idle=0
    size=0
    limit=$timeout pause=1
    # Not every sleep knows parts of a second.
    if sleep 0.1 2>/dev/null; then
        limit=$((timeout * 10)) pause=0.1
    fi
    while kill -0 "$1" 2>/dev/null; do
        sleep $pause
        now=$(wc -c <"$2" 2>/dev/null || echo 0)
        if [ "$now" -gt "$size" ]; then
            idle=0
            size=$now
        else
            idle=$((idle + 1))
        fi
        if [ "$idle" -gt "$limit" ]; then
            kill "$1" 2>/dev/null || :
            wait "$1" 2>/dev/null || :
            return 28
        fi
    done
    wait "$1"
}

# checksums sets sum, the command that prints a file's SHA-256.
checksums() {
    if command -v sha256sum >/dev/null 2>&1; then
        sum=sha256sum
    elif command -v shasum >/dev/null 2>&1; then
        sum='shasum -a 256'
    elif command -v openssl >/dev/null 2>&1; then
        sum='openssl dgst -sha256 -r'
    else
        fail "Neither sha256sum nor shasum nor openssl is here, and one of them is needed to check what was downloaded."
    fi
}

# signature checks the signature of the file $1, and sets checked to how. $2 is what to
# call it. A program of before and openssl are asked only if they prove that they can
# tell a good signature: what cannot is not the file's fault.
signature() {
    if knows_ed25519; then
        printf '%s\n' '-----BEGIN PUBLIC KEY-----' "$public_key" '-----END PUBLIC KEY-----' >"$work/key.pem"
        verify_by_openssl "$work/key.pem" "$work/$1.sig" "$work/$1" || wrong_signature "$2"
        checked="its signature (by openssl)"
    elif [ -x "$bin/underlane" ] && "$bin/underlane" verify --help >/dev/null 2>&1; then
        "$bin/underlane" verify --signature "$work/$1.sig" "$work/$1" >/dev/null 2>"$work/error" || wrong_signature "$2"
        checked="its signature (by the underlane that was there)"
    elif [ "${UNDERLANE_SIGNATURE:-}" = required ]; then
        fail "The signature of $2 cannot be checked here: that needs openssl 3.0 or newer."
    else
        case $base in https://*) [ $get != busybox ] ;; *) false ;; esac ||
            fail "The signature of $2 cannot be checked here (that needs openssl 3.0 or newer), and it does not come by HTTPS with a certificate that was checked. Nothing is installed."
        checked="HTTPS, and not the signature, for that needs openssl 3.0 or newer"
    fi
}

wrong_signature() {
    fail "The signature of $1 is wrong: what $base has was not made by Underlane's maintainers, or was changed. Nothing is installed."
}

verify_by_openssl() {
    openssl pkeyutl -verify -pubin -inkey "$1" -rawin -in "$3" -sigfile "$2" >/dev/null 2>&1
}

# knows_ed25519 asks openssl for the second example of RFC 8032, section 7.1.
knows_ed25519() {
    command -v openssl >/dev/null 2>&1 || return 1
    printf '%s\n' '-----BEGIN PUBLIC KEY-----' \
        'MCowBQYDK2VwAyEAPUAXw+hDiVqStwqnTRt+vJyYLM8uxJaMwM1V8Sr0Zgw=' '-----END PUBLIC KEY-----' >"$work/rfc.pem"
    printf 'r' >"$work/rfc"
    printf '%s\n' 'kqAJqfDUyrhyDoILX2QlQKKye1QWUD+Ps3YiI+vbadoIWsHkPhWZbkWPNhPQ8R2MOHsurrQwKu6wDSkWErsMAA==' >"$work/rfc.64"
    # An old openssl takes no line longer than 64 characters without -A.
    openssl base64 -d -A -in "$work/rfc.64" -out "$work/rfc.sig" 2>/dev/null || return 1
    verify_by_openssl "$work/rfc.pem" "$work/rfc.sig" "$work/rfc"
}

install_underlane
