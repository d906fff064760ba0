"""From the bytes of a request to the values its model checks; anything else is a problem 400.

A query string is turned into the values JSON would have carried, so both ways in obey one model.
Numbers go by a regular expression: `int` also takes ``1_0``, ``+5`` and Arabic digits.
"""

import json
import re
from collections.abc import Container, Iterable, Mapping
from types import MappingProxyType
from typing import Final, NoReturn, TypeVar
from urllib.parse import parse_qsl

from pydantic import BaseModel, ValidationError

from recae_api.problems import Problem, abridged

M = TypeVar("M", bound=BaseModel)

LISTS: Final = frozenset({"history", "exclude", "candidates"})
_NUMBERS: Final = frozenset({"k", "n"})
_YES_OR_NO: Final = frozenset({"exclude_seen", "explain"})
_FLAGS: Final[Mapping[str, bool]] = {"true": True, "false": False}
_WHOLE_NUMBER: Final = re.compile(r"0|-?[1-9][0-9]{0,17}")
_MESSAGE: Final[Mapping[str, str]] = {
    "missing": "it is missing",
    "extra_forbidden": "",
    "string_too_short": "an empty id is not accepted",
    "string_too_long": "an id of at most {max_length} characters is accepted",
    "string_pattern_mismatch": "an id without control characters is accepted",
    "string_type": "a text or a whole number is accepted",
    "string_unicode": "a text of valid Unicode is accepted",
    "int_type": "a whole number is accepted",
    "bool_type": "true or false is accepted",
    "list_type": "a list is accepted",
    "greater_than_equal": "a whole number from {ge} is accepted",
    "less_than_equal": "a whole number up to {le} is accepted",
    "literal_error": "{expected} is accepted",
    "too_long": "at most {max_length} entries are accepted",
    "too_short": "at least {min_length} entry is accepted",
}


def from_query(
    model: type[M], query_string: bytes, *, path: Mapping[str, str] = MappingProxyType({})
) -> M:
    """Request read from a query string, and from the parts of the `path` that are parameters.

    Raises
    ------
    Problem
        400 where a parameter is unknown, repeated, out of range or unparsable.
    """
    try:
        pairs = parse_qsl(query_string.decode(), keep_blank_values=True, errors="strict")
    except UnicodeDecodeError:
        raise Problem("bad-request", "the query string is not UTF-8; UTF-8 is accepted") from None
    values: dict[str, object] = {}
    for name, text in pairs:
        if name in LISTS:
            entries = values.setdefault(name, [])
            assert isinstance(entries, list)
            entries.append(text)
        elif name in path:
            _refuse_unknown(name, model, path)
        elif name in values:
            raise Problem("bad-request", f"{abridged(name)} is given twice; once is accepted")
        elif name in _NUMBERS:
            values[name] = _whole_number(name, text)
        elif name in _YES_OR_NO:
            if text not in _FLAGS:
                _refuse(name, text, "true or false is accepted")
            values[name] = _FLAGS[text]
        else:
            values[name] = text
    return _checked(model, values, path)


def require_utf8(path: str) -> None:
    """Refuse a path whose bytes are not UTF-8: Flask would read another id from them.

    Parameters
    ----------
    path
        ``PATH_INFO`` of WSGI, a character a byte.

    Raises
    ------
    Problem
        400.
    """
    try:
        path.encode("latin-1").decode()
    except UnicodeDecodeError:
        raise Problem("bad-request", "the path is not UTF-8; UTF-8 is accepted") from None


def refuse_joined(asked: BaseModel, known: Container[str]) -> None:
    """Refuse known ids that a query string has as one, with commas between.

    Raises
    ------
    Problem
        400 where a parameter is one text that is no id, and whose parts are.
    """
    for name in sorted(LISTS):
        given = getattr(asked, name, None)
        if not given or len(given) > 1 or "," not in given[0] or given[0] in known:
            continue
        parts = given[0].split(",")
        if all(part in known for part in parts):
            again = "&".join(f"{name}={part}" for part in parts[:2])
            _refuse(name, given[0], f"commas do not separate ids: repeat the parameter, {again}")


def nothing_asked(query_string: bytes) -> None:
    """Refuse any parameter, for routes that take none.

    Raises
    ------
    Problem
        400 where there is one.
    """
    if query_string:
        raise Problem("bad-request", "no parameter is accepted here, and some are given")


def from_json(model: type[M], body: bytes) -> M:
    """Request read from a JSON document.

    Raises
    ------
    Problem
        400 where the document is malformed, or a field unknown, repeated, null, out of range or
        of another type.
    """
    try:
        values = json.loads(
            body.decode(),
            object_pairs_hook=_without_repeats,
            parse_float=_number,
            parse_constant=_no_constant,
        )
    except UnicodeDecodeError:
        raise Problem("bad-request", "the body is not UTF-8; UTF-8 is accepted") from None
    except RecursionError:
        raise Problem("bad-request", "the body is nested too deeply to be read") from None
    except ValueError as error:  # JSONDecodeError, and numbers of more than 4,300 digits
        where = f" at line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise Problem("bad-request", f"the body is not JSON{where}; JSON is accepted") from None
    if not isinstance(values, dict):
        raise Problem("bad-request", f"the body is {abridged(values)}; a JSON object is accepted")
    return _checked(model, values)


def _whole_number(name: str, text: str) -> int:
    if not _WHOLE_NUMBER.fullmatch(text):
        _refuse(name, text, "a whole number in plain decimal digits is accepted")
    return int(text)


def _refuse(name: str, value: object, accepted: str) -> NoReturn:
    raise Problem("bad-request", f"{name} is {abridged(value)}; {accepted}")


def _refuse_unknown(name: str, model: type[BaseModel], path: Iterable[str]) -> NoReturn:
    known = ", ".join(field for field in model.model_fields if field not in path)
    raise Problem("bad-request", f"{abridged(name)} is unknown; {known} are accepted")


def _without_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    values: dict[str, object] = {}
    for name, value in pairs:
        if name in values:
            raise Problem("bad-request", f"{abridged(name)} is given twice; once is accepted")
        if value is None:
            raise Problem("bad-request", f"{abridged(name)} is null; leave it out instead")
        values[name] = value
    return values


def _number(text: str) -> int | float:
    """Number of a JSON text: 10.0 and 1e1 are the whole number 10, as JSON Schema has it."""
    value = float(text)
    return int(value) if value.is_integer() else value


def _no_constant(name: str) -> NoReturn:
    raise Problem("bad-request", f"{name} is not JSON; JSON is accepted")


def _checked(
    model: type[M], values: dict[str, object], path: Mapping[str, str] = MappingProxyType({})
) -> M:
    try:
        return model.model_validate(values | dict(path))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] not in _MESSAGE:  # our own messages say it all
        raise Problem("bad-request", (f"{where}: " if where else "") + first["msg"])
    # pydantic quotes the texts that are accepted as Python does
    accepted = _MESSAGE[first["type"]].format(**first.get("ctx", {})).replace("'", '"')
    if first["type"] == "missing":
        raise Problem("bad-request", f"{where}: {accepted}")
    if first["type"] == "extra_forbidden":
        if len(first["loc"]) == 1:
            _refuse_unknown(where, model, path)
        raise Problem(
            "bad-request", f"{abridged(where)} is unknown; those of /openapi.json are accepted"
        )
    if first["type"] in {"too_long", "too_short"}:
        length = first["ctx"]["actual_length"]
        raise Problem("bad-request", f"{where} has {length} entries; {accepted}")
    _refuse(where, first["input"], accepted)
