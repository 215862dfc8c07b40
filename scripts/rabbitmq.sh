#!/usr/bin/env bash
# Sees to it that RabbitMQ's server is on this machine, for tests and demos: installs Debian's package when root
# and missing, and says what to do otherwise. Prints the folder of the server's commands.
#
# The package starts a service of its own; one that was not there before is stopped again.
set -euo pipefail

say() { printf 'tidemill: %s\n' "$*" >&2; }
fail() {
  say "$1"
  printf '  next: %s\n' "$2" >&2
  exit 2
}

# Not the wrappers in /usr/sbin, which become another user and use the service's own folders.
folder() {
  local server
  for server in "${RABBITMQ_SBIN:-}" /usr/lib/rabbitmq/bin /usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin \
    /opt/homebrew/opt/rabbitmq/sbin /usr/local/opt/rabbitmq/sbin; do
    if [ -n "$server" ] && [ -x "$server/rabbitmq-server" ]; then
      printf '%s\n' "$server"
      return
    fi
  done
  return 1
}

install() {
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    fail 'RabbitMQ was not found' \
      'install rabbitmq-server 3.10 or newer (Debian: sudo apt-get install -y rabbitmq-server), or set RABBITMQ_SBIN to its sbin folder'
  fi
  say 'no RabbitMQ here: installing rabbitmq-server with apt-get'
  # Runlevel 1 keeps the package from starting its service, where its system honours that.
  if ! { apt-get update -qq &&
    RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends rabbitmq-server; } >&2; then
    fail 'apt-get could not install rabbitmq-server' 'install it by hand, or set RABBITMQ_SBIN to its sbin folder'
  fi
  # To ask the service how it is would start an Erlang port mapper, so its process is looked for.
  if pgrep -u rabbitmq beam.smp >/dev/null; then service rabbitmq-server stop >&2; fi
}

exec 9>"${TMPDIR:-/tmp}/tidemill-rabbitmq-install.lock"
if command -v flock >/dev/null; then flock 9; fi # two test runs at once install it once
if ! folder; then
  install
  folder || fail 'rabbitmq-server is installed, but not where it is looked for' 'set RABBITMQ_SBIN to its sbin folder'
fi
