"""The shape of the `setup` section: the wiring that `rolling-deploy setup` brings about."""

from __future__ import annotations

from typing import Literal

from rolling_deploy.inventory import kinds
from rolling_deploy.inventory.fields import Shape, must, same, worked_out
from rolling_deploy.settings import LocationSettings, SessionManagerSettings


class JarShape(Shape):
    """A file for `lib` of every Tomcat."""

    file: kinds.Jar = must("the jar on this machine")
    sha256: kinds.Sha256 = must("the sha256 that it must have, as its publisher says")


class SessionManagerShape(Shape):
    """The session manager in `conf/context.xml` of every Tomcat; it uses `session_store`."""

    kind: Literal["redisson", "orangefunction"] = must("`redisson` or `orangefunction`")
    jars: list[JarShape] = must("all that it needs")
    template: kinds.LocalPath = same(
        SessionManagerSettings, "template", "own template of its elements", "the one of its kind"
    )
    lifetime_s: kinds.Count = same(
        SessionManagerSettings, "lifetime_s", "how long an unused session lives, where it asks"
    )


class LocationShape(Shape):
    """A location of nginx's configuration that is to pass requests to the upstream."""

    file: kinds.RemoteFile = must("file of nginx's configuration that holds it")
    path: kinds.Text = same(LocationSettings, "path", "as written after `location`")
    server_name: kinds.Text = same(
        LocationSettings, "server_name", "a name of its server", "the file's only server"
    )
    upstream: kinds.Identifier = same(LocationSettings, "upstream", "its name", "the only one")


class SetupShape(Shape):
    """What `rolling-deploy setup` brings about, once; the other commands do not use it."""

    session_manager: SessionManagerShape = worked_out("none", "Tomcat's session manager")
    graceful_stop_s: kinds.Seconds = worked_out(
        "left as it is", 'Tomcat\'s `gracefulStopAwaitMillis`, with `bindOnInit="false"`'
    )
    locations: list[LocationShape] = worked_out("none", "locations that pass to the upstream")
