"""What `setup` edits in nginx's files, what it leaves, and what it refuses with its place."""

from __future__ import annotations

import hashlib

import pytest

from rolling_deploy.settings import LocationSettings
from rolling_deploy.upstreams.wiring import files_to_read, plan_files
from rolling_deploy.upstreams.wiring_plan import ABSENT, ConfigFile
from tests.wiring_files import (
    DEFAULT,
    MAIN,
    MANAGED,
    SEED,
    STOCK,
    backend,
    carried_out,
    dump_of,
    planned,
    refusals,
    wanted,
)

OUTSIDE = "/etc/nginx/tomcat.upstream"
UPSTREAM = b"upstream tomcat {\n    server 127.0.0.1:8080;\n    server 127.0.0.1:8081;\n}\n"
PLAIN = b"events {}\nhttp {\n    include /etc/nginx/conf.d/*.conf;\n}\n"
AT_DEFAULT = (LocationSettings(DEFAULT),)


def server(*lines: str) -> bytes:
    """A server whose only location holds these lines; the first of them is line 3."""
    body = "".join(f"        {line}\n" for line in lines)
    return f"server {{\n    location / {{\n{body}    }}\n}}\n".encode()


def test_the_seeds_upstream_moves_and_its_location_passes_to_it() -> None:
    files = {MAIN: SEED, DEFAULT: STOCK}
    plan = planned(files, wanted(locations=AT_DEFAULT))
    after = carried_out(files, plan)
    block = b"upstream tomcat {server localhost:8080; server localhost:8081; }"
    assert after[MANAGED] == block + b"\n"
    assert after[MAIN] == SEED.replace(block, b"")
    old = b"        root   /usr/share/nginx/html;\n        index  index.html index.htm;\n    }\n\n"
    new = b"        proxy_pass http://tomcat;\n        proxy_set_header Host $host;\n    }\n\n"
    assert after[DEFAULT] == STOCK.replace(old, new)
    assert [edit.path for edit in plan.edits] == [MANAGED, MAIN, DEFAULT]
    assert [edit.old for edit in plan.edits] == [
        ABSENT,
        hashlib.sha256(SEED).hexdigest(),
        hashlib.sha256(STOCK).hexdigest(),
    ]
    assert len(plan.missing) == 2
    assert not plan.spreads
    assert f"`{MAIN}:3`" in plan.missing[1]
    assert planned(after, wanted(locations=AT_DEFAULT)) == type(plan)()


def test_the_default_site_of_debian_keeps_everything_but_its_location() -> None:
    main = (
        b"http {\n\tinclude /etc/nginx/conf.d/*.conf;\n\tinclude /etc/nginx/sites-enabled/*;\n}\n"
    )
    site = "/etc/nginx/sites-enabled/default"
    head = (
        b"# See wiki\nserver {\n\tlisten 80 default_server;\n\tlisten [::]:80 default_server;\n"
        b"\troot /var/www/html;\n\n\tserver_name _;\n\n\tlocation / {\n"
    )
    inside = b"\t\t# First attempt to serve request as file\n\t\ttry_files $uri $uri/ =404;\n"
    tail = b"\t}\n\n\t#location ~ \\.php$ {\n\t#\tfastcgi_pass 127.0.0.1:9000;\n\t#}\n}\n"
    files = {MAIN: main, MANAGED: UPSTREAM, site: head + inside + tail}
    want = wanted(locations=(LocationSettings(site, server_name="_"),))
    after = carried_out(files, planned(files, want))
    new = b"\t\tproxy_pass http://tomcat;\n\t\tproxy_set_header Host $host;\n"
    assert after == {**files, site: head + new + tail}


def test_an_include_takes_the_upstreams_place_where_nothing_reads_the_managed_file() -> None:
    files = {MAIN: SEED, DEFAULT: STOCK}
    want = wanted(file=OUTSIDE)
    after = carried_out(files, planned(files, want))
    block = b"upstream tomcat {server localhost:8080; server localhost:8081; }"
    assert after[MAIN] == SEED.replace(block, b"include /etc/nginx/tomcat.upstream;")
    assert after[OUTSIDE] == block + b"\n"
    assert not planned(after, want).edits


