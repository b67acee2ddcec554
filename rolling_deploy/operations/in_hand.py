"""Which rollout is in hand, from the load balancers' copies and this disk: so, from any machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from rolling_deploy.errors import RecordWrong
from rolling_deploy.operations.site import Site
from rolling_deploy.ports import Records
from rolling_deploy.remote.record_copies import Copy, Holder, read_copies
from rolling_deploy.rollout.fold import fold
from rolling_deploy.rollout.journal import Chain, is_left_behind, settle
from rolling_deploy.rollout.record import Record

HERE = "this machine"


@dataclass(frozen=True, slots=True)
class InHand:
    """The newest rollout that is known anywhere, and who holds it.

    Attributes:
        chain, record: None when there never was a rollout.
        known: how many lines of the chain each load balancer holds.
        loose: what it holds behind them and may be cut off.
        is_local: this disk has the record too.
        is_superseded: what this disk has ends in facts that nobody acted on, and somebody else
            has taken over since.
        epoch: the highest seen by any machine of the fleet.
        holder, step: of a living holder; None and empty when nobody holds it.
        dead: the holder's token, when it is known to have ended though its heart beat lately.
        silent: why some load balancers could not be asked.
        copies: what each of the others keeps.
    """

    chain: Chain | None
    record: Record | None
    known: Mapping[str, int]
    is_local: bool
    epoch: int
    holder: Holder | None
    dead_holder: Holder | None
    step: str
    silent: Mapping[str, str]
    dead: str = ""
    is_superseded: bool = False
    loose: Mapping[str, bytes] = field(default_factory=dict)
    copies: Mapping[str, Copy] = field(default_factory=dict)

    @property
    def is_open(self) -> bool:
        """Answers whether a rollout is unfinished."""
        return self.record is not None and self.record.closed is None


def find(site: Site, records: Records, here: str) -> InHand:
    """Ask every load balancer and this disk.

    Args:
        here: this machine's name, as the lock has it.

    Raises:
        RecordWrong: a copy cannot be read, or two copies differ.
    """
    copies, silent = read_copies(site.places)
    for name, copy in copies.items():
        _require_readable(name, copy)
    ids = {copy.current for copy in copies.values() if copy.current}
    ids |= _local_ids(records, but=ids)
    chains = {rollout: _chain_of(site, records, rollout, copies) for rollout in sorted(ids)}
    chosen = _newest(chains)
    living, expired, step = _holder(copies)
    services, _ = read_copies(site.service_places)
    fences = [copy.fence.epoch for copy in (*copies.values(), *services.values())]
    if chosen is None:
        epoch = max(fences, default=0)
        return InHand(None, None, {}, False, epoch, living, expired, step, silent, copies=copies)
    found = chains[chosen]
    record = fold(found.chain.entries)
    dead = ""
    if living is not None and _has_ended(
        living, records, record, here=here if found.is_last_here else ""
    ):
        dead, expired = record.holder, None if record.halted else living
        living = None
    return InHand(
        found.chain,
        record,
        found.known,
        found.is_local,
        max([record.epoch, *fences]),
        living,
        expired,
        step,
        silent,
        dead,
        found.is_superseded,
        found.loose,
        copies,
    )


@dataclass(frozen=True, slots=True)
class _Found:
    """One rollout's chain as everybody has it.

    Attributes:
        known: how many lines of it each load balancer holds.
        own: what this disk has.
        loose: what else a load balancer holds and may be cut off (`journal.settle`).
    """

    chain: Chain
    known: dict[str, int]
    own: Chain
    loose: dict[str, bytes]

    @property
    def is_local(self) -> bool:
        """Answers whether this disk has all that matters of it."""
        return bool(self.own.lines) and not self.is_superseded

    @property
    def is_superseded(self) -> bool:
        """Answers whether this disk's end was never acted on and somebody has taken over."""
        return not self.own.is_prefix_of(self.chain)

    @property
    def is_last_here(self) -> bool:
        """Answers whether the last life so far wrote on this very disk.

        A machine's name does not tell: several state directories, and containers, may share it.
        """
        return self.is_local and self.own.entries[-1].holder == self.chain.entries[-1].holder


