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
    case $home in
    /*) ;;
    *) home=$(pwd)/$home ;;
    esac
    timeout=${UNDERLANE_TIMEOUT:-30}
    case $timeout in
    0* | *[!0-9]*) fail "UNDERLANE_TIMEOUT is $timeout, and has to be a number of seconds." ;;
    esac
    case ${UNDERLANE_SIGNATURE:-} in
    '' | required) ;;
    *) fail "UNDERLANE_SIGNATURE is $UNDERLANE_SIGNATURE, and has to be: required." ;;
    esac
    export LC_ALL=C # what wget says is read

    platform
    bin=$home/bin
    work='' getter=''
    trap clean EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    mkdir -p "$bin" 2>/dev/null || fail "Cannot make the directory $bin: is the disk full, or is it not yours?"
    work=$(mktemp -d "$home/.install.XXXXXX" 2>/dev/null) || fail "Cannot write to $home: is the disk full, or is it not yours?"
    for link in underlane kubectl-underlane; do
        [ ! -d "$bin/$link" ] || fail "$bin/$link is a directory, and a link with this name is needed there."
    done
    downloader
    checksums
    checker

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
        # A signed file of another channel is none of this one.
        [ -n "$(sed -n "s/^  \"channel\": \"$channel\",\$/yes/p" "$work/channel")" ] ||
            fail "The file of the channel $channel at $base is that of another channel. Nothing is installed."
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
    # From its input: sha256sum changes its output where a name has a backslash.
    got=$($sum <"$work/program" | sed 's/ .*//')
    [ "$want" = "$got" ] || fail "The checksum of $name is wrong: $got, and not $want. It was damaged or changed on its way; nothing is installed."
    checked="its checksum${checked:+ and $checked}"

    chmod 755 "$work/program"
    "$work/program" version --client --short >"$work/says" 2>&1 ||
        fail "The program does not run on this system: $(cat "$work/says")"
    mkdir -p "$bin" # another one, which has failed meanwhile, removes it while it is empty
    # Renaming replaces what is there at once: whoever calls it meanwhile has the one or the other.
    mv -f "$work/program" "$bin/underlane-$version" || fail "Cannot write to $bin."
    # The plugin of kubectl is a link to the other link, so that both are always one version.
    ln -s "underlane-$version" "$work/underlane"
    ln -s underlane "$work/kubectl-underlane"
    for link in underlane kubectl-underlane; do
        mv -f "$work/$link" "$bin/$link" || fail "Cannot write to $bin."
    done

    say "Underlane $version is installed as $bin/underlane; checked: $checked."
    say ""
    case ":${PATH:-}:" in
    *":$bin:"*)
        first=$(command -v underlane || :)
        if [ "$first" != "$bin/underlane" ]; then
            say "But in your PATH $first comes before it."
            say ""
        fi
        ;;
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

# clean removes what is not installed, also where the script was interrupted.
clean() {
    if [ -n "$getter" ]; then
        kill "$getter" 2>/dev/null || :
        wait "$getter" 2>/dev/null || :
    fi
    [ -z "$work" ] || rm -rf "$work"
    rmdir "$bin" "$home" 2>/dev/null || : # if they are empty
}

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
# The program that downloads is in the background, because a shell that waits for it handles
# signals at once.
download() {
    status=0 code=''
    case $2 in
    program) most=1000000 ;;
    *) most=2000 ;;
    esac
    bounded "$most" "$base/$1" "$work/$2" >"$work/code" 2>"$work/error" &
    getter=$!
    case $get in
    busybox) watch "$getter" "$work/$2" || status=$? ;;
    *) wait "$getter" || status=$? ;;
    esac
    getter=''
    case $get in
    curl) code=$(cat "$work/code") ;;
    *) code=$(sed -n -e 's/.*ERROR \([45][0-9][0-9]\).*/\1/p' -e 's/.*HTTP\/1\.[01] \([45][0-9][0-9]\).*/\1/p' "$work/error" | head -n 1) ;;
    esac
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
    *:153) fail "$base/$1 is larger than any release has it." ;; # 128 and SIGXFSZ
    curl:18) fail "$base/$1 has ended early: try again." ;;
    curl:28 | busybox:28) fail "$base/$1 did not come on for $timeout seconds: the network or the server is too slow (UNDERLANE_TIMEOUT)." ;;
    curl:23) fail "Cannot write to $home: is the disk full?" ;;
    esac
    fail "Cannot download $base/$1; is the network there? $(head -n 1 "$work/error")"
}

