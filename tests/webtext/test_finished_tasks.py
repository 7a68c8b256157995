"""What says that a task is done is believed only as it was written."""

from __future__ import annotations

from pathlib import Path

from gpt2cli.reporter import Silent
from gpt2cli.webtext.finished_tasks import Desk, Task, done_name, find_finished, perform


def _work(desk: Desk) -> None:
    with desk.records() as writer:
        writer.write("gpt2.document", {"id": "1", "text": "The boats came home"})
    desk.tally.read += 3
    desk.tally.kept += 1


def test_a_task_whose_done_file_has_any_bit_flipped_or_lost_its_end_is_to_be_done_again(tmp_path: Path) -> None:
    """A count in it that is another would be told as if it were true."""
    task = Task("filter", "filtered-1-of-1-00000", ("basis",), _work)
    done = perform(task, tmp_path, False, Silent())
    assert (done.read, done.kept, done.records) == (3, 1, 1)
    assert find_finished(task, tmp_path, False) == done
    path = tmp_path / done_name(task.name)
    whole = path.read_bytes()
    for bit in range(8 * len(whole)):
        broken = bytearray(whole)
        broken[bit // 8] ^= 1 << bit % 8
        path.write_bytes(broken)
        assert find_finished(task, tmp_path, False) in (None, done), bit
    for length in range(len(whole) - 1):
        path.write_bytes(whole[:length])
        assert find_finished(task, tmp_path, False) is None, length
    path.write_bytes(whole)
    assert find_finished(task, tmp_path, False) == done
