"""Did you mean: the known id that differs from an unknown one in zeros, case or spaces alone."""

from typing import Any, final

import pyarrow as pa
import pyarrow.compute as pc

from recae.data.ids import IdMap

_MAX_IDS = 2_000_000  # one look through as many forms takes milliseconds; a hint is worth no more


@final
class Hints:
    """Hints among `ids`; what they need is computed when the first is asked for."""

    def __init__(self, ids: IdMap) -> None:
        self._ids = ids
        self._forms: Any = None

    def of(self, id_: str) -> str:
        """Return ``"; did you mean 'x'"``, or nothing."""
        if len(self._ids) > _MAX_IDS:
            return ""
        if self._forms is None:
            self._forms = _forms(self._ids.to_arrow())
        try:
            form = _forms(pa.array([id_], type=pa.large_string()))[0]
        except UnicodeEncodeError:  # half a character, which no id has
            return ""
        position = pc.index(self._forms, form).as_py()
        if position < 0 or not form.as_py():
            return ""
        return f"; did you mean {self._ids.ids_at([position])[0]!r:.100}"


def _forms(ids: Any) -> Any:
    """`ids` in lower case, without spaces around them and without leading zeros."""
    return pc.utf8_ltrim(pc.utf8_lower(pc.utf8_trim_whitespace(ids)), characters="0")
