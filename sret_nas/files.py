"""Files on disk: writes that happen whole or not at all, and plain data from files as validated models."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from sret_nas.bounded_files import open_regular
from sret_nas.errors import ConfigError, UserError, describe, printable

Model = TypeVar("Model", bound=BaseModel)

MAX_KEY = 80
"""Characters of a key that a message shows."""


def write_atomically(path: Path, content: str | bytes) -> None:
    """Writes a file so that a reader, or a crash at any moment, sees the old content or the new, never a part.

    Raises `OSError`, which names the file, if there is no room for it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content.encode() if isinstance(content, str) else content
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # mkstemp makes it private; a result is for everybody on the machine
        os.replace(temporary, path)
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno is not None:
            error.filename = str(path)  # the system names it where opening fails, and not where writing does
        raise


def short_digest(text: str) -> str:
    """Returns twelve hexadecimal digits that name a text: of its SHA-256."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def digest_of_file(path: Path) -> str:
    """SHA-256 of a file's content, 64 hexadecimal digits. Raises `UserError` if it cannot be read."""
    with open_regular(path) as file:
        try:
            return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise UserError(f"{path}: cannot be read: {error.strerror}") from None


def format_key_path(location: tuple[int | str, ...]) -> str:
    """`("stages", 1, "heads")` as `stages[1].heads`."""
    path = ""
    for part in location:
        if isinstance(part, int):
            path += f"[{part}]"
        else:
            key = printable(part, MAX_KEY)
            path += f".{key}" if path else key
    return path


def validate(model: type[Model], data: Any, source: str) -> Model:
    """Plain data as a validated pydantic model.

    Raises `ConfigError` with the file, the key path, the rule and the value of the first thing that is wrong,
    and with the number of further problems.
    """
    if not isinstance(data, dict):
        expected = ", ".join(name for name, field in model.model_fields.items() if field.is_required())
        raise ConfigError(source, "", f"must be a mapping with the keys {expected}, got {describe(data)}")
    try:
        return model.model_validate(data)
    except ValidationError as error:
        first, *others = _independent(error.errors(include_url=False))
        problem = _explain(first, model)
        if others:
            problem += f" (and {len(others)} more)"
        raise ConfigError(source, format_key_path(first["loc"]), problem) from None


def _independent(problems: list[Any]) -> list[Any]:
    """Without what pydantic adds where another problem, reported for itself, left a value out; unknown keys first."""
    outer = {problem["loc"][:depth] for problem in problems for depth in range(len(problem["loc"]))}

    def follows(problem: Any) -> bool:
        return problem["type"] == "default_factory_not_called" or (
            problem["type"] == "too_short" and problem["loc"] in outer
        )

    # an unknown key is often the misspelling of one that is then missing, so it comes first
    return sorted(
        (problem for problem in problems if not follows(problem)), key=lambda p: p["type"] != "extra_forbidden"
    )


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
"""What pydantic's error types ask for, in words of the person who writes the YAML."""


def _explain(error: Any, model: type[BaseModel]) -> str:
    """One pydantic error as rule and value, in our words where pydantic's are a programmer's."""
    kind, value, context = error["type"], error["input"], error.get("ctx", {})
    if kind == "value_error":
        return str(context["error"])
    if kind == "missing":
        return "is missing"
    if kind == "extra_forbidden":
        known = _known_keys(model, error["loc"][:-1])
        return f"unknown key (known here: {', '.join(known)})" if known else "unknown key"
    if kind in _RULES:
        return f"must be {_RULES[kind]}, got {describe(value)}"
    if kind == "string_too_short":
        return "must not be empty"
    if kind in ("too_short", "too_long"):
        bound = f"at least {context['min_length']}" if kind == "too_short" else f"at most {context['max_length']}"
        return f"must have {bound} item(s), got {context['actual_length']}"
    rule = error["msg"].removeprefix("Input should be ").removeprefix("Input should ")
    return f"must be {rule}, got {describe(value)}"


def _known_keys(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """The keys that the model at a location inside `model` takes; empty if that is not a model."""
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
    return isinstance(candidate, type) and issubclass(candidate, BaseModel)


def _model_inside(annotation: Any) -> Any:
    """The pydantic model in `Model`, `Model | None` or `tuple[Model, ...]`."""
    if _is_model(annotation):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        found = _model_inside(argument)
        if found is not None:
            return found
    return None
