"""Other ways to a backend, and settings, in what `nginx -T` prints."""

from __future__ import annotations

from rolling_deploy.upstreams.routes import (
    defined_variables,
    is_included,
    other_routes,
    parse_dump,
    setting,
    upstream_elsewhere,
    users_of,
)

DUMP = """\
nginx: the configuration file /etc/nginx/nginx.conf syntax is ok
# configuration file /etc/nginx/nginx.conf:
load_module modules/ngx_stream.so;
worker_shutdown_timeout 10s;
http {
    keepalive_timeout 65;
    include conf.d/*.conf;
}
stream { server { listen 9000; proxy_pass app2:8080; } }

# configuration file /etc/nginx/conf.d/shop.conf:
upstream shop {
    server app1:8080;
    server app2:8080;
}

# configuration file /etc/nginx/conf.d/site.conf:
map $http_x $blue { default shop; beta APP1:8080; }
server {
    listen app1:8080;
    location / { proxy_pass http://shop/; }
    location /old { proxy_pass http://app1:8080/old; }
    location /tls { proxy_pass https://app3; }
    location /v { set $up "app2:8080"; proxy_pass http://$up; }
    # proxy_pass http://app2:8080;
}
upstream other { server app9; server app1:8080 backup; }
upstream shop {
    server app7;
}

# configuration file /etc/nginx/conf.d/odd.conf:
weird "unclosed
    proxy_pass http://app2:8080;
    # app2:8080 in a comment
"""
MANAGED = ["/etc/nginx/conf.d/../conf.d/shop.conf"]


def test_the_files_come_apart_with_their_own_line_numbers() -> None:
    dump = parse_dump(DUMP)
    assert dump.included_files() == (
        "/etc/nginx/nginx.conf",
        "/etc/nginx/conf.d/shop.conf",
        "/etc/nginx/conf.d/site.conf",
        "/etc/nginx/conf.d/odd.conf",
    )
    assert dump.files["/etc/nginx/conf.d/shop.conf"].startswith("upstream shop {\n")
    assert dump.files["/etc/nginx/conf.d/shop.conf"].endswith("}\n")
    assert dump.unparsed_files() == ("/etc/nginx/conf.d/odd.conf",)
    assert is_included(dump, MANAGED)
    assert not is_included(dump, ["/etc/nginx/else.conf"])


def test_every_other_way_to_a_backend_is_found() -> None:
    routes = other_routes(parse_dump(DUMP), MANAGED, {"app1:8080", "app2:8080", "app3:443"})
    assert [(r.file.rpartition("/")[2], r.line, r.address) for r in routes] == [
        ("nginx.conf", 7, "app2:8080"),
        ("site.conf", 1, "app1:8080"),
        ("site.conf", 5, "app1:8080"),
        ("site.conf", 6, "app3:443"),
        ("site.conf", 7, "app2:8080"),
        ("site.conf", 10, "app1:8080"),
        ("odd.conf", 2, "app2:8080"),
    ]


def test_the_managed_file_itself_and_other_ports_are_no_other_way() -> None:
    dump = parse_dump(DUMP)
    assert other_routes(dump, MANAGED, {"app1:80", "app2:8081", "app1:80800"}) == []


def test_an_upstream_that_is_defined_twice_is_named_with_its_lines() -> None:
    ((path, lines),) = upstream_elsewhere(parse_dump(DUMP), {"shop"}, MANAGED)
    assert path == "/etc/nginx/conf.d/site.conf"
    assert (lines.first, lines.last) == (11, 13)
    assert lines.text == "upstream shop {\n    server app7;\n}"


def test_who_uses_an_upstream_is_found_also_through_a_map() -> None:
    users = users_of(parse_dump(DUMP), {"shop", "nobody"})
    assert [route.line for route in users["shop"]] == [1, 4]
    assert users["nobody"] == []


def test_settings_come_with_their_place() -> None:
    dump = parse_dump(DUMP)
    (found,) = setting(dump, "worker_shutdown_timeout")
    assert (found.file, found.line, found.arguments) == ("/etc/nginx/nginx.conf", 2, ("10s",))
    assert setting(dump, "keepalive_min_timeout") == []
    assert defined_variables(dump) >= {"blue", "up"}


def test_a_lua_block_does_not_hide_what_follows_it() -> None:
    dump = parse_dump(
        "# configuration file /n.conf:\n"
        "server { location /a { content_by_lua_block { local x = {1}; } }\n"
        " location /b { proxy_pass http://app1:8080; } }\n"
    )
    assert [r.line for r in other_routes(dump, [], {"app1:8080"})] == [2]
