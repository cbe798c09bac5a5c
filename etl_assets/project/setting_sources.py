"""Where settings come from besides what is passed: the environment, and the project's file."""

import os
from collections.abc import Mapping
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_settings import EnvSettingsSource, PydanticBaseSettingsSource


class EnvironmentSource(EnvSettingsSource):
    """The variables of `load_settings`, which a test can replace."""

    variables: Mapping[str, str] | None = None

    def _load_env_vars(self) -> Mapping[str, str | None]:
        found = os.environ if EnvironmentSource.variables is None else EnvironmentSource.variables
        return {name.lower(): value for name, value in found.items() if value.strip()}


class DeclaredSource(PydanticBaseSettingsSource):
    """What the project's file says, as `load_settings` read it."""

    values: Mapping[str, Any] = {}

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """The value of one field, under the name by which pydantic knows it."""
        return DeclaredSource.values.get(field_name), str(field.validation_alias or field_name), False

    def __call__(self) -> dict[str, Any]:
        """All values."""
        fields = self.settings_cls.model_fields
        return {str(fields[name].validation_alias or name): value for name, value in DeclaredSource.values.items()}
