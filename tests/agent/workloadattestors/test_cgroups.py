"""Containers by their control groups: every way engines and kubelets name them, and names that others could make."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icp_agent.workloadattestors.cgroups import (
    AmbiguousCgroupsError,
    Cgroup,
    CgroupMatchers,
    Container,
    find_container,
    find_pod_container,
    parse_cgroups,
)

A, B = "a1" * 32, "b2" * 32
UID = "2c48913c-b29f-11e7-9350-020968147796"
UNDERSCORED = UID.replace("-", "_")
USER = "/user.slice/user-1000.slice/user@1000.service"


def container(text: str) -> Container | None:
    return find_container(parse_cgroups(text.encode()))


def pod(text: str) -> Container | None:
    return find_pod_container(parse_cgroups(text.encode()))


@pytest.mark.parametrize(
    "path",
    [
        f"/docker/{A}",
        f"/system.slice/docker-{A}.scope",
        f"/docker/{A}/init.scope",
        f"/ecs/task/{A}",
        f"/actions_job/{A}",
        f"/../../{A}",
        f"/docker/{A}/docker/{B}",  # one within: the host's engine knows the outer one
    ],
)
def test_docker(path: str) -> None:
    found = container(f"0::{path}\n")
    assert found is not None
    assert (found.id, found.podman, found.user) == (A, False, None)
    assert next(iter(found.places)).path == path[: path.index(A) + 64] + (".scope" if f"{A}.scope" in path else "")


@pytest.mark.parametrize(
    ("path", "user"),
    [
        (f"/machine.slice/libpod-{A}.scope", None),
        (f"/machine.slice/libpod-{A}.scope/container", None),
        (f"/libpod_parent/libpod-{A}", None),
        (f"{USER}/user.slice/libpod-{A}.scope", 1000),
        (f"/user.slice/user-0.slice/session-1.scope/libpod-{A}", 0),
    ],
)
def test_podman(path: str, user: int | None) -> None:
    found = container(f"0::{path}")
    assert found is not None
    assert (found.id, found.podman, found.user) == (A, True, user)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0::/",
        "0::/system.slice/nginx.service",
        f"0::/docker/{A[:-1]}",
        f"0::/docker/{A}0",
        f"0::/docker/{A.upper()}",
        f"0::/machine.slice/libpod-conmon-{A}.scope",
        f"0::/kubepods/pod{UID}/crio-conmon-{A}.scope",
        f"no line of such a file /docker/{A}",
        f"x::/docker/{A}",
        f"0::docker/{A}",
        "\x00\xff",
    ],
)
def test_no_container(text: str) -> None:
    assert container(text) is None
    assert pod(text) is None


@pytest.mark.parametrize(
    ("path", "uid"),
    [
        (f"/kubepods/burstable/pod{UID}/{A}", UID),
        (f"/kubepods/pod{UID}/{A}/nested/{B}", UID),
        (
            f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{UNDERSCORED}.slice/cri-containerd-{A}.scope",
            UID,
        ),
        (f"/kubepods.slice/kubepods-pod{UNDERSCORED}.slice/docker-{A}.scope", UID),
        (f"/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{UNDERSCORED}.slice/crio-{A}.scope/c", UID),
        (f"/system.slice/containerd.service/kubepods-burstable-pod{UNDERSCORED}.slice:cri-containerd:{A}", UID),
        (
            f"/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{UNDERSCORED}.slice/cri-containerd-{A}.scope",
            UID,
        ),
        (f"/kubepods/pod{'ab' * 16}/{A}", "ab" * 16),  # a static pod
        (f"/../../pod{UID}/{A}", UID),  # as seen from within another pod
        (f"/../{A}", ""),  # a sibling in the agent's own pod
    ],
)
def test_pods(path: str, uid: str) -> None:
    found = pod(f"0::{path}\n")
    assert found is not None
    assert (found.id, found.pod_uid) == (A, uid)


@pytest.mark.parametrize(
    "path",
    [
        f"{USER}/kubepods/pod{UID}/{A}",  # a user made it below what systemd gave that user
        f"{USER}/app.slice/kubepods-pod{UNDERSCORED}.slice/cri-containerd-{A}.scope",
        f"/docker/{B}/kubepods/pod{UID}/{A}",  # a container did
        f"/system.slice/docker-{B}.scope/kubepods/pod{UID}/{A}",
        f"/pod{UID}/{A}",  # no kubelet's
        f"/kubepods/pod{UID}",
        f"/kubepods/podx{UID}/{A}",
        f"/{A}",
        f"/docker/{A}",
    ],
)
def test_names_that_kubelets_did_not_make(path: str) -> None:
    assert pod(f"0::{path}") is None


def test_cgroup_v1_and_hybrid() -> None:
    text = f"12:pids:/docker/{A}\n11:cpu,cpuacct:/docker/{A}\n1:name=systemd:/docker/{A}\n0::/\n"
    found = container(text)
    assert found is not None
    assert {place.hierarchy for place in found.places} == {"pids", "cpu,cpuacct", "name=systemd"}
    assert pod(text.replace("docker", f"kubepods/pod{UID}")) is not None


def test_hierarchies_that_do_not_agree_are_not_believed() -> None:
    for find, lines in (
        (container, f"2:pids:/docker/{A}\n0::/docker/{B}"),
        (container, f"2:pids:/docker/{A}\n0::/machine.slice/libpod-{A}.scope"),
        (container, f"2:pids:/docker/{A}\n0::{USER}/docker-{A}.scope"),
        (pod, f"2:pids:/kubepods/pod{UID}/{A}\n0::/kubepods/pod{UID[:-1]}7/{A}"),
    ):
        with pytest.raises(AmbiguousCgroupsError):
            find(lines)


def test_the_same_name_elsewhere_is_another_place() -> None:
    one, same, other = container(f"0::/docker/{A}/x"), container(f"0::/docker/{A}/y"), container(f"0::/else/{A}")
    assert one is not None
    assert same is not None
    assert other is not None
    assert one.same_place(same)
    assert not one.same_place(other)


class TestMatchers:
    def test_what_patterns_find(self) -> None:
        matchers = CgroupMatchers(["/docker/<id>", "/my.slice/*/<id>/*", "/lxc-<id>.scope"])
        for path, id_ in (("/docker/x1", "x1"), ("/my.slice/a/x2/b", "x2"), ("/lxc-x3.scope", "x3")):
            found = matchers.find([Cgroup("", path)])
            assert found is not None
            assert found.id == id_
        for path in ("/docker", "/docker/a/b", "/my.slice/x/y", "/x/docker/a", "/dockerx/a"):
            assert matchers.find([Cgroup("", path)]) is None

    def test_the_place_ends_with_the_containers_name(self) -> None:
        found = CgroupMatchers(["/m/lxc-<id>.scope/*"]).find([Cgroup("", "/m/lxc-1.scope/in")])
        assert found is not None
        assert found.places == {Cgroup("", "/m/lxc-1.scope")}

    def test_two_that_match_one_path_are_refused(self) -> None:
        with pytest.raises(AmbiguousCgroupsError):
            CgroupMatchers(["/a/b/<id>", "/*/b/<id>"]).find([Cgroup("", "/a/b/c")])

    @pytest.mark.parametrize("pattern", ["", "docker/<id>", "/docker/", "/<id>/<id>", "/docker/*"])
    def test_patterns_that_are_none(self, pattern: str) -> None:
        with pytest.raises(ValueError, match="must begin with a slash"):
            CgroupMatchers([pattern])

    def test_characters_of_regular_expressions_are_plain(self) -> None:
        assert CgroupMatchers(["/a.b(c/<id>"]).find([Cgroup("", "/axb(c/1")]) is None


@given(st.binary(max_size=400))
def test_any_text_is_read_or_refused(text: bytes) -> None:
    for find in (find_container, find_pod_container):
        try:
            found = find(parse_cgroups(text))
        except AmbiguousCgroupsError:
            continue
        assert found is None or len(found.id) == 64


@given(
    st.lists(st.sampled_from(["kubepods", f"pod{UID}", A, B, "user.slice", "..", "x", f"docker-{A}.scope"]), max_size=6)
)
def test_nothing_below_a_users_slice_is_a_pod(names: list[str]) -> None:
    assert pod(f"0::/user.slice/{'/'.join(names)}") is None
