"""Paired tests against direct calls of scipy, and the sentences drawn from them."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from recae.data.ids import IdMap
from recae.errors import ConfigError, DataError
from recae.evaluation.report import Report
from recae.evaluation.resampling import bootstrap_means, flipped_means
from recae.evaluation.significance import compare_reports, holm


def report(model, values, *, metric="recall@20", fingerprint="exam", **more):
    values = np.asarray(values, dtype=np.float64)
    n = len(values)
    return Report(
        model=model,
        users=IdMap([f"u{u}" for u in range(n)]),
        per_user={metric: values} | {name: np.asarray(v) for name, v in more.items()},
        catalogue={},
        n_targets=(~np.isnan(values)).astype(np.int64),
        unreachable=np.zeros(n, dtype=np.int64),
        tied={},
        fingerprint=fingerprint,
    )


@pytest.fixture
def scores():
    rng = np.random.default_rng(0)
    base = rng.random(400).round(2)
    noise = rng.normal(0, 0.1, size=(2, 400))
    return {
        "pop": base,
        "ease": base + 0.05 + noise[0],
        "vae": base + 0.048 + noise[1],
    }


def pair(comparison, *names):
    (found,) = [d for d in comparison.differences if {d.better, d.worse} == set(names)]
    return found


def test_p_values_are_those_of_scipy(scores):
    found = compare_reports({name: report(name, v) for name, v in scores.items()})
    for a, b in [("ease", "pop"), ("vae", "pop"), ("ease", "vae")]:
        d = pair(found, a, b)
        difference = scores[d.better] - scores[d.worse]
        assert d.mean == pytest.approx(difference.mean())
        assert d.mean > 0
        assert d.p_t == pytest.approx(stats.ttest_rel(scores[a], scores[b]).pvalue, rel=1e-9)
        assert d.p_wilcoxon == pytest.approx(stats.wilcoxon(difference).pvalue, rel=1e-9)
        assert d.effect == pytest.approx(difference.mean() / difference.std(ddof=1))
        assert d.wins == (difference > 0).mean()
        assert d.losses == (difference < 0).mean()
        assert d.n == 400


def test_sign_flips_are_all_taken_where_they_are_few():
    rng = np.random.default_rng(1)
    a, b = rng.integers(0, 5, size=(2, 9)) / 4
    d = pair(compare_reports({"a": report("a", a), "b": report("b", b)}), "a", "b")
    exact = stats.permutation_test(
        (a - b,), np.mean, permutation_type="samples", n_resamples=np.inf, vectorized=True
    )
    assert d.p_permutation == pytest.approx(exact.pvalue, rel=1e-12)
    assert (d.p_permutation * 2**9) % 1 == 0


def test_random_sign_flips_agree_with_those_of_scipy(scores):
    rng = np.random.default_rng(2)
    a = scores["ease"][:60]
    b = a + rng.normal(0.02, 0.1, size=60)
    d = pair(compare_reports({"a": report("a", a), "b": report("b", b)}), "a", "b")
    theirs = stats.permutation_test(
        (b - a,),
        lambda x, axis: x.mean(axis=axis),
        permutation_type="samples",
        n_resamples=20_000,
        vectorized=True,
        rng=0,
    )
    assert 0.01 < theirs.pvalue < 0.9
    # Four standard errors of the difference of two proportions from 10,000 and 20,000 draws.
    error = math.sqrt(theirs.pvalue * (1 - theirs.pvalue) * (1 / 10_000 + 1 / 20_000))
    assert d.p_permutation == pytest.approx(theirs.pvalue, abs=4 * error)


def test_the_smallest_random_p_value_is_never_zero(scores):
    found = compare_reports(
        {"a": report("a", scores["pop"]), "b": report("b", scores["pop"] + 1.0)}, flips=99
    )
    assert found.differences[0].p_permutation == 1 / 100


def test_the_interval_is_a_paired_bootstrap(scores):
    d = pair(
        compare_reports(
            {name: report(name, v) for name, v in scores.items()}, resamples=20_000, level=0.9
        ),
        "ease",
        "pop",
    )
    difference = scores["ease"] - scores["pop"]
    theirs = stats.bootstrap(
        (difference,),
        np.mean,
        n_resamples=20_000,
        confidence_level=0.9,
        method="percentile",
        rng=0,
    ).confidence_interval
    tolerance = difference.std() / math.sqrt(400) / 10  # five of the quantiles' own errors
    assert d.low == pytest.approx(theirs.low, abs=tolerance)
    assert d.high == pytest.approx(theirs.high, abs=tolerance)


def test_same_seed_same_figures(scores):
    reports = {name: report(name, v) for name, v in scores.items()}
    first, again = (compare_reports(reports, rng=3, flips=50, resamples=50) for _ in range(2))
    other = compare_reports(reports, rng=4, flips=50, resamples=50)
    assert first == again
    assert first != other


def test_holm_by_hand():
    # Ascending .005 .01 .03 .04 times 4 3 2 1, then never falling.
    np.testing.assert_allclose(
        holm(np.array([0.01, 0.04, 0.03, 0.005])), [0.03, 0.06, 0.06, 0.02], rtol=1e-12
    )
    assert holm(np.array([0.6, 0.7])).tolist() == [1.0, 1.0]
    assert holm(np.array([0.2])).tolist() == [0.2]


def test_holm_counts_all_pairs_of_all_metrics(scores):
    reports = {name: report(name, v, **{"ndcg@100": v[::-1] ** 2}) for name, v in scores.items()}
    found = compare_reports(reports)
    assert len(found.differences) == 6
    assert [d.metric for d in found.differences] == ["recall@20"] * 3 + ["ndcg@100"] * 3
    expected = holm(np.array([d.p_t for d in found.differences]))
    assert [d.p_holm for d in found.differences] == expected.tolist()
    assert max(d.p_holm / d.p_t for d in found.differences) > 5


def test_it_says_who_beats_whom():
    rng = np.random.default_rng(5)
    base = rng.random(2000) * 0.5
    values = {"mult-vae": base, "ease": base + rng.normal(0.029, 0.09, size=2000)}
    found = compare_reports({name: report(name, v) for name, v in values.items()})
    (d,) = found.differences
    assert (d.better, d.worse, d.significant) == ("ease", "mult-vae", True)
    assert str(found) == (
        f"ease beats mult-vae by {d.mean:.4f} recall@20,"
        f" 95% interval {d.low:.4f} to {d.high:.4f}, p<.001 after Holm"
    )


def test_it_says_when_two_are_not_told_apart(scores):
    d = pair(compare_reports({n: report(n, v) for n, v in scores.items()}), "ease", "vae")
    assert not d.significant
    assert str(d) == (
        f"{d.better} and {d.worse} are not told apart by recall@20: difference {d.mean:.4f},"
        f" 95% interval {d.low:.4f} to {d.high:.4f}, p={d.p_holm:.3f} after Holm"
    )


def test_equal_models_are_not_told_apart(scores):
    found = compare_reports({"a": report("a", scores["pop"]), "b": report("b", scores["pop"])})
    (d,) = found.differences
    assert (d.mean, d.low, d.high, d.effect) == (0, 0, 0, 0)
    assert d.p_t == d.p_wilcoxon == d.p_permutation == d.p_holm == 1
    assert not d.significant


def test_everybody_better_by_the_same():
    a = np.arange(40.0)
    (d,) = compare_reports({"a": report("a", a), "b": report("b", a + 1)}).differences
    assert (d.better, d.p_t, d.effect, d.wins) == ("b", 0, math.inf, 1)
    found = json.dumps(compare_reports({"a": report("a", a), "b": report("b", a + 1)}).to_json())
    assert json.loads(found)[0]["effect"] is None


def test_users_without_targets_are_left_out(scores):
    a, b = scores["pop"].copy(), scores["ease"].copy()
    a[::4] = b[::4] = np.nan
    (d,) = compare_reports({"a": report("a", a), "b": report("b", b)}).differences
    there = ~np.isnan(a)
    assert d.n == 300
    assert d.p_t == pytest.approx(stats.ttest_rel(a[there], b[there]).pvalue, rel=1e-9)


def test_seeds_are_averaged_user_by_user(scores):
    seeds = [report("vae", scores["vae"] + shift) for shift in (-0.01, 0.0, 0.04)]
    found = compare_reports({"vae": seeds, "pop": report("pop", scores["pop"])})
    (d,) = found.differences
    assert d.mean == pytest.approx((scores["vae"] + 0.01 - scores["pop"]).mean())
    assert d.n == 400


def test_rates_of_false_alarms_are_kept():
    """Under no difference, a 95% level calls about one in twenty."""
    rng = np.random.default_rng(6)
    called, permuted, covered = 0, 0, 0
    for _ in range(200):
        a = rng.random(50)
        b = a + rng.normal(0, 0.1, size=50)
        (d,) = compare_reports(
            {"a": report("a", a), "b": report("b", b)}, flips=199, resamples=200
        ).differences
        called += d.significant
        permuted += d.p_permutation <= 0.05
        covered += d.low <= 0 <= d.high
    # Binomial(200, .05) lies within 1..22 with probability above .999.
    assert 1 <= called <= 22
    assert 1 <= permuted <= 22
    assert 200 - 26 <= covered <= 200 - 1  # the percentile interval is a little short at n = 50


def test_frame_and_json_hold_every_figure(scores):
    found = compare_reports({name: report(name, v) for name, v in scores.items()})
    frame = found.to_frame()
    assert len(frame) == 3
    assert frame["p_holm"].tolist() == [d.p_holm for d in found.differences]
    assert frame["significant"].tolist() == [d.significant for d in found.differences]
    value = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert value[0]["better"] == found.differences[0].better
    assert [v["significant"] for v in value] == [False, True, True]


def test_refuses_other_users_and_other_targets(scores):
    a = report("a", scores["pop"])
    with pytest.raises(DataError, match="b was judged on 399 users that are not the 400 of a"):
        compare_reports({"a": a, "b": report("b", scores["pop"][1:])})
    renamed = replace(a, users=IdMap([f"v{u}" for u in range(400)]))
    with pytest.raises(DataError, match="b was judged on 400 users that are not the 400 of a"):
        compare_reports({"a": a, "b": renamed})
    with pytest.raises(DataError, match="b was judged on other fold-ins, targets or exclusions"):
        compare_reports({"a": a, "b": report("b", scores["ease"], fingerprint="another")})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"level": 1.0}, "level is 1.0; a number between 0 and 1"),
        ({"flips": 0}, "flips is 0; at least 1 is accepted"),
        ({"resamples": 0}, "resamples is 0; at least 1 is accepted"),
        ({"metrics": ["gini@5"]}, "metric 'gini@5' is not about targets"),
        ({"metrics": ["recall@5"]}, "metric 'recall@5' is not in this report"),
        ({"metrics": ["recall"]}, "metric 'recall' is unknown"),
    ],
)
def test_refuses_options(scores, options, message):
    reports = {name: report(name, v) for name, v in scores.items()}
    with pytest.raises(ConfigError, match=message):
        compare_reports(reports, **options)


def test_refuses_too_little():
    one = report("a", [0.5, np.nan])
    with pytest.raises(ConfigError, match="1 models to compare; two with a report each"):
        compare_reports({"a": one})
    with pytest.raises(ConfigError, match="2 models to compare; two with a report each"):
        compare_reports({"a": one, "b": []})
    with pytest.raises(DataError, match="1 users have targets; tests need at least 2"):
        compare_reports({"a": one, "b": one})
    only_lists = report("a", [0.5, 0.6], metric="novelty@5")
    with pytest.raises(ConfigError, match="no metric about targets"):
        compare_reports({"a": only_lists, "b": only_lists})


def test_resamples_have_the_moments_they_should():
    values = np.random.default_rng(7).random((200, 2))
    drawn = bootstrap_means(values, resamples=4000, rng=0)
    np.testing.assert_allclose(drawn.mean(axis=0), values.mean(axis=0), atol=0.002)
    np.testing.assert_allclose(drawn.std(axis=0), values.std(axis=0) / math.sqrt(200), rtol=0.05)
    # The same draws for both columns: their means move together as the columns do.
    assert np.corrcoef(drawn.T)[0, 1] == pytest.approx(np.corrcoef(values.T)[0, 1], abs=0.06)
    flipped, complete = flipped_means(values, resamples=4000, rng=0)
    assert not complete
    np.testing.assert_allclose(flipped.mean(axis=0), 0, atol=0.003)
    everything, complete = flipped_means(values[:5], resamples=32, rng=0)
    assert complete
    assert len(np.unique(everything[:, 0].round(12))) == 32
