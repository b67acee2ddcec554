"""The users of the shop in `tomcat_app/shop`: logged in, clicking, and watching their cart."""

from __future__ import annotations

import random
import re
import time
from collections import Counter
from urllib.parse import urlencode

from rolling_deploy.demo.load import REQUEST_LIMIT_S, Load
from rolling_deploy.demo.load_http import Client, Ending, Exchange, Request
from rolling_deploy.demo.tally import Tally
from tests.shop_releases import COOKIE, PASSWORD

ITEMS = ("apple", "book", "candle", "desk", "engine")
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
LINE = re.compile(r"<li>(\d+) x ([a-z0-9-]+)</li>")


class ShopLoad(Load):
    """The demo's load with people of this shop as its fast clients."""

    async def _shopper(self, index: int) -> None:
        user = ShopUser(f"user{index}", self._tally)
        client, turn = self._client(), self._turn(index)
        await self._pause(self._shape.think_ms * random.random())
        while not self._stop.is_set():
            request = user.next_request()
            user.understand(await self._click(client, next(turn), request))
            await self._pause(self._shape.think_ms * random.uniform(0.5, 1.5))
        client.close()

    async def _click(self, client: Client, url: str, request: Request) -> Exchange:
        """Send one request once, and count how it ended; a page is judged by its reader."""
        began = time.monotonic()
        exchange = Exchange(Ending.UNFINISHED)
        try:
            exchange = await client.send(url, request, REQUEST_LIMIT_S)
        finally:
            took_ms = (time.monotonic() - began) * 1000
            self._tally.request("cart", f"{request.method} {request.path}", exchange, took_ms)
        return exchange


class ShopUser:
    """Logs in once, puts items into the cart and looks at it in turn.

    Of a write that got no answer nobody knows whether it happened: so many of an item may be in
    the cart as were acknowledged, up to as many as were sent.
    """

    def __init__(self, name: str, tally: Tally) -> None:
        self.name = name
        self.tally = tally
        self.session = ""
        self.sent: Counter[str] = Counter()
        self.acknowledged: Counter[str] = Counter()
        self.doing = ""

    def next_request(self) -> Request:
        """Answers what this user does next."""
        if not self.session:
            self.doing = "login"
            form = urlencode({"user": self.name, "password": PASSWORD}).encode()
            return Request("POST", "/login", FORM, (form,))
        cookie = {"Cookie": f"{COOKIE}={self.session}"}
        if self.doing in {"login", "look"}:
            self.doing = random.choice(ITEMS)
            self.sent[self.doing] += 1
            form = urlencode({"item": self.doing}).encode()
            return Request("POST", "/cart", {**FORM, **cookie}, (form,))
        self.doing = "look"
        return Request("GET", "/cart", cookie)

    def understand(self, exchange: Exchange) -> None:
        """Compare the answer with what this user knows, and count what was lost."""
        answer = exchange.answer
        if exchange.ending is not Ending.OK or answer is None:
            return
        where = answer.headers.get("x-backend", "")
        if self.doing == "login":
            self._logged_in(answer.headers.get("set-cookie", ""))
        elif answer.headers.get("location", "").endswith("/login"):
            self.session = ""
            self.tally.session("lost", f"{self.name} has to log in again at {where}")
        elif self.doing == "look":
            self._look(answer.body.decode("utf-8", "replace"), where)
        else:
            self.acknowledged[self.doing] += 1

    def _logged_in(self, cookie: str) -> None:
        self.session = cookie.partition("=")[2].partition(";")[0]
        self.sent.clear()
        self.acknowledged.clear()
        self.tally.session("followed")

    def _look(self, page: str, where: str) -> None:
        if f"Hello {self.name}<" not in page:
            self.session = ""
            self.tally.session("lost", f"{self.name} is somebody else at {where}")
            return
        cart = Counter({item: int(count) for count, item in LINE.findall(page)})
        if any(cart[item] < self.acknowledged[item] for item in ITEMS):
            self.tally.session("write lost", f"an item of {self.name} is gone at {where}")
        if any(cart[item] > self.sent[item] for item in ITEMS):
            self.tally.session("write repeated", f"{self.name} added one, two at {where}")
        self.sent, self.acknowledged = Counter(cart), Counter(cart)
