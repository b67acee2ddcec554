"""What cannot be merged is refused with its line; what is shown holds no secret."""

from __future__ import annotations

import pytest

from rolling_deploy.errors import InventoryWrong, TemplateWrong
from rolling_deploy.remote.session_store_address import address_of
from rolling_deploy.remote.wiring_checks import product_of
from rolling_deploy.settings import (
    SessionManagerSettings,
    SessionStoreSettings,
    WiringSettings,
)
from rolling_deploy.upstreams.fragments import CONFIG_FILE, Passwords, Rendered, render_wiring
from rolling_deploy.wiring import (
    Manifest,
    NotMergeable,
    is_plain_path,
    masked,
    masked_directives,
    merge_context,
    merge_server,
    read_fragment,
)
from tests.documents import WANTED, read_xml
from tests.yaml_reading import read_yaml


@pytest.mark.parametrize(
    ("content", "line", "reason"),
    [
        (b"", 1, "no element found"),
        (b"<Context>\n<A>\n</Context>", 3, "mismatched tag"),
        (b"<Server/>", 1, "should be `Context`, is `Server`"),
        ("<Context/>".encode("utf-16"), 1, "is UTF-16"),
        ("<Context/>".encode("utf-16-le"), 1, "is UTF-16"),
        (b'<?xml version="1.0" encoding="Shift_JIS"?><Context/>', 1, "is 'Shift_JIS'"),
        (b'<?xml version="1.0" encoding="cp037"?><Context/>', 1, "is 'cp037'"),
        (b'<?xml version="1.0" encoding="utf-7"?><Context/>', 1, "is 'utf-7'"),
        (b"<Context>\xff</Context>", 1, "not well formed"),
        (b'<!DOCTYPE C SYSTEM "http://x/y.dtd"><Context/>', 1, "which is not followed"),
        (
            b'<!DOCTYPE Context [\n<!ENTITY e SYSTEM "file:///etc/passwd">]><Context>&e;</Context>',
            2,
            "the entity `e` is declared",
        ),
        (
            b'<!DOCTYPE Context [\n\n<!ENTITY e "<A/>">]><Context>&e;</Context>',
            3,
            "`e` is declared",
        ),
        (b'<!DOCTYPE Context [<!ENTITY % p "x">]><Context/>', 1, "`p` is declared"),
        (b"<Context>&e;</Context>", 1, "undefined entity"),
        (b'<Context>\n<Manager pathname=""/></Context>', 2, "StandardManager"),
        (b'<Context>\n<Manager className="x.Y"/></Context>', 2, "x.Y"),
        (
            b"<Context>\n" + b'<Valve className="org.example.HandlerValve"/>\n' * 2 + b"</Context>",
            3,
            "is there twice",
        ),
    ],
)
def test_a_context_that_cannot_be_edited_is_refused_with_its_line(
    content: bytes, line: int, reason: str
) -> None:
    with pytest.raises(NotMergeable) as caught:
        merge_context(content, WANTED)
    assert reason in str(caught.value)
    assert caught.value.line == line


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"<Context/>", "should be `Server`"),
        (b"<Server/>", "a Connector should have port 8080; the file has none"),
        (b"<Server><Connector port='8080'/></Server>", "has none"),
        (b"<Server><Service><Connector port='80'/></Service></Server>", "has `80`"),
        (
            b"<Server><Service><Connector port='${http}'/></Service></Server>",
            "has `${http}`",
        ),
        (b"<Server><!-- <Service><Connector port='8080'/></Service> --></Server>", "has none"),
    ],
)
def test_a_server_that_listens_elsewhere_is_refused(content: bytes, reason: str) -> None:
    with pytest.raises(NotMergeable) as caught:
        merge_server(content, [8080], 1_000)
    assert reason in str(caught.value)


def test_only_the_service_of_our_port_is_set() -> None:
    content = (
        b"<Server><Service name='a'><Connector port='1'/><Connector port='3' /></Service>"
        b"<Service name='b'><Connector port='2'/></Service></Server>"
    )
    assert merge_server(content, [2], 50) == (
        b"<Server><Service name='a'><Connector port='1'/><Connector port='3' /></Service>"
        b"<Service name='b' gracefulStopAwaitMillis=\"50\">"
        b"<Connector port='2' bindOnInit=\"false\"/></Service></Server>"
    )
    assert merge_server(content, [1, 3], 50).count(b"bindOnInit") == 2


