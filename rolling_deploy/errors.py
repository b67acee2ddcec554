"""Every way the tool ends other than well: one class per cause, each with its own exit code.

Every operational message answers four questions: what happened, where, is the site all right,
and what to do next (a command to paste). The README's table of exit codes is generated from
these classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

EXIT_DONE = 0
EXIT_PLAN_HAS_CHANGES = 10
"""Only `plan --detailed-exitcode`: the plan is sound and there is something to do."""


class RollingDeployError(Exception):
    """The root of the tree. Never raised itself.

    Attributes:
        what: what happened, one sentence, lower case, no full stop.
        where: the machine, file or step it happened at, or empty.
        site: whether the site is all right, or empty when nothing was touched.
        next_step: what to do next, usually a command to paste.
    """

    exit_code: ClassVar[int]
    meaning: ClassVar[str]

    def __init__(self, what: str, *, where: str = "", site: str = "", next_step: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.site = site or self.default_site
        self.next_step = next_step

    default_site: ClassVar[str] = ""


class Degraded(RollingDeployError):
    """`status` found the fleet degraded, drifted or in the middle of a rollout."""

    exit_code = 1
    meaning = "only `status`: degraded or drifted"


class UsageWrong(RollingDeployError):
    """The command line is wrong, or a question would be needed without a terminal."""

    exit_code = 2
    meaning = "usage, or a question needed without a terminal"
    default_site = "nothing was touched"


class InputWrong(RollingDeployError):
    """The inventory or a template is wrong. Nothing was touched.

    Attributes:
        problems: every problem found, each `file:line: key: should be X, is Y`.
    """

    exit_code = 3
    meaning = "inventory or template wrong, nothing touched"
    default_site = "nothing was touched"

    def __init__(
        self,
        what: str,
        *,
        problems: Sequence[str] = (),
        where: str = "",
        site: str = "",
        next_step: str = "",
    ) -> None:
        super().__init__(what, where=where, site=site, next_step=next_step)
        self.problems = tuple(problems)


class InventoryWrong(InputWrong):
    """The inventory file cannot be used as it stands."""


class TemplateWrong(InputWrong):
    """A template cannot be rendered, or what it renders is not the upstream that was asked for."""


class RolloutHalted(RollingDeployError):
    """Halted after something was touched: the site is serving, a person must decide."""

    exit_code = 4
    meaning = "halted after something was touched: the site is serving, a person must decide"


class RolloutHeld(RollingDeployError):
    """Somebody else holds the rollout, or has taken it over from us.

    Attributes:
        is_passing: it is over when the other run is, and we did nothing yet; so waiting helps.
    """

    exit_code = 5
    meaning = "somebody else holds the rollout"

    def __init__(
        self,
        what: str,
        *,
        where: str = "",
        site: str = "",
        next_step: str = "",
        is_passing: bool = False,
    ) -> None:
        super().__init__(what, where=where, site=site, next_step=next_step)
        self.is_passing = is_passing


class MachineUnreachable(RollingDeployError):
    """A machine cannot be reached. Nothing was touched."""

    exit_code = 6
    meaning = "a machine cannot be reached, nothing touched"
    default_site = "nothing was touched"


class RecordWrong(RollingDeployError):
    """The record is unreadable, written by a newer version, or forked."""

    exit_code = 7
    meaning = "record unreadable or forked"


class PreflightRefused(RollingDeployError):
    """A check before the start refused. Nothing was touched."""

    exit_code = 8
    meaning = (
        "preflight refused (session store, capacity, nginx, adoption or acknowledgement missing, "
        "stale saved plan), nothing touched"
    )
    default_site = "nothing was touched"


class WentBack(RollingDeployError):
    """A backend failed on the new release and went back to the one before."""

    exit_code = 9
    meaning = "failed and went back"


class InvariantBroken(RollingDeployError):
    """A bug of ours: the engine was about to do what safety forbids, and did not."""

    exit_code = 70
    meaning = "a bug of ours"


class Interrupted(RollingDeployError):
    """Ended by a signal. What ran remotely is in doubt and named; `resume` goes on."""

    exit_code = 128
    meaning = "128+N: ended by signal N, resumable"

    def __init__(
        self,
        what: str,
        *,
        signal_number: int,
        where: str = "",
        site: str = "",
        next_step: str = "",
    ) -> None:
        super().__init__(what, where=where, site=site, next_step=next_step)
        self.exit_code = 128 + signal_number  # type: ignore[misc] # the one code that depends on the instance
