"""`POST /1.0/keys` and `PUT /1.0/keys/{key}`: a primary key makes and renames keys of its own."""

from __future__ import annotations

from collections.abc import Mapping

from optidash_integrations.server.keys import Key, Keys
from optidash_integrations.server.refusals import InvalidError


def create(keys: Keys, caller: Key, document: object) -> dict[str, object]:
    """Make a key named as the request's document says, and return the answer, secret included.

    Raises ForbiddenError for a caller that is not primary, InvalidError for a wrong document,
    TakenError for a name that another of its keys has.
    """
    key, secret = keys.create_for(caller, name_in(document))
    return answer(key, secret)


def rename(keys: Keys, caller: Key, secret: str, document: object) -> dict[str, object]:
    """Rename the key that the address names by its secret, and return the answer.

    Raises as `create` does, and MissingError where the caller has no such key.
    """
    key = keys.sub_key(caller, secret)
    return answer(keys.rename(key, name_in(document)), secret)


def name_in(document: object) -> object:
    if not isinstance(document, Mapping):
        raise InvalidError("The body must be a JSON object")
    return document.get("name")


def answer(key: Key, secret: str) -> dict[str, object]:
    return {"success": True, "code": 200, "name": key.name, "key": secret}
