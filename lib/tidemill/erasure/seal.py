"""What a sealed text is: a value that only its subject's key opens. Pure.

AES-SIV (RFC 5297): the same value of the same field and subject is sealed to the same text, so that an interval that is
computed again holds the same rows. One learns from it that two values of one subject and field are equal, and no more. Subject and field
stand in the text in clear, and are authenticated: a text that was changed or moved to another field does not open.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Collection, Mapping, Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from tidemill.errors import TransformError

KEY_BYTES = 64
MARK = "sealed:1:"
NOBODY = ""
"""The subject of what has none: a record that could not be read, a row without a subject."""

Keys = Mapping[str, bytes | None]
Ciphers = Mapping[str, AESSIV | None]

_TEXT, _JSON = b"\0", b"\1"
"""What a sealed value may begin with. Of a text that is not empty and begins with neither, nothing is put before it."""
_SEALED = re.compile(rf"{MARK}([\w=-]*):([\w=-]*):([\w=-]*)", re.ASCII)


def sealed(
    values: Sequence[str | None], subjects: Sequence[str | None], field: str, keys: Keys
) -> list[str | None]:
    """Each value under its subject's key; null stays null. Of a subject that was erased a text that nobody can open.

    >>> keys = {"ada": bytes(range(64)), "bob": None}
    >>> texts = sealed(["a@x", "b@x", None], ["ada", "bob", "ada"], "email", keys)
    >>> opened(texts, keys), texts[1]
    (['a@x', None, None], 'sealed:1:Ym9i:ZW1haWw=:')
    """
    ciphers = ciphers_of(keys)
    return [
        None if value is None else seal_one(value, subject or NOBODY, field, ciphers)
        for value, subject in zip(values, subjects, strict=True)
    ]


def opened(texts: Sequence[str | None], keys: Keys) -> list[str | None]:
    """What was sealed; null where it was of a subject that was erased, and a text that is not sealed as it is.

    What was no text in the JSON that it was sealed in is JSON.

    Raises :class:`TransformError` where a subject's key is not there though nobody erased it, or a text was changed.
    """
    ciphers = ciphers_of(keys)
    found = (None if text is None or not text.startswith(MARK) else open_one(text, ciphers) for text in texts)
    return [
        text if text is None or not text.startswith(MARK) else None if each is None else each[0]
        for text, each in zip(texts, found, strict=True)
    ]


def mark_of(subject: str) -> str:
    """What every sealed text of a subject begins with.

    >>> mark_of("ada")
    'sealed:1:YWRh:'
    """
    return f"{MARK}{_text(subject.encode())}:"


def subjects_of(texts: Collection[str | None]) -> set[str]:
    """The subjects of what is sealed in these texts, or is all of one."""
    said = {
        found[1] for text in texts if text is not None and MARK in text for found in _SEALED.finditer(text)
    }
    return {subject for each in said if (subject := _subject(each)) is not None}


def without_erased(was: str, now: str) -> tuple[str, str]:
    """Two texts with the same of a person in both, where ``now`` was made of them after they were erased.

    Whether it was equal before nobody can say any more.

    >>> keys = {"ada": bytes(range(64))}
    >>> was, now = (sealed(["a@x"], ["ada"], "email", each)[0] for each in (keys, {"ada": None}))
    >>> was == now, len(set(without_erased(f"to {was}", f"to {now}")))
    (False, 1)
    """
    gone = {found[1] for found in _SEALED.finditer(now) if not found[3]}

    def blank(found: re.Match[str]) -> str:
        return f"{MARK}{found[1]}:{found[2]}:" if found[1] in gone else found[0]

    return (_SEALED.sub(blank, was), _SEALED.sub(blank, now)) if gone else (was, now)


def seal_one(value: str, subject: str, field: str, ciphers: Ciphers, *, is_json: bool = False) -> str:
    """One value, sealed. ``is_json``: it is not a text but the JSON of what is sealed."""
    cipher, plain = ciphers[subject], value.encode()
    if is_json:
        plain = _JSON + plain
    elif plain[:1] in (b"", _TEXT, _JSON):
        plain = _TEXT + plain
    held = b"" if cipher is None else cipher.encrypt(plain, _bound(subject, field))
    return MARK + ":".join(map(_text, (subject.encode(), field.encode(), held)))


def open_one(text: str, ciphers: Ciphers) -> tuple[str, bool] | None:
    """What was sealed, and whether it is the JSON of it; None where its subject was erased."""
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
        plain = cipher.decrypt(held, _bound(subject, field))
    except InvalidTag:
        raise TransformError(
            f"{field} of {subject!r} does not open: its text or its key is another",
            next_step="find the keys that it was sealed with",
            subject=subject,
        ) from None
    said = plain[1:] if plain[:1] in (_TEXT, _JSON) else plain
    return said.decode(), plain[:1] == _JSON


def ciphers_of(keys: Keys) -> dict[str, AESSIV | None]:
    """What seals and opens with these keys."""
    return {subject: None if key is None else AESSIV(key) for subject, key in keys.items()}


def _parts(text: str) -> tuple[str, str, bytes]:
    try:
        subject, field, held = (base64.urlsafe_b64decode(part) for part in text[len(MARK) :].split(":"))
        return subject.decode(), field.decode(), held
    except (ValueError, binascii.Error):
        raise TransformError(
            f"a text begins with {MARK} and is not sealed: {text[:60]!r}",
            next_step="look where it comes from",
        ) from None


def _subject(said: str) -> str | None:
    try:
        return base64.urlsafe_b64decode(said).decode()
    except (ValueError, binascii.Error):
        return None  # no sealed text: who opens it says so


def _bound(subject: str, field: str) -> list[bytes]:
    return [subject.encode(), field.encode()]


def _text(part: bytes) -> str:
    return base64.urlsafe_b64encode(part).decode()
