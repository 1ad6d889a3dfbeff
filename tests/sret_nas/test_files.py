from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, StrictFloat, StrictInt

from sret_nas.errors import ConfigError, UserError
from sret_nas.files import as_path, expand_home, format_key_path, validate, write_atomically
from sret_nas.yaml_files import dump_yaml, parse_yaml, read_yaml


class Inner(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    size: Annotated[StrictInt, Field(ge=1, le=9)]


class Outer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    rows: Annotated[tuple[Inner, ...], Field(max_length=2)]
    names: Annotated[tuple[str, ...], Field(min_length=1)] = ("a",)
    rate: Annotated[StrictFloat, Field(allow_inf_nan=False)] = 0.5
    note: str | None = None


# Unicode's other line ends, which nothing here writes, are taken for spaces or line ends when YAML is read.
TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


class TestYaml:
    @given(PLAIN)
    def test_round_trip(self, data: Any) -> None:
        assert parse_yaml(dump_yaml(data), "test") == data

    def test_keys_keep_their_order_and_flat_lists_stand_on_one_line(self) -> None:
        assert dump_yaml({"b": [1, 2.5, "x"], "a": {"d": [{"c": [[8, 2], [1]]}]}}) == (
            "b: [1, 2.5, x]\na:\n  d:\n  - c: [[8, 2], [1]]\n"
        )

    def test_no_anchors(self) -> None:
        shared = [1, 2]
        assert dump_yaml({"a": shared, "b": shared}) == "a: [1, 2]\nb: [1, 2]\n"

    @pytest.mark.parametrize(
        ("text", "message"),
        [("a: 1\nb: 2\na: 3", "f.yaml: line 3, column 1: not valid YAML: key 'a' is written twice"),
         ("a: {b: 1, b: 1}", "f.yaml: line 1, column 11: not valid YAML: key 'b' is written twice"),
         ("- x: 1\n- {y: 1, z: 2, y: 3}", "f.yaml: line 2, column 16: not valid YAML: key 'y' is written twice")],
    )  # fmt: skip
    def test_a_key_written_twice(self, text: str, message: str) -> None:
        with pytest.raises(ConfigError) as caught:
            parse_yaml(text, "f.yaml")
        assert str(caught.value) == message

    @pytest.mark.parametrize(
        "text", ["a: [1", "a: b: c", "\t- x", "!!python/object/apply:os.getcwd []", "? {a: b}\n: c", "a: 2020-13-45"]
    )
    def test_what_is_no_plain_yaml(self, text: str) -> None:
        with pytest.raises(ConfigError, match=r"^f.yaml: .*not valid YAML: "):
            parse_yaml(text, "f.yaml")

    def test_the_same_key_in_two_mappings_is_fine(self) -> None:
        assert parse_yaml("[{a: 1}, {a: 2}]", "f.yaml") == [{"a": 1}, {"a": 2}]


class TestReadYaml:
    def test_reads(self, tmp_path: Path) -> None:
        (tmp_path / "f.yaml").write_text("größe: [1, 2]\n", encoding="utf-8")
        assert read_yaml(tmp_path / "f.yaml") == {"größe": [1, 2]}

    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(UserError) as caught:
            read_yaml(tmp_path / "none.yaml")
        assert str(caught.value) == f"{tmp_path / 'none.yaml'}: there is no such file"

    def test_a_folder_and_a_picture(self, tmp_path: Path) -> None:
        (tmp_path / "picture.yaml").write_bytes(b"\x89PNG\xff\xfe")
        for path in (tmp_path, tmp_path / "picture.yaml"):
            with pytest.raises(UserError, match=f"^{path}: cannot be read: "):
                read_yaml(path)


class TestValidate:
    def test_good(self) -> None:
        assert validate(Outer, {"rows": [{"size": 3}], "rate": 1}, "f.yaml") == Outer(rows=(Inner(size=3),), rate=1.0)

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            ({"rows": [{"size": 0}]}, "f.yaml: rows[0].size: must be greater than or equal to 1, got 0"),
            ({"rows": [{"size": 1}, {"size": 10}]}, "f.yaml: rows[1].size: must be less than or equal to 9, got 10"),
            ({"rows": [{"size": "3"}]}, "f.yaml: rows[0].size: must be a whole number, got '3'"),
            ({"rows": [{"size": 3.0}]}, "f.yaml: rows[0].size: must be a whole number, got 3.0"),
            ({"rows": [{"size": True}]}, "f.yaml: rows[0].size: must be a whole number, got True"),
            ({"rows": [{}]}, "f.yaml: rows[0].size: is missing"),
            ({"rows": [3]}, "f.yaml: rows[0]: must be a mapping of keys to values, got 3"),
            ({"rows": 3}, "f.yaml: rows: must be a list, got 3"),
            ({"rows": [], "names": []}, "f.yaml: names: must have at least 1 item, got 0"),
            ({"rows": [{"size": 1}] * 3}, "f.yaml: rows: must have at most 2 items, got 3"),
            ({"rows": [{"size": 1, "siez": 2}]}, "f.yaml: rows[0].siez: unknown key (known here: size)"),
            ({"rows": [{"size": 1}], "x": 2}, "f.yaml: x: unknown key (known here: rows, names, rate, note)"),
            ({"rows": [{"size": 1}], "rate": "high"}, "f.yaml: rate: must be a number, got 'high'"),
            ({"rows": [{"size": 1}], "rate": float("inf")}, "f.yaml: rate: must be a finite number, got inf"),
            ({"rows": [{"size": 1}], "note": 3}, "f.yaml: note: must be a word, got 3"),
            ({"rows": [{"size": 0}, {"size": 0}], "y": 1},
             "f.yaml: y: unknown key (known here: rows, names, rate, note) (and 2 more)"),
            ({}, "f.yaml: rows: is missing"),
            ([1], "f.yaml: must be a mapping with the keys rows, got [1]"),
            (None, "f.yaml: must be a mapping with the keys rows, got None"),
            ("x" * 100, f"f.yaml: must be a mapping with the keys rows, got '{'x' * 76}..."),
        ],
    )  # fmt: skip
    def test_bad(self, data: Any, message: str) -> None:
        with pytest.raises(ConfigError) as caught:
            validate(Outer, data, "f.yaml")
        assert str(caught.value) == message

    def test_the_error_carries_its_parts(self) -> None:
        with pytest.raises(ConfigError) as caught:
            validate(Outer, {"rows": [{"size": 0}]}, "f.yaml")
        error = caught.value
        assert (error.source, error.key_path) == ("f.yaml", "rows[0].size")
        assert error.problem == "must be greater than or equal to 1, got 0"

    @given(PLAIN)
    def test_any_data_is_valid_or_a_config_error(self, data: Any) -> None:
        try:
            assert isinstance(validate(Outer, data, "f.yaml"), Outer)
        except ConfigError as error:
            assert str(error).startswith("f.yaml: ")  # noqa: PT017 - either outcome is right


