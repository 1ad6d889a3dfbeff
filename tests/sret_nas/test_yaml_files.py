"""YAML from outside: plain data inside bounds, and everything else refused in one line before it is built."""

from __future__ import annotations

import time

import pytest

from sret_nas.errors import ConfigError
from sret_nas.yaml_files import MAX_NODES, parse_yaml


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('a: !!int ""', "line 1, column 4: not valid YAML: tags are not read here, got '!!int'"),
        ("a: 1\nb: !!timestamp x", "line 2, column 4: not valid YAML: tags are not read here, got '!!timestamp'"),
        ("a: !mine x", "line 1, column 4: not valid YAML: tags are not read here, got '!mine'"),
        *(
            (
                f"a: {written}",
                f"line 1, column 4: not valid YAML: '{written}' is not read here, since YAML takes it for another "
                "number: write it in decimal, or with quotes to make it text",
            )
            for written in ("1:30", "-1:30.5", "0224", "-010")
        ),
        ("a: 2020-01-31", "line 1, column 4: not valid YAML: a date is not read here, got '2020-01-31'"),
        ("a: =", "line 1, column 4: not valid YAML: a special value is not read here"),
        ("a: {b: 1}\nc:\n  <<: {d: 1}", "line 3, column 3: not valid YAML: merge keys"),
        ("a: &a [*a]", "line 1, column 8: not valid YAML: the alias 'a' stands inside what it stands for"),
        ("1: x", "line 1, column 1: not valid YAML: a key must be a word, got 1"),
        ("? [a]\n: x", "line 1, column 3: not valid YAML: a key must be a word, got a list or a mapping"),
        ("a: 0b_", "line 1, column 4: not valid YAML: '0b_' cannot be read"),
        ('a: "\\ud83d"', "line 1, column 4: not valid YAML: .*half a surrogate pair"),
        ("a: " + "9" * 5000, "line 1, column 4: not valid YAML: a number must have at most 400 characters, got 5,000"),
        (
            "a: 1\n---\nb: 2",
            "line 2, column 1: not valid YAML: expected a single document in the stream, but found another document",
        ),
        ("a: [1, 2", "line 1, column 9: not valid YAML: while parsing a flow sequence, expected ',' or ']', but got"),
        ("[" * 100, "line 1, column 33: not valid YAML: must be at most 32 levels deep"),
        ("a: 1\nb: \x1b[31m", r"line 2: not valid YAML: the character \\x1b is not allowed in it"),
    ],
)
def test_what_is_not_plain_is_refused_with_its_line(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^f.yaml: {message}") as caught:
        parse_yaml(text, "f.yaml")
    assert str(caught.value).isprintable()


def test_aliases_count_as_written_out() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join(10 * [f'*a{n - 1}'])}]" for n in range(1, 9)]
    started = time.process_time()
    with pytest.raises(ConfigError, match=f"must hold at most {MAX_NODES:,} values, aliases written out"):
        parse_yaml("\n".join(lines), "f.yaml")
    assert time.process_time() - started < 1


def test_an_alias_stands_for_equal_data() -> None:
    assert parse_yaml("a: &a [1, 2]\nb: *a\nc: [*a, *a]", "f") == {"a": [1, 2], "b": [1, 2], "c": [[1, 2], [1, 2]]}


def test_a_pair_of_surrogates_is_the_character_that_it_means() -> None:
    assert parse_yaml('a: "\\ud83d\\ude00"', "f") == {"a": "\U0001f600"}
