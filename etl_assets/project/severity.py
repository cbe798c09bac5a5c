"""What a project says of its checks: how bad a failure is, and whether it keeps the warehouse from being published."""

from enum import StrEnum

from pydantic import Field, model_validator

from etl_assets.project.columns import Model


class Severity(StrEnum):
    """How bad it is that a check fails."""

    WARN = "warn"
    ERROR = "error"


class CheckRule(Model):
    """What is declared of one check, by its name."""

    name: str = Field(min_length=1, description="The check: the name of its SQL file, or that of a word on a column.")
    severity: Severity = Field(
        default=Severity.ERROR, description="`error` makes `etl-assets run` end with 1; `warn` is shown and no more."
    )
    blocking: bool = Field(
        default=False,
        description="Whether it is checked before the warehouse is published: if it fails, the last warehouse stays.",
    )
    description: str = Field(
        default="", description="What it promises; by default the comment that its SQL begins with."
    )

    @model_validator(mode="after")
    def _check_blocking(self) -> "CheckRule":
        if self.blocking and self.severity is Severity.WARN:
            raise ValueError("a check that only warns cannot block: leave out blocking, or write severity: error")
        return self
