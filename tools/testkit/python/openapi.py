"""What our OpenAPI document says, held against other people's tools: openapi.py '{"do": ..., ...}'.

`validate` judges the document itself. `run` has schemathesis send a listener what its operations describe, and what they
forbid, from a fixed seed; every answer must be one that is described. Started by schemathesis once more, as its hooks,
this file moves the names it makes up into a small world, so that some requests meet what is there.
"""

import collections
import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
import zlib

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
NDJSON = "application/x-ndjson"
# QUERY is younger than our parser: a method that nobody knows is 501, as RFC 9110 section 9.1 wants it.
METHODS = ["GET", "PUT", "POST", "DELETE", "OPTIONS", "PATCH", "TRACE"]
# Our own extension: each line of a body is of this schema.
EACH_LINE = "x-each-line"
# Names the file in which the hooks note each answer.
SEEN = "OPENAPI_SEEN"
# And names the node that answers.
NODE = "OPENAPI_NODE"
# And a receipt of a message that was handed off.
RECEIPT = "OPENAPI_RECEIPT"
# Ids of delayed jobs that wait, with commas.
JOBS = "OPENAPI_JOBS"
JOB_METHODS = ("GET", "DELETE", "PUT", "POST")
# When jobs are due that are to be accepted: of tenants, and of operators, who say it in epoch ms.
DUE = {
    ("/v1/jobs/{topic}/{ver}", "POST"): {"delay": "1h"},
    ("/v1/jobs/{topic}/{ver}", "PUT"): {"delay": "1h"},
    # Of records that do not say it themselves.
    ("/v1/jobs/{topic}/{ver}/batch", "POST"): {"delay": "1h"},
    ("/v1/jobs/{appid}/{topic}/{ver}", "PUT"): {"due": int(time.time() + 7200) * 1000},
}


def fetch(url):
    with urllib.request.urlopen(url, timeout=20) as answer:
        return json.load(answer)


def validate(given):
    from openapi_spec_validator import OpenAPIV31SpecValidator

    document = fetch(given["url"])
    mistakes = [f"{mistake.json_path}: {mistake.message[:300]}"
                for mistake in OpenAPIV31SpecValidator(document).iter_errors()]
    print(json.dumps({"mistakes": mistakes, "operations": sum(map(len, document["paths"].values()))}))


def closed(schema):
    """An answer may come to have more fields; a field that nobody described today is a mistake."""
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {name: closed(one) for name, one in schema.items()}
    if schema.get("type") == "object" and "properties" in schema:
        schema.setdefault("additionalProperties", False)
    return schema


def in_lines(content, **limits):
    """Lines as the array that the hooks make of them."""
    for media in content.values():
        if EACH_LINE in media["schema"]:
            media["schema"] = {"type": "array", "items": media["schema"][EACH_LINE], **limits}
            media.pop("example", None)
    return content


def of_listener(document, listener):
    """The document of one port: which port answers is said per operation, which schemathesis does not read."""
    paths = {}
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if any(server["description"] == listener for server in operation.pop("servers")):
                in_lines(operation.get("requestBody", {}).get("content", {}), maxItems=5)
                for response in operation["responses"].values():
                    response["content"] = closed(in_lines(response.get("content", {})))
                paths.setdefault(path, {})[method] = operation
    document["components"]["schemas"] = closed(document["components"]["schemas"])
    return {**document, "paths": paths, "servers": [{"url": "/"}]}


