"""The bank: commands become events, exactly once under kills; a fee rule turns out wrong, is mended, and the past is replayed.

    make demo-bank               some 1,500 commands
    make demo-bank FILES=100     more of them
    make demo-bank BROKER=kafka  through a Kafka broker, which it starts and stops

It works in a project of its own, data/demo_bank, which each start makes anew.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

from rich.console import Console
from rich.padding import Padding

from jobs.bank_check import Checked, check_projections, check_store, given, rows
from jobs.bank_commands import write_commands
from jobs.story import Memory, Step, Story
from tests.services.kafka import broker
from tidemill import Engine
from tidemill.cli.rows import Rows
from tidemill.display.pairs import paired
from tidemill.errors import TidemillError
from tidemill.execution.session import build_session
from tidemill.ledger.judge import State
from tidemill.planning.selection import Request

REPOSITORY = Path(__file__).resolve().parent.parent
STORE, SAGA = "bank", "bank_transfers"
PROJECTIONS = ("bank_statements", "bank_balances", "bank_totals", "bank_fees")
ACCOUNTS, EACH = 40, 60
KILLS_AFTER = (3, 8)
"""After how many commits of the store its driver is killed."""

TOPIC, PARTITIONS = "bank-commands", 3

_RIGHT, _WRONG = "return greater(amount - FREE_UP_TO, 0)", "return amount"
_STALE = Request(states=frozenset({State.STALE, State.DIRTY}))
_WAIT_SECONDS = 300


def wrong_fee(amount: int) -> int:
    """Give the fee as the first version of the rule has it: of all that is withdrawn, not of what goes beyond."""
    return amount * 5 // 1000


def right_fee(amount: int) -> int:
    """Give the fee that was meant."""
    return max(0, amount - 100_000) * 5 // 1000


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; 0 when nothing differs from the bank of dictionaries."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, default=24, help="files of commands (default 24)")
    parser.add_argument("--broker", choices=["kafka"], help="send the commands through a broker of its own")
    given_ = parser.parse_args(arguments)
    files = given_.files
    if files < 2:
        parser.error("--files is 2 or more")
    # A broker is to end with this process, whoever ends it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    console = Console()
    story, memory = Story(console), Memory()
    project = _project()
    try:
        with memory, _topic(project, story) if given_.broker else nullcontext() as send:
            wrong = _demo(project, story, files, send)
    except TidemillError as error:
        console.print(f"[red]error:[/] {error}")
        return error.exit_code
    console.print()
    console.print(story.table(memory.peak_mib))
    console.print(
        f"Look around: .venv/bin/tidemill --project {os.path.relpath(project)} aggregate {STORE} account/a1"
    )
    return 1 if wrong else 0


def _project() -> Path:
    """Make the bank's project anew, with the rule as it was before the bug was found."""
    project = REPOSITORY / "data/demo_bank"
    shutil.rmtree(project, ignore_errors=True)
    shutil.copytree(REPOSITORY / "jobs", project / "jobs", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(REPOSITORY / "conf/schemas", project / "conf/schemas")
    (project / "conf/pipelines").mkdir(parents=True)
    (project / "conf/env").mkdir()
    for path in (REPOSITORY / "conf").glob("*/bank*.yml"):
        shutil.copy(path, project / path.relative_to(REPOSITORY))
    _rule(project, _RIGHT, _WRONG)
    return project


@contextmanager
def _topic(project: Path, story: Story) -> Iterator[Callable[[Path], int]]:
    """Start a broker that the store reads from; gives what sends files of commands to it, one account's to one partition."""
    with broker(build_session("tidemill", project=project)) as kafka:
        with story.step("start a Kafka broker on loopback, and make the topic of commands") as step:
            kafka.create(TOPIC, partitions=PARTITIONS)
            step.say(f"at {kafka.servers}; topic {TOPIC}, {PARTITIONS} partitions")
        # The processes that this one starts read them, too.
        os.environ.update(KAFKA_SERVERS=kafka.servers, TIDEMILL_ENV="bank_kafka")

        def send(folder: Path) -> int:
            commands = given(folder)
            for partition in range(PARTITIONS):
                mine = [each for each in commands if _partition(each["subject"]) == partition]
                keys = [each["subject"] or "" for each in mine]
                kafka.produce(TOPIC, map(json.dumps, mine), partition=partition, keys=keys)
            return len(commands)

        yield send


def _partition(subject: str | None) -> int:
    return zlib.crc32((subject or "").encode()) % PARTITIONS


def _rule(project: Path, before: str, after: str) -> None:
    path = project / "jobs/bank_fees.py"
    text = path.read_text()
    assert before in text, f"{path} has another rule than the demo knows"  # noqa: S101  # the demo's own file
    path.write_text(text.replace(before, after))


def _demo(project: Path, story: Story, files: int, send: Callable[[Path], int] | None) -> int:
    engine = _engine(project, story.console)
    tables, commands = project / "data/tables", project / "data/bank/commands"
    with story.step("write commands, as customers send them: some twice, some late, some nonsense") as step:
        written = write_commands(commands, accounts=ACCOUNTS, files=files, each=EACH)
        step.say(f"{written.commands:,} commands in {written.files} files")
        if send is not None:
            step.say(f"{send(commands):,} records sent to the topic")
    with story.step("decide them, in a process that is killed on the way") as step:
        for after in KILLS_AFTER:
            _kill(project, tables / STORE, min(after, files - 1), step)
        step.say(f"the next start decides the rest: {_run(engine, STORE)} batches")
    with story.step("carry transfers out: debit, credit, or back") as step:
        _settle(engine, tables, step)
    with story.step("project statements, balances, totals and fees") as step:
        for name in PROJECTIONS:
            _run(engine, name)
            step.say(f"{name}: {engine.status(name)[0].rows:,} rows")
    with story.step("compare all tables with a bank of dictionaries") as step:
        found = check_store(tables, given(commands), wrong_fee)
        wrong = found.wrong + check_projections(tables, _sealed(engine, found), wrong_fee)
        _say_checked(step, found, wrong)
    with story.step(
        "a customer complains: the fee is of all, not of what goes beyond; mend the rule, replay fees"
    ) as step:
        _rule(project, _WRONG, _RIGHT)
        engine = _engine(project, story.console, engine)
        _replay(engine, step)
        later = check_projections(tables, _sealed(engine, found), right_fee)
        step.say(
            f"fees, statements, balances and totals against the bank of dictionaries: {len(later)} differ"
        )
        wrong += later
    with story.step("what was decided stays; what would today's code have decided?") as step:
        redecided = engine.redecide(STORE)
        counts = ", ".join(f"{count:,} {change}" for change, count in redecided.changes.items())
        step.say(f"{redecided.commands:,} commands decided again, nothing written: {counts}")
        for each in redecided.differences[:3]:
            step.show(f"{each.aggregate}/{each.subject} {each.command}: {each.change}")
            step.show(f"  then {each.then[0].get('data', each.then[0])}")
            step.show(f"  now  {each.now[0].get('data', each.now[0])}")
    with story.step("one account, back in time") as step:
        now = engine.aggregate(STORE, "account/a1")
        half = engine.aggregate(STORE, "account/a1", version=now.version // 2)
        at = half.events[-1].time
        step.say(f"account/a1 at version {half.version}, {at:%Y-%m-%d %H:%M}: {half.state}")
        step.say(f"account/a1 at version {now.version}, now: {now.state}")
    for line in wrong[:20]:
        story.console.print(f"  [red]{line}[/]")
    return len(wrong)


def _engine(project: Path, console: Console, before: Engine | None = None) -> Engine:
    # The session stays: to make one takes seconds.
    spark = before.spark if before is not None else None
    return Engine(
        project, spark=spark, say=lambda line: console.print(f"  {line}", style="dim", markup=False)
    )


def _run(engine: Engine, name: str) -> int:
    (outcome,) = engine.run(name)
    if outcome.error is not None:
        raise outcome.error
    return outcome.batches


def _kill(project: Path, table: Path, commits: int, step: Step) -> None:
    """Start the store's driver in another process, and kill it and its JVM after so many commits of the store."""
    command = [
        sys.executable,
        "-m",
        "tidemill.cli.app",
        "--project",
        str(project),
        "run",
        STORE,
        "--available-now",
    ]
    log = project / "data/killed.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            command, cwd=project, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        _wait(lambda: process.poll() is not None or _commits(table) > commits, log)
        if process.poll() is not None:
            step.say("it had read everything before it could be killed")
            return
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    step.say(f"killed with signal 9 after {_commits(table) - 1} batches")


def _commits(table: Path) -> int:
    return sum(1 for path in (table / "_delta_log").glob("*.json") if path.stem.isdigit())


def _settle(engine: Engine, tables: Path, step: Step) -> None:
    """Let the store and the saga go round until no transfer asks for anything any more."""
    rounds = 0
    before: list[int] = []
    while (now := [len(rows(tables / name)) for name in (STORE, SAGA)]) != before:
        before = now
        _run(engine, SAGA)
        _run(engine, STORE)
        rounds += 1
    done = dict.fromkeys(("Started", "Completed", "Failed"), 0)
    for row in rows(tables / STORE):
        kind, _, what = row["type"].partition(".")
        if kind == "transfer":
            done[what] += 1
    step.say(
        f"{done['Started']} transfers in {rounds} rounds: {done['Completed']} completed, {done['Failed']} failed; "
        f"{now[1]} commands by the saga"
    )


def _sealed(engine: Engine, found: Checked) -> list[dict[str, object]]:
    """Give the entries of all days: those that the totals' stream has not closed are filled in before."""
    engine.backfill("bank_totals", Request(include_open=True))
    return found.entries


def _say_checked(step: Step, found: Checked, wrong: list[str]) -> None:
    step.say(
        f"{found.commands:,} commands, each with one outcome: {found.events:,} events, {found.rejections} rejections"
    )
    step.say(f"{found.completed} transfers arrived, {found.failed} came back, none is on its way")
    step.say(f"accounts hold {found.money / 100:,.2f}, and so do the entries: {len(wrong)} differ")


def _replay(engine: Engine, step: Step) -> None:
    """Recompute what the former rule has made: stage, look, publish."""
    status = engine.status("bank_fees")[0]
    step.say(f"bank_fees is {', '.join(f'{count} {state}' for state, count in status.states.items())}")
    staged = engine.backfill("bank_fees", _STALE, stage_only=True)
    found = engine.diff(staged.run)
    results = [result for manifest in found for result in manifest.results.values()]
    for manifest in found:
        step.console.print(Padding(Rows(paired(manifest.samples[:4], found.key), found.key), (0, 0, 0, 2)))
        break
    step.say(f"staged: {sum(r.added for r in results)} rows of {sum(r.rows for r in results)} would change")
    engine.publish(staged.run)
    owed = sum(row["owed"] for row in rows(Path(engine.project.pipeline("bank_fees").table.path)))
    step.say(f"switched; customers are owed {owed / 100:,.2f}")
    for name in ("bank_statements", "bank_balances", "bank_totals"):
        done = engine.backfill(name, _STALE)
        changed = sum(chunk.outcome == "swapped" for chunk in done.chunks)
        step.show(f"{name}: recomputed by today's code, {changed} chunks differ")


def _wait(condition: Callable[[], bool], log: Path) -> None:
    deadline = time.monotonic() + _WAIT_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise TidemillError("the live process makes no progress", next_step=f"read {log}")
        threading.Event().wait(0.05)


if __name__ == "__main__":
    sys.exit(main())
