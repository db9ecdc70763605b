"""Arms: the two sides of an ``--ab``, whose Workers differ in one setting and take turns in one Run."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import UsageError
from bench.cases.case import LABELS, LRNS, PRESETS, Case
from bench.cases.parse import (
    MOST_THREADS,
    is_variable,
    join_or,
    parse_choice,
    parse_count,
    parse_layouts,
    parse_modes,
    parse_number,
    refuse_visible,
    resolve_interpreter,
)
from bench.machine import code
from bench.worker.guest import Guest
from bench.worker.net_file import read_nets
from bench.worker.net_name import split_names
from impls import FRAMEWORKS
from impls.text import quoted

KINDS = ("impls", "python", "net", "threads", "mode", "layout", "lrn", "preset", "env", "slowdown")
CASE_FIELDS = ("mode", "layout", "lrn", "preset")  # kinds that are fields of a Case


@dataclass(frozen=True)
class Package:
    """An Arm's own ``impls``: its folder, and the digest of its files when first read."""

    folder: Path
    digest: str


@dataclass(frozen=True)
class Sides:
    """The two Arms in a Run's header, without paths."""

    key: str
    values: tuple[str, str]
    identical: bool

    def ab(self) -> Ab:
        """The Arms, without the folders of interpreters, nets and packages, which a Run does not store."""
        return Ab(self.key, self.values)


@dataclass(frozen=True)
class Ab:
    """The setting ``key`` in which the two Arms differ, and its two values as written.

    ``slowdown``: percent of its burn-in median that a Worker spins inside the clock after every pass, a known
    difference that tests detection. ``impls``: two revisions of the timed code, under one harness. Equal values, or
    folders with equal files, make an A/A.

    ``guests`` are the two nets of ``net``, ``packages`` the two folders of ``impls``, as read by ``parse_ab``; both are
    empty for an Ab from a Run's header.
    """

    key: str
    values: tuple[str, str]
    guests: tuple[Guest, ...] = ()
    packages: tuple[Package, ...] = ()

    @property
    def identical(self) -> bool:
        a, b = [package.digest for package in self.packages] or self.values
        return a == b

    def value(self, arm: str | None) -> str:
        return self.values[_index(arm)]

    def env(self, arm: str | None) -> dict[str, str | None]:
        """Changes to the environment of the Arm's Worker; None removes a variable."""
        kind, _, name = self.key.partition(":")
        return {name: self.value(arm) or None} if kind == "env" else {}

    def python(self, arm: str | None) -> str | None:
        """The Arm's own interpreter; None if both use the same."""
        return resolve_interpreter(self.value(arm)) if self.key == "python" else None

    def package(self, arm: str | None) -> Path | None:
        """The folder of the Arm's own ``impls``; None if both use the controller's.

        Raises UsageError if its files have changed since they were first read.
        """
        if not self.packages:
            return None
        package = self.packages[_index(arm)]
        if (now := package_hash(package.folder)) != package.digest:
            raise UsageError(
                f"--ab impls: {quoted(self.value(arm))} changed after the Run began: expected {package.digest}, found "
                f"{now}; start a new Run and do not edit the folder meanwhile"
            )
        return package.folder

    def guest(self, arm: str | None) -> Guest | None:
        """The Arm's own net; None if both have the same."""
        return self.guests[_index(arm)] if self.guests else None

    def slowdown(self, arm: str | None) -> float:
        """The added share of the duration of a pass."""
        return float(self.value(arm)) / 100 if self.key == "slowdown" else 0.0

    def case(self, case: Case, arm: str) -> Case:
        """The Case of an Arm."""
        changes: dict[str, Any] = {"arm": arm}
        if self.key in CASE_FIELDS:
            changes[self.key] = self.value(arm)
        if guest := self.guest(arm):
            framework = FRAMEWORKS[guest.framework]
            changes |= {"framework": guest.framework, "guest": guest.label, "lrn": LRNS[0]}
            if guest.framework != case.framework:
                changes |= {"mode": framework.modes[0], "layout": framework.layouts[0]}
        if self.key == "threads":
            changes["threads"] = int(self.value(arm))
        return dataclasses.replace(case, **changes)

    def cases(self, cases: Sequence[Case]) -> list[Case]:
        """Both Arms of every Case, each pair together."""
        return list(dict.fromkeys(self.case(case, arm) for case in cases for arm in LABELS))

    def check(self, frameworks: Sequence[str], devices: Sequence[str]) -> None:
        """Raise UsageError if a framework lacks one of the modes or layouts on these devices."""
        for value in self.values:
            if self.key == "mode":
                parse_modes(frameworks, value, devices)
            elif self.key == "layout":
                parse_layouts(frameworks, value)
                for name in (name for name in frameworks if value not in FRAMEWORKS[name].layouts):
                    raise UsageError(f"--ab layout: {name} has no layout {quoted(value)}; leave {name} out")

    def recorded(self) -> Sides:
        """The Arms for the Run's header; file names and digests instead of paths, since a Run may be published."""
        names = [Path(value).name if self.key == "python" else value for value in self.values]
        names = [f"{guest.source}:{guest.call}" for guest in self.guests] or names
        a, b = [package.digest for package in self.packages] or names
        return Sides(self.key, (a, b), self.identical)


