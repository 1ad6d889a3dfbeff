"""The faults, one function each: they disturb a search and tell what became of it."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.faults.faulty_job import VARIABLE
from benchmarks.faults.nodes import cluster_of
from benchmarks.faults.rows import (
    RECOMMENDED,
    Row,
    describe_attempts,
    describe_records,
    describe_trials,
    describe_victim,
    quoted,
    said_last,
    said_of_trial,
)
from benchmarks.faults.searches import (
    EXIT_INTERRUPTED,
    EXIT_USER_ERROR,
    FAULTY,
    KINDS,
    Ended,
    Search,
    ended,
    read_on,
    read_until,
)
from trials.runs.recommendation import ORIGIN

WITHOUT_OVERRIDE = ("setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-dac_override")
PATIENCE = 10.0
"""Seconds that a trial may take where one hangs, over those of the whole undisturbed search."""
LONG_TRIALS = "--train-images=2048"
MAX_SECONDS_TO_END = 10.0
ENDS_OF_INTERRUPTED = (EXIT_INTERRUPTED, -signal.SIGINT, -signal.SIGALRM)
"""By itself; by a signal that came when Python had stopped listening; by the system, which was asked to see to it."""


class Faults:
    """Disturbs searches in a folder, and compares them with undisturbed ones."""

    def __init__(self, folder: Path, engine: str) -> None:
        self._folder, self._engine = folder, engine
        self.rng = random.Random()
        """For moments; seeded anew for every fault, so that each is the same whichever others are looked at."""
        self._number = 0
        self.whole: dict[str, Search] = {}
        self.seconds: dict[str, float] = {}
        """Wall time of the undisturbed searches, by kind."""

    def find_undisturbed(self) -> None:
        """Runs the search that all others are compared with."""
        for kind in KINDS:
            self._undisturbed_of(kind)

    def _undisturbed_of(self, kind: str) -> Search:
        """Returns the undisturbed search of a kind, which is run when it is first asked for."""
        if kind not in self.whole:
            started = time.monotonic()
            self.whole[kind] = self._undisturbed(kind)
            self.seconds[kind] = time.monotonic() - started
        return self.whole[kind]

    def _search(self, kind: str, **settings: Any) -> Search:
        self._number += 1
        return Search(kind, self._folder / f"run-{self._number:03d}", **{"engine": self._engine, **settings})

    def _undisturbed(self, kind: str, *more: str, **settings: Any) -> Search:
        """Runs another one to compare with, where options or the cluster differ."""
        search = self._search(kind, **settings)
        found = search.run(*more)
        if found.code != 0:
            sys.exit(f"the undisturbed search failed:\n{found.output}")
        return search

    def _is_same(self, search: Search, whole: Search | None = None) -> bool:
        """Returns whether a search found all that the undisturbed one did, and each trial ran to its end once."""
        whole = whole or self.whole[search.kind]
        return search.found() == whole.found() and search.finished() == whole.finished()

    def _same_front(self, search: Search, whole: Search | None = None) -> bool:
        return search.front() == (whole or self.whole[search.kind]).front()

    def driver_killed(self, kind: str) -> Row:
        """Kills the driver at a random moment; then the search is carried on."""
        search = self._search(kind)
        after = self.rng.uniform(0.02, 1.0) * self.seconds[kind]
        process = search.start()
        read_on(process)
        threading.Event().wait(after)
        killed = search.family
        killed.members()
        process.kill()
        process.wait()
        before = search.finished()
        on_record = describe_records(search)
        resumed = search.resume()
        is_same = resumed.code == 0 and self._is_same(search)
        kept = all(search.finished()[number] == 1 for number in before)
        left = "" if killed.seconds_until_gone(patience=30.0) is not None else "; processes left behind"
        killed.end()
        return Row(
            f"driver killed by SIGKILL after {after:.1f} s of {self.seconds[kind]:.1f}", kind,
            f"{on_record}; after resuming, {describe_trials(search)}{left}", resumed.code == 0,
            resumed.code == 0 and self._same_front(search), is_same and kept and not left,
        )  # fmt: skip

    def job_fault(self, what: str, kind: str, times: int, cause: str, job: str = "trial") -> Row:
        """Lets the first attempts at one network end badly: of the undisturbed search's front, or recommended by it."""
        whole = self._undisturbed_of(kind)
        number, network = _victim(whole, job)
        with tempfile.TemporaryDirectory(dir=self._folder) as counts:
            meant = "final" if job == "final" else "trial"
            fault = {"what": what, "network": network, "kind": meant, "times": times, "folder": counts}
            search = self._search(kind, script=FAULTY, environment={VARIABLE: json.dumps(fault)})
            limit = (f"--trial-timeout={PATIENCE + self.seconds[kind]:.0f}s",) if what == "hang" else ()
            found = search.run(*limit)
            happened = len(list(Path(counts).iterdir()))
        if found.code != 0:
            return Row(f"{what} in {describe_victim(job, number, times)}", kind, found.output, False, False, False)
        retried = [event for event in search.events("retried") if event["number"] == number]
        failed = [event for event in search.events("failed") if event["number"] == number]
        causes = [event["failure"]["cause"] for event in [*retried, *failed]]
        survives = not failed
        same = self._is_same(search)
        finished = search.finished()
        others = all(finished[other] == 1 for other in search.history().trials if other != number)
        is_retried = cause in ("worker died", "out of memory")
        recovers = is_retried and times <= 2
        attempts = min(times, 3 if is_retried else 1)
        # On Ray, a worker that is gone within milliseconds may be taken for one that died before the job, once.
        uncounted = {0, 1} if self._engine == "ray" and what == "worker killed" else {0}
        counted = attempts if job == "final" else len(causes)
        promised = happened - counted in uncounted and others and survives == recovers and set(causes) <= {cause}
        if job == RECOMMENDED:
            promised &= _is_replaced(search, number) != recovers
        return Row(
            f"{what} in {describe_victim(job, number, times)}", kind,
            said_of_trial(found, number) if job == "final" else describe_attempts(causes, survives), found.code == 0,
            self._same_front(search) if recovers else None, promised and (same or not recovers),
        )  # fmt: skip

    def workers_killed(self, kind: str, kills: int) -> Row:
        """Kills workers from outside, one after the other, at random moments."""
        search = self._search(kind)
        process = search.start()
        killed = 0
        if read_until(process, "trial "):
            read_on(process)
            for _ in range(kills):
                workers = search.family.workers()
                if workers and process.poll() is None:
                    with contextlib.suppress(ProcessLookupError):  # it ended by itself
                        os.kill(self.rng.choice(workers), signal.SIGKILL)
                        killed += 1
                threading.Event().wait(self.rng.uniform(1.0, 3.0))
        code = process.wait()
        causes = [event["failure"]["cause"] for event in search.events("retried", "failed")]
        attempts = Counter(event["number"] for event in search.events("retried", "failed"))
        failed = [event["number"] for event in search.events("failed")]
        # A trial whose worker was killed three times is given up, and a search without it may find something else.
        are_given_up_rightly = all(attempts[number] == 3 for number in failed)
        others = search.history().trials.keys() - set(failed)
        finishes_others = all(search.finished()[number] == 1 for number in others)
        is_same = are_given_up_rightly and finishes_others if failed else self._is_same(search)
        return Row(
            f"{killed} workers killed by SIGKILL from outside, some perhaps idle", kind,
            f"{len(causes)} attempts: {', '.join(sorted(set(causes))) or 'none failed'}; {describe_trials(search)}",
            code == 0, None if failed else self._same_front(search),
            code == 0 and is_same and set(causes) <= {"worker died"},
        )  # fmt: skip

    def node_lost(self, kind: str) -> Row:
        """Kills one of a cluster's two nodes as trials, or finals, run there; later another one joins."""
        with cluster_of(2) as nodes:  # a supernet is trained by a process on each, which makes others of its weights
            whole = self._undisturbed(kind, address=nodes.address)
        with cluster_of(2) as nodes:
            search = self._search(kind, address=nodes.address)
            process = search.start()
            began = read_until(process, "Finals: " if kind == "supernet" else "trial ")
            read_on(process)
            threading.Event().wait(self.rng.uniform(0.0, 0.1) * self.seconds[kind])
            finished = set(search.finished())
            nodes.kill()
            threading.Event().wait(self.rng.uniform(0.1, 0.2) * self.seconds[kind])
            nodes.add()
            code = process.wait()
        causes = [event["failure"]["cause"] for event in search.events("retried", "failed")]
        same = code == 0 and self._is_same(search, whole)
        return Row(
            f"one of two nodes killed in the {'finals' if kind == 'supernet' else 'trials'}, another added", kind,
            f"{len(finished)} trials had finished; {len(causes)} attempts ended: "
            f"{', '.join(sorted(set(causes))) or 'none'}; {describe_trials(search)}", code == 0,
            code == 0 and self._same_front(search, whole),
            began and same and set(causes) <= {"worker died"} and not search.events("failed"),
        )  # fmt: skip

    def node_joins(self, kind: str) -> Row:
        """Gives a search that has one node another one. Trials are long, for a node takes a while to come."""
        whole = self._undisturbed(kind, LONG_TRIALS, engine="local")
        with cluster_of(1) as nodes:
            search = self._search(kind, address=nodes.address)
            process = search.start(LONG_TRIALS)
            began = read_until(process, "trial ")
            read_on(process)
            nodes.add()
            joined = time.time()
            code = process.wait()
        before, after = search.most_at_once(until=joined), search.most_at_once()
        same = code == 0 and self._is_same(search, whole)
        return Row(
            "a second node joins", kind, f"{before} trial at once, then {after}; {describe_trials(search)}", code == 0,
            code == 0 and self._same_front(search, whole), began and same and (before, after) == (1, 2),
        )  # fmt: skip

    def no_cluster(self, kind: str) -> Row:
        """Searches at an address at which there is none."""
        search = self._search(kind, address="127.0.0.1:1")
        found = search.run()
        return Row(
            "a cluster that is not there", kind, f"exit code {found.code}: {said_last(found, search)}", False, None,
            found.code == EXIT_USER_ERROR and found.is_one_line and not search.run_dir.exists(),
        )  # fmt: skip

    def interrupted_twice(self, kind: str, phase: str, beginning: str) -> Row:
        """Sends Ctrl-C, and Ctrl-C to the whole group of processes, as a terminal sends it; a bystander must live."""
        search = self._search(kind)
        with subprocess.Popen(["sleep", "600"], start_new_session=True) as bystander:
            process = search.start()
            was_reached = read_until(process, beginning)
            written = read_on(process)
            threading.Event().wait(self.rng.uniform(0.0, 1.0))
            search.family.members()
            for _ in range(2):
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGINT)
                threading.Event().wait(self.rng.uniform(0.05, 0.5))
            seconds = search.family.seconds_until_gone(60.0, process)
            search.family.end()
            process.wait()
            bystander_lives = bystander.poll() is None
            bystander.kill()
        resumed = search.resume()
        same = resumed.code == 0 and self._is_same(search)
        in_time = seconds is not None and seconds < MAX_SECONDS_TO_END
        took = "more than 60 s" if seconds is None else f"{seconds:.1f} s"
        is_clean = process.returncode in ENDS_OF_INTERRUPTED and not any("Traceback" in line for line in written)
        if not is_clean:
            print("".join(written), file=sys.stderr)
        return Row(
            f"Ctrl-C twice, {phase}", kind,
            f"exit code {process.returncode}, everything it started gone after {took}; the bystander "
            f"{'lives' if bystander_lives else 'is gone'}", resumed.code == 0, same and self._same_front(search),
            was_reached and in_time and bystander_lives and same
            and is_clean,
        )  # fmt: skip

    def disk_full(self, kind: str, kilobytes: int) -> Row:
        """Gives a search a file system of its own with so little room; it gets more, and the search is carried on."""
        search = self._search(kind)
        copy = self._folder / f"{search.run_dir.name}-copy"
        script = (
            f"mkdir {search.run_dir} && mount -t tmpfs -o size={kilobytes}k tmpfs {search.run_dir} || exit 99\n"
            f"{quoted(search.command())} 2>&1; echo EXIT CODE $?; cp {search.run_dir}/records.jsonl {copy} || true\n"
            f"mount -o remount,size=200m {search.run_dir}\n"
            f"{quoted(search.command('--resume'))} >/dev/null 2>&1; code=$?; rm -rf {copy}-run\n"
            f"cp -r {search.run_dir} {copy}-run; exit $code\n"
        )
        found = ended(
            subprocess.Popen(
                ["unshare", "--mount", "sh", "-c", script], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
        )
        if found.code == 99:
            return Row(
                f"disk of {kilobytes} KB full", kind, "not tried: nothing can be mounted here", False, None, False
            )
        first, _, code = found.output.partition("EXIT CODE ")
        message = Ended(int(code.split()[0]), first)
        resumed = Search(kind, Path(f"{copy}-run"))
        whole_lines = copy.read_bytes().endswith(b"\n") if copy.is_file() and copy.stat().st_size > 0 else None
        if "has not begun" in first:
            return Row(
                f"disk full ({kilobytes} KB)", kind, f"exit code {message.code}: {said_last(message, search)}", True,
                None, message.code == 1 and message.is_one_line and not whole_lines,
            )  # fmt: skip
        same = found.code == 0 and self._is_same(resumed)
        return Row(
            f"disk full ({kilobytes} KB), then room", kind,
            f"exit code {message.code}: {said_last(message, search)}", found.code == 0,
            found.code == 0 and self._same_front(resumed),
            message.code == 1 and message.is_one_line and bool(whole_lines) and same,
        )  # fmt: skip

    def no_permission(self, kind: str) -> Row:
        """Searches into a folder that may be read and not written; root must do without its
        right to write everywhere."""
        with tempfile.TemporaryDirectory(dir=self._folder) as folder:
            os.chmod(folder, 0o555)
            search = Search(kind, Path(folder) / "run", self._engine)
            found = search.run(prefix=WITHOUT_OVERRIDE if os.geteuid() == 0 else ())
            is_clean = list(Path(folder).iterdir()) == []
        return Row(
            "run directory without permission", kind, f"exit code {found.code}: {said_last(found, search)}", False,
            None, found.code == EXIT_USER_ERROR and found.is_one_line and is_clean,
        )  # fmt: skip

    def two_at_once(self, kind: str) -> list[Row]:
        """Begins another search in the run directory of one that runs, and resumes one there."""
        search = self._search(kind)
        process = search.start()
        read_until(process, "Results: ")
        read_until(process, "Training the supernet" if kind == "supernet" else "trial ")
        begun, resumed = search.run(), search.run("--resume")
        first = ended(process)
        same = first.code == 0 and self._is_same(search)
        return [
            Row(
                f"a second search {what} in the run directory of one that runs", kind,
                f"the second: exit code {second.code}: {said_last(second, search)}", first.code == 0,
                first.code == 0 and self._same_front(search),
                second.code == EXIT_USER_ERROR and second.is_one_line and same,
            )
            for what, second in (("begun", begun), ("resumed", resumed))
        ]  # fmt: skip

    def time_budget(self, kind: str) -> Row:
        """Gives a search too little time for all trials; then it is carried on with enough."""
        search = self._search(kind)
        seconds = _seconds_until_half(self.whole[kind])
        first = search.run(f"--time-budget={seconds}s")
        done = sum(search.finished().values())
        num_trials = sum(self.whole[kind].finished().values())
        resumed = search.resume("--time-budget=1h")
        return Row(
            f"a time budget of {seconds} s, then of 1 h", kind,
            f"exit code {first.code} with {done} of {num_trials} trials; after resuming, {describe_trials(search)}",
            resumed.code == 0, self._same_front(search),
            first.code == 0 and resumed.code == 0 and done < num_trials
            and [row[:3] for row in search.found()] == [row[:3] for row in self.whole[kind].found()],
        )  # fmt: skip


def _seconds_until_half(search: Search) -> int:
    """Returns the wall time of a search from its beginning until half of its trials had ended: too little for all."""
    (header,), finished = search.events("header"), search.events("finished")
    return round(finished[len(finished) // 2]["time"] - header["time"])


def _is_replaced(search: Search, number: int) -> bool:
    """Returns whether a search recommends other networks than a trial's, and every one of them finished."""
    history = search.history()
    known = history.recommended
    numbers = [] if known is None else [network.number for network in known.networks]
    has_finished = bool(numbers) and all(history.trials[one].result is not None for one in numbers)
    return has_finished and history.trials[number].result is None and number not in numbers


def _victim(whole: Search, job: str) -> tuple[int, str]:
    """Returns the best trial of an undisturbed search, by number and by the name that jobs know it by.

    Of recommended ones, the first: all others depend on its result.
    """
    history = whole.history()
    trials = [trial for trial in history.trials.values() if trial.result is not None]
    if job == "final":
        trials = [trial for trial in trials if trial.finals]
    if job == RECOMMENDED:
        trials = [min((trial for trial in trials if trial.origin == ORIGIN), key=lambda trial: trial.number)]
    best = min(trials, key=lambda trial: (trial.result.error, trial.number))  # type: ignore[union-attr]
    arch, schedule = best.candidate.arch.arch_id, best.candidate.depth_schedule
    return best.number, arch if job == "final" else f"{arch} {schedule}"
