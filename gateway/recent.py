"""A small map that forgets what was used longest ago."""

from __future__ import annotations

from typing import Generic, TypeVar

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


class Recent(Generic[_Key, _Value]):
    """The most recently used `capacity` pairs. For one thread."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._pairs: dict[_Key, _Value] = {}

    def get(self, key: _Key) -> _Value | None:
        """Return the value of `key`, now the most recent, or None."""
        value = self._pairs.pop(key, None)
        if value is not None:
            self._pairs[key] = value
        return value

    def put(self, key: _Key, value: _Value) -> None:
        """Keep `value` as the most recent, forgetting the least recent where there is no room."""
        self._pairs.pop(key, None)
        self._pairs[key] = value
        if len(self._pairs) > self._capacity:
            del self._pairs[next(iter(self._pairs))]

    def __len__(self) -> int:
        return len(self._pairs)
