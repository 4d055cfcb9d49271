"""A judge behind a server that speaks OpenAI's chat completions: the address that the user wrote, and no other.

Plain http.client: no proxy of the environment, no redirect to another host, an answer of bounded size in bounded time.
"""

import base64
import http.client
import json
import time
from typing import Any, Final
from urllib.parse import urlsplit

from PIL import Image

from lorweb.data.decode import encode_png
from lorweb.data.scorers.entries import AskedModel, Endpoint
from lorweb.data.scorers.judge_reply import BadReply, Question

MOST_BYTES: Final = 1 << 20  # of an answer
_BUSY: Final = (408, 429)  # worth asking again, as all of 5xx


class Unanswered(Exception):
    """The server gave no reply. `final` where asking again would not help."""

    def __init__(self, reason: str, final: bool) -> None:
        super().__init__(reason, final)
        self.reason, self.final = reason, final

    def __str__(self) -> str:
        return self.reason


class EndpointJudge:
    """Asks one question after another; more actors ask in parallel."""

    def __init__(self, cfg: AskedModel, endpoint: Endpoint) -> None:
        self._cfg, self._endpoint = cfg, endpoint

    def __call__(self, question: Question, seed: int) -> str:
        """The reply.

        Raises:
            Unanswered: no connection, no answer in time, an HTTP status of a fault, another shape.
            BadReply: a completion without a text, as of a model that declines to answer.
        """
        url = self._endpoint.url
        try:
            status, body = self._post(self._payload(question, seed))
        except TimeoutError as error:
            raise Unanswered(f"{url} gave no answer within {self._endpoint.timeout_s:g} s", final=False) from error
        except (OSError, http.client.HTTPException) as error:
            raise Unanswered(f"{url} cannot be asked ({type(error).__name__}: {error})", final=False) from error
        if status != 200:
            final = status < 500 and status not in _BUSY
            raise Unanswered(f"{url} answered with HTTP {status}: {_first(body)}", final)
        return _content(body, url)

    def _payload(self, question: Question, seed: int) -> bytes:
        images = [{"type": "image_url", "image_url": {"url": _data_url(image)}} for image in question.images]
        content: list[dict[str, Any]] = [*images, {"type": "text", "text": question.text}]
        asked = {
            "model": self._cfg.model,
            "messages": [{"role": "user", "content": content}],
            "max_tokens": self._cfg.max_new_tokens,
            "temperature": self._cfg.temperature,
            "seed": seed,
            "stream": False,
        }
        return json.dumps(asked).encode()

    def _post(self, payload: bytes) -> tuple[int, bytes]:
        parts, timeout = urlsplit(self._endpoint.url), self._endpoint.timeout_s
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        assert parts.hostname is not None  # checked with the parameters
        connection = kind(parts.hostname, parts.port, timeout=timeout)
        until = time.monotonic() + timeout
        try:
            path = f"{parts.path.rstrip('/')}/chat/completions"
            connection.request("POST", path, payload, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            body = b""
            while part := answer.read1(1 << 16):
                body += part
                if len(body) > MOST_BYTES:
                    raise http.client.HTTPException(f"an answer of more than {MOST_BYTES} bytes")
                if time.monotonic() > until:
                    raise TimeoutError
            return answer.status, body
        finally:
            connection.close()


def _content(body: bytes, url: str) -> str:
    try:
        content = json.loads(body)["choices"][0]["message"]["content"]
    except (ValueError, KeyError, IndexError, TypeError, RecursionError) as error:
        reason = f"{url} did not answer as chat completions do ({type(error).__name__}): {_first(body)}"
        raise Unanswered(reason, final=False) from error
    if not isinstance(content, str):
        raise BadReply(f"the reply holds {_first(json.dumps(content).encode())} for its text")
    return content


def _data_url(image: Image.Image) -> str:
    return f"data:image/png;base64,{base64.b64encode(encode_png(image)).decode()}"


def _first(body: bytes) -> str:
    return ascii(" ".join(body[:200].decode("utf-8", "replace").split()))[1:-1]
