"""The script that completes commands and options in a shell."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from cli import create_parser


def test_bash_completes_commands_and_options(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("shtab", reason="shtab is an extra: pip install -e '.[completion]'")
    with pytest.raises(SystemExit, match="0"):
        create_parser().parse_args(["--print-completion", "bash"])
    script = capsys.readouterr().out
    bash = shutil.which("bash")
    assert bash is not None
    asked = 'COMP_WORDS=(sret-nas search --flo); COMP_CWORD=2; _shtab_sret_nas; printf "%s\\n" "${COMPREPLY[@]}"'
    answer = subprocess.run([bash, "-c", f"{script}\n{asked}"], capture_output=True, text=True, check=False)
    assert answer.stdout.split() == ["--flops-budget", "--flops-min"], answer.stderr


def test_without_shtab_one_line_says_what_to_install(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "shtab", None)
    with pytest.raises(SystemExit, match="2"):
        create_parser().parse_args(["--print-completion", "zsh"])
    assert "needs shtab, which is not installed: pip install -e '.[completion]'" in capsys.readouterr().err