# bounded downloads $2 to the file $3, which becomes no larger than $1 blocks (of 512 bytes
# or, in bash, 1024). It replaces the shell that calls it.
bounded() {
    [ "$(ulimit -f)" != unlimited ] || ulimit -f "$1"
    ulimit -c 0 2>/dev/null || : # where there is such a limit, no core is left
    trap '' HUP # of which GNU wget makes a file wget-log, and goes on
    only=''
    case $get:$check in # where HTTPS is all that is checked, no redirection may leave it
    curl:https) only='--proto-redir =https' ;;
    wget:https) only=--max-redirect=0 ;;
    esac
    # shellcheck disable=SC2086 # some options, or none
    case $get in
    curl) exec curl -sSL $only --connect-timeout "$timeout" --speed-limit 100 --speed-time "$timeout" -w '%{http_code}' -o "$3" "$2" ;;
    wget) exec wget -nv $only -t 1 -T "$timeout" -O "$3" "$2" ;;
    busybox) exec wget -O "$3" "$2" ;; # without -T, with which some of them crash
    esac
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

# checksums sets sum, the command that prints the SHA-256 of its input.
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

# checker sets check, what tells a good signature here: openssl, or an underlane of before,
# if it proves that it can (what cannot is not the file's fault); or https, which only tells
# the server.
checker() {
    printf '%s\n' '-----BEGIN PUBLIC KEY-----' "$public_key" '-----END PUBLIC KEY-----' >"$work/key.pem"
    if knows_ed25519; then
        check=openssl
    elif knows_verify; then
        check=underlane
    elif [ "${UNDERLANE_SIGNATURE:-}" = required ]; then
        fail "Signatures cannot be checked here: that needs openssl 3.0 or newer."
    else
        check=https
        case $base in https://*) [ $get != busybox ] ;; *) false ;; esac ||
            fail "Signatures cannot be checked here (that needs openssl 3.0 or newer), and $base does not come by HTTPS with a certificate that is checked. Nothing is installed."
    fi
}

# signature checks the signature of the file $1, and sets checked to how. $2 is what to
# call it.
signature() {
    case $check in
    openssl)
        verify_by_openssl "$work/key.pem" "$work/$1.sig" "$work/$1" || wrong_signature "$2"
        checked="its signature (by openssl)"
        ;;
    underlane)
        # By the key of this script, which may have replaced that of the program.
        "$bin/underlane" verify --public-key "$work/key.pem" --signature "$work/$1.sig" "$work/$1" >/dev/null 2>"$work/error" || wrong_signature "$2"
        checked="its signature (by the underlane that was there)"
        ;;
    https) checked="HTTPS, and not the signature, for that needs openssl 3.0 or newer" ;;
    esac
}

wrong_signature() {
    fail "The signature of $1 is wrong: what $base has was not made by Underlane's maintainers, or was changed. Nothing is installed."
}

verify_by_openssl() {
    openssl pkeyutl -verify -pubin -inkey "$1" -rawin -in "$3" -sigfile "$2" >/dev/null 2>&1
}

# knows_verify asks the underlane that is there.
knows_verify() {
    [ -x "$bin/underlane" ] || return 1
    case $("$bin/underlane" verify --help 2>/dev/null || :) in *--public-key*) ;; *) return 1 ;; esac
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
