"""What a sealed text is: a value that only its subject's key opens. Pure.

AES-SIV (RFC 5297): the same value of the same field and subject is sealed to the same text, so that an interval that is
computed again holds the same rows. One learns from it that two values of one subject and field are equal, and no more. Subject and field
stand in the text in clear, and are authenticated: a text that was changed or moved to another field does not open.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Collection, Mapping, Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from tidemill.errors import TransformError

KEY_BYTES = 64
MARK = "sealed:1:"
NOBODY = ""
"""The subject of what has none: a record that could not be read, a row without a subject."""

Keys = Mapping[str, bytes | None]


def sealed(
    values: Sequence[str | None], subjects: Sequence[str | None], field: str, keys: Keys
) -> list[str | None]:
    """Each value under its subject's key; null stays null. Of a subject that was erased a text that nobody can open.

    >>> keys = {"ada": bytes(range(64)), "bob": None}
    >>> texts = sealed(["a@x", "b@x", None], ["ada", "bob", "ada"], "email", keys)
    >>> opened(texts, keys), texts[1]
    (['a@x', None, None], 'sealed:1:Ym9i:ZW1haWw=:')
    """
    ciphers = _ciphers(keys)
    return [
        None if value is None else _sealed(value, subject or NOBODY, field, ciphers)
        for value, subject in zip(values, subjects, strict=True)
    ]


def opened(texts: Sequence[str | None], keys: Keys) -> list[str | None]:
    """What was sealed; null where it was of a subject that was erased, and a text that is not sealed as it is.

    Raises :class:`TransformError` where a subject's key is not there though nobody erased it, or a text was changed.
    """
    ciphers = _ciphers(keys)
    return [text if text is None or not text.startswith(MARK) else _opened(text, ciphers) for text in texts]


def mark_of(subject: str) -> str:
    """What every sealed text of a subject begins with.

    >>> mark_of("ada")
    'sealed:1:YWRh:'
    """
    return f"{MARK}{_text(subject.encode())}:"


def subjects_of(texts: Collection[str | None]) -> set[str]:
    """The subjects of sealed texts."""
    return {_parts(text)[0] for text in texts if text is not None and text.startswith(MARK)}


def _sealed(value: str, subject: str, field: str, ciphers: Mapping[str, AESSIV | None]) -> str:
    cipher = ciphers[subject]
    held = b"" if cipher is None else cipher.encrypt(value.encode() or b"\0", _bound(subject, field))
    return MARK + ":".join(map(_text, (subject.encode(), field.encode(), held)))


def _opened(text: str, ciphers: Mapping[str, AESSIV | None]) -> str | None:
    subject, field, held = _parts(text)
    if subject not in ciphers:
        raise TransformError(
            f"{field} of {subject!r} is sealed, and the keys have none of this subject",
            next_step="find the keys that it was sealed with; what was erased on purpose opens as null",
            subject=subject,
        )
    cipher = ciphers[subject]
    if cipher is None or not held:
        return None
    try:
        value = cipher.decrypt(held, _bound(subject, field))
    except InvalidTag:
        raise TransformError(
            f"{field} of {subject!r} does not open: its text or its key is another",
            next_step="find the keys that it was sealed with",
            subject=subject,
        ) from None
    return "" if value == b"\0" else value.decode()


def _parts(text: str) -> tuple[str, str, bytes]:
    try:
        subject, field, held = (base64.urlsafe_b64decode(part) for part in text[len(MARK) :].split(":"))
        return subject.decode(), field.decode(), held
    except (ValueError, binascii.Error):
        raise TransformError(
            f"a text begins with {MARK} and is not sealed: {text[:60]!r}",
            next_step="look where it comes from",
        ) from None


def _bound(subject: str, field: str) -> list[bytes]:
    return [subject.encode(), field.encode()]


def _ciphers(keys: Keys) -> dict[str, AESSIV | None]:
    return {subject: None if key is None else AESSIV(key) for subject, key in keys.items()}


def _text(part: bytes) -> str:
    return base64.urlsafe_b64encode(part).decode()
