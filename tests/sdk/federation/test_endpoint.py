"""The parameters of endpoints, and the decisions about fetched bundles: all without a socket."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authsec_sdk.errors import ConfigurationError, InvalidBundleError, InvalidEndpointError
from authsec_sdk.federation import BundleEndpoint, RefreshPolicy, StaleBundleError, read_bundle_file
from authsec_sdk.federation.endpoint import by_trust_domain
from authsec_sdk.federation.refresh import judge
from authsec_sdk.spiffe import TrustBundle, TrustDomain, format_bundle_document
from authsec_sdk.testing import TestCA

URL = "https://bundle.test/"
A, B, C = (TestCA(name) for name in ("a.test", "b.test", "c.test"))
A_CERTIFICATE, B_CERTIFICATE = A.certificate, B.certificate


def spiffe(domain: str, server: str, ca: TestCA | None = None) -> BundleEndpoint:
    return BundleEndpoint.spiffe(domain, URL, f"spiffe://{server}/server", bundle=None if ca is None else ca.bundle())


class TestEndpoints:
    @pytest.mark.parametrize("url", ["http://b.test/", "https://me@b.test/", "https://"])
    def test_urls(self, url: str) -> None:
        with pytest.raises(InvalidEndpointError):
            BundleEndpoint.web("b.test", url)
        with pytest.raises(InvalidEndpointError):
            BundleEndpoint.spiffe("b.test", url, "spiffe://b.test/server", bundle=B.bundle())

    def test_the_servers_id_is_a_workloads(self) -> None:
        with pytest.raises(ConfigurationError, match="is a trust domain"):
            BundleEndpoint.spiffe("b.test", URL, "spiffe://b.test", bundle=B.bundle())

    def test_none(self) -> None:
        with pytest.raises(ConfigurationError, match="at least one"):
            by_trust_domain([])

    def test_two_for_one_domain(self) -> None:
        with pytest.raises(ConfigurationError, match="two bundle endpoints"):
            by_trust_domain([BundleEndpoint.web("b.test", URL), spiffe("b.test", "b.test", B)])

    @pytest.mark.parametrize(
        "endpoints",
        [
            [spiffe("b.test", "b.test", B)],
            [spiffe("b.test", "a.test", A)],
            [spiffe("b.test", "a.test"), spiffe("a.test", "a.test", A)],
            [spiffe("b.test", "a.test"), BundleEndpoint.web("a.test", URL)],
            [spiffe("c.test", "b.test"), spiffe("b.test", "a.test"), BundleEndpoint.web("a.test", URL)],
            [spiffe("b.test", "a.test"), spiffe("a.test", "b.test", B)],
        ],
    )
    def test_chains_that_end(self, endpoints: list[BundleEndpoint]) -> None:
        assert len(by_trust_domain(endpoints)) == len(endpoints)

    @pytest.mark.parametrize(
        "endpoints",
        [
            [spiffe("b.test", "b.test")],
            [spiffe("b.test", "a.test")],
            [spiffe("b.test", "a.test"), spiffe("a.test", "b.test")],
            [spiffe("b.test", "a.test"), spiffe("a.test", "c.test"), spiffe("c.test", "b.test")],
            [BundleEndpoint.web("a.test", URL), spiffe("b.test", "c.test")],
        ],
    )
    def test_chains_that_do_not(self, endpoints: list[BundleEndpoint]) -> None:
        with pytest.raises(ConfigurationError, match="nothing proves"):
            by_trust_domain(endpoints)


class TestFirstBundles:
    def test_pem_and_document(self, tmp_path: Path) -> None:
        file = tmp_path / "bundle"
        file.write_bytes(B.bundle().to_pem())
        assert read_bundle_file("b.test", file).x509_bundle() == B.bundle()
        whole = TrustBundle(B.trust_domain, B.bundle().authorities, sequence_number=3)
        file.write_bytes(b"\n " + format_bundle_document(whole))
        assert read_bundle_file("b.test", file) == whole

    @pytest.mark.parametrize("content", [b"", b"{}", b'{"keys": []}', b"no certificate", b"\n"])
    def test_others(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "bundle").write_bytes(content)
        with pytest.raises(InvalidBundleError):
            read_bundle_file("b.test", tmp_path / "bundle")

    def test_files_that_cannot_be_read(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match="cannot be read"):
            read_bundle_file("b.test", tmp_path / "missing")
        with (tmp_path / "large").open("wb") as file:
            file.truncate(5 * 1024 * 1024)
        with pytest.raises(ConfigurationError, match="bytes"):
            read_bundle_file("b.test", tmp_path / "large")


numbers = st.none() | st.integers(0, 5)
hints = st.none() | st.integers(0, 2**31 - 1).map(lambda seconds: timedelta(seconds=seconds))
bundles = st.builds(
    lambda number, hint, own: TrustBundle(TrustDomain.parse("x.test"), own, {}, {}, number, hint),
    numbers,
    hints,
    st.lists(st.sampled_from([A_CERTIFICATE, B_CERTIFICATE]), max_size=2).map(tuple),
)


class TestSequenceNumbers:
    @given(bundles, bundles)
    def test_rules(self, known: TrustBundle, fetched: TrustBundle) -> None:
        old, new = known.sequence_number, fetched.sequence_number
        if old is not None and new is not None and new < old:
            with pytest.raises(StaleBundleError, match="older"):
                judge(known, fetched)
            return
        news = judge(known, fetched)
        assert news.bundle is fetched
        assert news.changed == (known.x509_bundle() != fetched.x509_bundle())
        assert (news.oddity is not None) == (
            (news.changed and old is not None and old == new) or (old is not None and new is None)
        )

    @given(bundles, bundles, st.integers(0, 5))
    def test_a_bundle_without_a_number_lets_in_none_that_is_older(
        self, known: TrustBundle, fetched: TrustBundle, highest: int
    ) -> None:
        without = replace(known, sequence_number=None)
        if fetched.sequence_number is not None and fetched.sequence_number < highest:
            with pytest.raises(StaleBundleError, match=f"and {highest} is known"):
                judge(without, fetched, highest)
        else:
            assert judge(without, fetched, highest).bundle is fetched

    @given(bundles)
    def test_the_first_is_news_and_the_same_again_is_not(self, bundle: TrustBundle) -> None:
        assert judge(None, bundle).changed
        assert not judge(bundle, bundle).changed


class TestWhen:
    POLICY = RefreshPolicy()

    @pytest.mark.parametrize(
        ("hint", "seconds"), [(None, 300), (0, 60), (59, 60), (61, 61), (3600, 3600), (2_419_200, 3600)]
    )
    def test_hints_within_bounds(self, hint: int | None, seconds: float) -> None:
        given_hint = None if hint is None else timedelta(seconds=hint)
        assert self.POLICY.refresh_after(given_hint, 0.0) == seconds
        assert self.POLICY.refresh_after(given_hint, 0.5) == pytest.approx(seconds * 0.95)

    @given(hints, st.floats(0, 1, exclude_max=True), st.integers(1, 10_000))
    def test_never_without_pause_and_never_given_up(self, hint: timedelta | None, random: float, failures: int) -> None:
        assert 54 <= self.POLICY.refresh_after(hint, random) <= 3600
        assert 1 <= self.POLICY.retry_after(failures, hint, random) <= 300

    def test_retries_grow(self) -> None:
        assert [self.POLICY.retry_after(failures, None, 0.999999) for failures in (1, 2, 3, 99)] == pytest.approx(
            [2, 4, 8, 300], rel=0.01
        )

    @pytest.mark.parametrize(
        "wrong",
        [{"minimum": 0}, {"minimum": 400}, {"maximum": 10}, {"maximum": float("inf")}, {"default": float("nan")}],
    )
    def test_wrong_policies(self, wrong: dict[str, float]) -> None:
        with pytest.raises(ConfigurationError):
            RefreshPolicy(**wrong)
