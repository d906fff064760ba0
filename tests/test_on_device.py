"""Lists made on an accelerator are those of the host, here with both on the CPU."""

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array

from recae.data.histories import Histories
from recae.models.tower import TowerScorer
from recae.networks.mult_vae import Layer
from recae.ranking import propose
from recae.ranking.fixed_point import float32_error, rows_on_grid, weights_on_grid
from recae.ranking.on_device import Products, lists_on_device
from recae.ranking.propose import recommend_chunk

USERS, ITEMS, WIDTH = 23, 300, 12


def factors(seed: int, *, ties: bool = False) -> tuple[Layer, torch.Tensor]:
    rng = np.random.default_rng(seed)
    weight = rng.standard_normal((ITEMS, WIDTH))
    bias = rng.standard_normal(ITEMS).astype(np.float32)
    if ties:
        weight[20:200], bias[20:200] = weight[20], bias[20]
    hidden = torch.from_numpy(np.tanh(rng.standard_normal((USERS, WIDTH))))
    layer = Layer(weights_on_grid(torch.from_numpy(weight)), torch.from_numpy(bias), False)
    return layer, rows_on_grid(hidden, n_terms=WIDTH)


def products(layer: Layer, hidden: torch.Tensor) -> Products:
    error = float32_error(hidden, layer.weight, layer.bias)
    return Products(hidden, layer.weight, layer.bias, error)


@pytest.mark.parametrize("k", [1, 10, 280, 300, 350])
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_lists_are_those_of_the_host(
    k: int, ties: bool, masked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer, hidden = factors(1, ties=ties)
    scorer = TowerScorer(layer, hidden)
    seen = csr_array(np.random.default_rng(0).random((USERS, ITEMS)) < 0.3, dtype=np.float32)
    nobody = Histories(csr_array((USERS, ITEMS), dtype=np.float32))
    masks = [seen, seen] if masked else []
    allowed = np.arange(ITEMS) % 7 != 0 if masked else None
    expected = recommend_chunk(scorer, nobody, k, masks, allowed)
    asked = []

    def on_device(*arguments: object) -> object:
        asked.append(lists_on_device(*arguments))  # type: ignore[arg-type]  # passed on
        return asked[-1]

    monkeypatch.setattr(TowerScorer, "products", lambda self: products(layer, hidden))
    monkeypatch.setattr(propose, "lists_on_device", on_device)
    found = recommend_chunk(scorer, nobody, k, masks, allowed)
    assert found.items.tobytes() == expected.items.tobytes()
    assert found.scores.tobytes() == expected.scores.tobytes()
    lists, proved = asked[0]
    # 180 items with one score cannot all be among 26: the list is not proved, and made by the host.
    assert proved.all() or ties
    np.testing.assert_array_equal(lists.items[proved], expected.items[proved])
    np.testing.assert_array_equal(lists.scores[proved], expected.scores[proved])


def test_a_list_too_close_to_what_was_not_chosen_is_not_proved() -> None:
    layer, hidden = factors(2, ties=True)
    layer.bias[20:200] = 50.0
    _, proved = lists_on_device(products(layer, hidden), 10, _nothing(), None)
    assert not proved.any()


def test_scores_that_are_not_finite_are_not_proved() -> None:
    layer, hidden = factors(3)
    layer.bias[7] = float("nan")
    _, proved = lists_on_device(products(layer, hidden), 10, _nothing(), None)
    assert not proved.any()
    layer.bias[7] = float("inf")
    _, proved = lists_on_device(products(layer, hidden), 10, _nothing(), None)
    assert not proved.any()


def test_lists_do_not_depend_on_how_many_are_made_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, hidden = factors(4)
    rng = np.random.default_rng(4)
    cells = np.sort(rng.integers(0, USERS, 90)), rng.integers(0, ITEMS, 90)
    whole, proved = lists_on_device(products(layer, hidden), 10, cells, None)
    monkeypatch.setattr("recae.ranking.on_device.DEVICE_CELLS", 5 * ITEMS)
    parts, proved_parts = lists_on_device(products(layer, hidden), 10, cells, None)
    assert parts.items.tobytes() == whole.items.tobytes()
    assert parts.scores.tobytes() == whole.scores.tobytes()
    assert proved_parts.tolist() == proved.tolist()


def _nothing() -> tuple[np.ndarray, np.ndarray]:
    return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
