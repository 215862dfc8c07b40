#!/usr/bin/env bash
# Submits a job: ./spark-submit.sh [spark-submit options] jobs/NAME.py [the job's arguments]
#
# - Makes the environment first if it is missing (`make setup`).
# - With --dry-run first it prints the command that it would run, secrets left out, and runs nothing.
# - Everything before the job file goes on to spark-submit; the master is local[*] unless --master says otherwise.
#   For any other master, tidemill and jobs travel along in a zip (--py-files) and the jars as spark.jars.
# - Settings (conf/spark, --conf, tidemill's own) go on in a file that only you can read: some are secret, and everyone
#   sees the command lines of a machine. Jars, class path and Java options are joined with tidemill's.
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
settings=()
properties=()
job=''
master=''
py_files=''
dry_run=''

setting() {
  case $1 in
    spark.master=*) master=${1#*=} ;;
    spark.submit.pyFiles=*) py_files=${1#*=} ;;
    *) settings+=("$1") ;;
  esac
}

while [ $# -gt 0 ]; do
  case $1 in
    --dry-run) dry_run=yes; shift ;;
    --master) master=${2:?--master needs a value}; shift 2 ;;
    --master=*) master=${1#*=}; shift ;;
    --py-files) py_files=${2:?--py-files needs a value}; shift 2 ;;
    --py-files=*) py_files=${1#*=}; shift ;;
    --conf | -c) setting "${2:?--conf needs a value}"; shift 2 ;;
    --conf=*) setting "${1#*=}"; shift ;;
    # What spark-submit has two words for would otherwise replace ours, not join it.
    --jars) setting "spark.jars=${2:?--jars needs a value}"; shift 2 ;;
    --jars=*) setting "spark.jars=${1#*=}"; shift ;;
    --driver-class-path) setting "spark.driver.extraClassPath=${2:?--driver-class-path needs a value}"; shift 2 ;;
    --driver-class-path=*) setting "spark.driver.extraClassPath=${1#*=}"; shift ;;
    --driver-java-options) setting "spark.driver.extraJavaOptions=${2:?--driver-java-options needs a value}"; shift 2 ;;
    --driver-java-options=*) setting "spark.driver.extraJavaOptions=${1#*=}"; shift ;;
    --properties-file) properties=(--properties-file "${2:?--properties-file needs a value}"); shift 2 ;;
    --properties-file=*) properties=("$1"); shift ;;
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

# One owner of settings: the package says what this master needs, and joins it with what the caller says.
said=(${properties[@]+"${properties[@]}"} "$master" ${settings[@]+"${settings[@]}"})
if [ -z "$dry_run" ]; then
  (umask 077 && "$python" -m tidemill.execution.submission "${said[@]}" >"$work/spark.properties")
  told=(--properties-file "$work/spark.properties")
else
  # The file goes with this script. What is printed says the same, so that it can be read, and run.
  "$python" -m tidemill.execution.submission --shown "${said[@]}" >"$work/shown"
  told=()
  while IFS= read -r -d '' each; do told+=(--conf "$each"); done <"$work/shown"
fi

case $master in
  local | local\[*) ;;
  *)
    (cd "$root" && "$python" -m zipfile -c "$work/tidemill.zip" lib/tidemill jobs)
    py_files=$work/tidemill.zip${py_files:+,$py_files}
    ;;
esac

command=("$SPARK_HOME/bin/spark-submit" --master "$master" "${told[@]}")
[ -z "$py_files" ] || command+=(--py-files "$py_files")
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
