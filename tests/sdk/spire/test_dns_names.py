import pytest
from hypothesis import given
from hypothesis import strategies as st

from authsec_sdk.spire.dns_names import InvalidDNSNameError, check_dns_name, check_no_wildcard_overlap


@pytest.mark.parametrize(
    "name",
    [
        "com",
        "example.com",
        "*.example.com",
        "a-hello.com",
        "Foo.COM",
        "_srv._tcp.example.com",
        "1.2.3.4",
        "xn--ls8h.org",
        "xn--mnchen-3ya.de",
        "a" * 63 + ".com",
        ".".join(["a"] * 127),
    ],
)
def test_good_names(name: str) -> None:
    check_dns_name(name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "empty or only whitespace"),
        (" ", "empty or only whitespace"),
        ("*.", "empty or only whitespace"),
        (".", "domain ends with dot"),
        ("example.com.", "domain ends with dot"),
        ("*.foo.*.bar", "too many wildcards"),
        ("foo.*.bar", "wildcard must be first label"),
        ("*", "wildcard must be first label"),
        ("*foo.bar", "wildcard must be first label"),
        ("münchen.de", "name must be ascii"),
        ("-a.com", 'idna: invalid label "-a"'),
        ("a-.com", 'idna: invalid label "a-"'),
        ("a..b", 'idna: invalid label ""'),
        (".com", 'idna: invalid label ""'),
        ("ab--cd.com", 'idna: invalid label "ab--cd"'),
        ("xn--a.com", 'idna: invalid label "xn--a"'),
        ("xn--.com", 'idna: invalid label "xn--"'),
        ("xn--foo-.com", 'idna: invalid label "xn--foo-"'),
        ("xn--MNCHEN-3YA.com", 'idna: invalid label "xn--MNCHEN-3YA"'),
        ("a" * 64 + ".com", "idna: invalid label"),
        (".".join(["a"] * 128), "idna: invalid label"),
        ("a b.com", 'idna: invalid label "a b"'),
        (" example.com", 'idna: invalid label " example"'),
        ("a!b.com", 'idna: invalid label "a!b"'),
        ("a\n.com", "idna: invalid label"),
        ("a\0.com", "idna: invalid label"),
    ],
)
def test_wrong_names(name: str, message: str) -> None:
    with pytest.raises(InvalidDNSNameError) as caught:
        check_dns_name(name)
    assert message in str(caught.value)


@given(st.text(max_size=300))
def test_any_text_is_judged(name: str) -> None:
    try:
        check_dns_name(name)
    except InvalidDNSNameError:
        return
    assert name.isascii()
    assert name.strip() == name
    assert len(name) <= 255


@pytest.mark.parametrize(
    ("names", "covered"),
    [
        (["example.com", "*.example.com"], None),
        (["example.com", "*.example.com", "foo.bar.example.com"], None),
        (["example.com", "*.example.com", "foo.example.com"], "foo.example.com"),
        (["foo.example.com", "*.example.com"], "foo.example.com"),
    ],
)
def test_a_name_a_wildcard_covers_is_refused(names: list[str], covered: str | None) -> None:
    if covered is None:
        check_no_wildcard_overlap(names)
        return
    with pytest.raises(InvalidDNSNameError, match=covered):
        check_no_wildcard_overlap(names)
