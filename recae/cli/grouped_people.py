"""People of a file whose rows stand together, in the items of a model, some of them at a time."""

from collections.abc import Iterator, Mapping
from typing import Any, final

from recae.cli.people import (
    LeftOut,
    as_at_training,
    asked_of,
    asking,
    in_model,
    places_of,
    refuse_if_none_known,
    tell_left_out,
    tell_unknown_items,
    with_seen,
)
from recae.cli.reading import resolve, tell
from recae.data.histories import Histories
from recae.data.ids import IdMap
from recae.data.readers import GroupedReading
from recae.serving import Bundle
from recae.serving.batch import PART


@final
class GroupedPeople:
    """People of a file, known or not, like `recae.cli.people.people_of`, but read while iterated.

    Attributes
    ----------
    left_out
        Who was left out, once all were read.
    """

    def __init__(self, bundle: Bundle, source: str, options: Mapping[str, Any]) -> None:
        self._bundle, self._source = bundle, source
        config = as_at_training(bundle, resolve(options))
        self._reading = GroupedReading(
            source, people=PART, rejects=options.get("rejects"), **dict(config.read)
        )
        self.left_out = LeftOut()

    def __iter__(self) -> Iterator[tuple[Histories, IdMap]]:
        strangers = below = LeftOut()
        unknown: dict[str, None] = {}  # in order
        any_known = False
        for group in self._reading:
            below += LeftOut.of(group.below)
            if group.data is None:
                continue
            place, missing = places_of(self._bundle, group.data.items)
            any_known |= len(missing) < len(place)
            unknown |= dict.fromkeys(missing)
            mapped = in_model(self._bundle, asked_of(self._bundle, group.data), place)
            mapped = with_seen(self._bundle, mapped, group.data)
            histories, users, nobody = asking(mapped, group.data.users)
            strangers += nobody
            yield histories, users
        assert self._reading.report is not None
        tell(self._reading.report)
        refuse_if_none_known(self._source, any_known)
        tell_unknown_items(self._source, list(unknown))
        tell_left_out(self._source, strangers, below)
        self.left_out = strangers + below
