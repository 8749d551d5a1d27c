"""The generated modules: reproducible, in a pool of their own, whole."""

import importlib
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf import struct_pb2 as default_struct_pb2
from google.protobuf.descriptor_pool import Default
from hypothesis import given
from hypothesis import strategies as st

import authsec_sdk.proto
import authsec_sdk.proto.envoy
import authsec_sdk.proto.spire
from authsec_sdk.proto import any_pb2, empty_pb2, health_pb2, status_pb2, struct_pb2, workload_pb2, wrappers_pb2
from authsec_sdk.proto.spire import agent_grpc, agent_pb2, bundle_grpc, entry_grpc, entry_pb2, svid_grpc, types_pb2

GENERATED = Path(authsec_sdk.proto.__file__).parent / "_generated"


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*.py*") if path.suffix in {".py", ".pyi"})
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_generating_again_changes_no_byte(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "authsec_sdk.proto.generate", str(tmp_path)], check=True, timeout=100)
    assert contents(tmp_path) == contents(GENERATED)


def test_generating_deletes_what_no_proto_stands_behind(tmp_path: Path) -> None:
    (tmp_path / "gone_pb2.py").write_text("")
    subprocess.run([sys.executable, "-m", "authsec_sdk.proto.generate", str(tmp_path)], check=True, timeout=100)
    assert contents(tmp_path) == contents(GENERATED)


ORDERS = {
    "ours first": "from authsec_sdk.proto import workload_pb2\nimport spiffe, spiffe._proto.workload_pb2 as theirs",
    "theirs first": "import spiffe, spiffe._proto.workload_pb2 as theirs\nfrom authsec_sdk.proto import workload_pb2",
}


@pytest.mark.parametrize("order", ORDERS)
def test_py_spiffe_lives_in_the_same_process(order: str) -> None:
    """It registers the same message names in the default pool."""
    program = f"""{ORDERS[order]}
ours = workload_pb2.X509SVID(spiffe_id="spiffe://example.org/a", bundle=b"b")
assert theirs.X509SVID.FromString(ours.SerializeToString()).spiffe_id == "spiffe://example.org/a"
assert theirs.X509SVID is not workload_pb2.X509SVID
"""
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, timeout=60)


def test_nothing_of_ours_is_in_the_default_pool() -> None:
    with pytest.raises(KeyError):
        Default().FindMessageTypeByName("spire.api.types.Entry")


@pytest.mark.parametrize(
    "package",
    [authsec_sdk.proto, authsec_sdk.proto.envoy, authsec_sdk.proto.spire],
    ids=lambda package: package.__name__,
)
def test_every_module_loads_and_every_generated_one_is_reachable(package: object) -> None:
    folder = GENERATED / package.__name__.removeprefix("authsec_sdk.proto").removeprefix(".")
    assert {path.stem for path in folder.glob("*_*.py") if path.stem != "__init__"} == set(package.__all__)
    for module in package.__all__:
        assert getattr(package, module) is importlib.import_module(f"{folder_module(folder)}.{module}")
    with pytest.raises(AttributeError):
        package.no_such_pb2  # noqa: B018 - asking is the test


def folder_module(folder: Path) -> str:
    return "authsec_sdk.proto._generated" + ("" if folder == GENERATED else f".{folder.name}")


def test_well_known_types_of_our_pool() -> None:
    response = workload_pb2.ValidateJWTSVIDResponse(spiffe_id="spiffe://example.org/a")
    response.claims.update({"aud": ["x"], "exp": 1.0, "nested": {"a": None, "b": True}})
    again = workload_pb2.ValidateJWTSVIDResponse.FromString(response.SerializeToString())
    assert isinstance(again.claims, struct_pb2.Struct)
    assert again.claims["nested"]["b"] is True
    assert list(again.claims["aud"]) == ["x"]
    assert struct_pb2.Struct is not default_struct_pb2.Struct
    assert agent_pb2.CountAgentsRequest.Filter(by_banned={"value": False}).HasField("by_banned")
    assert wrappers_pb2.StringValue(value="x") == wrappers_pb2.StringValue.FromString(b"\x0a\x01x")
    assert empty_pb2.Empty().SerializeToString() == b""


def test_details_travel_in_any() -> None:
    detail = any_pb2.Any()
    detail.Pack(types_pb2.PermissionDeniedDetails(reason=types_pb2.PermissionDeniedDetails.AGENT_BANNED))
    assert detail.type_url == "type.googleapis.com/spire.api.types.PermissionDeniedDetails"
    status = status_pb2.Status.FromString(status_pb2.Status(code=7, details=[detail]).SerializeToString())
    found = types_pb2.PermissionDeniedDetails()
    assert status.details[0].Unpack(found)
    assert found.reason == 4
    assert not status.details[0].Is(types_pb2.Entry.DESCRIPTOR)


def test_enums_by_name_and_number() -> None:
    assert types_pb2.LogLevel.Name(types_pb2.WARN) == "WARN"
    assert types_pb2.LogLevel.Value("TRACE") == 7
    assert types_pb2.SelectorMatch.MatchBehavior.Name(2) == "MATCH_SUPERSET"
    assert health_pb2.HealthCheckResponse.SERVING == 1


def test_messages_say_where_they_come_from_and_can_be_copied() -> None:
    entry = types_pb2.Entry(id="x", selectors=[types_pb2.Selector(type="unix", value="uid:0")])
    assert type(entry).__module__ == "authsec_sdk.proto._generated.spire.types_pb2"
    assert pickle.loads(pickle.dumps(entry)) == entry


def test_services_have_the_paths_of_the_wire() -> None:
    paths = {
        path
        for base in (agent_grpc.AgentBase, bundle_grpc.BundleBase, entry_grpc.EntryBase, svid_grpc.SVIDBase)
        for path in base().__mapping__()
    }
    assert len(paths) == 9 + 11 + 8 + 7
    assert "/spire.api.server.agent.v1.Agent/AttestAgent" in paths
    assert "/spire.api.server.svid.v1.SVID/BatchNewX509SVID" in paths
    workload = importlib.import_module("authsec_sdk.proto._generated.workload_grpc")
    x509, jwt, wit = {"FetchX509SVID", "FetchX509Bundles"}, {"FetchJWTBundles"}, {"FetchWITSVID", "FetchWITBundles"}
    calls = x509 | jwt | wit | {"FetchJWTSVID", "ValidateJWTSVID"}  # the standard's, and none of our own
    assert set(workload.SpiffeWorkloadAPIBase().__mapping__()) == {f"/SpiffeWorkloadAPI/{call}" for call in calls}


@given(st.binary(max_size=200))
def test_hostile_bytes_parse_or_raise_decode_error(data: bytes) -> None:
    from google.protobuf.message import DecodeError

    for message in (workload_pb2.X509SVIDResponse, entry_pb2.ListEntriesRequest, agent_pb2.AttestAgentRequest):
        try:
            message.FromString(data)
        except DecodeError:
            continue
