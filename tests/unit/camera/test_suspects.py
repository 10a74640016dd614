"""Which frame ends connections: found without blaming one that was there by chance."""

from __future__ import annotations

from posture.camera.suspects import MOST_ENDED, Suspects


def end(suspects: Suspects, *names: str, steady: bool = False) -> list[str]:
    return suspects.connection_ended(set(names), steady=steady)


def test_of_several_frames_none_is_blamed_and_from_then_on_they_go_one_at_a_time() -> None:
    suspects = Suspects()
    assert not suspects.cautious
    for _ in range(10):
        assert end(suspects, "a", "b") == []
    assert suspects.cautious
    assert suspects.last(["a", "b"]) == ["a", "b"]


def test_a_frame_that_ends_connections_while_others_arrive_is_set_aside() -> None:
    suspects = Suspects()
    for _ in range(MOST_ENDED - 1):
        assert end(suspects, "bad") == []
        assert suspects.last(["bad", "good"]) == ["good", "bad"]
        suspects.answered("good")
    assert end(suspects, "bad") == ["bad"]
    assert end(suspects) == []


def test_while_no_frame_arrives_none_is_set_aside() -> None:
    suspects = Suspects()
    for _ in range(10):
        for name in ("a", "b", "c"):
            assert end(suspects, name) == []


def test_a_frame_that_arrives_after_all_is_above_suspicion() -> None:
    suspects = Suspects()
    for _ in range(10):
        assert end(suspects, "unlucky") == []
        suspects.answered("other")
        suspects.answered("unlucky")
    assert suspects.last(["unlucky", "other"]) == ["unlucky", "other"]


def test_the_end_of_a_steady_connection_says_nothing_of_a_frame_and_ends_the_caution() -> None:
    suspects = Suspects()
    end(suspects, "a")
    suspects.answered("b")
    for _ in range(10):
        assert end(suspects, "a", steady=True) == []
    assert not suspects.cautious


def test_what_does_not_wait_any_more_is_forgotten() -> None:
    suspects = Suspects()
    for _ in range(MOST_ENDED):
        end(suspects, "gone")
    suspects.forget_all_but(["other"])
    suspects.answered("other")
    assert end(suspects) == []
