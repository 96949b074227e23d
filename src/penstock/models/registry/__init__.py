"""The registry: immutable, content-addressed versions of models, and aliases moved by compare-and-swap."""

from penstock.models.naming import CHAMPION, Reference
from penstock.models.registry.artifacts import ArtifactStore, FolderArtifactStore, OnStep, StoredArtifact
from penstock.models.registry.candidate import Candidate
from penstock.models.registry.garbage import Garbage
from penstock.models.registry.registry import ANY_VERSION, AliasMoved, AnyVersion, Registry, Role

__all__ = [
    "ANY_VERSION",
    "CHAMPION",
    "AliasMoved",
    "AnyVersion",
    "ArtifactStore",
    "Candidate",
    "FolderArtifactStore",
    "Garbage",
    "OnStep",
    "Reference",
    "Registry",
    "Role",
    "StoredArtifact",
]
