"""What the tries of the document of the API need: waits that end, ids of what there is, and a count of what was tried.

Rules between fields are more than a schema can say: most of what fits the schema is made to fit them as well.

Waits are documented up to 30 seconds, and a stream has no end. Thousands of tries cannot each take as long, so that
valid waits are shortened before they are sent; one in `WHOLE` places in the log is left as it is. Whole numbers are written
without a point. What is invalid is sent as it was made.
"""

import atexit
import collections
import functools
import json
import os
import re
import threading

import requests
import schemathesis

# How long an answer may wait, in milliseconds.
WAIT_MS = 20
# Places in the log that are there in any coordinator.
REACHED = 3
# One in so many places is left as it is: such a request waits for five seconds.
WHOLE = 512

# What is called how where its ids are asked for, and in answers.
KINDS = {"hosts": "host", "jobs": "job", "services": "service", "schedules": "schedule", "freezes": "freeze"}
ENDED = {"completed", "failed", "cancelled", "expired"}

_lock = threading.Lock()
# The newest ids of each kind.
_known = collections.defaultdict(lambda: collections.deque(maxlen=32))
_hosts = 0
_seen = collections.Counter()
_places = 0


def _is_kept():
    global _places
    with _lock:
        _places += 1
        return _places % WHOLE == 0


def _reached(value):
    """A place in the log that need not be waited for, if the value is a place."""
    text = str(value).strip()
    found = re.fullmatch(r"([0-9]+)(-[0-9]+)?(\.[0-9a-fA-F]{8})?", text)
    if found is None:
        return value
    index, n, cluster = int(found[1]), found[2] or "", found[3] or ""
    # No schema can say how great a number in a text may be.
    if n and int(n[1:]) > 2**32 - 1:
        n = "-0"
    elif index <= REACHED or (index < 2**63 and _is_kept()):
        return value
    return f"{index % (REACHED + 1)}{n}{cluster}"


def _sent(value):
    """The texts that a value of a parameter becomes; blank ones are passed over by the coordinator."""
    values = value if isinstance(value, (list, tuple, dict)) else [value]
    texts = ["" if item is None else str(item).strip() for item in values]
    return ["true" if text == "True" else text for text in texts if text]


def _short(values):
    wait = values.get("waitMs")
    if isinstance(wait, bool):
        return
    if isinstance(wait, int) or (isinstance(wait, str) and wait.strip().isdecimal()):
        if WAIT_MS < int(wait) <= 30_000:
            values["waitMs"] = WAIT_MS


