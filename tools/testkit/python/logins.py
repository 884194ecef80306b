"""How the kit's clients log in, if they do: as src/login.rs says in the environment.

Whoever produces shows one secret of its app, everybody else the other.
"""

import json
import os

LOGIN = json.loads(os.environ.get("KAFKA_LOGIN", "null"))
PUBLISH, SUBSCRIBE = "publish", "subscribe"


def of_librdkafka(secret):
    if not LOGIN:
        return {}
    return {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": LOGIN["mechanism"],
            "sasl.username": LOGIN["user"], "sasl.password": LOGIN[secret]}


def of_python(secret):
    """kafka-python's words, which are aiokafka's too."""
    if not LOGIN:
        return {}
    return {"security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": LOGIN["mechanism"],
            "sasl_plain_username": LOGIN["user"], "sasl_plain_password": LOGIN[secret]}
