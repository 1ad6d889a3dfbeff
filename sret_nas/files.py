"""Home folders, atomic writes, file digests, and validation of plain data read from files."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from sret_nas.arrays import holds_numpy, without_numpy
from sret_nas.bounded_files import open_regular
from sret_nas.errors import ConfigError, UserError, describe, printable
from sret_nas.plurals import counted

Model = TypeVar("Model", bound=BaseModel)

MAX_KEY = 80
"""Most characters of a key shown in a message."""


def expand_home(path: str | Path) -> Path:
    """Returns a path with `~` and `~name` replaced by a home folder. Raises `UserError` if there is no such user."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise UserError(f"{str(path)!r} cannot be looked up: {error}") from None


def as_path(path: object, what: str, form: str = "a path") -> Path:
    """Returns a path that a program gives; in text, `~` and `~name` are replaced by a home folder, where there is one.

    A `Path` is what it is, as everywhere in Python. So a folder that is called `~` stays one, whoever passes it on.

    Args:
        path: What is given.
        what: The argument, in the message.
        form: What it may be, in the message.

    Raises `UserError` for anything that is no path.
    """
    if not isinstance(path, str | os.PathLike) or isinstance(path, bytes):
        raise UserError(f"{what} must be {form}, got {describe(path)}")
    return Path(os.path.expanduser(path) if isinstance(path, str) else path)


def write_atomically(path: Path, content: str | bytes) -> None:
    """Writes a file atomically: a reader, even after a crash, sees either the old content or the new, never a part.

    Missing parent folders are created. Raises `OSError` that names the file, e.g. when the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content.encode() if isinstance(content, str) else content
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # mkstemp creates private files; results are readable by all users
        os.replace(temporary, path)
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno is not None:
            error.filename = str(path)  # the system names the file when opening fails, not when writing does
        raise


def short_digest(text: str) -> str:
    """Returns the first twelve hexadecimal digits of the SHA-256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def digest_of_file(path: Path) -> str:
    """Returns the SHA-256 of a file's content as 64 hexadecimal digits. Raises `UserError` if it cannot be read."""
    with open_regular(path) as file:
        try:
            return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise UserError(f"{path}: cannot be read: {error.strerror}") from None


def format_key_path(location: tuple[int | str, ...]) -> str:
    """Formats `("stages", 1, "heads")` as `stages[1].heads`."""
    path = ""
    for part in location:
        if isinstance(part, int):
            path += f"[{part}]"
        else:
            key = printable(part, MAX_KEY)
            path += f".{key}" if path else key
    return path


def validate(model: type[Model], data: Any, source: str) -> Model:
    """Validates plain data and returns the pydantic model built from it.

    Args:
        model: The class to build.
        data: Plain data, as YAML or JSON gives it; a program's may have numpy's numbers and arrays in it.
        source: Name of the file or other origin, for the error message.

    Raises:
        ConfigError: The first problem (key path, rule and value) and the number of further ones.
    """
    if not isinstance(data, dict):
        expected = ", ".join(name for name, field in model.model_fields.items() if field.is_required())
        raise ConfigError(source, "", f"must be a mapping with the keys {expected}, got {describe(data)}")
    try:
        return model.model_validate(data)
    except ValidationError as error:
        if holds_numpy(data):  # a program's data, not a file's
            return validate(model, without_numpy(data), source)
        first, *others = _independent(error.errors(include_url=False))
        problem = _explain(first, model)
        if others:
            problem += f" (and {len(others)} more)"
        raise ConfigError(source, format_key_path(first["loc"]), problem) from None


def _independent(problems: list[Any]) -> list[Any]:
    """Drops errors that only follow from another reported error, and sorts unknown keys first."""
    outer = {problem["loc"][:depth] for problem in problems for depth in range(len(problem["loc"]))}

    def follows(problem: Any) -> bool:
        """Returns whether an error only follows from an invalid value inside or beside it."""
        return problem["type"] == "default_factory_not_called" or (
            problem["type"] == "too_short" and problem["loc"] in outer
        )

    # An unknown key is often a misspelling of one that is then reported as missing, so it comes first.
    return sorted(
        (problem for problem in problems if not follows(problem)), key=lambda p: p["type"] != "extra_forbidden"
    )


_WITH_EXPONENT = re.compile(r"[+-]?(\d{1,9}(\.\d{0,9})?|\.\d{1,9})[eE][+-]?\d{1,2}", re.ASCII)

MAX_PLAIN = 20
"""Most characters of a number that a message writes out."""

_RULES = {
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "a word",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a mapping of keys to values",
    "model_type": "a mapping of keys to values",
    "finite_number": "a finite number",
}
"""Pydantic's error types as rules, in the words of somebody who writes YAML."""


def _explain(error: Any, model: type[BaseModel]) -> str:
    """Describes one pydantic error as rule and value, without a programmer's terms."""
    kind, value, context = error["type"], error["input"], error.get("ctx", {})
    if kind == "value_error":
        return str(context["error"])
    if kind == "missing":
        return "is missing"
    if kind == "extra_forbidden":
        known = _known_keys(model, error["loc"][:-1])
        return f"unknown key (known here: {', '.join(known)})" if known else "unknown key"
    if kind in _RULES:
        return f"must be {_RULES[kind]}, got {describe(value)}{_number_hint(kind, value)}"
    if kind == "string_too_short":
        return "must not be empty"
    if kind == "string_too_long":
        return f"must have at most {context['max_length']} characters, got {describe(value)}"
    if kind in ("too_short", "too_long"):
        word, bound = ("least", context["min_length"]) if kind == "too_short" else ("most", context["max_length"])
        return f"must have at {word} {counted(bound, 'item')}, got {context['actual_length']}"
    rule = error["msg"].removeprefix("Input should be ").removeprefix("Input should ")
    return f"must be {rule}, got {describe(value)}"


def _number_hint(kind: str, value: Any) -> str:
    """Returns how to write a number with an exponent, which YAML 1.1 takes for text unless it is like 1.0e-3."""
    if kind not in ("int_type", "float_type") or not isinstance(value, str) or not _WITH_EXPONENT.fullmatch(value):
        return ""
    number = Decimal(value)
    if kind == "int_type" and number != int(number):
        return ""
    plain = f"{number:f}"
    return f", which is text in YAML: write {plain}" if len(plain) <= MAX_PLAIN else ""


def _known_keys(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """Returns the keys of the model found at a location inside `model`, or [] if there is no model."""
    current: Any = model
    for part in location:
        if isinstance(part, int):
            continue
        field = current.model_fields.get(part) if _is_model(current) else None
        if field is None:
            return []
        current = _model_inside(field.annotation)
    return list(current.model_fields) if _is_model(current) else []


def _is_model(candidate: Any) -> bool:
    """Returns whether an object is a pydantic model class."""
    return isinstance(candidate, type) and issubclass(candidate, BaseModel)


def _model_inside(annotation: Any) -> Any:
    """Returns the model class in an annotation: `Model`, `Model | None` or `tuple[Model, ...]`; None without one."""
    if _is_model(annotation):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        model = _model_inside(argument)
        if model is not None:
            return model
    return None
