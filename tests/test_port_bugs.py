"""Known mistakes of published Mult-VAE ports, put into `recae` one at a time: the checks see each.

Every mistake is legal code, raises nothing and still trains a model with plausible lists; only a
comparison with an independent implementation tells. The first seven kinds were found, by reading,
in libraries that people use; the others are near them.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from recae.models import mult_vae
from recae.networks import losses
from recae.networks.batch import Batch
from recae.ranking.recommender import Recommender
from recae.training.rows import DeviceRows
from tests.reference import checks
from tests.reference.checks import Case

Patch = pytest.MonkeyPatch
VAE = Case(lam=0.02)
DAE = replace(VAE, kind="dae")

CHECKS: dict[str, Callable[[], None]] = {
    "vae loss": lambda: checks.check_loss_and_gradients(VAE),
    "dae loss": lambda: checks.check_loss_and_gradients(DAE),
    "vae drawn loss": lambda: checks.check_drawn_loss(VAE),
    "vae draws": lambda: checks.check_draws(VAE),
    "dae draws": lambda: checks.check_draws(DAE),
    "schedule": lambda: checks.check_schedule(VAE),
    "paper": checks.check_paper_configuration,
    "vae training": lambda: checks.check_training(VAE),
    "dae training": lambda: checks.check_training(DAE),
    "vae prediction": lambda: checks.check_prediction(VAE),
    "dae prediction": lambda: checks.check_prediction(DAE),
    "vae initial weights": lambda: checks.check_initial_weights(VAE),
}

Bug = tuple[Callable[[Patch], None], tuple[str, ...]]
BUGS: dict[str, Bug] = {}


def bug(name: str, *seen_by: str) -> Callable[[Callable[[Patch], None]], Callable[[Patch], None]]:
    """Register what puts the mistake `name` in, and the checks that must see it."""

    def register(inject: Callable[[Patch], None]) -> Callable[[Patch], None]:
        BUGS[name] = (inject, seen_by)
        return inject

    return register


@pytest.mark.parametrize("check", CHECKS)
def test_check_passes_without_a_bug(check: str) -> None:
    CHECKS[check]()


def _cases() -> list[Any]:
    return [
        pytest.param(inject, check, id=f"{name}-{check}")
        for name, (inject, seen_by) in BUGS.items()
        for check in seen_by
    ]


def _wrap_first(patch: Patch, change: Callable[[Batch, Any], tuple[Batch, Any]]) -> None:
    """Let `change` alter the histories and masks that the first layers are given."""

    def wrap(network: Any) -> None:
        original = network.first
        patch.setattr(network, "first", lambda self, x, keep: original(self, *change(x, keep)))

    wrap(mult_vae.MultVAENetwork)
    wrap(mult_vae.MultDAENetwork)


# 1. Noise of deviation 0.01 (RecBole, and the RecVAE and RaCT written from it).


@bug("noise is drawn with deviation 0.01", "vae draws")
def _small_noise(patch: Patch) -> None:
    original = Batch.normal
    patch.setattr(Batch, "normal", lambda self, *a: 0.01 * original(self, *a))


@bug("noise is scaled by 0.01", "vae loss", "vae drawn loss", "vae training")
def _scaled_noise(patch: Patch) -> None:
    original = losses.sampled_code
    patch.setattr(losses, "sampled_code", lambda mu, v, noise: original(mu, v, 0.01 * noise))


# 2. KL averaged over latent dimensions (Elliot).


@bug("kl is a mean over dimensions", "vae loss", "vae drawn loss", "vae training")
def _mean_kl(patch: Patch) -> None:
    original = losses.gaussian_kl
    patch.setattr(losses, "gaussian_kl", lambda mu, v: original(mu, v) / mu.shape[1])


# 3. No normalisation of the history (cornac).


@bug("histories are not normalised in training", "vae loss", "dae loss", "vae training")
def _no_norm(patch: Patch) -> None:
    def ones(self: Batch, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        return torch.ones(len(self), dtype=dtype)

    patch.setattr(Batch, "inverse_norms", ones)


@bug("histories are not normalised at prediction", "vae prediction", "dae prediction")
def _no_norm_at_prediction(patch: Patch) -> None:
    patch.setattr(torch, "rsqrt", torch.ones_like)


# 4. Dropout applied twice (recommenders).


@bug("dropout is applied twice", "vae loss", "dae loss", "vae drawn loss", "dae training")
def _double_dropout(patch: Patch) -> None:
    original = losses.dropped

    def dropped(values: torch.Tensor, keep: Any, rate: float) -> torch.Tensor:
        once = original(values, keep, rate)
        again = torch.rand(len(once), generator=torch.Generator().manual_seed(0)) >= rate
        return once if keep is None else once * again / (1.0 - rate)

    patch.setattr(losses, "dropped", dropped)


# 5. ReLU in place of tanh (RePlay).


@bug("relu replaces tanh", "vae loss", "dae loss", "vae prediction", "dae prediction")
def _relu(patch: Patch) -> None:
    patch.setattr(torch, "tanh", torch.relu)


# 6. Sampling when predicting (Elliot, recommenders).


@bug("codes are sampled at prediction", "vae prediction")
def _sampled_prediction(patch: Patch) -> None:
    def score(self: Any, histories: Any) -> Any:
        return self.decode(self.sample(histories, n_samples=1)[0])

    patch.setattr(Recommender, "score", score)


# 7. Another ramp of the KL weight (RecPack, irspack, RePlay, cornac).


@bug("the ramp reaches the cap at T, not at cap * T", "schedule", "paper", "vae training")
def _gentle_ramp(patch: Patch) -> None:
    def ramp(step: int, *, cap: float, anneal_steps: int) -> float:
        return cap * min(1.0, step / (anneal_steps / cap))

    patch.setattr(losses, "annealed_beta", ramp)


@bug("the ramp goes up to 1, then drops to the cap", "schedule", "vae training")
def _overshooting_ramp(patch: Patch) -> None:
    def ramp(step: int, *, cap: float, anneal_steps: int) -> float:
        return step / anneal_steps if step < anneal_steps else cap

    patch.setattr(losses, "annealed_beta", ramp)


@bug("the kl weight is constant", "schedule", "paper", "vae training")
def _constant(patch: Patch) -> None:
    patch.setattr(losses, "annealed_beta", lambda step, *, cap, anneal_steps: cap)


@bug("the ramp has no cap", "schedule", "paper", "vae training")
def _no_cap(patch: Patch) -> None:
    patch.setattr(
        losses, "annealed_beta", lambda step, *, cap, anneal_steps: cap * step / anneal_steps
    )


@bug("updates are counted from 1", "schedule", "paper", "vae training")
def _counted_from_one(patch: Patch) -> None:
    original = losses.annealed_beta
    patch.setattr(losses, "annealed_beta", lambda step, **k: original(step + 1, **k))


@bug("the count starts again every epoch", "vae training")
def _count_restarts(patch: Patch) -> None:
    original = mult_vae.MultVAENetwork.loss
    patch.setattr(
        mult_vae.MultVAENetwork,
        "loss",
        lambda self, x, *, step, rng: original(self, x, step=step % 3, rng=rng),
    )


# Near them: dropout, likelihood, penalty, code and optimiser.


@bug("dropout comes before the norm", "vae loss", "dae loss")
def _dropout_before_norm(patch: Patch) -> None:
    def kept(x: Batch, keep: Any) -> tuple[Batch, Any]:
        if keep is None:
            return x, keep
        lengths = torch.zeros_like(x.lengths).index_add(0, x.rows(), keep.long())
        return Batch(x.items[keep], lengths.cumsum(0) - lengths, lengths, x.n_items), None

    _wrap_first(patch, kept)


@bug("dropout does not rescale", "vae loss", "dae loss")
def _plain_dropout(patch: Patch) -> None:
    original = losses.dropped
    patch.setattr(losses, "dropped", lambda values, keep, rate: original(values, keep, 0.0))


@bug("the dropout rate is the share that is kept", "vae draws", "dae draws")
def _swapped_rate(patch: Patch) -> None:
    original = Batch.uniform

    def uniform(self: Batch, rng: torch.Generator) -> torch.Tensor:
        return (original(self, rng) < VAE.dropout).float()  # 1 is kept, 0 is dropped

    patch.setattr(Batch, "uniform", uniform)


@bug("every step draws the same noise", "vae draws")
def _same_noise(patch: Patch) -> None:
    original = Batch.normal

    def fixed(self: Batch, width: int, rng: torch.Generator, dtype: torch.dtype) -> torch.Tensor:
        return original(self, width, torch.Generator().manual_seed(0), dtype)

    patch.setattr(Batch, "normal", fixed)


@bug("log(softmax + eps)", "vae loss", "dae loss")
def _epsilon(patch: Patch) -> None:
    def nll(logits: torch.Tensor, x: Batch) -> torch.Tensor:
        rows = x.rows()
        log_p = torch.log(torch.softmax(logits, dim=1) + 1e-10)[rows, x.items]
        return logits.new_zeros(len(x)).index_add(0, rows, -log_p)

    patch.setattr(losses, "multinomial_nll", nll)


@bug("likelihood is a mean over items", "vae loss", "dae loss")
def _mean_likelihood(patch: Patch) -> None:
    original = losses.multinomial_nll
    patch.setattr(losses, "multinomial_nll", lambda z, x: original(z, x) / x.n_items)


@bug("likelihood is a mean over the history", "vae loss", "dae loss")
def _mean_over_history(patch: Patch) -> None:
    original = losses.multinomial_nll
    patch.setattr(losses, "multinomial_nll", lambda z, x: original(z, x) / x.lengths.clamp(min=1))


@bug("log-variance is read as log-deviation", "vae loss")
def _log_deviation(patch: Patch) -> None:
    original = losses.sampled_code
    patch.setattr(losses, "sampled_code", lambda mu, v, noise: original(mu, 2.0 * v, noise))


@bug("mean and log-variance are swapped", "vae loss")
def _swapped_halves(patch: Patch) -> None:
    original = mult_vae.MultVAENetwork.posterior
    patch.setattr(
        mult_vae.MultVAENetwork, "posterior", lambda self, x, keep: original(self, x, keep)[::-1]
    )


@bug("the latent mean goes through tanh at prediction", "vae prediction")
def _tanh_on_mean(patch: Patch) -> None:
    def score(self: Any, histories: Any) -> Any:
        return self.decode(np.tanh(self.encode(histories)))

    patch.setattr(Recommender, "score", score)


@bug("the dae's code has no tanh at prediction", "dae prediction")
def _linear_dae(patch: Patch) -> None:
    def score(self: Any, histories: Any) -> Any:
        return self.decode(np.arctanh(self.encode(histories)))

    patch.setattr(Recommender, "score", score)


@bug("the penalty counts biases", "vae loss", "dae loss")
def _decayed_biases(patch: Patch) -> None:
    original = losses.weight_penalty

    def penalty(layers: Any, factor: float) -> torch.Tensor:
        biases = sum(layer.bias.square().sum() for layer in layers)
        return original(layers, factor) + factor * biases

    patch.setattr(losses, "weight_penalty", penalty)


@bug("the penalty is halved", "vae loss", "dae loss")
def _halved_penalty(patch: Patch) -> None:
    original = losses.weight_penalty
    patch.setattr(losses, "weight_penalty", lambda layers, factor: original(layers, factor / 2))


@bug("the penalty is left out", "vae loss", "dae loss")
def _no_penalty(patch: Patch) -> None:
    patch.setattr(losses, "weight_penalty", lambda layers, factor: torch.zeros(()).double())


@bug("weights decay outside the gradient", "vae training", "dae training")
def _adamw(patch: Patch) -> None:
    patch.setattr(torch.optim, "Adam", torch.optim.AdamW)


@bug("adam's epsilon is 1e-4", "vae training", "dae training")
def _epsilon_of_adam(patch: Patch) -> None:
    adam = torch.optim.Adam
    patch.setattr(torch.optim, "Adam", lambda *a, **k: adam(*a, **{**k, "eps": 1e-4}))


@bug("the short last batch is dropped", "vae training", "dae training")
def _dropped_batch(patch: Patch) -> None:
    original = DeviceRows.epoch

    def epoch(
        self: DeviceRows, seed: int, epoch: int, size: int, n_slices: int, after: int = 0
    ) -> Iterator[list[Batch]]:
        batches = original(self, seed, epoch, size, n_slices, after=after)
        return (slices for slices in batches if sum(map(len, slices)) == size)

    patch.setattr(DeviceRows, "epoch", epoch)


@bug("users come in the same order every epoch", "vae training", "dae training")
def _unshuffled(patch: Patch) -> None:
    original = DeviceRows.epoch

    def epoch(self: DeviceRows, seed: int, _: int, *n: int, **more: int) -> Iterator[list[Batch]]:
        return original(self, seed, 0, *n, **more)

    patch.setattr(DeviceRows, "epoch", epoch)


@bug("weights start from another distribution", "vae initial weights")
def _other_start(patch: Patch) -> None:
    patch.setattr(torch.nn.init, "xavier_uniform_", torch.nn.init.xavier_normal_)


@bug("biases start at 0", "vae initial weights")
def _zero_biases(patch: Patch) -> None:
    zero = lambda tensor, **_: torch.nn.init.zeros_(tensor)  # noqa: E731
    patch.setattr(torch.nn.init, "trunc_normal_", zero)


@pytest.mark.parametrize(("inject", "check"), _cases())
def test_check_sees_the_bug(
    inject: Callable[[Patch], None], check: str, monkeypatch: Patch
) -> None:
    inject(monkeypatch)
    with pytest.raises(AssertionError):
        CHECKS[check]()