def _whole(value):
    """The same with whole numbers written as such: JSON Schema counts 1.0 among them, the coordinator does not."""
    if isinstance(value, dict):
        return {key: _whole(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_whole(item) for item in value]
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**63:
        return int(value)
    return value


def _sensible(job):
    """A submission without what the rules between fields refuse."""
    payload = job.get("payload")
    if isinstance(payload, dict) and payload.get("kind") == "shell" and not str(payload.get("command") or "").strip():
        payload["command"] = "true"
    if str(job.get("isolation") or "").strip() != "podman":
        for name in ("image", "network", "mounts"):
            job.pop(name, None)
        if isinstance(job.get("resources"), dict):
            job["resources"].pop("tmpfsBytes", None)
    if not job.get("dependsOn"):
        job.pop("onDependencyFailure", None)
    if not str(job.get("concurrencyKey") or "").strip():
        job.pop("concurrencyLimit", None)
    retry = job.get("retry")
    if isinstance(retry, dict) and None not in (retry.get("backoffMs"), retry.get("maxBackoffMs")):
        retry["backoffMs"] = min(retry["backoffMs"], retry["maxBackoffMs"])


def _remember(case, response):
    """Keeps the ids of what an answer shows."""
    # What is no JSON is left as it is: the response would remember how it was read.
    answer = response.json() if response.headers.get("content-type") == ["application/json"] else None
    if not isinstance(answer, dict):
        return
    for kind in KINDS.values():
        record = answer.get(kind)
        kind = f"public {kind}" if "/public/" in case.operation.label else kind
        # What clients take for ways through a path cannot be asked for.
        if isinstance(record, dict) and record.get("id") not in (None, ".", ".."):
            _known[kind].append(record["id"])
            if record.get("status") in ENDED:
                _known["ended job"].append(record["id"])


def _ask(case, path, body):
    """Asks the coordinator for something on the side."""
    url = case.operation.base_url.rstrip("/") + path
    headers = {"x-skyclaw-token": os.environ["SKYCLAW_TRIED_TOKEN"]}
    response = requests.post(url, json=body, headers=headers, timeout=20)
    response.raise_for_status()
    return response.json()


def _registered(case):
    """A new host, which can what nobody else can."""
    global _hosts
    _hosts += 1
    host = f"tried-{_hosts}"
    _ask(case, "/v1/hosts/register", {"hostId": host, "name": host, "capabilities": [host]})
    _known["host"].append(host)
    return host


def _held(case):
    """What a new host holds: a service it has taken, or a job it has leased."""
    host = _registered(case)
    ask = functools.partial(_ask, case)
    if "/services/" in case.operation.label:
        ask("/v1/services", {"name": host, "command": "true", "requiredCapabilities": [host]})
        held = ask(f"/v1/hosts/{host}/services/claim", {})["service"]
    else:
        job = {"payload": {"kind": "shell", "command": "true"}, "requirement": {"requiredCapabilities": [host]}}
        ask("/v1/jobs", job)
        held = ask(f"/v1/hosts/{host}/claim", {})["job"]
    return {**held, "hostId": host}


HELD_BY_HOSTS = {
    "POST /v1/jobs/{id}/complete", "POST /v1/jobs/{id}/events", "POST /v1/jobs/{id}/logs", "POST /v1/services/{id}/report"
}


def _of_what_there_is(case, ids, body):
    """Asks for what there is: made-up ids are hardly ever found, and whose they are even less."""
    label = case.operation.label
    if "id" not in (ids or {}):
        return
    if label in HELD_BY_HOSTS and isinstance(body, dict):
        held = _held(case)
        ids["id"] = held["id"]
        body.update({name: held[name] for name in ("hostId", "fence") if name in body})
        return
    kind = next((KINDS[word] for word in label.split("/") if word in KINDS), None)
    # Of one that runs they are asked of its host, and there is none that could answer.
    kind = "ended job" if label == "GET /v1/jobs/{id}/logs" else kind
    kind = f"public {kind}" if "/public/" in label else kind
    if kind == "host" and len(json.dumps(ids)) % 4 == 0:
        # Others are removed by and by.
        _registered(case)
    known = _known[kind]
    if known:
        known.rotate()
        ids["id"] = known[0]


CRONS = ("0 3 * * *", "*/5 * * * *", "@daily", "0 0 29 2 *")
ZONES = ("UTC", "Europe/Berlin", "America/New_York")


def _fitting(label, body):
    """What the rules between fields allow, of what fits the schema. Those rules are more than a schema can say, and without
    this hardly anything would get beyond them."""
    if label in ("POST /v1/jobs", "POST /v1/public/jobs"):
        _sensible(body)
        # Half of them can be claimed by any host, at once.
        if len(json.dumps(body)) % 2:
            for name in ("requirement", "isolation", "resources", "image", "network", "mounts", "notBefore", "dependsOn"):
                body.pop(name, None)
    elif label == "POST /v1/hosts/register" and isinstance(body.get("capabilities"), list):
        body["capabilities"] = [*body["capabilities"][:8], "shell"]
    elif label == "POST /v1/schedules":
        length = len(json.dumps(body))
        body["cron"] = CRONS[length % len(CRONS)]
        if str(body.get("timeZone") or "").strip():
            body["timeZone"] = ZONES[length % len(ZONES)]
        if isinstance(body.get("job"), dict):
            _sensible(body["job"])
    elif label == "POST /v1/jobs/{id}/resolve" and str(body.get("action")).strip() != "complete":
        body.pop("result", None)


@schemathesis.hook
def before_call(context, case, kwargs):
    label = case.operation.label
    headers, query, body = case.headers, case.query, case.body
    if headers:
        for name in ("x-skyclaw-min-index", "Last-Event-ID"):
            if name in headers:
                reached = _reached(headers[name])
                # Left as it was made where it need not change: its type tells what was meant to be wrong.
                if reached is not headers[name]:
                    headers[name] = reached
    if query:
        _short(query)
        if "after" in query and isinstance(query["after"], (str, int)):
            query["after"] = _reached(query["after"])
    if isinstance(body, (dict, list)):
        case.body = body = _whole(body)
    is_meant_well = case.meta is not None and case.meta.generation.mode.is_positive
    # One in eight is sent as it was made.
    is_fitted = is_meant_well and len(json.dumps([case.path_parameters, body], default=str)) % 8
    if isinstance(body, dict):
        _short(body)
        if is_fitted:
            _fitting(label, body)
    if is_fitted:
        _of_what_there_is(case, case.path_parameters, body)
    # Neither stream ends by itself: what would be followed is not.
    follow = _sent((query or {}).get("follow"))
    if label == "GET /v1/events" and follow in ([], ["true"]) or label == "GET /v1/jobs/{id}/logs" and follow == ["true"]:
        case.query = {**(query or {}), "follow": "false"}


def _go_on(case, response):
    """Ends a freeze of everything, or no job would be claimed in what is left of the tries."""
    freeze = response.json()["freeze"]
    if freeze["scope"] == {} and "thawedAt" not in freeze:
        try:
            _ask(case, f"/v1/freezes/{freeze['id']}/thaw", {})
        except requests.HTTPError as error:
            # The answer to a key that came again may tell of a freeze that is over and forgotten.
            if error.response.status_code != 404:
                raise


@schemathesis.hook
def after_call(context, case, response):
    if response.status_code == 200:
        _remember(case, response)
        if case.operation.label == "POST /v1/freezes":
            _go_on(case, response)
    phase = case.meta.phase.name.value if case.meta else "other"
    mode = case.meta.generation.mode.value if case.meta else "other"
    with _lock:
        _seen[(case.operation.label, phase, mode, response.status_code)] += 1


@atexit.register
def _tell():
    path = os.environ.get("SKYCLAW_EXAMPLES")
    if not path or not _seen:
        return
    told = {}
    for (label, phase, mode, status), count in sorted(_seen.items()):
        of = told.setdefault(label, {"examples": 0, "phases": {}, "modes": {}, "statuses": {}})
        of["examples"] += count
        for what, key in (("phases", phase), ("modes", mode), ("statuses", str(status))):
            of[what][key] = of[what].get(key, 0) + count
    with open(path, "w") as file:
        json.dump(told, file, indent=1)
