"""From the text of /proc/PID/cgroup to the container a process is in: pure, of cgroup v1 and v2.

Names of control groups are as good as whoever may make them. Root makes those of engines and kubelets; a user makes
what it likes below its own `user.slice`, and a container that is given its own tree, below itself. So the outermost
container counts, never one within; Kubernetes is not believed below `user.slice`; and who asks an engine compares with
the control group of the container's own first process (`Container.same_place`).
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from authsec_sdk.errors import SpiffeError

_ID: Final = "[0-9a-f]{64}"
_COMPONENT: Final = re.compile(rf"(?:(?P<runtime>[a-z0-9][a-z0-9-]*)-)?(?P<id>{_ID})(?:\.scope)?")
_COLONS: Final = re.compile(rf"(?P<slice>[^:]+):(?P<runtime>[a-z0-9-]+):(?P<id>{_ID})")
_HEX: Final = "[0-9a-f]"
_POD: Final = re.compile(
    rf"(?P<parent>.*-)?pod(?P<uid>{_HEX}{{8}}[-_]{_HEX}{{4}}[-_]{_HEX}{{4}}[-_]{_HEX}{{4}}[-_]{_HEX}{{12}}|{_HEX}{{32}})"
    r"(?:\.slice)?"
)
_USER_SLICE: Final = re.compile(r"user-(\d{1,10})\.slice")


class AmbiguousCgroupsError(SpiffeError):
    """The control groups of one process name several containers; none is believed."""


@dataclass(frozen=True, slots=True)
class Cgroup:
    """A control group a process is in: of which hierarchy (empty for v2), and where in it."""

    hierarchy: str
    path: str

    @property
    def components(self) -> tuple[str, ...]:
        """The names from the outermost on."""
        return tuple(name for name in self.path.split("/") if name)


@dataclass(frozen=True, slots=True)
class Container:
    """The container a process is in. `places` are its control groups, up to and with the container's own name."""

    id: str
    pod_uid: str
    places: frozenset[Cgroup]
    podman: bool
    user: int | None
    """Whose `user.slice` it is in; None for those of the system."""

    def same_place(self, other: "Container") -> bool:
        """Whether both are one container by its control groups, and not only by its name."""
        return self.id == other.id and self.places == other.places


def parse_cgroups(text: bytes) -> tuple[Cgroup, ...]:
    """The lines of /proc/PID/cgroup; what is no such line is left out (cgroups(7))."""
    found = []
    for line in text.decode("utf-8", "replace").splitlines():
        number, _, rest = line.partition(":")
        hierarchy, colon, path = rest.partition(":")
        if number.isdigit() and colon and path.startswith("/"):
            found.append(Cgroup(hierarchy, path))
    return tuple(found)


def find_container(cgroups: Iterable[Cgroup]) -> Container | None:
    """The outermost container, for an engine to be asked about; None outside of containers.

    Raises:
        AmbiguousCgroupsError: the hierarchies do not agree.
    """
    return _agreed(found for cgroup in cgroups if (found := _outermost(cgroup)) is not None)


def find_pod_container(cgroups: Iterable[Cgroup]) -> Container | None:
    """The container of a Kubernetes pod; None outside of pods, and for names a user or a container could have made.

    Raises:
        AmbiguousCgroupsError: the hierarchies do not agree.
    """
    return _agreed(found for cgroup in cgroups if (found := _in_pod(cgroup)) is not None)


class CgroupMatchers:
    """An operator's patterns of whole paths: `*` is part of a name, `<id>` the container's id.

    Raises:
        ValueError: a pattern does not begin with a slash, or has not exactly one `<id>`.
    """

    def __init__(self, patterns: Iterable[str]) -> None:
        self._patterns = tuple(_compile(pattern) for pattern in patterns)

    def find(self, cgroups: Iterable[Cgroup]) -> Container | None:
        """The container the patterns name; None if no pattern matches.

        Raises:
            AmbiguousCgroupsError: two patterns match one path, or the hierarchies do not agree.
        """
        return _agreed(found for cgroup in cgroups if (found := self._matched(cgroup)) is not None)

    def _matched(self, cgroup: Cgroup) -> Container | None:
        matches = [match for pattern in self._patterns if (match := pattern.fullmatch(cgroup.path))]
        if not matches:
            return None
        if len(matches) > 1:
            raise AmbiguousCgroupsError("several container_id_cgroup_matchers match one control group")
        end = matches[0].end("id")
        while end < len(cgroup.path) and cgroup.path[end] != "/":
            end += 1
        place = Cgroup(cgroup.hierarchy, cgroup.path[:end])
        return Container(matches[0]["id"], "", frozenset({place}), podman=False, user=_user(cgroup.components))


def _compile(pattern: str) -> re.Pattern[str]:
    if not pattern.startswith("/") or pattern.count("<id>") != 1:
        raise ValueError(f"the pattern {pattern!r} must begin with a slash and have one <id>")
    before, _, after = pattern.partition("<id>")
    wild = (re.escape(part).replace(r"\*", "[^/]*") for part in (before, after))
    return re.compile("(?P<id>[^/]+)".join(wild))


def _outermost(cgroup: Cgroup) -> Container | None:
    names = cgroup.components
    for index, name in enumerate(names):
        match = _COMPONENT.fullmatch(name) or _COLONS.fullmatch(name)
        if match is None:
            continue
        runtime = match["runtime"] or ""
        if runtime.endswith("conmon"):
            return None  # watches over a container and is not in it
        return _container(cgroup, index, match["id"], podman=runtime.endswith("libpod"))
    return None


def _in_pod(cgroup: Cgroup) -> Container | None:
    names = cgroup.components
    if "user.slice" in names:
        return None
    # Seen from within a container's own cgroup namespace, others' paths climb: `/../../pod…`, what is above is not
    # shown. Only the kernel writes such paths.
    rooted = names[:1] == ("..",)
    uid = ""
    for index, name in enumerate(names):
        colons = _COLONS.fullmatch(name)
        rooted = rooted or "kubepods" in name
        pod = _POD.fullmatch(colons["slice"] if colons else name)
        if not uid and pod and rooted:
            uid = pod["uid"].replace("_", "-")
        match = colons or _COMPONENT.fullmatch(name)
        if match is None:
            continue
        if (match["runtime"] or "").endswith("conmon"):
            return None
        sibling = not uid and set(names[:index]) == {".."}
        if not uid and not sibling:
            return None  # a container outside of pods made whatever is below it
        return _container(cgroup, index, match["id"], pod_uid=uid)
    return None


def _container(cgroup: Cgroup, index: int, id_: str, *, pod_uid: str = "", podman: bool = False) -> Container:
    names = cgroup.components
    place = Cgroup(cgroup.hierarchy, "/" + "/".join(names[: index + 1]))
    return Container(id_, pod_uid, frozenset({place}), podman, _user(names[:index]))


def _user(names: tuple[str, ...]) -> int | None:
    if names[:1] != ("user.slice",):
        return None
    match = _USER_SLICE.fullmatch(names[1]) if len(names) > 1 else None
    return int(match[1]) if match else None


def _agreed(found: Iterable[Container]) -> Container | None:
    merged: Container | None = None
    for container in found:
        if merged is None:
            merged = container
            continue
        told, now = ((each.id, each.pod_uid, each.podman, each.user) for each in (merged, container))
        if told != now:
            raise AmbiguousCgroupsError("the control groups of the process name several containers")
        places = merged.places | container.places
        merged = Container(merged.id, merged.pod_uid, places, merged.podman, merged.user)
    return merged
