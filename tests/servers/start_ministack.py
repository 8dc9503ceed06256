"""Starts ministack on a loopback port, for DynamoDB and its streams alone: start_ministack.py PORT RETENTION_S ITERATOR_LIFE_S

RETENTION_S: how long its streams keep a record (AWS: 86400). ITERATOR_LIFE_S: how long an iterator is good (AWS: 900).
"""

import os
import sys

port, retention_s, iterator_life_s = sys.argv[1:]
# Read as its modules are loaded.
os.environ.update(
    BIND_HOST="127.0.0.1",
    GATEWAY_PORT=port,
    SERVICES="dynamodb,dynamodbstreams",
    # Listeners of other services.
    SFTP_ENABLED="0",
    IOT_MTLS_ENABLED="0",
    # It would look for containers that it left behind.
    DOCKER_HOST="unix:///nonexistent",
    LOG_LEVEL="WARNING",
)

from ministack import app  # noqa: E402
from ministack.services import dynamodb, dynamodb_streams  # noqa: E402


def lower(module, name, seconds):
    if not hasattr(module, name):
        sys.exit(f"{module.__name__} has no {name} any more: see how this version of ministack calls it")
    setattr(module, name, float(seconds))


lower(dynamodb, "_STREAM_RETENTION_SECONDS", retention_s)
lower(dynamodb_streams, "_ITERATOR_TTL_SECONDS", iterator_life_s)
del sys.argv[1:]
app.main()
