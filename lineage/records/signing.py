# SPDX-License-Identifier: Apache-2.0
"""Signs records with a private key and checks the signatures.

A seal shows accidental changes only; a signature proves that nobody without the key has changed a record. Each record
gets an envelope beside it, `<execution>.dsse.json`, as defined by DSSE (https://github.com/secure-systems-lab/dsse) and
in-toto, with the record as payload and its signatures. Keys are PEM files: Ed25519, ECDSA or RSA.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from learn2compress.lineage.graph import Graph
from learn2compress.lineage.index import Entry
from learn2compress.schemas.errors import LineageError
from learn2compress.schemas.lineage import Problem
from learn2compress.schemas.provenance import SUFFIX
from learn2compress.storage.location import Location

if TYPE_CHECKING:
    from securesystemslib.dsse import Envelope
    from securesystemslib.signer import Key

ENVELOPE_SUFFIX = ".dsse.json"
PAYLOAD_TYPE = "application/vnd.in-toto+json"


def envelope_path(record: str) -> str:
    """Return the path of a record's envelope."""
    return record.removesuffix(SUFFIX) + ENVELOPE_SUFFIX


def sign_records(graph: Graph, key: Path) -> tuple[int, list[Problem]]:
    """Sign every record that is whole; an envelope that is signed already gets a further signature.

    Args:
        graph: The records.
        key: PEM file of a private key.

    Returns:
        The number of signed records, and a problem for each broken record, which is not signed.

    Raises:
        LineageError: The key cannot be used, or is protected by a passphrase.
    """
    # Imported here because it takes over a second: it imports the clients of every key service.
    from cryptography.hazmat.primitives.serialization import load_pem_private_key
    from securesystemslib.dsse import Envelope
    from securesystemslib.signer import CryptoSigner

    try:
        signer = CryptoSigner(load_pem_private_key(key.read_bytes(), password=None))
    except OSError as error:
        raise LineageError(f"{key} must be a readable private key; {error.strerror}.") from error
    except (ValueError, TypeError) as error:
        raise LineageError(f"{key} must be a private key in PEM without a passphrase; {error}.") from error
    count, problems = 0, []
    for entry in graph.index.entries():
        try:
            graph.statement(entry)
        except LineageError as error:
            problems.append(Problem(kind="tampered", where=entry.path, reason=str(error)))
            continue
        raw = graph.home.read(entry.path)
        envelope = Envelope(raw, PAYLOAD_TYPE, {})
        known = _read_envelope(graph.home, entry.path)
        if known is not None and known.payload == raw:
            envelope.signatures.update(known.signatures)
        envelope.sign(signer)
        text = json.dumps(envelope.to_dict(), indent=1, sort_keys=True) + "\n"
        graph.home.write(envelope_path(entry.path), text.encode())
        count += 1
    return count, problems


class SignatureChecker:
    """Checks the records' envelopes; without a key, checks only that each envelope holds its record."""

    def __init__(self, home: Location, public_key: Path | None) -> None:
        """Load the key.

        Raises:
            LineageError: The file is not a public key.
        """
        self._home = home
        self._key = _load_public_key(public_key) if public_key else None
        self.count = 0

    def check(self, entry: Entry) -> Problem | None:
        """Check the envelope of a record.

        Args:
            entry: Index entry of the record.

        Returns:
            The problem with the envelope, or None. A missing envelope is a problem only if a key was given.
        """
        path = envelope_path(entry.path)
        try:
            if not self._home.exists(path):
                return Problem(kind="incomplete", where=entry.path, reason="it is not signed") if self._key else None
            envelope = _parse_envelope(self._home.read(path), path)
        except LineageError as error:
            return Problem(kind="tampered", where=path, reason=str(error))
        if envelope.payload != self._home.read(entry.path):
            return Problem(kind="tampered", where=path, reason=f"its payload is not the record {entry.path}")
        if self._key is not None:
            from securesystemslib.exceptions import VerificationError

            try:
                envelope.verify([self._key], 1)
            except VerificationError:
                return Problem(kind="tampered", where=path, reason="it has no valid signature by this key")
            self.count += 1
        return None


def _read_envelope(home: Location, record: str) -> "Envelope | None":
    path = envelope_path(record)
    try:
        return _parse_envelope(home.read(path), path) if home.exists(path) else None
    except LineageError:
        # A broken envelope is replaced.
        return None


def _parse_envelope(raw: bytes, path: str) -> "Envelope":
    from securesystemslib.dsse import Envelope

    try:
        envelope = Envelope.from_dict(json.loads(raw))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise LineageError(f"{path} must be a DSSE envelope; {error!r}.") from error
    if envelope.payload_type != PAYLOAD_TYPE:
        raise LineageError(f"{path} must have the payload type {PAYLOAD_TYPE}; got {envelope.payload_type!r}.")
    return envelope


def _load_public_key(path: Path) -> "Key":
    from cryptography.hazmat.primitives.serialization import load_pem_public_key
    from securesystemslib.signer import SSlibKey

    try:
        return SSlibKey.from_crypto(load_pem_public_key(path.read_bytes()))
    except OSError as error:
        raise LineageError(f"{path} must be a readable public key; {error.strerror}.") from error
    except (ValueError, TypeError) as error:
        raise LineageError(f"{path} must be a public key in PEM; {error}.") from error
