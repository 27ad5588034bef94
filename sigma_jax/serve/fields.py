"""Reading the fields of a JSON request: each is of its type and in its range, or is named."""

import json
import math
from typing import Any

from starlette.requests import Request

from .errors import RequestError, invalid


async def read_fields(request: Request, limit: int) -> "Fields":
    """The JSON object in a request's body.

    **Raises** `RequestError`: 413 as soon as more than `limit` bytes are announced or have come,
    without reading on; 400 if it is no JSON object.
    """
    announced = request.headers.get("content-length", "0")
    if announced.isdigit() and int(announced) > limit:
        raise _too_large(limit)
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > limit:
            raise _too_large(limit)
    try:
        values = json.loads(bytes(body), parse_constant=_refuse_constant)
    except RecursionError:
        raise invalid("the body is not valid JSON: it is nested too deeply.") from None
    except ValueError as error:  # of syntax, of encoding, of a number's length
        raise invalid(f"the body is not valid JSON: {error}") from None
    if not isinstance(values, dict):
        raise invalid(f"the body must be a JSON object; got {_kind(values)}.")
    return Fields(values)


class Fields:
    """A JSON object whose fields are asked for by name and type. A null counts as absent.

    Every method raises `RequestError` with status 400, naming the field, what was given and what is
    allowed. `prefix` is what the names of nested objects begin with.
    """

    def __init__(self, values: dict[str, Any], prefix: str = ""):
        self.values, self._prefix = values, prefix

    def given(self, name: str) -> bool:
        """Whether the field holds anything but null, false, zero and emptiness."""
        return bool(self.values.get(name))

    def text(self, name: str, default: str | None = "") -> str:
        """A text; one with half a surrogate pair is none."""
        value = self._value(name, default)
        if not isinstance(value, str):
            raise self._wrong(name, "a text", value)
        if not is_text(value):
            raise invalid(f"{self.full(name)} is not valid Unicode.", self.full(name))
        return value

    def flag(self, name: str, default: bool = False) -> bool:
        """True or false."""
        value = self._value(name, default)
        if not isinstance(value, bool):
            raise self._wrong(name, "true or false", value)
        return value

    def number(self, name: str, default: float, low: float, high: float) -> float:
        """A number from `low` to `high`."""
        value = self._value(name, default)
        number = _as_number(value)
        if number is None or not low <= number <= high:
            raise self._wrong(name, f"a number from {low:g} to {high:g}", value)
        return number

    def whole(self, name: str, default: int, low: int, high: int) -> int:
        """A whole number from `low` to `high`; 4.0 is one."""
        value = self._value(name, default)
        exact = int(value) if isinstance(value, float) and value.is_integer() else value
        if not isinstance(exact, int) or isinstance(exact, bool) or not low <= exact <= high:
            raise self._wrong(name, f"a whole number from {low} to {high}", value)
        return exact

    def texts(self, name: str, most: int) -> list[str]:
        """A text or a list of at most `most` texts; none if absent."""
        value = self._value(name, [])
        listed = [value] if isinstance(value, str) else value
        if not isinstance(listed, list) or not all(is_text(text) for text in listed):
            raise self._wrong(name, "a text or a list of texts", value)
        if len(listed) > most:
            raise invalid(f"{self.full(name)} may hold {most} texts; got {len(listed)}.", name)
        return listed

    def table(self, name: str) -> "Fields":
        """A nested object; an empty one if absent."""
        value = self._value(name, {})
        if not isinstance(value, dict):
            raise self._wrong(name, "an object", value)
        return Fields(value, f"{self.full(name)}.")

    def tables(self, name: str) -> list["Fields"]:
        """A list of objects; an empty one if absent."""
        value = self._value(name, [])
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise self._wrong(name, "a list of objects", value)
        return [Fields(item, f"{self.full(name)}[{i}].") for i, item in enumerate(value)]

    def refuse(self, names: tuple[str, ...]) -> None:
        """Raise for the first of `names` that asks for something that is not here."""
        for name in filter(self.given, names):
            raise invalid(f"{self.full(name)} is not supported.", self.full(name))

    def full(self, name: str) -> str:
        """The field's name, with those of the objects that it is in."""
        return f"{self._prefix}{name}"

    def _value(self, name: str, default: Any) -> Any:
        value = self.values.get(name)
        return default if value is None else value

    def _wrong(self, name: str, wanted: str, value: Any) -> RequestError:
        full = self.full(name)
        if value is None:
            return invalid(f"{full} is missing: it must be {wanted}.", full)
        got = f"{value!r}" if _as_number(value) is not None else _kind(value)
        return invalid(f"{full} must be {wanted}; got {got[:80]}.", full)


def is_text(value: Any) -> bool:
    """Whether `value` is a text that can be written as UTF-8."""
    if not isinstance(value, str):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _as_number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return math.inf
    return number


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false"}
    return "null" if value is None else names.get(type(value), "a number")


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")


def _too_large(limit: int) -> RequestError:
    return RequestError(413, f"the body is larger than {limit} bytes, the most that is read.")
