"""The API answers as its OpenAPI document says, whatever it is sent."""

import pytest
from serving import FACE, cheap, encoded, server

schemathesis = pytest.importorskip("schemathesis")

EXAMPLES = [pytest.param(3, id="few"), pytest.param(60, marks=pytest.mark.slow, id="many")]


@pytest.fixture(scope="module")
def client():
    with server(cheap(), seconds=20) as client:
        yield client


@pytest.mark.parametrize("examples", EXAMPLES)
def test_answers_are_as_documented(client, examples):
    from hypothesis import HealthCheck, Phase, given, settings

    api = schemathesis.openapi.from_url(f"{client.base_url}/openapi.json")
    checks = [
        schemathesis.checks.not_a_server_error,
        *(
            getattr(schemathesis.specs.openapi.checks, name)
            for name in ("status_code_conformance", "content_type_conformance", "response_schema_conformance")
        ),
    ]
    job = client.post("/v1/jobs", files={"file": ("a.png", encoded(FACE))}).json()
    count = 0
    for found in api.get_all_operations():
        operation = found.ok()
        if "events" in operation.path:
            continue  # they do not end

        @settings(
            max_examples=examples, deadline=None, derandomize=True, database=None, phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @given(case=operation.as_strategy())
        def check(case):
            if case.path_parameters and "id" in case.path_parameters and len(case.path_parameters["id"]) % 2:
                case.path_parameters["id"] = job["id"]  # else nothing but 404 would be seen
            case.validate_response(case.call(timeout=30), checks=checks)

        check()
        count += 1
    assert count >= 10
    assert client.get("/healthz").status_code == 200
