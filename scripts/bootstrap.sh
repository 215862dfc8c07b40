#!/usr/bin/env bash
# Makes everything the project needs beside its own files: a Java, .venv from the locked requirements, the project
# installed editable in it, and the JVM jars in .jars.
#
# - A second call finds its stamp and ends in milliseconds; a changed lock, Python or folder remakes .venv.
# - Calls at once wait for each other where flock exists.
# - Every package is checked against the hash in its lock, the tools that build packages too.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf 'tidemill: %s\n' "$*" >&2; }
fail() {
  say "$1"
  printf '  next: %s\n' "$2" >&2
  exit 2
}

# The command that installs something here, by system: debian, fedora, brew.
advice() {
  if command -v apt-get >/dev/null; then
    printf 'sudo apt-get install -y %s' "$1"
  elif command -v dnf >/dev/null; then
    printf 'sudo dnf install -y %s' "$2"
  elif [ "$(uname -s)" = Darwin ]; then
    printf 'brew install %s' "$3"
  else
    printf 'install %s with the package manager of this system' "$4"
  fi
}

new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

find_python() {
  local candidate
  for candidate in "${PYTHON:-python3}" python3 python3.13 python3.12 python3.11; do
    if command -v "$candidate" >/dev/null && new_enough "$candidate"; then
      command -v "$candidate"
      return
    fi
  done
  fail 'Python 3.11 or newer was not found' \
    "$(advice 'python3 python3-venv' python3.12 python@3.12 'Python 3.11 or newer'), or set PYTHON to one"
}

java_version() {
  local java=java
  [ -z "${JAVA_HOME:-}" ] || java="$JAVA_HOME/bin/java"
  # Prints 17 for `openjdk version "17.0.15"`, 8 for `"1.8.0"`, nothing where there is no Java that runs.
  { "$java" -version 2>&1 || true; } | sed -n 's/.*version "\(1\.\)\{0,1\}\([0-9]*\).*/\2/p' | head -n 1
}

ensure_java() {
  local version
  version=$(java_version)
  if [ "${version:-0}" -ge 17 ]; then return; fi
  if [ -z "${JAVA_HOME:-}" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    say 'no Java 17 or newer here: installing openjdk-17-jre-headless with apt-get'
    if ! { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq openjdk-17-jre-headless; } >&2; then
      fail 'apt-get could not install openjdk-17-jre-headless' \
        'install a Java runtime of version 17 or 21 by hand, and put it on PATH or set JAVA_HOME'
    fi
    version=$(java_version)
    if [ "${version:-0}" -ge 17 ]; then return; fi
  fi
  fail "Java 17 or newer was not found (what is here: ${version:-none})" \
    "$(advice openjdk-17-jre-headless java-21-openjdk-headless openjdk@17 'a Java runtime, 17 or 21'), or set JAVA_HOME"
}

# The paths are part of it: a copied .venv still points at where it was made.
environment_stamp() {
  { cat requirements/build.lock requirements/dev.lock && printf '%s\n' "$PWD" "$("$1" -V)" "$1"; } | cksum
}
project_stamp() { cat pyproject.toml lib/tidemill/execution/jars.lock | cksum; }

# `test` on files and two checksums: what every make pays.
is_ready() {
  [ -x .venv/bin/python ] && [ -e .jars/.complete ] && [ -e .venv/.project ] && [ -e .venv/.environment ] &&
    [ "$(project_stamp)" = "$(cat .venv/.project)" ] &&
    [ "$(environment_stamp "$(cat .venv/.made-by)")" = "$(cat .venv/.environment)" ]
}

make_environment() {
  local python=$1
  say "making .venv from requirements/dev.lock (a few minutes the first time)"
  rm -rf .venv
  if ! "$python" -m venv .venv >&2; then
    rm -rf .venv
    fail "$python cannot make virtual environments" \
      "$(advice python3-venv python3 python@3.12 "Python's venv module")"
  fi
  # pyspark comes as source: what builds it is pinned by hash like the rest, hence no isolated build.
  local pip=(.venv/bin/python -m pip --disable-pip-version-check install --quiet --no-input)
  "${pip[@]}" --require-hashes -r requirements/build.lock >&2
  "${pip[@]}" --require-hashes --no-build-isolation -r requirements/dev.lock >&2
  printf '%s\n' "$python" >.venv/.made-by
  environment_stamp "$python" >.venv/.environment
}

install_project() {
  .venv/bin/python -m pip --disable-pip-version-check install --quiet --no-input \
    --no-deps --no-build-isolation --editable . >&2
  TIDEMILL_JARS="$PWD/.jars" .venv/bin/python -m tidemill.execution.jars >/dev/null
  project_stamp >.venv/.project
}

main() {
  if is_ready && [ -n "$(java_version)" ]; then return; fi
  if command -v flock >/dev/null; then
    exec 9>.bootstrap.lock
    flock 9
    if is_ready && [ -n "$(java_version)" ]; then return; fi # another call made it meanwhile
  fi
  local python
  python=$(find_python)
  ensure_java
  if ! [ -e .venv/.environment ] || [ "$(environment_stamp "$python")" != "$(cat .venv/.environment)" ]; then
    make_environment "$python"
  fi
  install_project
  say 'ready'
}

main "$@"