@pytest.mark.parametrize(
    ("location", "text"),
    [((), ""), (("a",), "a"), (("stages", 1, "heads"), "stages[1].heads"), ((0, "a", 1, 2), "[0].a[1][2]")],
)
def test_format_key_path(location: tuple[int | str, ...], text: str) -> None:
    assert format_key_path(location) == text


class TestAsPath:
    def test_home_is_replaced_in_text_where_there_is_one(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOME", "/home/ann")
        assert as_path("~/a.yaml", "the file") == Path("/home/ann/a.yaml")
        for path in ("~a.yaml", "./~/a.yaml", Path("~/a.yaml")):
            assert as_path(path, "the file") == Path(path)

    @pytest.mark.parametrize("given", [None, 3, b"a.yaml", ["a.yaml"]])
    def test_what_is_no_path(self, given: Any) -> None:
        expected = f"the file must be a name or a path, got {given!r}"
        with pytest.raises(UserError, match=f"^{re.escape(expected)}$"):
            as_path(given, "the file", "a name or a path")


class TestWriteAtomically:
    def test_writes_and_replaces_text_and_bytes(self, tmp_path: Path) -> None:
        path = tmp_path / "new" / "folder" / "f.txt"
        write_atomically(path, "größe\n")
        assert path.read_bytes() == "größe\n".encode()
        write_atomically(path, b"\x00\xff")
        assert path.read_bytes() == b"\x00\xff"
        assert os.listdir(path.parent) == ["f.txt"]
        assert stat.S_IMODE(path.stat().st_mode) == 0o644

    @pytest.mark.parametrize("step", ["fsync", "replace"])
    def test_a_failure_leaves_the_old_content_and_nothing_else(
        self, step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "f.txt"
        write_atomically(path, "old")

        def fail(*_: object) -> None:
            raise OSError("no space left")

        monkeypatch.setattr(os, step, fail)
        with pytest.raises(OSError, match="no space left"):
            write_atomically(path, "new")
        assert path.read_text() == "old"
        assert os.listdir(tmp_path) == ["f.txt"]


@pytest.mark.parametrize("given", ["~nobody_of_this_name/x", Path("~nobody_of_this_name")])
def test_the_home_of_nobody_is_one_line(given: str | Path) -> None:
    with pytest.raises(UserError, match=r"^'~nobody_of_this_name.*' cannot be looked up: "):
        expand_home(given)
    assert expand_home("~/x") == Path.home() / "x"
