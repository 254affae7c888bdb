"""What the settings of a study are made of."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from mtkd.config.checks import require

Count = Annotated[int, Field(ge=1, lt=2**63)]
Size = Annotated[int, Field(ge=0, lt=2**63)]
Limit = Annotated[int, Field(ge=16, lt=2**63)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Dropout = Annotated[float, Field(ge=0, lt=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Seeds = Annotated[list[Seed], Field(min_length=1)]
ShortName = Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]  # of an encoder or a student
TaskNames = Annotated[list[str], Field(min_length=1)]


class Settings(BaseModel):
    """Settings that are validated strictly as they are read, and cannot be changed afterwards.

    `docs/configuration.md` is made from the fields' descriptions.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, protected_namespaces=()
    )

    @model_validator(mode="before")
    @classmethod
    def _only_known_fields(cls, settings: Any) -> Any:
        for name in settings if isinstance(settings, dict) else ():
            known = ", ".join(cls.model_fields)
            require(name in cls.model_fields, f"unknown field '{name}'; known there: {known}")
        return settings


def field(default: Any, description: str, **rules: Any) -> Any:
    """Return pydantic's `Field` with a default (`...`: required) and a description."""
    return Field(default, description=description, **rules)
