"""Chooses among the connected phones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mfs_deploy.errors import DeviceError


@dataclass(frozen=True)
class Listed:
    """A phone as adb or devicectl lists it.

    ``problem`` is the reason why it cannot be used, or ""; ``hint`` tells what to do; ``also`` is another serial of it.
    """

    serial: str
    name: str
    system: str = ""
    problem: str = ""
    hint: str = ""
    also: str = ""


def choose(phones: Sequence[Listed], serial: str | None, plug_in: str) -> Listed:
    """The chosen phone, ready for use.

    Args:
        serial: None takes the only phone that is ready.
        plug_in: the hint where there is none.

    Raises:
        DeviceError: there is none, there are several, or it is not ready.
    """
    there = ", ".join(f"{phone.serial} ({phone.name})" for phone in phones)
    if serial is not None:
        phones = [phone for phone in phones if serial in (phone.serial, phone.also)]
        if not phones:
            beside = f"; there is {there}" if there else ", and no other"
            raise DeviceError(f"no phone {serial!r} is connected{beside}", hint=plug_in, kind="device-none")
    if not phones:
        raise DeviceError("no phone is connected", hint=plug_in, kind="device-none")
    ready = [phone for phone in phones if not phone.problem]
    if len(ready) > 1:
        raise DeviceError(f"several phones are connected: {there}", hint="choose one with --serial", kind="device-several")
    if ready:
        return ready[0]
    first = phones[0]
    raise DeviceError(f"the phone {first.serial} ({first.name}) {first.problem}", hint=first.hint, kind="device-refused")
