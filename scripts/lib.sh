# Shared by the scripts here: what must be there before they can work. Source it; it changes to the top of the tree.
cd "$(dirname "${BASH_SOURCE[0]}")/.."

die() {
  echo "${0##*/}: $*" >&2
  exit 1
}

need_root() {
  [ "$(id -u)" = 0 ] || die "network namespaces need root: run it with sudo"
}

need_node() {
  command -v node >/dev/null || die "Node.js 20.19 or newer is needed, with npm (https://nodejs.org)"
  node -e 'const [major, minor] = process.versions.node.split("."); process.exit(major > 20 || (major == 20 && minor >= 19) ? 0 : 1)' ||
    die "Node.js 20.19 or newer is needed, this is $(node --version)"
}

# need_packages NAME...: installs those Debian packages that are missing. Their services are not started.
need_packages() {
  local missing=() package
  for package in "$@"; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  command -v apt-get >/dev/null || die "please install ${missing[*]} (this script knows only Debian's apt-get)"
  echo "installing ${missing[*]}"
  ( # a subshell, so that its trap runs however the install ends
    policy=/usr/sbin/policy-rc.d # asked whether a package's install may start its service; 101: it may not
    [ -e "$policy" ] || { trap 'rm -f "$policy"' EXIT && printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod 755 "$policy"; }
    export DEBIAN_FRONTEND=noninteractive
    install=(apt-get install -qq -y --no-install-recommends "${missing[@]}")
    "${install[@]}" >/dev/null 2>&1 || { apt-get update -qq && "${install[@]}" >/dev/null; }
  ) || die "apt-get could not install ${missing[*]}"
}

# need_debian DIRECTORY SUITE PACKAGE...: another Debian than this one, with those packages, in that directory; kept for the next time.
need_debian() {
  [ -d "$1" ] || (
    need_packages debootstrap
    echo "making a Debian $2 with ${*:3} in $1"
    mkdir -p "$(dirname "$1")"
    rm -rf "$1".new-*
    new=$1.new-$$ # half a Debian must not be taken for a whole one
    debootstrap --variant=minbase --include="$(IFS=, && echo "${*:3}")" "$2" "$new" >"$1.log" 2>&1 || {
      tail -5 "$1.log" >&2
      rm -rf "$new"
      exit 1
    }
    mv "$new" "$1"
  )
}

# Dependencies as package-lock.json has them, and dist/ from src/. Does nothing where both are up to date.
need_build() {
  if ! [ node_modules/.package-lock.json -nt package-lock.json ]; then
    echo "npm ci"
    npm ci --no-audit --no-fund --loglevel=error || return
  fi
  if ! [ -e dist/tsnet.js ] || [ -n "$(find src tsconfig.json rolldown.config.mjs package-lock.json -newer dist/tsnet.js -print -quit)" ]; then
    echo "npm run build"
    # The compiler writes what it can even where it finds errors; that must not pass for a build.
    npm run --silent build || { rm -f dist/tsnet.js && return 1; }
  fi
}
