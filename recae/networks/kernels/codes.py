"""Triton kernels of a code drawn from a Gaussian, with its divergence from the standard one.

``z = mu + noise sigma`` and ``kl = sum(exp(log_var) + mu**2 - 1 - log_var) / 2``: two launches for
what takes thirty of a line of tensor code, at a few microseconds each.
"""

from recae.networks.kernels.language import constexpr, jit, tl


@jit
def code_kernel(mu, log_var, noise, z, kl, stride, width, BLOCK: constexpr):
    """A program a user."""
    user = tl.program_id(0).to(tl.int64)
    place = tl.arange(0, BLOCK)
    live = place < width
    m = tl.load(mu + user * stride + place, mask=live, other=0.0)
    lv = tl.load(log_var + user * stride + place, mask=live, other=0.0)
    n = tl.load(noise + user * width + place, mask=live, other=0.0)
    tl.store(z + user * width + place, m + n * tl.exp(0.5 * lv), mask=live)
    terms = tl.where(live, tl.exp(lv) + m * m - 1.0 - lv, 0.0)
    tl.store(kl + user, 0.5 * tl.sum(terms, axis=0))


@jit
def code_gradient_kernel(
    mu, log_var, noise, dz, dkl, d_mu, d_log_var, stride, width, BLOCK: constexpr
):
    """Gradients of mean and log-variance."""
    user = tl.program_id(0).to(tl.int64)
    place = tl.arange(0, BLOCK)
    live = place < width
    m = tl.load(mu + user * stride + place, mask=live, other=0.0)
    lv = tl.load(log_var + user * stride + place, mask=live, other=0.0)
    n = tl.load(noise + user * width + place, mask=live, other=0.0)
    g = tl.load(dz + user * width + place, mask=live, other=0.0)
    k = tl.load(dkl + user)
    at = user * width + place
    tl.store(d_mu + at, g + k * m, mask=live)
    tl.store(d_log_var + at, 0.5 * (g * n * tl.exp(0.5 * lv) + k * (tl.exp(lv) - 1.0)), mask=live)