@pytest.mark.parametrize(
    ("fragment", "reason"),
    [
        ("<Manager", "not well formed"),
        ("</Context><Context>", "not well formed"),
        ("<Manager className='a'/>\n<Manager className='b'/>", "is there twice"),
        ("<Valve className='a'/><Valve className='a' x='y'/>", "is there twice"),
    ],
)
def test_a_fragment_that_is_no_row_of_elements_is_refused(fragment: str, reason: str) -> None:
    with pytest.raises(NotMergeable) as caught:
        read_fragment(fragment)
    assert reason in str(caught.value)


def test_a_set_of_files_is_called_by_what_is_in_it() -> None:
    one = Manifest({"b": "2" * 64, "a": "-"})
    assert one.text == f"- a\n{'2' * 64} b\n"
    assert one.name == Manifest({"a": "-", "b": "2" * 64}).name
    assert one.name != Manifest({"a": "-", "b": "3" * 64}).name


@pytest.mark.parametrize(
    "path", ["", "/etc/x", "../x", "conf/../x", "conf/.x", "conf/a b", "conf/a\n", "a//b", "conf/"]
)
def test_a_path_that_could_lead_elsewhere_is_none(path: str) -> None:
    assert not is_plain_path(path)
    assert is_plain_path("lib/redisson-all-3.50.0.jar")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ('<R password="x y" a="b"/>', '<R password="***" a="b"/>'),
        ("<R keystorePass = 'x'/>", '<R keystorePass = "***"/>'),
        ("a:\n  Password: x # y\r\nb: c", 'a:\n  Password: "***"\r\nb: c'),
        ('uri="redis://me:x@h:1"', 'uri="redis://***@h:1"'),
        ('url="jdbc:x?user=u&amp;password=p"', 'url="jdbc:x?user=u&amp;password=***"'),
        ('key="secret"', 'key="***"'),
        ("compass: north", 'compass: "***"'),
        ('path="/pass"', 'path="/pass"'),
    ],
)
def test_what_is_shown_holds_no_secret(text: str, shown: str) -> None:
    assert masked(text, ["secret"]) == shown


def test_a_short_secret_is_masked_by_its_place_and_in_no_other_word() -> None:
    text = 'key="ab" path="cab" ab\npassword: ab\n'
    shown = 'key="***" path="cab" ab\npassword: "***"\n'
    assert masked(text, ["ab"], ["key"]) == shown


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ('proxy_set_header Authorization "Basic eA==";', "proxy_set_header Authorization ***;"),
        ("proxy_set_header X-Api-Key abc;", "proxy_set_header X-Api-Key ***;"),
        ("set $the_token abc;", "set $the_token ***;"),
        ('secure_link_md5 "$uri sesame";', "secure_link_md5 ***;"),
        ("proxy_pass http://me:sesame@host/;", "proxy_pass http://***@host/;"),
        ("proxy_set_header Cookie $http_cookie;", None),
        ("proxy_set_header Host $host; proxy_pass http://passes;", None),
        ("proxy_cache_key $uri; ssl_certificate_key /etc/key.pem;", None),
    ],
)
def test_what_is_shown_of_nginx_holds_no_secret(line: str, shown: str | None) -> None:
    assert masked_directives(line) == (shown or line)


@pytest.mark.parametrize(
    ("jar", "product"),
    [
        ("redisson-all-3.50.0.jar", "redisson-all"),
        ("redisson-tomcat-10-3.50.0.jar", "redisson-tomcat"),
        ("redisson-tomcat-9-3.40.0.jar", "redisson-tomcat"),
        ("commons-pool2-2.2.jar", "commons-pool2"),
        ("jedis-2.6.1-SNAPSHOT.jar", "jedis"),
        ("catalina.jar", "catalina"),
    ],
)
def test_versions_of_one_product_are_known_by_their_names(jar: str, product: str) -> None:
    assert product_of(jar) == product


def rendered(
    kind: str = "redisson", *, via: str = "", template: str = "", **store: str
) -> Rendered:
    manager = SessionManagerSettings(kind, (), "mine.j2" if template else "", template)
    settings = SessionStoreSettings(**{"url": "redis://h:6380/2", "via": via, **store})  # type: ignore[arg-type] # texts only
    address = address_of(settings.url) if settings.url else None
    passwords = Passwords("pw", "of the sentinels")
    return render_wiring(WiringSettings(manager), settings, address, passwords, "node1")


