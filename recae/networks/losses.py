"""The equations of the variational and denoising autoencoders, one function each."""

from collections.abc import Iterable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from recae.networks.batch import Batch


def multinomial_nll(logits: Float[Tensor, "batch items"], x: Batch) -> Float[Tensor, " batch"]:
    r"""Negative multinomial log-likelihood of each history, in nats.

    ``-sum_i x_i log softmax(logits)_i``, without the multinomial coefficient.

    Parameters
    ----------
    logits
        Unnormalised item scores, shape ``(batch, items)``.
    x
        The histories; an empty one gives 0.

    References
    ----------
    Liang et al., WWW 2018, sec. 2.1, the multinomial log-likelihood without its constant term.

    Examples
    --------
    >>> from recae.data.histories import Histories
    >>> x = Batch.of(Histories.from_lists([[0]], n_items=4))
    >>> multinomial_nll(torch.zeros(1, 4), x)
    tensor([1.3863])
    """
    rows = x.rows()
    # Sums over all items need float32, which autocast on the CPU does not see to.
    dtype = torch.promote_types(logits.dtype, torch.float32)
    log_likelihood = torch.log_softmax(logits, dim=1, dtype=dtype)[rows, x.items]  # (nnz,)
    return log_likelihood.new_zeros(len(x)).index_add(0, rows, -log_likelihood)


def squared_error(scores: Float[Tensor, "batch items"], x: Batch) -> Float[Tensor, " batch"]:
    """Squared distance of each history from its scores: ``sum_i (scores_i - x_i)**2``.

    Examples
    --------
    >>> from recae.data.histories import Histories
    >>> squared_error(torch.tensor([[0.5, 2.0]]), Batch.of(Histories.from_lists([[0]], n_items=2)))
    tensor([4.2500])
    """
    own = scores[x.rows(), x.items]  # (nnz,)
    return scores.square().sum(dim=1).index_add(0, x.rows(), 1.0 - 2.0 * own)


def linear_squared_error(
    hidden: Float[Tensor, "batch width"], output: nn.Linear, x: Batch
) -> Float[Tensor, " batch"]:
    """`squared_error` of ``output(hidden)`` without the scores of all items.

    With ``W`` and ``b`` of the layer, ``sum_i s_i**2 = h' W'W h + 2 b'W h + b'b``: a table of
    ``width x width`` takes the place of one of ``batch x items``. The others are the scores of the
    history's own items.
    """
    weight, bias = output.weight, output.bias
    all_items = ((hidden @ (weight.T @ weight)) * hidden).sum(dim=1)
    all_items = all_items + 2.0 * (hidden @ (weight.T @ bias)) + bias @ bias
    rows = x.rows()
    own = (weight[x.items] * hidden[rows]).sum(dim=1) + bias[x.items]  # (nnz,)
    return all_items.index_add(0, rows, (1.0 - 2.0 * own).to(all_items.dtype))


def gaussian_kl(
    mu: Float[Tensor, "batch latent"], log_var: Float[Tensor, "batch latent"]
) -> Float[Tensor, " batch"]:
    r"""Kullback-Leibler divergence of ``N(mu, exp(log_var))`` from ``N(0, I)``, in nats.

    Summed over the latent dimensions: ``0.5 * sum_d (exp(log_var) + mu**2 - 1 - log_var)``.

    Parameters
    ----------
    mu, log_var
        Mean and log-variance of each history's code, shape ``(batch, latent)``.

    References
    ----------
    Kingma & Welling, ICLR 2014, appendix B; Liang et al., WWW 2018, eq. 5 and 6.

    Examples
    --------
    >>> gaussian_kl(torch.ones(1, 2), torch.zeros(1, 2))
    tensor([1.])
    """
    return 0.5 * (log_var.exp() + mu.square() - 1 - log_var).sum(dim=1)


def sampled_code(
    mu: Float[Tensor, "batch latent"],
    log_var: Float[Tensor, "batch latent"],
    noise: Float[Tensor, "batch latent"],
) -> Float[Tensor, "batch latent"]:
    r"""Code ``mu + noise * sigma`` of each history, ``sigma`` being ``exp(log_var / 2)``.

    References
    ----------
    Kingma & Welling, ICLR 2014, sec. 2.4, the reparameterisation.
    """
    return mu + noise * (0.5 * log_var).exp()


def annealed_beta(step: int, *, cap: float, anneal_steps: int) -> float:
    """Weight of the KL term at update `step`, counted from 0: linear, then constant at `cap`.

    Parameters
    ----------
    step
        Updates done before this one.
    cap
        The final weight.
    anneal_steps
        Updates until `cap` is reached; 0 starts there. The authors write ``min(cap, step / T)``
        with ``T = anneal_steps / cap``.

    References
    ----------
    Liang et al., WWW 2018, sec. 2.2.2.

    Examples
    --------
    >>> [annealed_beta(s, cap=0.2, anneal_steps=4) for s in (0, 1, 4, 9)]
    [0.0, 0.05, 0.2, 0.2]
    """
    if step >= anneal_steps:
        return cap
    return cap * step / anneal_steps


def dropped(
    values: Float[Tensor, " nnz"], keep: Bool[Tensor, " nnz"] | None, rate: float
) -> Float[Tensor, " nnz"]:
    """Inverted dropout of `values` with the mask `keep`, which keeps each with ``1 - rate``.

    Without a mask, `values` themselves.
    """
    return values if keep is None else values * keep / (1.0 - rate)


def weight_penalty(layers: Iterable[nn.Module], factor: float) -> Float[Tensor, ""]:
    """`factor` times the sum of the squares of all weights of `layers`; biases are left out."""
    squares = [layer.get_parameter("weight").square().sum() for layer in layers]
    return factor * torch.stack(squares).sum()
