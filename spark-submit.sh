#!/usr/bin/env bash
# Submits a job: ./spark-submit.sh [spark-submit options] jobs/NAME.py [the job's arguments]
#
# - Makes the environment first if it is missing (`make setup`).
# - With --dry-run first it prints the command that it would run, and runs nothing.
# - Everything before the job file goes on to spark-submit; the master is local[*] unless --master says otherwise.
#   For any other master, tidemill and jobs travel along in a zip (--py-files) and the jars as spark.jars.
# - Ctrl-C and SIGTERM reach the Python driver, once, as SIGTERM, so that it can finish its batch; the JVM under it
#   is left alone until the driver ends. The exit code is the job's.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

usage() {
  sed -n '2s/^# //p' "${BASH_SOURCE[0]}" >&2
  exit 2
}

# --- Whose is each argument? ------------------------------------------------------------------------------------
options=()
job=''
master=''
py_files=''
jars=''
dry_run=''
while [ $# -gt 0 ]; do
  case $1 in
    --dry-run) dry_run=yes; shift ;;
    --master) master=${2:?--master needs a value}; shift 2 ;;
    --master=*) master=${1#*=}; shift ;;
    --py-files) py_files=${2:?--py-files needs a value}; shift 2 ;;
    --py-files=*) py_files=${1#*=}; shift ;;
    --jars) jars=${2:?--jars needs a value}; shift 2 ;;
    --jars=*) jars=${1#*=}; shift ;;
    --conf | -c)
      case ${2:?--conf needs a value} in
        spark.master=*) master=${2#*=} ;;
        *) options+=(--conf "$2") ;;
      esac
      shift 2
      ;;
    # The options of spark-submit that stand alone; every other takes a value.
    --verbose | -v | --supervise | --version | --help | -h | --load-spark-defaults | --*=*) options+=("$1"); shift ;;
    -*) options+=("$1" "${2:?$1 needs a value}"); shift 2 ;;
    *) job=$1; shift; break ;;
  esac
done
[ -n "$job" ] || usage
[ -f "$job" ] || { printf 'tidemill: there is no job file %s\n' "$job" >&2; exit 2; }
master=${master:-'local[*]'}

# --- The environment ---------------------------------------------------------------------------------------------
make --no-print-directory -s -C "$root" setup >&2
python=$root/.venv/bin/python
export TIDEMILL_JARS=${TIDEMILL_JARS:-$root/.jars}
export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH} # `import jobs.flights` in a pipeline
export PYSPARK_PYTHON=${PYSPARK_PYTHON:-$python}
export PYSPARK_DRIVER_PYTHON=$python
# Always the pyspark of the lock: a SPARK_HOME of another version would meet jars that do not fit it.
SPARK_HOME=$("$python" -c 'from tidemill.execution.settings import spark_home; print(spark_home())')
export SPARK_HOME

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# One owner of settings: the package says what this master needs. First on the line, so the caller's --conf wins.
"$python" -m tidemill.execution.settings "$master" >"$work/settings"
defaults=()
while IFS= read -r setting; do
  case $setting in
    spark.jars=*) setting=$setting${jars:+,$jars}; jars='' ;; # --jars would replace it, not join it
  esac
  defaults+=(--conf "$setting")
done <"$work/settings"

case $master in
  local | local\[*) ;;
  *)
    (cd "$root" && "$python" -m zipfile -c "$work/tidemill.zip" lib/tidemill jobs)
    py_files=$work/tidemill.zip${py_files:+,$py_files}
    ;;
esac

command=("$SPARK_HOME/bin/spark-submit" --master "$master" "${defaults[@]}")
[ -z "$py_files" ] || command+=(--py-files "$py_files")
[ -z "$jars" ] || command+=(--jars "$jars")
command+=(${options[@]+"${options[@]}"} "$job" "$@")

if [ -n "$dry_run" ]; then
  printf '%q' "${command[0]}"
  for word in "${command[@]:1}"; do
    case $word in
      -* | "$job") printf ' \\\n    %q' "$word" ;;
      *) printf ' %q' "$word" ;;
    esac
  done
  printf '\n'
  exit
fi

# --- Run it, and stand between it and signals ----------------------------------------------------------------------
# The Python that the JVM started for the job; in local mode the JVM has Python workers for children, too.
driver() {
  ps -A -o pid= -o ppid= -o args= | awk -v parent="$jvm" -v job="$job" \
    '$2 == parent && index($0, job) && !/pyspark[.]daemon/ { print $1; exit }'
}

stopped=''
stop() {
  [ -z "$stopped" ] || return 0 # once: Ctrl-C and a supervisor's TERM often come together
  stopped=yes
  local pid
  pid=$(driver)
  # No driver yet: nothing has begun, and the JVM may go. (In cluster mode the driver is elsewhere and goes on.)
  kill -TERM "${pid:-$jvm}" 2>/dev/null || true
}

# Job control gives the command a process group of its own: a terminal's Ctrl-C stops at this script.
set -m
"${command[@]}" &
jvm=$!
set +m
trap stop INT TERM HUP

# A trapped signal ends `wait` early with a code above 128: wait until the process is really gone.
code=0
wait "$jvm" || code=$?
while kill -0 "$jvm" 2>/dev/null; do
  code=0
  wait "$jvm" || code=$?
done
# It ended between the signal and the question: its own code is still to be had.
if [ -n "$stopped" ] && [ "$code" -gt 128 ]; then
  last=0
  wait "$jvm" 2>/dev/null || last=$?
  [ "$last" = 127 ] || code=$last
fi
exit "$code"