def _index(arm: str | None) -> int:
    return LABELS.index(arm or LABELS[0])


def describe_arm(sides: Sides, arm: str) -> str:
    """Label of one side: ``threads 2``, ``slowdown 5 %``, ``impls 3fa9c2d1``."""
    key, value = sides.key, sides.values[LABELS.index(arm)]
    kind, _, name = key.partition(":")
    if kind == "env":
        return f"{name}={value}" if value else f"without {name}"
    return f"slowdown {value} %" if key == "slowdown" else f"{'LRN' if key == 'lrn' else key} {value}"


def parse_ab(text: str) -> Ab:
    """Parse ``KEY=A,B`` and read the files that it names. Raises UsageError for a value that is invalid.

    ``Ab.check`` tests whether the frameworks have both values.
    """
    key, equals, rest = text.partition("=")
    values = split_names(rest) if key == "net" else [value.strip() for value in rest.split(",")]
    kind, _, name = key.partition(":")
    if not equals or kind not in KINDS or (kind == "env") == (kind == key):
        keys = join_or([f"{kind}:NAME" if kind == "env" else kind for kind in KINDS])
        raise UsageError(f"--ab: expected KEY=A,B with KEY {keys}, found {quoted(text)}")
    if len(values) != 2:
        raise UsageError(f"--ab {key}: expected two sides, A,B, found {quoted(rest)}")
    if kind == "env" and not is_variable(name):
        raise UsageError(f"--ab env:NAME=A,B: expected the name of a variable, found {quoted(name)}")
    refuse_visible(f"--ab {key}", name)
    for value in values:
        if key == "threads":
            parse_count("--ab threads", value, MOST_THREADS)
        elif key in CASE_FIELDS and value == "all":
            raise UsageError(f"--ab {key}: expected one value per side, found 'all'")
        elif key in ("lrn", "preset"):
            parse_choice("LRN" if key == "lrn" else key, value, LRNS if key == "lrn" else PRESETS)
        elif key == "slowdown" and not 0 <= parse_number(value) <= 1000:
            raise UsageError(f"--ab slowdown: expected percent, 0 to 1000, found {quoted(value)}")
        elif key == "python" and shutil.which(resolve_interpreter(value)) is None:
            raise UsageError(f"--ab python: no interpreter at {quoted(value)}")
    guests = tuple(net.guest() for net in read_nets(values)) if key == "net" else ()
    packages = tuple(map(read_package, values)) if key == "impls" else ()
    return Ab(key, (values[0], values[1]), guests, packages)


def read_package(text: str) -> Package:
    """Find a package ``impls`` at its own path or that of its checkout."""
    path = Path(os.path.abspath(os.path.expanduser(text)))
    for folder in (path, path / "impls") if text else ():
        if folder.name == "impls" and (folder / "__init__.py").is_file():
            return Package(folder, package_hash(folder))
    raise UsageError(
        f"--ab impls: expected a checkout or its folder impls, found no impls/__init__.py in {quoted(text)}"
    )


def package_hash(folder: Path) -> str:
    """Hash of the names and contents of all sources below a folder, eight hex digits."""
    try:
        return code.hash_of([folder])[:8]
    except OSError as error:
        raise UsageError(f"--ab impls: cannot read {error.filename}: {error.strerror}; check it") from error
