"""Model directories, and recommendations with ids in and ids out."""
