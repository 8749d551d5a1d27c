import pytest
from hypothesis import given
from hypothesis import strategies as st

from authsec_sdk.errors import CallerError
from authsec_sdk.spire.selectors import InvalidSelectorError, Selector, matches, only_borrowable, unique_selectors

texts = st.text(min_size=1, max_size=20)
selectors = st.builds(Selector, texts.filter(lambda text: ":" not in text), texts)


@given(selectors)
def test_text_and_selector_are_inverse(selector: Selector) -> None:
    assert Selector.parse(str(selector)) == selector


def test_the_first_colon_cuts() -> None:
    assert Selector.parse("k8s:pod-label:app:web") == Selector("k8s", "pod-label:app:web")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("unix", 'selector "unix" must be formatted as type:value'),
        ("", 'selector "" must be formatted as type:value'),
        (":uid:0", "missing selector type"),
        ("unix:", "missing selector value"),
    ],
)
def test_wrong_texts_are_refused(text: str, message: str) -> None:
    with pytest.raises(InvalidSelectorError) as caught:
        Selector.parse(text)
    assert str(caught.value) == message
    assert isinstance(caught.value, CallerError)


def test_a_type_with_a_colon_is_refused() -> None:
    with pytest.raises(InvalidSelectorError, match="selector type contains ':'"):
        Selector("unix:uid", "0")


@given(st.sets(selectors, min_size=1, max_size=5), st.sets(selectors, max_size=5))
def test_an_entry_matches_exactly_those_who_have_all_its_selectors(entry: set[Selector], more: set[Selector]) -> None:
    assert matches(tuple(entry), frozenset(entry | more))
    missing = entry - {min(entry)}
    assert not matches(tuple(entry), missing)


def test_an_entry_without_selectors_matches_nobody() -> None:
    assert not matches((), frozenset())
    assert not matches((), {Selector("unix", "uid:0")})


def test_repeated_selectors_count_once() -> None:
    uid, gid = Selector("unix", "uid:0"), Selector("unix", "gid:0")
    assert matches((uid, uid), {uid})
    assert unique_selectors((uid, gid, uid)) == (uid, gid)


@pytest.mark.parametrize(
    ("texts", "borrowable"),
    [
        (["unix:path:/usr/bin/web"], True),
        (["unix:path:/usr/bin/web", "unix:sha256:00"], True),
        (["unix:uid:1000", "unix:path:/usr/bin/web"], False),
        (["docker:path:x"], False),
        ([], False),
    ],
)
def test_selectors_any_process_of_the_user_could_take_on_are_known(texts: list[str], borrowable: bool) -> None:
    assert only_borrowable([Selector.parse(text) for text in texts]) is borrowable