def test_a_block_with_lines_of_its_own_goes_with_its_lines() -> None:
    block = (
        b"upstream tomcat {  # ours, \xe9\r\n\t\tserver 127.0.0.1:8080;\r\n"
        b"\tserver 127.0.0.1:8081;\r\n\t}"
    )
    main = (
        b"http {\r\n\t# before\r\n\t"
        + block
        + b"  \r\n\t# after\r\n\tinclude conf.d/*.conf;\r\n}\r\n"
    )
    files = {MAIN: main}
    after = carried_out(files, planned(files, wanted()))
    assert after[MAIN] == b"http {\r\n\t# before\r\n\t# after\r\n\tinclude conf.d/*.conf;\r\n}\r\n"
    assert block in after[MANAGED]


def test_several_upstreams_of_two_files_come_together_under_one_include() -> None:
    backends = (
        backend("app1", ("web", "127.0.0.1:8080"), ("api", "127.0.0.1:9080")),
        backend("app2", ("web", "127.0.0.1:8081"), ("api", "127.0.0.1:9081")),
    )
    web = "upstream web { server 127.0.0.1:8080; server 127.0.0.1:8081; }"
    api = "upstream api { server 127.0.0.1:9080; server 127.0.0.1:9081; }"
    main = f"http {{\n    {web}\n    include conf.d/*.conf;\n}}\n".encode()
    files = {MAIN: main, DEFAULT: f"{api}\nserver {{ listen 80; }}\n".encode()}
    want = wanted(file=OUTSIDE, backends=backends)
    after = carried_out(files, planned(files, want))
    assert after[OUTSIDE] == f"{web}\n{api}\n".encode()
    assert after[MAIN] == main.replace(web.encode(), b"include /etc/nginx/tomcat.upstream;")
    assert after[DEFAULT] == b"server { listen 80; }\n"
    assert not planned(after, want).edits


def test_an_upstream_that_is_nowhere_is_written_as_the_inventory_says() -> None:
    files = {MAIN: PLAIN}
    plan = planned(files, wanted())
    assert carried_out(files, plan) == {MAIN: PLAIN, MANAGED: UPSTREAM}
    assert "no upstream `tomcat`" in plan.missing[0]


@pytest.mark.parametrize(
    ("main", "after"),
    [
        (
            "http {\n\tinclude mime.types; # types\n\tserver { listen 80; }\n}\n",
            "http {\n\tinclude mime.types; # types\n\tinclude M;\n\tserver { listen 80; }\n}\n",
        ),
        ("http { include mime.types; }\n", "http { include mime.types; include M; }\n"),
        ("http {\n  sendfile on;\n}\n", "http {\n  sendfile on;\n  include M;\n}\n"),
        ("http {\r\n}\r\n", "http {\r\n    include M;\r\n}\r\n"),
        ("http { sendfile on; }", "http { sendfile on;  include M; }"),
    ],
)
def test_an_include_is_added_where_a_person_would_write_it(main: str, after: str) -> None:
    files = {MAIN: main.encode(), "/etc/nginx/mime.types": b"types {}\n"}
    want = wanted(file=OUTSIDE)
    result = carried_out(files, planned(files, want))
    assert result[MAIN] == after.replace("M;", f"{OUTSIDE};").encode()
    assert result[OUTSIDE] == UPSTREAM
    assert not planned(result, want).edits


def test_a_managed_file_that_nothing_reads_yet_is_only_included() -> None:
    plan = planned({MAIN: PLAIN}, wanted(file=OUTSIDE), unread={OUTSIDE: UPSTREAM})
    assert [edit.path for edit in plan.edits] == [MAIN]
    assert f"include {OUTSIDE};\n".encode() in plan.edits[0].new


def test_what_is_wired_already_needs_nothing() -> None:
    files = {MAIN: PLAIN, MANAGED: UPSTREAM, DEFAULT: server("proxy_pass http://tomcat/a;")}
    plan = planned(files, wanted(locations=AT_DEFAULT))
    assert (plan.missing, plan.refused, plan.edits) == ((), (), ())


@pytest.mark.parametrize(
    ("line", "after"),
    [
        ("proxy_pass http://127.0.0.1:8080;", "proxy_pass http://tomcat;"),
        ("proxy_pass  http://LOCALHOST:8081/app/ ;", "proxy_pass  http://tomcat/app/ ;"),
        ('proxy_pass "http://127.0.0.1:8080/a b";', 'proxy_pass "http://tomcat/a b";'),
    ],
)
def test_a_way_to_one_backend_becomes_the_way_to_the_upstream(line: str, after: str) -> None:
    files = {MAIN: PLAIN, MANAGED: UPSTREAM, DEFAULT: server(line)}
    plan = planned(files, wanted(locations=AT_DEFAULT))
    assert carried_out(files, plan)[DEFAULT] == server(after)
    assert f"{DEFAULT}:3" in plan.missing[0]
    assert "nginx sends `Host: tomcat`" in plan.missing[0]
    assert plan.spreads, "users of one backend now reach others"


