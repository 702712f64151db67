"""The collections that `prepare` reads, by flag name."""

from thiscxr.data.sources.collection import Collection
from thiscxr.data.sources.folder import FOLDER
from thiscxr.data.sources.nih import NIH

COLLECTIONS: dict[str, Collection] = {collection.key: collection for collection in (NIH, FOLDER)}