def _has_ended(holder: Holder, records: Records, record: Record, *, here: str) -> bool:
    """Whether the last life is over though its lock is fresh on some load balancer.

    A halt is the last thing a life does; a load balancer that was cut off then keeps its lock.
    And a life on this disk held the local file to its end: if that is free it ended. So a job
    that is tried again at once need not wait for the expiry. Whether the lock is that life's is
    asked on each load balancer, by its token.
    """
    opened = record.opened
    if holder.rollout != opened.rollout:
        return False
    if record.halted is not None:
        return True
    if holder.machine != here:
        return False
    return not records.file(opened.rollout).is_held_elsewhere()


def _local_ids(records: Records, *, but: set[str]) -> set[str]:
    """The newest local record, for when the load balancers have lost theirs."""
    newest = "" if but else records.newest()
    return {newest} if newest else set()


def _chain_of(site: Site, records: Records, rollout: str, first: Mapping[str, Copy]) -> _Found:
    """The chain that everybody who has this rollout agrees on, and how much of it each has."""
    missing = {n: p for n, p in site.places.items() if n in first and first[n].current != rollout}
    others, _ = read_copies(missing, rollout) if missing else ({}, {})
    copies = {**{n: c for n, c in first.items() if c.current == rollout}, **others}
    chains: dict[str, Chain] = {}
    for name, copy in copies.items():
        _require_readable(name, copy)
        if copy.chain is not None:
            chains[name] = copy.chain
    own = records.file(rollout).read()
    is_everywhere = set(chains) >= set(site.inventory.load_balancers)
    copies_only, _ = settle(chains)
    if own.lines and not is_left_behind(own, copies_only, is_everywhere=is_everywhere):
        chain, loose = settle({**chains, HERE: own})
    else:
        chain, loose = settle(chains)
    known = {name: one.shared_with(chain) for name, one in chains.items()}
    return _Found(chain, known, own, {n: rest for n, rest in loose.items() if n != HERE})


def _require_readable(name: str, copy: Copy) -> None:
    """A copy that cannot be read is never taken for none.

    Raises:
        RecordWrong: it is there, or may be, and cannot be used.
    """
    if copy.problem:
        raise RecordWrong(
            f"the copy of the record on {name} cannot be used: {copy.problem}",
            where=name,
            next_step=f"mend it on {name}, then `rolling-deploy status`",
        )


def _newest(chains: Mapping[str, _Found]) -> str | None:
    """The unfinished rollout if there is one, else the one that was opened last."""
    found: list[tuple[bool, int, str]] = []
    for rollout, one in chains.items():
        if one.chain.entries:
            record = fold(one.chain.entries)
            found.append((record.closed is None, record.opened_at_ms, rollout))
    return max(found)[2] if found else None


def _holder(copies: Mapping[str, Copy]) -> tuple[Holder | None, Holder | None, str]:
    living = [copy for copy in copies.values() if copy.is_held]
    if living:
        return living[0].holder, None, living[0].step
    dead = [copy for copy in copies.values() if copy.holder is not None]
    return None, dead[0].holder if dead else None, dead[0].step if dead else ""


def silence_text(copies: Mapping[str, Copy]) -> str:
    """Answers how long ago the holder's heart beat, as each load balancer's own clock has it."""
    texts = []
    for name, copy in sorted(copies.items()):
        if copy.holder is None:
            continue
        age_s = copy.heartbeat_age_s
        if age_s is None:
            texts.append(f"never beat on {name}")
        elif age_s < 0:
            texts.append(f"beat {-age_s} s ahead of {name}'s clock, which was set back since")
        else:
            texts.append(f"beat {age_s} s ago on {name}")
    return f"its heart {', '.join(texts)}" if texts else ""