def test_a_host_header_of_the_file_is_not_spoken_of() -> None:
    lines = ("proxy_set_header host $host;", "proxy_pass http://127.0.0.1:8080;")
    files = {MAIN: PLAIN, MANAGED: UPSTREAM, DEFAULT: server(*lines)}
    assert "Host:" not in planned(files, wanted()).missing[0]


@pytest.mark.parametrize(
    ("lines", "line", "said"),
    [
        (("proxy_pass https://127.0.0.1:8080;",), 3, "write `proxy_pass https://tomcat`"),
        (("proxy_pass http://127.0.0.1:8080$request_uri;",), 3, "by hand"),
        (("set $to 127.0.0.1:8080;", "proxy_pass http://$to;"), 4, "by hand"),
        (("fastcgi_pass 127.0.0.1:8081;",), 3, "past the upstream"),
        (("grpc_pass grpc://127.0.0.1:8081;",), 3, "acknowledged_routes"),
    ],
)
def test_a_way_that_is_not_clear_is_refused_with_its_line(
    lines: tuple[str, ...], line: int, said: str
) -> None:
    files = {MAIN: PLAIN, MANAGED: UPSTREAM, DEFAULT: server(*lines)}
    text = refusals(planned(files, wanted()))
    assert f"{DEFAULT}:{line}:" in text
    assert said in text


def test_an_address_of_two_upstreams_is_a_persons_choice() -> None:
    backends = (
        backend("app1", ("web", "127.0.0.1:8080"), ("api", "127.0.0.1:8080")),
        backend("app2", ("web", "127.0.0.1:8081"), ("api", "127.0.0.1:8081")),
    )
    files = {MAIN: PLAIN, DEFAULT: server("proxy_pass http://127.0.0.1:8080;")}
    assert "several upstreams: web, api" in refusals(planned(files, wanted(backends=backends)))


def test_a_name_that_tomcat_refuses_as_host_is_not_sent_there() -> None:
    files = {MAIN: PLAIN, DEFAULT: server("proxy_pass http://127.0.0.1:8080;")}
    text = refusals(planned(files, wanted(upstream="shop_app")))
    assert "`Host: shop_app`, which Tomcat refuses" in text
    with_host = server("proxy_set_header Host $host;", "proxy_pass http://127.0.0.1:8080;")
    assert planned({**files, DEFAULT: with_host}, wanted(upstream="shop_app")).edits


def test_an_acknowledged_way_stays() -> None:
    files = {MAIN: PLAIN, MANAGED: UPSTREAM, DEFAULT: server("proxy_pass http://127.0.0.1:8080;")}
    plan = planned(files, wanted(acknowledged=("127.0.0.1:8080",)))
    assert (plan.refused, plan.edits) == ((), ())


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (("proxy_pass http://elsewhere;",), f"{DEFAULT}:3: `proxy_pass http://elsewhere`"),
        (("root /srv;", "allow 10.0.0.0/8;", "deny all;"), f"{DEFAULT}:4: `allow 10.0.0.0/8`"),
        (("return 301 /x;",), f"{DEFAULT}:3: `return 301 /x`"),
        (("if ($a) { root /b; }",), f"{DEFAULT}:3: `if"),
    ],
)
def test_a_location_that_does_more_than_serve_files_is_not_replaced(
    lines: tuple[str, ...], said: str
) -> None:
    files = {MAIN: PLAIN, MANAGED: UPSTREAM, DEFAULT: server(*lines)}
    assert said in refusals(planned(files, wanted(locations=AT_DEFAULT)))


def test_headers_that_would_be_lost_are_a_persons_decision() -> None:
    header = b"server {\n    proxy_set_header X-Real-IP $remote_addr;\n"
    files = {
        MAIN: PLAIN,
        MANAGED: UPSTREAM,
        DEFAULT: server("root /srv;").replace(b"server {\n", header),
    }
    text = refusals(planned(files, wanted(locations=AT_DEFAULT)))
    assert "which headers of its own would end" in text
    sent = header.replace(b"X-Real-IP $remote_addr", b"Host $host")
    files[DEFAULT] = server("root /srv;").replace(b"server {\n", sent)
    after = carried_out(files, planned(files, wanted(locations=AT_DEFAULT)))
    assert after[DEFAULT].count(b"proxy_set_header") == 1


