"""Model directories, and recommendations with ids in and ids out."""

from recae.serving.bundle import (
    Bundle,
    Version,
    current_version,
    list_versions,
    load_bundle,
    ready_to_save,
    verify,
)
from recae.serving.recommendations import (
    Cohort,
    Explanation,
    Reason,
    Recommendations,
    Request,
    ScoredItem,
    Similar,
)
from recae.serving.save import save_bundle
from recae.serving.service import RecommendationService

__all__ = [
    "Bundle",
    "Cohort",
    "Explanation",
    "Reason",
    "RecommendationService",
    "Recommendations",
    "Request",
    "ScoredItem",
    "Similar",
    "Version",
    "current_version",
    "list_versions",
    "load_bundle",
    "ready_to_save",
    "save_bundle",
    "verify",
]
