"""Widths that fit the catalogue, and what is kept of them."""

from dataclasses import asdict

import numpy as np
import pytest

from recae.errors import ConfigError
from recae.models.mult_vae import MultDAE, MultDAEConfig, MultVAE, MultVAEConfig
from tests.test_recommenders import interactions, two_tastes


def test_widths_are_the_papers_and_narrower_for_very_many_items() -> None:
    assert MultVAEConfig().widths(20_108) == ((600,), 200)
    assert MultDAEConfig().widths(20_108) == ((), 200)
    assert MultVAEConfig().widths(1_000_000) == MultDAEConfig().widths(1_000_000) == ((200,), 100)


def test_given_widths_are_kept_one_by_one() -> None:
    assert MultVAEConfig(latent_dim=7).widths(1_000_000) == ((200,), 7)
    assert MultVAEConfig(hidden=(9, 8)).widths(50) == ((9, 8), 200)


@pytest.mark.parametrize("kind", [MultVAE, MultDAE])
def test_a_fitted_model_says_what_it_has_and_is_restored_so(kind: type) -> None:
    train = interactions(two_tastes())
    model = kind(epochs=1)
    assert model.config.hidden == "auto"
    model.fit(train)
    assert (model.config.hidden, model.config.latent_dim) == kind().config.widths(train.n_items)
    restored = kind.from_arrays(model.config, model.arrays())
    assert asdict(restored.config) == asdict(model.config)
    np.testing.assert_array_equal(restored.score(train.histories()), model.score(train.histories()))


def test_widths_below_one_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"option hidden is \(0,\); at least 1 is accepted"):
        MultVAEConfig(hidden=(0,))
