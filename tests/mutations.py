"""Mistakes put into a copy of the package, one at a time: the tests named beside each must see it.

``make mutations`` runs it, a few minutes on a core; it is no part of the checks of a change. The
copy is of the working tree, which stays as it is. Exit code 1: a mistake was not seen, or its text
stands in the file no more (write down the new one, or another mistake near it).
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
COPIED = ("recae", "api", "tests", "data", "benchmarks", "pyproject.toml")


@dataclass(frozen=True, slots=True)
class Mutation:
    """A mistake.

    Attributes
    ----------
    about
        What it is.
    file
        Where, from the root of the repository.
    old, new
        Text that stands there once, and what it becomes.
    tests
        Test files or ids of which one fails then.
    """

    about: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


MUTATIONS = (
    # ranking
    Mutation(
        "-0 is less than 0 in the order of lists",
        "recae/ranking/topk.py",
        "bits = (scores + np.float32(0)).view(np.int32)",
        "bits = scores.view(np.int32)",
        ("tests/test_propose.py::test_the_order_of_lists_is_that_of_score_and_index",),
    ),
    Mutation(
        "a score at the floor is not looked at",
        "recae/ranking/select.py",
        "there = (found >= least[user][:, None])",
        "there = (found > least[user][:, None])",
        ("tests/test_propose.py::test_what_reaches_the_floor_is_found",),
    ),
    Mutation(
        "fast scores are taken for exact ones",
        "recae/ranking/scorer.py",
        "return _rounded_down(exact - self.error)",
        "return _rounded_down(exact)",
        ("tests/test_recommenders.py::test_noise_that_hides_the_best_item_is_seen_through",),
    ),
    Mutation(
        "the bound leaves out how far 8 bits are from a history",
        "recae/ranking/rounded.py",
        "            + (hidden - kept).norm(dim=1) * self._norm\n",
        "",
        ("tests/test_propose.py::test_no_score_is_further_off_than_the_bound",),
    ),
    Mutation(
        "seen items of the first block only are left out",
        "recae/ranking/propose.py",
        "inside = (columns >= block.start) & (columns < block.stop)",
        "inside = (columns >= block.start) & (columns < block.stop - block.start)",
        ("tests/test_recommenders.py::test_lists_are_exact_whatever_the_noise_and_the_ties",),
    ),
    # splits
    Mutation(
        "short histories are asked for nothing",
        "recae/data/protocols/drawing.py",
        "wanted = np.maximum(1, np.floor",
        "wanted = np.maximum(0, np.floor",
        ("tests/test_protocols.py::test_strong_asks_for_a_fifth_and_always_for_something",),
    ),
    Mutation(
        "what happens at the date is still trained on",
        "recae/data/protocols/temporal.py",
        'np.searchsorted(np.array(starts), some.times, side="right")',
        'np.searchsorted(np.array(starts), some.times, side="left")',
        ("tests/test_protocols.py::test_temporal_splits_at_one_date_for_everybody",),
    ),
    Mutation(
        "validation items may be listed in the test",
        "recae/data/protocols/rows_apart.py",
        "exclude = Histories(excluded) if excluded.nnz else None",
        "exclude = None",
        ("tests/test_protocols.py::test_random_cuts_both_shares_out_of_the_whole",),
    ),
    Mutation(
        "what a person rated below the minimum comes back",
        "recae/ranking/recommender.py",
        "if exclude_seen and chunk.seen is not None:",
        "if not exclude_seen and chunk.seen is not None:",
        ("tests/test_seen.py::test_python_lists_leave_them_out",),
    ),
    Mutation(
        "the highest rating of a pair counts, not the latest",
        "recae/data/readers/assemble.py",
        "low = None if low is None else gather(low, last)",
        "low = None if low is None else gather(low, first)",
        ("tests/test_seen.py::test_rows_of_a_pair_are_merged_before_the_minimum",),
    ),
    Mutation(
        "lists go on where nothing speaks for an item",
        "recae/ranking/propose.py",
        "            if lacking is not None:",
        "            if lacking is None:",
        ("tests/test_evidence.py::test_an_empty_history_speaks_for_nothing",),
    ),
    Mutation(
        "the draw of the Mult-VAE split goes by the order of the input",
        "recae/data/protocols/mult_vae.py",
        "for user in id_order(known.users):",
        "for user in range(len(known.users)):",
        ("tests/test_mult_vae_protocol.py::test_equals_the_published_rules",),
    ),
    # metrics
    Mutation(
        "the ideal list is k long for everybody",
        "recae/evaluation/metrics.py",
        "return _ratio(gained, ideal[np.minimum(n_targets, k)])",
        "return _ratio(gained, ideal[np.where(n_targets > 0, k, 0)])",
        ("tests/test_metrics.py::test_by_hand",),
    ),
    Mutation(
        "people without targets count as 0",
        "recae/evaluation/metrics.py",
        "out = np.full(len(found), np.nan)",
        "out = np.zeros(len(found))",
        ("tests/test_metrics.py::test_by_hand",),
    ),
    Mutation(
        "average precision counts every rank, hit or not",
        "recae/evaluation/metrics.py",
        "_total(np.where(shown, precisions, 0.0))",
        "_total(precisions)",
        ("tests/test_metrics.py::test_by_hand",),
    ),
    # losses
    Mutation(
        "the divergence is not halved",
        "recae/networks/losses.py",
        "return 0.5 * (log_var.exp() + mu.square() - 1 - log_var).sum(dim=1)",
        "return (log_var.exp() + mu.square() - 1 - log_var).sum(dim=1)",
        ("tests/test_conformance.py::test_loss_and_gradients",),
    ),
    Mutation(
        "the KL weight is one update ahead",
        "recae/networks/losses.py",
        "return cap * step / anneal_steps",
        "return cap * (step + 1) / anneal_steps",
        ("tests/test_conformance.py::test_kl_weight_of_each_update",),
    ),
    Mutation(
        "dropout does not scale what it keeps",
        "recae/networks/losses.py",
        "values * keep / (1.0 - rate)",
        "values * keep",
        ("tests/test_conformance.py::test_loss_and_gradients",),
    ),
    # readers
    Mutation(
        "the same item of two people is one pair",
        "recae/data/readers/assemble.py",
        "    again[indptr[:-1]] = False  # every user has a pair\n",
        "",
        ("tests/test_readers_values.py::test_numbering_follows_rows_that_are_kept",),
    ),
    Mutation(
        "the last row of a pair is that of the file, not the latest",
        "recae/data/readers/pairs.py",
        "np.lexsort((runs, times[runs], np.cumsum(~again[at])))",
        "np.lexsort((runs, np.cumsum(~again[at])))",
        ("tests/test_readers_values.py::test_merged_pairs_keep_the_first_place_and_the_last_time",),
    ),
    Mutation(
        "milliseconds are taken for seconds",
        "recae/data/readers/numbers.py",
        '("milliseconds", 3e11)',
        '("milliseconds", 3e13)',
        ("tests/test_readers_values.py::test_times",),
    ),
    Mutation(
        "of two columns that could be meant the first is taken",
        "recae/data/readers/columns.py",
        "if len(found) > 1:",
        "if len(found) > 2:",
        ("tests/test_readers_corpus.py::test_tables_that_must_be_refused",),
    ),
    # model directories
    Mutation(
        "a file of the right size is not proved",
        "recae/serving/layout.py",
        "if len(data) != entry.size or hashlib.sha256(data).hexdigest() != entry.sha256:",
        "if len(data) != entry.size:",
        ("tests/test_bundle.py::test_added_zeroed_and_swapped_content_is_refused",),
    ),
    Mutation(
        "a newer format is read as if it were known",
        "recae/serving/layout.py",
        "if type(written) is int and written > FORMAT:",
        "if type(written) is int and written > FORMAT + 1:",
        ("tests/test_bundle.py::test_a_newer_format_is_refused_by_name",),
    ),
    Mutation(
        "histories of a directory need not be sorted",
        "recae/serving/contents.py",
        "if not matrix.has_canonical_format or len(indices) != matrix.nnz:",
        "if len(indices) != matrix.nnz:",
        ("tests/test_bundle.py::test_forgeries_are_refused",),
    ),
    Mutation(
        "a file is renamed before it is on the disk",
        "recae/storage/files.py",
        "                os.fsync(descriptor)\n                partial.replace(path)",
        "                partial.replace(path)",
        ("tests/test_bundle.py::test_names_are_on_the_disk_before_they_are_pointed_to",),
    ),
)


def main() -> int:
    """Say of each mistake whether it was seen; 1 where one was not."""
    bad = 0
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch)
        for name in COPIED:
            _copy(ROOT / name, copy / name)
        tests = sorted({test for mutation in MUTATIONS for test in mutation.tests})
        code, said = _pytest(copy, tests)
        if code != 0:
            print(f"the tests fail without a mistake:\n{said}")
            return 1
        for mutation in MUTATIONS:
            started = time.monotonic()
            outcome = _outcome(copy, mutation)
            bad += outcome != "red"
            seconds = time.monotonic() - started
            print(f"{outcome:<6} {seconds:4.0f} s  {mutation.file}: {mutation.about}", flush=True)
    print(f"{len(MUTATIONS) - bad} of {len(MUTATIONS)} red")
    return min(bad, 1)


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    elif source.exists():
        shutil.copy(source, target)


def _outcome(copy: Path, mutation: Mutation) -> str:
    """Whether the tests see the mistake: red, green, or what else there is to say."""
    path = copy / mutation.file
    text = path.read_text("utf-8")
    if text.count(mutation.old) != 1:
        return f"its text stands there {text.count(mutation.old)} times:"
    path.write_text(text.replace(mutation.old, mutation.new), "utf-8")
    try:
        code, said = _pytest(copy, mutation.tests)
    finally:
        path.write_text(text, "utf-8")
    if code > 1:  # 1 is a failing test; others are tests that cannot run
        print(said)
        return f"pytest exits with {code}:"
    return "red" if code else "green"


def _pytest(copy: Path, tests: tuple[str, ...] | list[str]) -> tuple[int, str]:
    """Run `tests` in `copy`, which is imported instead of what is installed."""
    options = ["-q", "-x", "-p", "no:randomly", "-p", "no:cacheprovider", "--hypothesis-seed=0"]
    here: Mapping[str, str] = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(copy), str(copy / "api")]),
        "PYTHONDONTWRITEBYTECODE": "1",  # a mistake of the same second and size has the same cache
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "pytest", *options, "-m", "not slow", *tests]
    done = subprocess.run(
        command, cwd=copy, env=here, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    return done.returncode, done.stdout[-3000:]


if __name__ == "__main__":
    sys.exit(main())
