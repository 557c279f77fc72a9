from __future__ import annotations

import multiprocessing
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime
from multiprocessing.queues import Queue
from pathlib import Path

import pytest

from optidash_integrations.errors import BudgetExceededError
from optidash_integrations.ledger import Circuit, Ledger, MonthlyBudget, account_of

ROOT = Path(__file__).parents[1]
NOVEMBER = datetime(2026, 11, 30, 23, 59, 59, tzinfo=UTC).timestamp()

SPEND_FOR_EVER = """
import sys
from pathlib import Path
from optidash_integrations.ledger import Ledger, MonthlyBudget
budget = MonthlyBudget(Ledger(Path(sys.argv[1])), "a", 10**9)
while True:
    budget.spend()
    print("spent", flush=True)
"""

FORK = """
import os, sys, threading
from pathlib import Path
from optidash_integrations.ledger import Ledger, MonthlyBudget
ledger = Ledger(Path(sys.argv[1]))
budget = MonthlyBudget(ledger, "a", 100)
budget.spend()
inherited = ledger.connection
ledger.lock.acquire()  # as another thread would hold it, which the child does not have
child = os.fork()
if not child:
    close = threading.Thread(target=ledger.close, daemon=True)
    close.start()
    close.join(10)
    if close.is_alive():
        os._exit(2)
    for _ in range(3):
        budget.spend()
    assert ledger.connection is not inherited
    os._exit(0 if budget.used() == 4 else 1)
ledger.lock.release()
assert os.waitpid(child, 0)[1] == 0
budget.spend()
assert ledger.connection is inherited
print(budget.used())
ledger.close()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "api.sqlite3"


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    with closing(Ledger(path)) as found:
        yield found


def spent(budget: MonthlyBudget, tries: int) -> int:
    """Return how many of so many calls went through."""
    went = 0
    for _ in range(tries):
        with suppress(BudgetExceededError):
            budget.spend()
            went += 1
    return went


def spend_in_a_process(path: Path, tries: int, answers: Queue[int]) -> None:
    with closing(Ledger(path)) as ledger:
        answers.put(spent(MonthlyBudget(ledger, "a", 100), tries))


# Counting


def test_a_month_has_as_many_calls_as_its_budget(ledger: Ledger) -> None:
    budget = MonthlyBudget(ledger, "a", 3)
    assert budget.used() == 0
    assert spent(budget, 5) == 3
    assert budget.used() == 3
    with pytest.raises(BudgetExceededError, match="monthly_budget of 3 API calls is used up"):
        budget.spend()


def test_a_budget_of_none_lets_nothing_through(ledger: Ledger) -> None:
    assert spent(MonthlyBudget(ledger, "a", 0), 3) == 0


def test_accounts_are_counted_apart_and_do_not_tell_their_key(ledger: Ledger, path: Path) -> None:
    key = "0123456789abcdef0123456789abcdef01234567"
    names = [
        account_of("https://h.example/1.0", key),
        account_of("https://h.example/1.0", None),
        account_of("https://other.example/1.0", key),
    ]
    assert len(set(names)) == 3
    for name in names:
        assert spent(MonthlyBudget(ledger, name, 2), 5) == 2
    assert key.encode() not in path.read_bytes()


def test_a_count_outlasts_its_ledger(path: Path) -> None:
    for expected in (2, 1, 0):
        with closing(Ledger(path)) as ledger:
            assert spent(MonthlyBudget(ledger, "a", 3), 2) == expected


def test_a_closed_ledger_opens_itself_again(ledger: Ledger) -> None:
    budget = MonthlyBudget(ledger, "a", 5)
    ledger.close()
    budget.spend()
    ledger.close()
    ledger.close()
    budget.spend()
    assert budget.used() == 2


def test_a_new_month_begins_at_midnight_utc(ledger: Ledger) -> None:
    now = [NOVEMBER]
    budget = MonthlyBudget(ledger, "a", 2, clock=lambda: now[0])
    assert (budget.month, spent(budget, 5)) == ("2026-11", 2)
    now[0] += 1
    assert (budget.month, budget.used(), spent(budget, 5)) == ("2026-12", 0, 2)
    now[0] -= 1
    assert spent(budget, 1) == 0


def test_a_call_at_midnight_is_checked_and_counted_in_one_month(ledger: Ledger) -> None:
    times = iter([NOVEMBER, NOVEMBER + 1, NOVEMBER + 1, NOVEMBER + 1])
    MonthlyBudget(ledger, "a", 1, clock=lambda: NOVEMBER + 1).spend()
    MonthlyBudget(ledger, "a", 1, clock=lambda: next(times)).spend()
    with ledger.transaction() as db:
        rows = db.execute("SELECT month, made FROM calls ORDER BY month").fetchall()
    assert rows == [("2026-11", 1), ("2026-12", 1)]


def test_in_memory_it_counts_for_one_process() -> None:
    with closing(Ledger(None)) as ledger:
        budget = MonthlyBudget(ledger, "a", 3)
        assert spent(budget, 5) == 3
        assert budget.used() == 3


# Several at once


def test_threads_share_a_budget_exactly(ledger: Ledger) -> None:
    budget, went = MonthlyBudget(ledger, "a", 50), []
    threads = [threading.Thread(target=lambda: went.append(spent(budget, 20))) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (sum(went), budget.used()) == (50, 50)


def test_processes_share_a_budget_exactly(path: Path) -> None:
    """All open a file that is not there yet, and want more than there is."""
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    children = [
        context.Process(target=spend_in_a_process, args=(path, 50, answers)) for _ in range(3)
    ]
    for child in children:
        child.start()
    went = [answers.get(timeout=60) for _ in children]
    for child in children:
        child.join(60)
        assert child.exitcode == 0
    answers.close()
    answers.join_thread()
    assert sum(went) == 100
    with closing(Ledger(path)) as ledger:
        assert MonthlyBudget(ledger, "a", 100).used() == 100


def test_no_call_that_went_is_forgotten_by_a_process_that_is_killed(path: Path) -> None:
    arguments = [sys.executable, "-c", SPEND_FOR_EVER, str(path)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, cwd=ROOT) as child:
        assert child.stdout is not None
        lines = [child.stdout.readline() for _ in range(20)]
        child.kill()
        told = len(lines) + len(child.stdout.readlines())
    with closing(Ledger(path)) as ledger:
        budget = MonthlyBudget(ledger, "a", 10**9)
        assert budget.used() in (told, told + 1)
        budget.spend()


def test_a_forked_child_has_its_own_connection_to_the_same_count(path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", FORK, str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "5\n", "")


# Faults


def test_what_can_not_be_counted_is_not_called(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    (tmp_path / "damaged").write_bytes(b"no database " * 1000)
    for path in (tmp_path / "file" / "api.sqlite3", tmp_path / "folder", tmp_path / "damaged"):
        with closing(Ledger(path)) as ledger:
            budget = MonthlyBudget(ledger, "a", 10)
            for _ in range(2):
                with pytest.raises(BudgetExceededError, match="can't be counted") as caught:
                    budget.spend()
                assert str(path) in str(caught.value)


def test_a_count_that_was_refused_by_a_full_disk_goes_on_when_there_is_room(ledger: Ledger) -> None:
    budget = MonthlyBudget(ledger, "a", 10)
    budget.spend()
    pages = ledger.opened().execute("PRAGMA page_count").fetchone()[0]
    ledger.opened().execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(sqlite3.Error, match="full"), ledger.transaction() as db:
        db.execute("CREATE TABLE large AS SELECT zeroblob(100000) AS content")
    budget.spend()
    assert budget.used() == 2


def test_a_commit_that_fails_is_undone_and_the_next_one_succeeds(
    ledger: Ledger, path: Path
) -> None:
    """Somebody, a backup say, reads the file for too long."""
    budget = MonthlyBudget(ledger, "a", 10)
    budget.spend()
    ledger.opened().execute("PRAGMA busy_timeout = 10")
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM calls").fetchall()
        with pytest.raises(BudgetExceededError, match="locked"):
            budget.spend()
    budget.spend()
    assert budget.used() == 2


def test_a_file_that_another_one_writes_is_waited_for_and_then_given_up(
    ledger: Ledger, path: Path
) -> None:
    budget = MonthlyBudget(ledger, "a", 10)
    budget.spend()
    ledger.opened().execute("PRAGMA busy_timeout = 10")
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        with pytest.raises(BudgetExceededError, match="locked"):
            budget.spend()
        writer.execute("ROLLBACK")
    budget.spend()
    assert budget.used() == 2


def test_a_file_that_was_removed_is_made_anew(ledger: Ledger, path: Path) -> None:
    budget = MonthlyBudget(ledger, "a", 10)
    budget.spend()
    path.unlink()
    with pytest.raises(BudgetExceededError, match="can't be counted"):
        budget.spend()
    budget.spend()
    assert path.exists()
    assert budget.used() == 1


def test_nobody_else_reads_before_a_transaction_has_written(ledger: Ledger, path: Path) -> None:
    with closing(Ledger(path)) as other:
        other.opened().execute("PRAGMA busy_timeout = 10")
        with ledger.transaction(), pytest.raises(BudgetExceededError, match="locked"):
            MonthlyBudget(other, "a", 10).spend()
        with (
            ledger.transaction(),
            pytest.raises(sqlite3.OperationalError, match="locked"),
            other.transaction(),
        ):
            pass


def test_an_error_in_a_transaction_undoes_it(ledger: Ledger) -> None:
    def count_and_fail() -> None:
        with ledger.transaction() as db:
            db.execute("INSERT INTO calls VALUES ('a', '2026-11', 5)")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        count_and_fail()
    with ledger.transaction() as db:
        assert db.execute("SELECT count(*) FROM calls").fetchone() == (0,)


def test_an_error_in_memory_forgets_nothing_else() -> None:
    with closing(Ledger(None)) as ledger:
        budget = MonthlyBudget(ledger, "a", 10)
        budget.spend()
        with pytest.raises(sqlite3.Error), ledger.transaction() as db:
            db.execute("INSERT INTO nowhere VALUES (1)")
        assert budget.used() == 1


# Circuits


def test_a_circuit_is_kept_as_it_is(ledger: Ledger) -> None:
    circuit = Circuit(5, NOVEMBER + 0.25, 30.5, NOVEMBER + 120, "es fällt aus")
    with ledger.transaction() as db:
        assert Circuit.read(db, "a") == Circuit()
        circuit.write(db, "a")
        circuit.write(db, "a")
    with ledger.transaction() as db:
        assert Circuit.read(db, "a") == circuit
        assert Circuit.read(db, "b").is_closed
