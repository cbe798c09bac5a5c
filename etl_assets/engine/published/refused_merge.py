"""Why the last merge was refused, in `refused_merge.json`: what `status` shows beside the warehouse that stayed.

Written by `steps.refusing`, and removed by the next merge that publishes.
"""

from dataclasses import dataclass

from etl_assets.engine.files.documents import Form, Moment
from etl_assets.engine.files.layout import Home


@dataclass(frozen=True)
class RefusedMerge:
    """A merge that published nothing.

    `set_hash` is that of its shards, `kind` the class of its error (`EtlError.kind`). `finding` is the error's text,
    which may have several lines.
    """

    set_hash: str
    finding: str
    kind: str
    refused_at: Moment


_FORM = Form(RefusedMerge)


def read_refused_merge(home: Home) -> RefusedMerge | None:
    """The merge that was refused since the last publication; None without one."""
    return _FORM.read(home.refused_merge)
