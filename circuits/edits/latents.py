"""Edits of a dictionary's latents, written in short. No torch here."""

from __future__ import annotations

from pydantic import ValidationError

from circuits.edits.edit import Latent
from tasks.errors import EditError, all_faults


def latent_edit(
    site: str,
    dictionary: str,
    *,
    value: float | None = None,
    factor: float = 1.0,
    add: float = 0.0,
    low: float | None = None,
    high: float | None = None,
    where: str = "always",
) -> Latent:
    """Change a latent: set it to a ``value``, or to ``factor * a + add``, from ``low`` to ``high``.

    ``factor=0`` ablates it. ``dictionary`` is ``PATH`` or ``SITE=PATH``. Where: see
    :class:`circuits.edits.edit.Latent`.

    >>> circuits.latent_edit("resid_post.1.f12", "runs/sae", factor=0)
    Latent(kind='latent', site='resid_post.1.f12', dictionary='runs/sae', factor=0.0, ...)

    Raises:
        EditError: a value beside a factor or an addition, or a ``where`` that there is not.
    """
    if value is not None and (factor, add) != (1.0, 0.0):
        raise EditError(f"{site}: give a value, or factor and add; not both")
    if value is not None:
        factor, add = 0.0, value
    try:
        return Latent.model_validate(
            {
                "site": site,
                "dictionary": dictionary,
                "factor": factor,
                "add": add,
                "low": low,
                "high": high,
                "where": where,
            }
        )
    except ValidationError as error:
        faults = [f"{fault['loc'][0]}: {fault['msg']}" for fault in error.errors()]
        raise EditError(all_faults(f"{site} cannot be changed so:", faults)) from None
