"""Mult-VAE and Mult-DAE a second time, in float64 NumPy: what `recae` is compared with.

Written from the paper and the authors' notebook, without `recae` and without a deep-learning
library: gradients are derived by hand, and `tests/reference/test_mult_vae_numpy.py` holds them
against finite differences. Dropout masks and noise are arguments, so nothing here is random.

References
----------
Liang, Krishnan, Hoffman, Jebara, "Variational Autoencoders for Collaborative Filtering", WWW 2018;
classes ``MultiDAE`` and ``MultiVAE`` and the training loop of ``VAE_ML20M_WWW2018.ipynb`` in the
authors' repository ``dawenl/vae_cf``. What follows the notebook rather than the paper's text:

- L2 normalisation comes before dropout, and dropout rescales the kept entries (inverted dropout).
- The likelihood's target is the binary history, neither normalised nor dropped.
- ``MultiDAE`` is one stack of layers, ``h = h @ w + b`` followed by tanh everywhere but after the
  last one. So the paper's Mult-DAE with 0 hidden layers, [I-200-I], does apply tanh to its
  representation of width 200, while the representation of Mult-VAE has none.
- The weight penalty is ``2 * l2_regularizer(lam)`` over weights only. TensorFlow's regulariser
  halves the sum of squares, so it is ``lam * sum(W ** 2)``. Mult-DAE uses ``lam = 0.01 / 500``.
- The KL weight of a step is ``min(cap, count / total)``, `count` being the number of updates made
  before the step: 0 in the first one. With ``total = 0`` it is the cap.
- Adam follows algorithm 1 of Kingma & Ba (ICLR 2015). TensorFlow 1 adds epsilon to the uncorrected
  root instead (the variant at the end of their section 2); the two differ by the size of epsilon.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

Layer = tuple[np.ndarray, np.ndarray]  # weights (inputs, outputs), biases (outputs,)


@dataclass(frozen=True, slots=True)
class Terms:
    """The parts of one batch's loss, in nats, and their weighted sum."""

    nll: float
    kl: float
    l2: float
    loss: float


@dataclass(frozen=True, slots=True)
class Batch:
    """What one training step sees: binary histories, kept inputs, noise of unit variance."""

    x: np.ndarray  # (users, items), 0 or 1
    keep: np.ndarray  # (users, items), bool
    noise: np.ndarray | None = None  # (users, latent); None for Mult-DAE


def normalise(x: np.ndarray) -> np.ndarray:
    """Each row divided by its Euclidean norm; an empty history stays 0."""
    out = np.zeros(x.shape, dtype=np.float64)
    for u, row in enumerate(x):
        norm = np.sqrt(np.sum(np.square(row, dtype=np.float64)))
        if norm > 0:
            out[u] = row / norm
    return out


def dropout(h: np.ndarray, keep: np.ndarray, rate: float) -> np.ndarray:
    """Inverted dropout: entries outside `keep` become 0, the others grow by 1 / (1 - rate)."""
    return np.where(keep, h / (1.0 - rate), 0.0)