def run(given):
    document = of_listener(fetch(given["openapi"]), given["listener"])
    with tempfile.TemporaryDirectory() as directory:
        description = os.path.join(directory, "openapi.json")
        with open(description, "w", encoding="utf-8") as file:
            json.dump(document, file)
        with open(os.path.join(directory, "schemathesis.toml"), "w", encoding="utf-8") as file:
            file.write(f"[phases.coverage]\nunexpected-methods = {json.dumps(METHODS)}\n")
        command = [
            sys.executable, "-I", "-B", "-m", "schemathesis.cli", "run", description, "--url", given["url"],
            "--checks", CHECKS, "--phases", "examples,coverage,fuzzing", "--seed", str(given["seed"]),
            "--max-examples", str(given["examples"]), "--continue-on-failure",
            "--no-shrink", "--suppress-health-check", "all", "--warnings", "off", "--request-timeout", "15",
            "--output-truncate", "false", "--no-color",
        ]
        for header in given["headers"]:
            command += ["--header", header]
        seen = os.path.join(directory, "seen")
        hooks = {
            **os.environ, "SCHEMATHESIS_HOOKS": os.path.abspath(__file__), SEEN: seen, NODE: given["node"],
            RECEIPT: given["receipt"], JOBS: given["jobs"], "NO_COLOR": "1",
        }
        ended = subprocess.run(command, cwd=directory, env=hooks, capture_output=True, text=True, check=False)
        if ended.returncode != 0:
            said = ended.stdout[-20000:] + ended.stderr[-5000:]
            sys.exit(f"schemathesis at the {given['listener']} listener:\n{said}")
        operations = {operation["operationId"]: collections.Counter()
                      for item in document["paths"].values() for operation in item.values()}
        with open(seen, encoding="utf-8") as lines:
            for line in lines:
                operation, status = line.split()
                operations[operation][status] += 1
    print(json.dumps(operations))


# What is there: an app of the tenant's own, and two that the test made, of which one is never deleted.
DEMO = {"appid": ["demo"], "topic": ["hello"], "ver": ["v1"], "group": ["g1"], "cluster": ["main"]}
RAW = {"topic": ["demo.hello.v1"], "cluster": ["main"]}
TENANTS = {"appid": ["st1", "st2"], "owner": ["st1"], "topic": ["t1", "t2"], "ver": ["v1"], "cluster": ["main"]}
DELETED = {**TENANTS, "appid": ["st2"]}
FITS = {"ver": "v[0-9]{1,9}", "topic": "[A-Za-z0-9._-]{1,249}", "id": ".*", "option": ".*", "value": ".*"}
# Apps that were to be made so far.
MADE = itertools.count()
# Of these a record, or a request, has at most one.
EITHER = [("value", "value_base64", "value_json"), ("key", "key_base64")]


