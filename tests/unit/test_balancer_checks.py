"""What a preflight says of one load balancer's file and configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

from rolling_deploy.rollout.observed import Verdict
from tests.survey_fixture import FILE, INVENTORY, UPSTREAM, details, dump_of, inventory_in, surveyed

USED = "server { location / { proxy_pass http://tomcat; } }"


def with_site(site: str) -> str:
    return dump_of(**{"shop.upstream": UPSTREAM, "site": f"{USED}\n{site}"})


def test_a_configuration_whose_every_target_is_known_has_no_other_way(tmp_path: Path) -> None:
    site = """
        map $http_x $pool { default tomcat; beta files; }
        upstream files { server 10.0.0.9:8080; server files.lan:9090; server unix:/run/x.sock; }
        server { location /a { proxy_pass http://$pool$request_uri; }
                 location /b { proxy_pass http://files/b?$args; }
                 location /c { fastcgi_pass unix:/run/php.sock; }
                 location /d { set $port 9999; proxy_pass http://10.0.0.9:$port; } }
    """
    _, lines = surveyed(inventory_in(tmp_path), UPSTREAM, with_site(site))
    assert list(details(lines, "other ways").values()) == ["ok"]


@pytest.mark.parametrize(
    "site",
    [
        "upstream o { server localhost:8080; }",
        "server { location / { proxy_pass http://LOCALHOST:8080/x; } }",
        "server { location / { set $b 127.0.0.1; proxy_pass http://$b:8080; } }",
        "map $host $b { default 127.0.0.1; }\nserver { location / { proxy_pass http://$b:8080; } }",
        "server { location / { set $a $b; set $b localhost:8080; proxy_pass http://$a; } }",
    ],
)
def test_a_way_that_is_spelt_otherwise_is_refused(site: str, tmp_path: Path) -> None:
    _, lines = surveyed(inventory_in(tmp_path), UPSTREAM, with_site(site))
    ((detail, verdict),) = details(lines, "other ways").items()
    assert verdict == "refused"
    assert "reaches 127.0.0.1:8080" in detail


@pytest.mark.parametrize(
    "site",
    [
        "upstream o { server web1.internal:8080; }",
        "server { location / { proxy_pass http://[::1]:8080; } }",
        "server { location / { proxy_pass http://0.0.0.0:8080; } }",
        "server { location / { proxy_pass http://$http_host; } }",
        "server { location / { proxy_pass http://$arg_where:8081; } }",
        "server { location / { proxy_pass $scheme://$host$request_uri; } }",
        "server { location ~ /(.*) { proxy_pass http://web$1:8082; } }",
        "map $host $b { include hosts.map; }\nserver { location / { proxy_pass http://$b; } }",
        'server { weird "unclosed; }',
    ],
)
def test_a_way_that_cannot_be_told_is_not_checked_and_never_fine(site: str, tmp_path: Path) -> None:
    _, lines = surveyed(inventory_in(tmp_path), UPSTREAM, with_site(site))
    ((detail, verdict),) = details(lines, "other ways").items()
    assert verdict == "not checked"
    assert "/etc/nginx/conf.d/site.conf" in detail


def test_a_named_server_of_the_managed_file_is_not_known_either(tmp_path: Path) -> None:
    text = UPSTREAM.replace("}", "    server web1.internal:8080;\n}")
    dump = dump_of(**{"shop.upstream": text, "site": USED})
    _, lines = surveyed(inventory_in(tmp_path), text, dump)
    assert list(details(lines, "other ways").values()) == ["not checked"]


def test_a_backend_known_by_name_may_be_any_address_on_its_port(tmp_path: Path) -> None:
    inventory = inventory_in(tmp_path)
    text = (tmp_path / "inventory.yaml").read_text().replace("127.0.0.1:8080", "web1:8080")
    inventory = inventory_in(tmp_path, text)
    upstream = UPSTREAM.replace("127.0.0.1:8080", "web1:8080")
    site = "server { location / { proxy_pass http://10.0.0.11:8080; } }"
    dump = dump_of(**{"shop.upstream": upstream, "site": f"{USED}\n{site}"})
    _, lines = surveyed(inventory, upstream, dump)
    assert list(details(lines, "other ways").values()) == ["not checked"]


def test_a_managed_file_that_nginx_does_not_read_is_refused_with_the_line_to_add(
    tmp_path: Path,
) -> None:
    inventory = inventory_in(tmp_path)
    main = "http { include /etc/nginx/sites-enabled/*; }"
    for text in (UPSTREAM, None):
        _, lines = surveyed(inventory, text, dump_of(main=main))
        ((detail, verdict),) = details(lines, "include").items()
        assert verdict == "refused"
        assert f"`include {FILE};`" in detail
        assert "/etc/nginx/nginx.conf" in detail


@pytest.mark.parametrize(
    ("pattern", "is_read"),
    [
        ("conf.d/*.conf", True),
        (FILE, True),
        ("/etc/nginx/conf.d/[st]*.upstream.c?nf", True),
        ("/etc/nginx/*.conf", False),
        ("/etc/nginx/conf.d/.*", False),
    ],
)
def test_a_file_to_come_is_matched_with_the_includes(
    pattern: str, is_read: bool, tmp_path: Path
) -> None:
    main = f"http {{ include mime.types; include {pattern}; }}"
    _, lines = surveyed(inventory_in(tmp_path), None, dump_of(main=main))
    assert (not details(lines, "include")) is is_read


def test_what_the_file_has_beyond_the_inventory_is_said(tmp_path: Path) -> None:
    text = UPSTREAM + "upstream admin {\n    server 127.0.0.1:8081;\n}\n"
    dump = dump_of(**{"shop.upstream": text, "site": USED})
    found, lines = surveyed(inventory_in(tmp_path), text, dump)
    assert found.merged is not None
    told = [line for line in lines if line.name == "upstream" and "admin" in line.detail]
    assert [line.verdict for line in told] == [Verdict.WARNING, Verdict.WARNING]
    assert "admin has 127.0.0.1:8081 of app2" in told[0].detail
    assert "the file has an upstream admin" in told[1].detail


def test_a_way_that_a_person_acknowledged_is_a_warning_and_any_other_stays_refused(
    tmp_path: Path,
) -> None:
    site = """
        server { location /a { proxy_pass http://127.0.0.1:8080; } }
        server { location /b { proxy_pass http://127.0.0.1:8081; } }
    """
    accepting = f'{INVENTORY}nginx: {{acknowledged_routes: ["127.0.0.1:8080"]}}\n'
    _, before = surveyed(inventory_in(tmp_path), UPSTREAM, with_site(site))
    assert list(details(before, "other ways").values()) == ["refused", "refused"]
    _, lines = surveyed(inventory_in(tmp_path, accepting), UPSTREAM, with_site(site))
    told = {verdict: detail for detail, verdict in details(lines, "other ways").items()}
    assert set(told) == {"warning", "refused"}
    assert told["warning"].endswith("reaches 127.0.0.1:8080 (acknowledged)")
    assert told["refused"].endswith("reaches 127.0.0.1:8081; acknowledge it or remove it")