def through(layers: Sequence[Layer], h: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """Output of a stack (tanh after every layer but the last), and the input of each layer."""
    inputs = []
    for i, (weights, biases) in enumerate(layers):
        inputs.append(h)
        h = h @ weights + biases
        if i < len(layers) - 1:
            h = np.tanh(h)
    return h, inputs


def back_through(
    layers: Sequence[Layer], inputs: Sequence[np.ndarray], grad: np.ndarray
) -> tuple[list[Layer], np.ndarray]:
    """Gradients of a stack's layers and of its input, from the gradient of its output."""
    grads: list[Layer] = []
    for i in reversed(range(len(layers))):
        grads.insert(0, (inputs[i].T @ grad, grad.sum(axis=0)))
        grad = grad @ layers[i][0].T
        if i > 0:  # inputs[i] is the tanh of the layer below, whose derivative is 1 - tanh**2
            grad = grad * (1.0 - inputs[i] ** 2)
    return grads, grad


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Logarithm of the softmax of each row."""
    out = np.empty_like(logits)
    for u, row in enumerate(logits):
        top = row.max()
        out[u] = row - top - np.log(np.sum(np.exp(row - top)))
    return out


def multinomial_nll(logits: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Of each user, minus the sum over items of x log_softmax(logits); 0 for an empty history."""
    log_p = log_softmax(logits)
    return np.array([-sum(log_p[u, i] for i in np.flatnonzero(x[u])) for u in range(len(x))], float)


def gaussian_kl(mu: np.ndarray, log_var: np.ndarray) -> np.ndarray:
    """Of each user, KL(N(mu, exp(log_var)) || N(0, 1)) summed over latent dimensions."""
    out = np.zeros(len(mu))
    for u in range(len(mu)):
        for m, v in zip(mu[u], log_var[u], strict=True):
            out[u] += 0.5 * (np.exp(v) + m * m - 1.0 - v)
    return out


def annealed_beta(count: int, *, total: int, cap: float) -> float:
    """KL weight of the step that follows `count` updates."""
    return min(cap, count / total) if total > 0 else cap


def squared_weights(layers: Sequence[Layer]) -> float:
    """Sum of squared weights, biases left out."""
    return float(sum(np.sum(weights**2) for weights, _ in layers))


def _nll_gradient(logits: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Gradient of the users' mean `multinomial_nll` by the logits."""
    return (np.exp(log_softmax(logits)) * x.sum(axis=1, keepdims=True) - x) / len(x)


def _plus_decay(grads: Sequence[Layer], layers: Sequence[Layer], lam: float) -> list[Layer]:
    return [(g + 2.0 * lam * w, gb) for (g, gb), (w, _) in zip(grads, layers, strict=True)]


@dataclass(frozen=True, slots=True)
class MultVAE:
    """Encoder, whose last layer is 2 L wide (mean, then log-variance), and decoder."""

    encoder: list[Layer]
    decoder: list[Layer]
    rate: float = 0.5
    lam: float = 0.0

    @property
    def layers(self) -> list[Layer]:
        """All layers, input to output."""
        return [*self.encoder, *self.decoder]

    def with_layers(self, layers: Sequence[Layer]) -> "MultVAE":
        """The same network with other parameters."""
        cut = len(self.encoder)
        return MultVAE(list(layers[:cut]), list(layers[cut:]), self.rate, self.lam)

    def scores(self, x: np.ndarray) -> np.ndarray:
        """Logits that rank: no dropout, the latent mean, no noise."""
        code, _ = through(self.encoder, normalise(x))
        return through(self.decoder, code[:, : code.shape[1] // 2])[0]

    def loss_and_gradients(self, batch: Batch, beta: float) -> tuple[Terms, list[Layer]]:
        """Loss of one batch and its gradient by every layer, input to output."""
        x, noise, n = batch.x, batch.noise, len(batch.x)
        assert noise is not None
        code, enc_inputs = through(self.encoder, dropout(normalise(x), batch.keep, self.rate))
        mu, log_var = np.split(code, 2, axis=1)
        std = np.exp(0.5 * log_var)
        logits, dec_inputs = through(self.decoder, mu + noise * std)

        nll = float(np.mean(multinomial_nll(logits, x)))
        kl = float(np.mean(gaussian_kl(mu, log_var)))
        l2 = squared_weights(self.layers)
        terms = Terms(nll, kl, l2, nll + beta * kl + self.lam * l2)

        dec_grads, dz = back_through(self.decoder, dec_inputs, _nll_gradient(logits, x))
        d_mu = dz + beta * mu / n
        d_log_var = dz * noise * 0.5 * std + beta * 0.5 * (std**2 - 1.0) / n
        enc_grads, _ = back_through(self.encoder, enc_inputs, np.hstack([d_mu, d_log_var]))
        return terms, _plus_decay([*enc_grads, *dec_grads], self.layers, self.lam)


@dataclass(frozen=True, slots=True)
class MultDAE:
    """One stack of layers from items to items, tanh after each but the last."""

    layers: list[Layer]
    rate: float = 0.5
    lam: float = 0.0

    def with_layers(self, layers: Sequence[Layer]) -> "MultDAE":
        """The same network with other parameters."""
        return MultDAE(list(layers), self.rate, self.lam)

    def scores(self, x: np.ndarray) -> np.ndarray:
        """Logits that rank: no dropout."""
        return through(self.layers, normalise(x))[0]

    def loss_and_gradients(self, batch: Batch, beta: float = 0.0) -> tuple[Terms, list[Layer]]:
        """Loss of one batch and its gradient by every layer; `beta` has nothing to weigh."""
        h = dropout(normalise(batch.x), batch.keep, self.rate)
        logits, inputs = through(self.layers, h)
        nll = float(np.mean(multinomial_nll(logits, batch.x)))
        l2 = squared_weights(self.layers)
        grads, _ = back_through(self.layers, inputs, _nll_gradient(logits, batch.x))
        terms = Terms(nll, 0.0, l2, nll + self.lam * l2)
        return terms, _plus_decay(grads, self.layers, self.lam)


Model = TypeVar("Model", MultVAE, MultDAE)


@dataclass(frozen=True, slots=True)
class AdamState:
    """Moments of every parameter array, and how many steps made them."""

    first: list[np.ndarray]
    second: list[np.ndarray]
    steps: int = 0


def adam_step(
    params: Sequence[np.ndarray],
    grads: Sequence[np.ndarray],
    state: AdamState | None = None,
    *,
    lr: float = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
) -> tuple[list[np.ndarray], AdamState]:
    """Parameters and moments after one step of algorithm 1 of Kingma & Ba (ICLR 2015)."""
    if state is None:
        zeros = [np.zeros_like(p) for p in params]
        state = AdamState(zeros, zeros)
    t = state.steps + 1
    updated, first, second = [], [], []
    for p, g, m, v in zip(params, grads, state.first, state.second, strict=True):
        m = betas[0] * m + (1.0 - betas[0]) * g
        v = betas[1] * v + (1.0 - betas[1]) * g * g
        m_hat, v_hat = m / (1.0 - betas[0] ** t), v / (1.0 - betas[1] ** t)
        updated.append(p - lr * m_hat / (np.sqrt(v_hat) + eps))
        first.append(m)
        second.append(v)
    return updated, AdamState(first, second, t)


def flat(layers: Sequence[Layer]) -> list[np.ndarray]:
    """Arrays of the layers: weights, biases, weights, biases, ..."""
    return [array for layer in layers for array in layer]


def train(
    model: Model, batches: Sequence[Batch], *, lr: float, total: int, cap: float
) -> tuple[Model, list[Terms]]:
    """The model after one Adam step on each batch, and each step's loss before it was made."""
    state, history = None, []
    for count, batch in enumerate(batches):
        terms, grads = model.loss_and_gradients(batch, annealed_beta(count, total=total, cap=cap))
        arrays, state = adam_step(flat(model.layers), flat(grads), state, lr=lr)
        model = model.with_layers(list(zip(arrays[::2], arrays[1::2], strict=True)))
        history.append(terms)
    return model, history


def finite_differences(
    f: Callable[[list[np.ndarray]], float], params: Sequence[np.ndarray], *, step: float = 1e-6
) -> list[np.ndarray]:
    """Central differences of `f` by every number of `params`."""
    out = []
    for j, array in enumerate(params):
        grad = np.zeros_like(array)
        for at in np.ndindex(array.shape):
            above, below = [p.copy() for p in params], [p.copy() for p in params]
            above[j][at] += step
            below[j][at] -= step
            grad[at] = (f(above) - f(below)) / (2.0 * step)
        out.append(grad)
    return out