def move(world, given):
    """Names become those of the world, the same for the same, so that a seed is a run; one in four stays as it is."""
    if not isinstance(given, dict):
        return
    for name, choices in world.items():
        value = given.get(name)
        if isinstance(value, str) and re.fullmatch(FITS.get(name, "[A-Za-z0-9_-]{1,64}"), value):
            luck = zlib.crc32(value.encode())
            # schemathesis learns names from answers; what the other listeners work with is left alone.
            if luck % 4 or world.get(name) == ["nobody"] or "group" not in world and value in DEMO.get(name, ()):
                given[name] = choices[luck // 4 % len(choices)]


def move_receipts(body):
    """As names are moved, all of a body that lists receipts: one that is nobody's refuses the others."""
    receipts = body.get("receipts") if isinstance(body, dict) else None
    if isinstance(receipts, list) and all(isinstance(value, str) for value in receipts):
        if zlib.crc32("".join(receipts).encode()) % 4:
            receipts[:] = [os.environ[RECEIPT]] * len(receipts)


def keep_one(names, given):
    if isinstance(given, dict):
        for name in [name for name in names if name in given][1:]:
            del given[name]


def make_possible(case):
    """Each is legal alone, and rarely together: without this nearly everything is refused."""
    headers = case.headers or {}
    # Both ways to log in at once, or a coding that the body does not have.
    headers.pop("Authorization", None)
    if headers.get("Content-Encoding") in ("gzip", "zstd"):
        del headers["Content-Encoding"]
    query, body = case.query, case.body
    due = DUE.get((case.path, case.method.upper()))
    if due and isinstance(query, dict):
        # Nearly every time is past, or too far away, and there is one durability.
        for name in ("due", "delay", "durability"):
            query.pop(name, None)
        query.update(due)
    if isinstance(query, dict):
        # A summary comes at the end, and a stream has none.
        if "receipts" in query:
            query.pop("stream", None)
        # Nobody waits for messages that do not come.
        if case.path.startswith("/v1/msgs/{appid}") and re.fullmatch("[0-9]+(ms|s|m|h)?", str(query.get("wait", "1"))):
            query["wait"] = "50ms"
        if query and isinstance(body, dict):
            query.clear()
    # What is there cannot be made: every other one is to be new.
    if case.path == "/v1/apps" and isinstance(body, dict) and body.get("appid") in TENANTS["appid"]:
        number = next(MADE)
        if number % 2 == 0:
            body["appid"] = f"new{number}"
    for given in (query, body):
        if isinstance(given, dict):
            # A thousand partitions are slow to make, and one broker takes no replicas.
            for name, most in [("partitions", 3), ("replicas", 1)]:
                if type(given.get(name)) is int and most < given[name] <= 16:
                    given[name] = most
    for record in body if isinstance(body, list) else []:
        for names in EITHER:
            keep_one(names, record)
        if isinstance(record, dict):
            record.pop("timestamp", None)
            record.pop("due", None)
            if type(record.get("delay")) is not int or record["delay"] > 86_400:
                record.pop("delay", None)


def hooks():
    import schemathesis

    @schemathesis.hook
    def before_call(context, case, kwargs):
        del context, kwargs
        if case.path.endswith("/drain"):
            # Not the node that answers: it would not be ready for what follows.
            world = {"id": ["nobody"]}
        elif "/instances/" in case.path or "/options/" in case.path:
            world = {"id": [os.environ[NODE]], "option": ["limits.connections_per_app"], "value": ["500", "many"]}
        elif "/receipts/" in case.path:
            world = {"id": [os.environ[RECEIPT]]}
        elif "/jobs/{" in case.path:
            # One for each thing that may be done with it, at each of the two listeners.
            at = ["GET", "DELETE", "PUT", "POST"].index(case.method.upper()) if case.method.upper() in JOB_METHODS else 0
            world = {**DEMO, "id": [os.environ[JOBS].split(",")[at + 4 * ("{appid}" in case.path)]]}
        elif "/raw/" in case.path:
            world = {**DEMO, **RAW}
        elif "/msgs/" in case.path:
            world = DEMO
        else:
            world = DELETED if case.method == "DELETE" else TENANTS
        for given in (case.path_parameters, case.query) + (() if "/msgs/" in case.path else (case.body,)):
            move(world, given)
        move_receipts(case.body)
        make_possible(case)

    @schemathesis.hook
    def after_call(context, case, response):
        del context
        operation = case.operation.definition.raw["operationId"]
        # A method that the document does not have is sent to an operation that it does.
        if case.method.upper() == case.operation.method.upper():
            with open(os.environ[SEEN], "a", encoding="utf-8") as file:
                file.write(f"{operation} {response.status_code}\n")

    @schemathesis.serializer(NDJSON)
    def write_lines(context, value):
        del context
        lines = value if isinstance(value, list) else [value]
        return b"".join(json.dumps(line).encode() + b"\n" for line in lines)

    @schemathesis.deserializer(NDJSON)
    def read_lines(context, response):
        del context
        return [json.loads(line) for line in response.content.decode().splitlines() if line]

    @schemathesis.serializer("application/vnd.gafka.records")
    def write_bytes(context, value):
        del context
        return value if isinstance(value, bytes) else str(value).encode()


if __name__ == "__main__":
    GIVEN = json.loads(sys.argv[1])
    {"validate": validate, "run": run}[GIVEN["do"]](GIVEN)
else:
    hooks()
