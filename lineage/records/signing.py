# SPDX-License-Identifier: Apache-2.0
"""Signs records with a private key and checks the signatures.

A seal shows accidental changes only; a signature proves that nobody without the key has changed a record. Each record
gets an envelope beside it, `<execution>.dsse.json`, as defined by DSSE (https://github.com/secure-systems-lab/dsse) and
in-toto, with the record as payload and its signatures. A signed list of all records, `provenance-list.dsse.json` at
their home location, shows a record that was deleted. Keys are PEM files: Ed25519, ECDSA or RSA.
"""

import hashlib
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
    from securesystemslib.signer import Key, Signer

ENVELOPE_SUFFIX = ".dsse.json"
LIST_FILE = f"provenance-list{ENVELOPE_SUFFIX}"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
LIST_TYPE = "application/vnd.learn2compress.records+json"


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
    from securesystemslib.signer import CryptoSigner

    try:
        signer = CryptoSigner(load_pem_private_key(key.read_bytes(), password=None))
    except OSError as error:
        raise LineageError(f"{key} must be a readable private key; {error.strerror}.") from error
    except (ValueError, TypeError) as error:
        raise LineageError(f"{key} must be a private key in PEM without a passphrase; {error}.") from error
    problems: list[Problem] = []
    signed: dict[str, str] = {}
    for entry in graph.index.entries():
        try:
            graph.statement(entry)
        except LineageError as error:
            problems.append(Problem(kind="tampered", where=entry.path, reason=str(error)))
            continue
        raw = graph.home.read(entry.path)
        _sign(graph.home, envelope_path(entry.path), raw, PAYLOAD_TYPE, signer)
        signed[entry.path] = hashlib.sha256(raw).hexdigest()
    listing = json.dumps({"version": 1, "records": signed}, indent=1, sort_keys=True)
    _sign(graph.home, LIST_FILE, listing.encode(), LIST_TYPE, signer)
    return len(signed), problems


def _sign(home: Location, path: str, payload: bytes, kind: str, signer: "Signer") -> None:
    """Write an envelope; one that holds the same payload keeps its other signatures."""
    from securesystemslib.dsse import Envelope

    envelope = Envelope(payload, kind, {})
    known = _read_envelope(home, path, kind)
    if known is not None and known.payload == payload:
        envelope.signatures.update(known.signatures)
    envelope.sign(signer)
    home.write(path, (json.dumps(envelope.to_dict(), indent=1, sort_keys=True) + "\n").encode())


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
        self.envelopes = 0
        self.signers: set[str] = set()

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
        self.envelopes += 1
        self.signers |= set(envelope.signatures)
        problem = self._verify(envelope, path)
        self.count += problem is None and self._key is not None
        return problem

    def check_list(self, entries: list[Entry]) -> list[Problem]:
        """Check that the signed list names exactly the records that are there.

        Returns:
            A problem for the list, or for each record that is missing or not listed. A missing list is a problem only
            if records are signed.
        """
        if not self._home.exists(LIST_FILE):
            reason = "it is missing, so nothing shows whether a record was deleted; `sign` writes it"
            return [Problem(kind="incomplete", where=LIST_FILE, reason=reason)] if self.envelopes else []
        try:
            envelope = _parse_envelope(self._home.read(LIST_FILE), LIST_FILE, LIST_TYPE)
            listed = json.loads(envelope.payload)["records"]
            wrong = self._verify(envelope, LIST_FILE)
            found = {entry.path: entry.sha256 for entry in entries}
            lost = sorted(set(listed) - set(found))
        except (LineageError, ValueError, KeyError, TypeError, RecursionError) as error:
            return [Problem(kind="tampered", where=LIST_FILE, reason=f"it must be a signed list of records; {error}")]
        problems = [wrong] if wrong else []
        reason = "it was signed and is missing"
        problems += [Problem(kind="incomplete", where=path, reason=reason) for path in lost]
        for path in sorted(set(found) - set(lost)):
            if path not in listed:
                reason = "it is not in the signed list of records: it was added after signing"
                problems.append(Problem(kind="incomplete" if self._key else "note", where=path, reason=reason))
            elif listed[path] != found[path]:
                reason = "its digest is not the one in the signed list of records"
                problems.append(Problem(kind="tampered", where=path, reason=reason))
        return problems

    def _verify(self, envelope: "Envelope", path: str) -> Problem | None:
        if self._key is None:
            return None
        from securesystemslib.exceptions import VerificationError

        try:
            envelope.verify([self._key], 1)
        except VerificationError:
            return Problem(kind="tampered", where=path, reason="it has no valid signature by this key")
        return None


def _read_envelope(home: Location, path: str, kind: str) -> "Envelope | None":
    try:
        return _parse_envelope(home.read(path), path, kind) if home.exists(path) else None
    except LineageError:
        # A broken envelope is replaced.
        return None


def _parse_envelope(raw: bytes, path: str, kind: str = PAYLOAD_TYPE) -> "Envelope":
    from securesystemslib.dsse import Envelope

    try:
        envelope = Envelope.from_dict(json.loads(raw))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise LineageError(f"{path} must be a DSSE envelope; {error!r}.") from error
    if envelope.payload_type != kind:
        raise LineageError(f"{path} must have the payload type {kind}; got {envelope.payload_type!r}.")
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