def test_headers_of_the_http_block_count_for_its_locations() -> None:
    main = PLAIN.replace(b"http {\n", b"http {\n    proxy_set_header X-A b;\n")
    files = {MAIN: main, MANAGED: UPSTREAM, DEFAULT: server("root /srv;")}
    assert "would end" in refusals(planned(files, wanted(locations=AT_DEFAULT)))


@pytest.mark.parametrize(
    ("location", "said"),
    [
        (LocationSettings("/etc/nginx/other.conf"), "nginx does not read this file"),
        (LocationSettings(DEFAULT, "/app"), "has 0 of `location /app`"),
        (LocationSettings(DEFAULT, server_name="shop.example"), "holds 0 servers named shop"),
    ],
)
def test_a_location_that_is_not_to_be_found_is_refused(
    location: LocationSettings, said: str
) -> None:
    files = {MAIN: PLAIN, MANAGED: UPSTREAM, DEFAULT: STOCK}
    assert said in refusals(planned(files, wanted(locations=(location,))))


def test_the_server_is_told_by_its_name_and_the_location_by_its_modifier() -> None:
    two = (
        b"server { server_name a; location =/x {root /a;} }\n"
        b"server { server_name b c; location = /x { root /b; } }\n"
    )
    files = {MAIN: PLAIN, MANAGED: UPSTREAM, DEFAULT: two}
    location = LocationSettings(DEFAULT, "= /x", "c")
    after = carried_out(files, planned(files, wanted(locations=(location,))))
    new = b"{ proxy_pass http://tomcat; proxy_set_header Host $host; }"
    assert after[DEFAULT] == two.replace(b"{ root /b; }", new)
    assert "holds 2 servers" in refusals(
        planned(files, wanted(locations=(LocationSettings(DEFAULT, "= /x"),)))
    )


def test_a_file_that_could_be_read_in_two_ways_is_left_to_a_person() -> None:
    main = (
        b"http {\n    upstream tomcat { server 127.0.0.1:8080; server 127.0.0.1:8081; }\n"
        b"    set $a 'b'c;\n    include conf.d/*.conf;\n}\n"
    )
    text = refusals(planned({MAIN: main}, wanted()))
    assert f"{MAIN}:3: cannot be edited safely" in text


def test_a_file_that_changed_since_nginx_was_asked_is_not_edited() -> None:
    want = wanted()
    dump = dump_of({MAIN: SEED, DEFAULT: STOCK})
    sources = {
        MAIN: ConfigFile(MAIN, MAIN, SEED + b"# later\n"),
        MANAGED: ConfigFile(MANAGED, MANAGED, None),
    }
    assert "changed while it was looked at" in refusals(plan_files(dump, want, sources))


def test_a_managed_file_under_another_name_is_refused() -> None:
    """Nginx reads it already, as a link; an `include` beside it would define everything twice."""
    want = wanted(file="/srv/tomcat.conf")
    dump = dump_of({MAIN: PLAIN, DEFAULT: UPSTREAM})
    real = "/srv/tomcat.conf"
    sources = {
        path: ConfigFile(path, real if path == DEFAULT else path, UPSTREAM)
        for path in files_to_read(dump, want)
    }
    sources[MAIN] = ConfigFile(MAIN, MAIN, PLAIN)
    assert f"name `{DEFAULT}` as `file`" in refusals(plan_files(dump, want, sources))


def test_an_upstream_that_lacks_a_backend_is_mended_by_a_person_first() -> None:
    main = SEED.replace(b"server localhost:8081; ", b"")
    text = refusals(planned({MAIN: main, DEFAULT: STOCK}, wanted()))
    assert f"{MAIN}:3: the upstream tomcat has no line for app2" in text
    assert "write `server 127.0.0.1:8081;` into it" in text


def test_an_upstream_in_two_places_is_a_persons_choice() -> None:
    files = {MAIN: SEED, DEFAULT: STOCK}
    text = refusals(planned(files, wanted(file=OUTSIDE), unread={OUTSIDE: UPSTREAM}))
    assert f"the upstream tomcat is in {OUTSIDE} too" in text


def test_a_managed_file_that_holds_more_than_upstreams_is_refused() -> None:
    files = {MAIN: PLAIN, MANAGED: UPSTREAM + b"server { listen 80; }\n"}
    assert "more than upstream blocks" in refusals(planned(files, wanted()))