def test_redisson_is_told_all_of_the_store() -> None:
    made = rendered(username="shop", key_prefix="shop:redisson:tomcat_session:").wiring
    config = read_yaml(made.files[CONFIG_FILE].decode())
    assert dict(config["singleServerConfig"]) == {
        "address": "redis://h:6380",
        "database": 2,
        "username": "shop",
        "password": "pw",
    }
    manager = read_xml(made.context.encode())
    assert manager.get("keyPrefix") == "shop"
    assert manager.get("configPath") == "${catalina.base}/conf/redisson.yaml"
    assert made.manager_class == "org.redisson.tomcat.RedissonSessionManager"
    assert "pw" not in rendered().shown.files[CONFIG_FILE].decode()
    assert "pw" not in f"{rendered()} {Passwords('pw', 'pw')}", "nor where a value is printed"


@pytest.mark.parametrize("count", [1, 2])
def test_redisson_is_told_of_sentinels(count: int) -> None:
    servers = ",".join(f"s{number}:26379" for number in range(count))
    made = rendered(url=f"rediss+sentinel://{servers}/shop/3")
    config = read_yaml(made.wiring.files[CONFIG_FILE].decode())["sentinelServersConfig"]
    assert dict(config) == {
        "masterName": "shop",
        "sentinelAddresses": [f"rediss://s{number}:26379" for number in range(count)],
        **({"checkSentinelsList": False} if count == 1 else {}),
        "sentinelPassword": "of the sentinels",
        "readMode": "MASTER",
        "database": 3,
        "password": "pw",
    }
    assert "of the sentinels" not in made.shown.files[CONFIG_FILE].decode()


def test_redisson_is_told_of_a_cluster() -> None:
    made = rendered(url="redis+cluster://c1:1,[::1]:2").wiring
    assert dict(read_yaml(made.files[CONFIG_FILE].decode())["clusterServersConfig"]) == {
        "nodeAddresses": ["redis://c1:1", "redis://[::1]:2"],
        "readMode": "MASTER",
        "password": "pw",
    }


def test_orangefunction_is_told_all_of_the_store() -> None:
    made = rendered("orangefunction")
    manager = read_fragment(made.wiring.context).elements[1].attributes
    assert {key: manager[key] for key in manager if key != "className"} == {
        "host": "h",
        "port": "6380",
        "database": "2",
        "password": "pw",
        "maxInactiveInterval": "1800",
    }
    valve = read_fragment(made.wiring.context).elements[0]
    assert valve.attributes["className"].endswith(".RedisSessionHandlerValve")
    assert made.wiring.files == {}
    assert '"pw"' not in made.shown.context


@pytest.mark.parametrize(
    ("kind", "store", "reason"),
    [
        ("redisson", {"url": "redis://localhost:1/0", "via": "redis1"}, "`node1` reaches too"),
        ("redisson", {"url": ""}, "is missing"),
        ("orangefunction", {"url": "redis+cluster://h:1"}, "knows one server, no cluster"),
        ("orangefunction", {"url": "rediss://h:1/0"}, "no TLS"),
        ("orangefunction", {"username": "shop"}, "password only"),
        ("orangefunction", {"key_prefix": "shop:"}, "no prefix"),
    ],
)
def test_a_store_that_the_manager_cannot_use_is_refused(
    kind: str, store: dict[str, str], reason: str
) -> None:
    with pytest.raises(InventoryWrong) as caught:
        rendered(kind, **store)
    assert reason in str(caught.value.problems)


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("<Manager className='a'>", "mine.j2: line 2 of what it renders: not well formed"),
        ("<Valve className='a'/>", "should render a Manager"),
        ("<Manager className='{{ pasword }}'/>", "mine.j2:1: `pasword` is not defined; is it"),
        ("<Manager className='{{ '\x01' }}'/>", "cannot hold"),
        ("<Manager className='{{ none }}'/>", "null"),
    ],
)
def test_a_template_that_renders_something_else_is_refused(template: str, reason: str) -> None:
    with pytest.raises(TemplateWrong) as caught:
        rendered(template=template)
    assert reason in str(caught.value.problems)


def test_a_password_that_cannot_be_written_is_not_in_the_message() -> None:
    manager = SessionManagerSettings("orangefunction")
    store = SessionStoreSettings(url="redis://h:1/0")
    for password in ("${user.home}hush", "hush\x00", "hush\n"):
        address, wanted = address_of(store.url), WiringSettings(manager)
        with pytest.raises(TemplateWrong) as caught:
            render_wiring(wanted, store, address, Passwords(password), "node1")
        assert "hush" not in f"{caught.value} {caught.value.problems}"


def test_no_session_manager_leaves_the_settings_only() -> None:
    made = render_wiring(
        WiringSettings(None, 7), SessionStoreSettings(), None, Passwords(), "node1"
    )
    assert made.wiring == made.shown
    assert (made.wiring.context, made.wiring.graceful_stop_ms) == ("", 7)
