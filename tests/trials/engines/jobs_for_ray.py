"""Jobs that tests of the Ray engine run in its workers: importable by name, without torch.

This file alone is sent to the machines of a cluster.
"""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

import numpy as np

import trials
from sret_nas.errors import UserError


def look_around(payload: dict[str, Any]) -> dict[str, Any]:
    """Does what the payload says. By default reads the files that it names, and writes weights."""
    what = payload.get("do")
    if what is None:
        return _read(payload)
    if what == "await":
        while not Path(payload["path"]).exists():
            threading.Event().wait(0.05)
    elif what == "refuse":
        raise UserError(f"the images in {payload['data_dir']} are not those")
    elif what == "interrupt":
        os.kill(os.getpid(), signal.SIGINT)
    elif what == "hang":
        threading.Event().wait()
    elif what == "hang deaf":
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Event().wait()
    elif what == "exit":
        os._exit(3)
    elif what == "count and kill":
        Path(payload["folder"], str(os.getpid())).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    elif what == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif what != "place":
        from trials.engines.conformance import misbehave

        return misbehave(payload)
    return {
        "process": os.getpid(),
        "code": str(Path(trials.__file__).parent),
        "mark": os.environ.get("SRET_NAS_TEST"),
        "value": payload.get("value"),
    }


def _read(payload: dict[str, Any]) -> dict[str, Any]:
    images = np.load(Path(payload["data_dir"]) / "train_images.npy", mmap_mode="r")
    found = {
        "process": os.getpid(),
        "data_dir": payload["data_dir"],
        "sum": int(images.sum()),
        "mapped": _mapped(Path(payload["data_dir"])),
        "supernet": Path(payload["supernet"]["path"]).read_text() if payload.get("supernet") else None,
    }
    if payload["kind"] == "test":
        return {**found, "weights": Path(payload["weights_path"]).read_text()}
    if payload.get("checkpoint_from"):
        found["checkpoint"] = Path(payload["checkpoint_from"]).read_text()
    if payload.get("checkpoint_to"):
        Path(payload["checkpoint_to"]).write_text(f"checkpoint of {payload['number']}")
    Path(payload["weights_path"]).write_text(f"weights of {payload['number']}")
    return {**found, "weights_path": payload["weights_path"]}


def _mapped(folder: Path) -> list[str]:
    """Returns the devices and inodes of a folder's files that are mapped into this process's memory."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    return sorted({" ".join(line.split()[3:5]) for line in lines if str(folder) in line})
