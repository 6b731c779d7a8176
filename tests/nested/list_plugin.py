# SPDX-License-Identifier: Apache-2.0
"""pytest plugin of the nested rig, on the host: one line for each test that was collected, with its id and its fixtures."""
import json

MARK = "rig-test: "


def pytest_collection_finish(session):
    for item in session.items:
        print(MARK + json.dumps({"id": item.nodeid, "fixtures": item.fixturenames}))
