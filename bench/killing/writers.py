"""24 senders of signed events, in a process that is never killed (`-m bench.killing.writers`).

Each sender owns its keys and sends the next version of a key only after the hub has thanked for the
one before: the order of versions is known. It repeats an event until it is thanked for it, and
delivers some events up to five times, at the same time or long afterwards, through whichever sender
comes along. Ends when its stdin ends and everything sent has been thanked for.
"""

from __future__ import annotations

import argparse
import hashlib
import hmac
import http.client
import json
import random
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.killing.deployment import HOOK, SENT
from bench.killing.journal import Journal

SENDERS = 24
KEYS = 6
"""Keys of one sender."""

_TIMEOUT = 4.0
_LONGEST_PAUSE = 0.25
_AGAIN = (0.25, (1, 2, 3, 4))
"""The share of events that are delivered more than once, and how many times more."""


class Refused(Exception):
    """The hub said that the event itself is wrong: no repeating will help."""


@dataclass(frozen=True, slots=True)
class Event:
    """One version of one key."""

    id: str
    sink: str
    key: str
    content: str

    @property
    def body(self) -> bytes:
        fields = {"kind": self.sink, "key": self.key, "name": self.content}
        return json.dumps(fields, ensure_ascii=False).encode()


class Post:
    """Posts events to the hub over one connection, signed as `deployment.HOOK` wants it."""

    def __init__(self, port: int, secret: str) -> None:
        self._secret = secret.encode()
        self._http = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT)

    def send(self, event: Event) -> bool:
        """Whether the hub thanked for it. Raises Refused when it never will."""
        body, stamp = event.body, str(int(time.time()))
        text = b".".join((stamp.encode(), event.id.encode(), body))
        headers = {
            "Content-Type": "application/json",
            "X-Event": event.id,
            "X-Timestamp": stamp,
            "X-Signature": hmac.new(self._secret, text, hashlib.sha256).hexdigest(),
        }
        try:
            self._http.request("POST", f"/hooks/{HOOK}", body, headers)
            answer = self._http.getresponse()
            said = answer.read()
        except (OSError, http.client.HTTPException):
            self._http.close()  # the next try connects anew
            return False
        if 400 <= answer.status < 500 and answer.status not in (408, 429):
            raise Refused(f"{answer.status} for {event.id}: {said.decode(errors='replace')}")
        return answer.status < 300

    def close(self) -> None:
        self._http.close()


def send_until_thanked(
    post: Post, journal: Journal, event: Event, give_up: Callable[[], bool] = lambda: False
) -> bool:
    """Repeat an event that stands in the journal until the hub owes it, or until we give up."""
    pause = 0.02
    while not give_up():
        began = time.monotonic()
        if post.send(event):
            journal.thanked(event.id, began)
            return True
        time.sleep(pause)
        pause = min(pause * 2, _LONGEST_PAUSE)
    return False


class Echoes:
    """Events that somebody will deliver once more; whoever comes along takes one."""

    def __init__(self) -> None:
        self._events: deque[Event] = deque()

    def put(self, event: Event, times: int) -> None:
        self._events.extend([event] * times)

    def take(self, chance: random.Random) -> Event | None:
        """Any of them, not the oldest: the order of arrival means nothing."""
        try:
            self._events.rotate(chance.randrange(16))
            return self._events.pop()
        except IndexError:
            return None


@dataclass(slots=True)
class Sender:
    """One sender with its own keys, connection and chances."""

    number: int
    post: Post
    journal: Journal
    echoes: Echoes
    chance: random.Random
    pause: float
    done: threading.Event

    def run(self) -> None:
        """Send versions until `done`, then what is left to be delivered again."""
        versions: dict[tuple[str, str], int] = {}
        while not self.done.wait(self.chance.uniform(0, 2 * self.pause)):
            self._send_next(versions)
        while (event := self.echoes.take(self.chance)) is not None:
            self.post.send(event)

    def _send_next(self, versions: dict[tuple[str, str], int]) -> None:
        sink = self.chance.choice(SENT)
        key = f"W{self.number:02}-{self.chance.randrange(KEYS)}"
        version = versions[sink, key] = versions.get((sink, key), 0) + 1
        event = Event(f"{sink}/{key}/{version}", sink, key, f"{key} 第{version}版")
        self.journal.sending(sink, key, event.content, event.id)
        share, times = _AGAIN
        if self.chance.random() < share:
            # From now on: a twin may arrive before, beside or long after the event itself.
            self.echoes.put(event, self.chance.choice(times))
        send_until_thanked(self.post, self.journal, event)
        echo = self.echoes.take(self.chance) if self.chance.random() < 2 * share else None
        if echo is not None:
            self.post.send(echo)


class Probe:
    """One more sender, by whose events the time to the first accepted one is measured."""

    def __init__(self, journal: Journal, post: Post, key: str) -> None:
        self._journal, self._post, self._key, self._sent = journal, post, key, 0

    def send(self, give_up: Callable[[], bool] = lambda: False) -> bool:
        """Whether the hub accepted one more event before we gave up."""
        self._sent += 1
        content = f"{self._key} 第{self._sent}版"
        event = Event(f"customer/{self._key}/{self._sent}", "customer", self._key, content)
        self._journal.sending(event.sink, event.key, event.content, event.id)
        return send_until_thanked(self._post, self._journal, event, give_up)

    def close(self) -> None:
        self._post.close()
        self._journal.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--journal", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--secret-file", type=Path, required=True)
    parser.add_argument("--rate", type=float, default=24.0, help="events per second in all")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    journal, done, echoes = Journal(given.journal), threading.Event(), Echoes()
    secret = given.secret_file.read_text(encoding="utf-8").strip()
    troubles: list[Exception] = []

    def run(sender: Sender) -> None:
        try:
            sender.run()
        except Exception as error:  # noqa: BLE001 (told at the end)
            troubles.append(error)
            done.set()

    senders = [
        Sender(
            number,
            Post(given.port, secret),
            journal,
            echoes,
            random.Random(given.seed * 1000 + number),
            SENDERS / given.rate,
            done,
        )
        for number in range(SENDERS)
    ]
    threads = [threading.Thread(target=run, args=(one,), daemon=True) for one in senders]
    for thread in threads:
        thread.start()
    sys.stdout.write("sending\n")
    sys.stdout.flush()
    threading.Thread(target=lambda: (sys.stdin.read(), done.set()), daemon=True).start()
    for thread in threads:
        thread.join()
    if troubles:
        sys.exit(f"a sender gave up: {troubles[0]}")


if __name__ == "__main__":
    main()
