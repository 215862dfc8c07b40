"""A lease has one holder; the dead lose it, the living keep it, and who lost it is told."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.services.racers import race_for_leases
from tidemill.clock import ManualClock
from tidemill.errors import LeaseHeld
from tidemill.ledger import lease as leases
from tidemill.ledger.lease import TTL, Lease

START = datetime(2013, 1, 5, 13, tzinfo=UTC)
HOLD = """
import sys
from tidemill.ledger.lease import Lease
with Lease(sys.argv[1], "live", what="a child"):
    print("held", flush=True)
    sys.stdin.read()
"""


def lease(state: Path, **more) -> Lease:
    return Lease(str(state), "live", what="a test", **more)


def child(state: Path) -> subprocess.Popen[str]:
    """A process that holds the lease until its input is closed."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(state)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def end(process: subprocess.Popen[str]) -> None:
    process.communicate("")


def elsewhere(state: Path, until: datetime) -> Path:
    """A lease held by a process on another machine."""
    path = state / "live.lease"
    body = {
        "token": "theirs",
        "host": "another-machine",
        "pid": 1,
        "started": 1.0,
        "since": START.isoformat(),
        "until": until.isoformat(),
        "what": "their run",
    }
    path.write_text(json.dumps(body))
    return path


def test_the_second_to_come_is_refused_and_told_who_holds_it(tmp_path: Path):
    with lease(tmp_path), pytest.raises(LeaseHeld) as refused, lease(tmp_path):
        pass

    assert f"process {os.getpid()}" in refused.value.params["holder"]
    assert "--take-over" in refused.value.next_step


def test_a_lease_is_free_again_when_its_holder_is_done(tmp_path: Path):
    for _ in range(2):
        with lease(tmp_path) as held:
            held.check()

    assert leases.read(tmp_path / "live.lease") is None


def test_a_lease_is_free_again_when_its_holder_fails(tmp_path: Path):
    with pytest.raises(ZeroDivisionError), lease(tmp_path):
        _ = 1 / 0

    with lease(tmp_path):
        pass


def test_leases_of_other_names_and_folders_do_not_meet(tmp_path: Path):
    with lease(tmp_path), lease(tmp_path / "other"), Lease(str(tmp_path), "backfill", what="a test"):
        pass


def test_a_living_process_keeps_its_lease_and_a_dead_one_loses_it_at_once(tmp_path: Path):
    process = child(tmp_path)
    with pytest.raises(LeaseHeld) as refused, lease(tmp_path):
        pass
    assert f"process {process.pid}" in refused.value.params["holder"]

    process.send_signal(signal.SIGKILL)
    process.communicate()

    assert (tmp_path / "live.lease").exists()
    with lease(tmp_path) as held:
        held.check()


def test_a_dead_process_that_nobody_has_waited_for_is_dead(tmp_path: Path):
    process = child(tmp_path)
    holder = leases.read(tmp_path / "live.lease")
    assert holder is not None
    assert not leases.gone(holder, START)

    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # a zombie now, and still one after

    assert leases.gone(holder, START)
    process.communicate()


def test_a_process_number_that_is_used_again_is_another_process(tmp_path: Path):
    with lease(tmp_path):
        body = json.loads((tmp_path / "live.lease").read_text())
    body["started"] += 1
    (tmp_path / "live.lease").write_text(json.dumps(body))

    with lease(tmp_path) as held:
        held.check()


def test_on_this_machine_a_living_holder_keeps_its_lease_however_late_it_is(tmp_path: Path):
    clock = ManualClock(START)
    with lease(tmp_path, clock=clock):
        clock.set(START + timedelta(days=1))
        with pytest.raises(LeaseHeld), lease(tmp_path, clock=clock):
            pass


def test_elsewhere_a_lease_ends_with_its_time(tmp_path: Path):
    clock = ManualClock(START)
    elsewhere(tmp_path, START + TTL)

    for moment in (START, START + TTL):
        clock.set(moment)
        with pytest.raises(LeaseHeld) as refused, lease(tmp_path, clock=clock):
            pass
        assert "another-machine" in refused.value.params["holder"]

    clock.set(START + TTL + timedelta(seconds=1))
    with lease(tmp_path, clock=clock) as held:
        held.check()
        holder = leases.read(tmp_path / "live.lease")
        assert holder is not None
        assert holder.until == (clock.now() + TTL).isoformat(timespec="seconds")


def test_a_lease_may_be_taken_over_and_its_holder_is_told(tmp_path: Path):
    with lease(tmp_path) as first:
        with lease(tmp_path, take_over=True) as second:
            second.check()
            with pytest.raises(LeaseHeld) as lost:
                first.check()
            assert f"process {os.getpid()}" in lost.value.message
        with pytest.raises(LeaseHeld) as gone:
            first.check()
        assert "its file is gone" in gone.value.message


def test_who_lost_the_lease_leaves_that_of_the_other_alone(tmp_path: Path):
    with lease(tmp_path):
        path = elsewhere(tmp_path, START)

    assert json.loads(path.read_text())["host"] == "another-machine"


def test_renewing_moves_the_end_and_stops_when_the_lease_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(leases, "_RENEW_EVERY", 0.001)
    clock = ManualClock(START)
    with lease(tmp_path, clock=clock) as held:
        clock.set(START + timedelta(hours=1))
        wanted = (clock.now() + TTL).isoformat(timespec="seconds")
        while json.loads((tmp_path / "live.lease").read_text())["until"] != wanted:
            pass
        elsewhere(tmp_path, START)
        assert held._renewing is not None
        held._renewing.join(timeout=60)
        assert not held._renewing.is_alive()

    assert json.loads((tmp_path / "live.lease").read_text())["host"] == "another-machine"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"token": "x"}'])
def test_a_lease_that_cannot_be_read_is_free(tmp_path: Path, text: str):
    (tmp_path / "live.lease").write_text(text)

    with lease(tmp_path) as held:
        held.check()


def test_of_processes_that_start_at_once_exactly_one_gets_it(tmp_path: Path):
    process = child(tmp_path)
    process.kill()
    process.communicate()
    for round_ in range(0, 10, 2):  # half of the leases belong to the dead, half to nobody
        (tmp_path / f"round-{round_}.lease").write_text((tmp_path / "live.lease").read_text())
    race_for_leases(str(tmp_path), 10)


def test_a_lease_that_another_took_is_known_to_be_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(leases, "_RENEW_EVERY", 0.01)
    with Lease(str(tmp_path), "live", what="the first") as first:
        assert not first.lost
        with Lease(str(tmp_path), "live", what="another", take_over=True):
            assert first._renewing is not None
            first._renewing.join(10)
            assert first.lost
