"""From a picture, a model or a record back to the source images and their licences.

Links are followed by content hashes. One that does not hold is told with both hashes, and nothing beyond it is shown.
"""

from lorweb.trace.walk import Places, trace

__all__ = ["Places", "trace"]
