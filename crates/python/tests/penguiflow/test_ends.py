"""Processes, threads and loops that end without closing: what was accepted is written, or somebody is told."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from worlds import Board, all_of, kept, place, run


@pytest.mark.parametrize(
    ("kind", "how"), [("file", "kept"), ("file", "dropped"), ("file", "raises"), ("file", "exits"), ("sqlite", "kept")]
)
async def test_a_process_that_ends_without_closing_writes_what_was_accepted(
    kind: str, how: str, tmp_path: Path
) -> None:
    script = """
        import asyncio, ctypes, sys
        from icecore.penguiflow import StateStore
        from worlds import numbered

        async def main(url, how):
            # Nothing is written before the process ends.
            store = StateStore(url, tenant="ends", linger=1_000.0)
            if how != "dropped":
                # Nobody ever drops it, so that this is not what writes.
                ctypes.pythonapi.Py_IncRef(ctypes.py_object(store))
            for number in range(300):
                await store.save_event(numbered(number))
            if how == "raises":
                sys.excepthook = lambda *_: None
                raise RuntimeError("this flow failed")
            if how == "exits":
                sys.exit(0)

        asyncio.run(main(*sys.argv[1:]))
    """
    url = place(kind, tmp_path)

    if how == "raises":
        with pytest.raises(AssertionError, match="returncode=1"):
            run(script, url, how)
    else:
        assert run(script, url, how) == ("", "")

    assert await kept(url, "ends") == all_of(300)


def test_what_cannot_be_written_before_the_process_ends_is_told() -> None:
    script = """
        import asyncio, icecore
        from icecore.penguiflow import StateStore, _base
        from worlds import numbered

        _base._EXIT_SECONDS = 0.5

        async def main():
            away = StateStore("file:/dev/null/no-folder", tenant="ends")
            shared = icecore.Store("memory:")
            closed = StateStore(shared, tenant="ends")
            await shared.open()
            await shared.aclose()
            for number in range(3):
                await away.save_event(numbered(number))
                if number:
                    await closed.save_event(numbered(number))
            return away, closed

        stores = asyncio.run(main())
    """
    said, complained = run(script)

    assert said == ""
    told = sorted(complained.splitlines())
    assert len(told) == 2, complained
    assert told[0].startswith("icecore: not written before the process ended: 2 events: Refused")
    assert told[1].startswith("icecore: not written before the process ended: 3 events: Unavailable")
    assert "no-folder" in told[1]


async def test_a_thread_that_still_saves_as_the_process_ends_is_told(tmp_path: Path) -> None:
    """What it was told was accepted is written, and nobody waits for the rest."""
    script = """
        import asyncio, sys, threading, time
        from pathlib import Path
        from icecore.penguiflow import StateStore
        from worlds import Board, numbered

        accepted = Board(Path(sys.argv[2]))

        async def save():
            store = StateStore(sys.argv[1], tenant="ends", linger=1_000.0, buffer_bytes=1 << 30)
            while True:
                await store.save_event(numbered(accepted.count))
                accepted.add()

        threading.excepthook = lambda told: print(told.exc_type.__name__)
        threading.Thread(target=lambda: asyncio.run(save()), daemon=True).start()
        while accepted.count < 500:
            time.sleep(0.001)
    """
    url = place("file", tmp_path)

    said, complained = run(script, url, tmp_path / "board")

    assert complained == ""
    assert said in ("RefusedError\n", "")
    count = Board(tmp_path / "board").count
    assert count >= 500
    # The thread may have been stopped between its last call and the count.
    assert await kept(url, "ends") in (all_of(count), all_of(count + 1))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
async def test_a_forked_child_is_told_so_and_ends(tmp_path: Path) -> None:
    script = """
        import asyncio, gc, os, sys, icecore
        from icecore.penguiflow import StateStore
        from worlds import numbered

        store = StateStore(sys.argv[1], tenant="ends", linger=1_000.0)

        async def save(first):
            for number in range(first, first + 50):
                await store.save_event(numbered(number))

        asyncio.run(save(0))
        child = os.fork()
        if child == 0:
            for call in (lambda: save(50), lambda: store.load_history("t"), lambda: store.load_planner_state("t")):
                try:
                    asyncio.run(call())
                except icecore.RefusedError as error:
                    assert "forked" in str(error), error
                else:
                    os._exit(1)
            del store
            gc.collect()
            # It ends as a process does, with all that is registered for that.
            sys.exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        asyncio.run(save(50))
        print("good")
    """
    url = place("file", tmp_path)

    assert run(script, url) == ("good\n", "")

    assert await kept(url, "ends") == all_of(100)


def test_a_loop_that_is_closed_with_calls_under_way_takes_nothing_with_it(tmp_path: Path) -> None:
    script = """
        import asyncio, gc, sys
        from icecore.penguiflow import StateStore
        from worlds import numbered, numbers

        store = StateStore(sys.argv[1], tenant="ends")

        async def begin(calls):
            for call in calls:
                try:
                    call.send(None)
                except StopIteration:
                    pass

        for turn in range(30):
            asyncio.run(store.save_planner_state("token", {"turn": turn}))
            loop = asyncio.new_event_loop()
            calls = [store.save_event(numbered(turn)), store.load_planner_state("token"), store.load_history("trace/0")]
            loop.run_until_complete(begin(calls))
            if turn % 2:
                loop.close()
            for call in calls:
                call.close()
            del calls, call
            loop.close()
            gc.collect()

            async def take():
                # Whoever took it is gone: it is put back.
                async with asyncio.timeout(30):
                    while (taken := await store.load_planner_state("token")) is None:
                        await asyncio.sleep(0.001)
                return taken

            assert asyncio.run(take()) == {"turn": turn}

        async def check():
            found = [numbers(await store.load_history(f"trace/{trace}")) for trace in range(3)]
            assert found == [list(range(trace, 30, 3)) for trace in range(3)], found
            await store.aclose()
            print("good")

        asyncio.run(check())
    """
    assert run(script, place("file", tmp_path)) == ("good\n", "")
