"""Known mistakes of published Mult-VAE ports, put into `recae` one at a time: the checks see each.

Every mistake is legal code, raises nothing and still trains a model with plausible lists; only a
comparison with an independent implementation tells. The first seven kinds were found, by reading,
in libraries that people use; the others are near them.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch

from recae.models import autoencoder, tower
from recae.networks import losses, mult_vae
from recae.networks.batch import Batch
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


def _wrap_loss_given(
    patch: Patch, change: Callable[[Any, Batch, dict[str, Any]], None]
) -> None:
    """Let `change` alter what `MultVAENetwork.loss_given` is given."""
    original = mult_vae.MultVAENetwork.loss_given

    def loss_given(self: Any, x: Batch, **given: Any) -> Any:
        change(self, x, given)
        return original(self, x, **given)

    patch.setattr(mult_vae.MultVAENetwork, "loss_given", loss_given)


# 1. Noise of deviation 0.01 (RecBole, and the RecVAE and RaCT written from it).


@bug("noise is drawn with deviation 0.01", "vae draws")
def _small_noise(patch: Patch) -> None:
    randn = torch.randn
    patch.setattr(torch, "randn", lambda *a, **k: 0.01 * randn(*a, **k))


@bug("noise is scaled by 0.01", "vae loss", "vae drawn loss", "vae training")
def _scaled_noise(patch: Patch) -> None:
    def change(self: Any, x: Batch, given: dict[str, Any]) -> None:
        given["noise"] = 0.01 * given["noise"]

    _wrap_loss_given(patch, change)


# 2. KL averaged over latent dimensions (Elliot).


@bug("kl is a mean over dimensions", "vae loss", "vae drawn loss", "vae training")
def _mean_kl(patch: Patch) -> None:
    original = losses.gaussian_kl
    patch.setattr(losses, "gaussian_kl", lambda mu, v: original(mu, v) / mu.shape[1])


# 3. No normalisation of the history (cornac).


@bug("histories are not normalised in training", "vae loss", "dae loss", "vae training")
def _no_norm(patch: Patch) -> None:
    def ones(self: Batch, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        return torch.ones(len(self.items), dtype=dtype)

    patch.setattr(Batch, "normalised", ones)


@bug("histories are not normalised at prediction", "vae prediction", "dae prediction")
def _no_norm_at_prediction(patch: Patch) -> None:
    patch.setattr(torch, "rsqrt", torch.ones_like)


# 4. Dropout applied twice (recommenders).


@bug("dropout is applied twice", "vae loss", "dae loss", "vae drawn loss", "dae training")
def _double_dropout(patch: Patch) -> None:
    original = mult_vae._dropped

    def dropped(x: Batch, keep: Any, dropout: float, dtype: torch.dtype) -> torch.Tensor:
        once = original(x, keep, dropout, dtype)
        again = torch.rand(len(once), generator=torch.Generator().manual_seed(0)) >= dropout
        return once if keep is None else once * again / (1.0 - dropout)

    patch.setattr(mult_vae, "_dropped", dropped)


# 5. ReLU in place of tanh (RePlay).


@bug("relu replaces tanh", "vae loss", "dae loss", "vae prediction", "dae prediction")
def _relu(patch: Patch) -> None:
    patch.setattr(torch, "tanh", torch.relu)


# 6. Sampling when predicting (Elliot, recommenders).


@bug("codes are sampled at prediction", "vae prediction")
def _sampled_prediction(patch: Patch) -> None:
    def scorer(self: Any, histories: Any) -> Any:
        fitted = self._fitted_tower()
        codes = torch.from_numpy(self.sample(histories, n_samples=1)[0]).double()
        return tower.TowerScorer(fitted.output, fitted.hidden(codes))

    patch.setattr(autoencoder.Autoencoder, "scorer", scorer)


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
    def dropped(x: Batch, keep: Any, dropout: float, dtype: torch.dtype) -> torch.Tensor:
        kept = torch.ones(len(x.items)) if keep is None else keep.float()
        per_row = torch.zeros(len(x)).index_add(0, x.rows(), kept)
        return (kept * torch.rsqrt(per_row.clamp(min=1))[x.rows()]).to(dtype)

    patch.setattr(mult_vae, "_dropped", dropped)


@bug("dropout does not rescale", "vae loss", "dae loss")
def _plain_dropout(patch: Patch) -> None:
    original = mult_vae._dropped
    patch.setattr(mult_vae, "_dropped", lambda x, keep, p, dtype: original(x, keep, 0.0, dtype))


@bug("the dropout rate is the share that is kept", "vae draws", "dae draws")
def _swapped_rate(patch: Patch) -> None:
    original = mult_vae._draw_mask
    patch.setattr(mult_vae, "_draw_mask", lambda x, p, rng: original(x, 1.0 - p, rng))


@bug("every step draws the same noise", "vae draws")
def _same_noise(patch: Patch) -> None:
    randn = torch.randn

    def fixed(*shape: int, generator: torch.Generator, **options: Any) -> torch.Tensor:
        return randn(*shape, generator=torch.Generator().manual_seed(0), **options)

    patch.setattr(torch, "randn", fixed)


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
    def change(self: Any, x: Batch, given: dict[str, Any]) -> None:
        log_var = self.encode(x, given["keep"])[1]
        given["noise"] = given["noise"] * (0.5 * log_var).exp()

    _wrap_loss_given(patch, change)


@bug("mean and log-variance are swapped", "vae loss")
def _swapped_halves(patch: Patch) -> None:
    original = mult_vae.MultVAENetwork.encode
    patch.setattr(
        mult_vae.MultVAENetwork, "encode", lambda self, x, keep=None: original(self, x, keep)[::-1]
    )


@bug("the latent mean goes through tanh at prediction", "vae prediction")
def _tanh_on_mean(patch: Patch) -> None:
    original = mult_vae._tower
    patch.setattr(mult_vae, "_tower", lambda *a, **k: original(*a, **{**k, "encoder_tanh": True}))


@bug("the dae's code has no tanh at prediction", "dae prediction")
def _linear_dae(patch: Patch) -> None:
    original = mult_vae._tower
    patch.setattr(mult_vae, "_tower", lambda *a, **k: original(*a, **{**k, "encoder_tanh": False}))


@bug("the penalty counts biases", "vae loss", "dae loss")
def _decayed_biases(patch: Patch) -> None:
    patch.setattr(
        mult_vae._Network,
        "_penalty",
        lambda self: self.weight_decay * losses.squared_weights(list(self.parameters())),
    )


@bug("the penalty is halved", "vae loss", "dae loss")
def _halved_penalty(patch: Patch) -> None:
    original = mult_vae._Network._penalty
    patch.setattr(mult_vae._Network, "_penalty", lambda self: 0.5 * original(self))


@bug("the penalty is left out", "vae loss", "dae loss")
def _no_penalty(patch: Patch) -> None:
    patch.setattr(losses, "squared_weights", lambda weights: torch.zeros(()).double())


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
        self: DeviceRows, seed: int, epoch: int, size: int, n_slices: int
    ) -> Iterator[list[Batch]]:
        batches = original(self, seed, epoch, size, n_slices)
        return (slices for slices in batches if sum(map(len, slices)) == size)

    patch.setattr(DeviceRows, "epoch", epoch)


@bug("users come in the same order every epoch", "vae training", "dae training")
def _unshuffled(patch: Patch) -> None:
    original = DeviceRows.epoch
    patch.setattr(DeviceRows, "epoch", lambda self, seed, epoch, *n: original(self, seed, 0, *n))


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
